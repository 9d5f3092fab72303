"""Whether the databases hold exactly what the clients were told."""
import threading

import psycopg2

COLUMNS = ["whatsappThreadId", "crmNotes", "beds24Status"]


class Held:
    """What a database has of the clients' rows."""

    def __init__(self, conninfo):
        connection = psycopg2.connect(conninfo)
        cursor = connection.cursor()

        def rows(sql):
            cursor.execute(sql)
            return cursor.fetchall()

        self.bookings = dict(rows("""SELECT "bookingId", count(*) FROM "Reservas" WHERE "bookingId" LIKE 'zd-%' GROUP BY 1"""))
        self.leads = dict(rows("""SELECT "phone", count(*) FROM "Leads" WHERE "phone" LIKE 'zd-%' GROUP BY 1"""))
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        self.values, self.visits, self.phones = {}, {}, {}
        for row in rows(f"""SELECT substr("bookingId", 8)::int, "visits", "phone", {names} FROM "Reservas" WHERE "bookingId" LIKE 'beds24-%'"""):
            self.visits[row[0]], self.phones[row[0]] = row[1], row[2]
            for name, value in zip(COLUMNS, row[3:]):
                self.values[row[0], name] = value
        connection.close()

    def compare(self, clients, without=()):
        """Counts of what differs from the ledgers.

        without: columns that never come here. They are looked at, too: nothing may be in them.
        """
        found = dict(acknowledged=0, lost=0, doubled=0, stale=0, uncounted=0, unexpected=0, private=0)
        counted, unsure, phones = {}, {}, {}
        known = set()
        for client in clients:
            ledger = client.ledger
            found["acknowledged"] += len(ledger.writes)
            known |= ledger.inserted.keys() | ledger.maybe
            for key, table in ledger.inserted.items():
                count = (self.bookings if table == "Reservas" else self.leads).get(key, 0)
                if key in ledger.maybe:
                    continue
                if key in ledger.deleted:
                    found["lost"] += count > 0   # an acknowledged delete is a write, too
                else:
                    found["lost"] += count == 0
                    found["doubled"] += count > 1
            for (row, column), value in ledger.last.items():
                if column in without:
                    found["private"] += self.values.get((row, column)) is not None
                else:
                    found["stale"] += self.values.get((row, column)) != value
            for row, count in ledger.counted.items():
                counted[row] = counted.get(row, 0) + count
            for row, count in ledger.unsure.items():
                unsure[row] = unsure.get(row, 0) + count
            for row, tried in ledger.phones.items():
                phones.setdefault(row, set()).update(tried)
        for row, count in counted.items():
            if not count <= self.visits.get(row, -1) <= count + unsure.get(row, 0):
                found["uncounted"] += abs(self.visits.get(row, 0) - count)
        found["unexpected"] = len((self.bookings.keys() | self.leads.keys()) - known)
        for row, tried in phones.items():
            if self.phones.get(row) not in tried:
                found["unexpected"] += 1
        return found


def insert_many(conninfo, prefix, count=10_000, batch=100):
    """Rows whose number the database gives; how many of them it refused as already given."""
    connection = psycopg2.connect(conninfo)
    connection.autocommit = True
    duplicates = 0
    with connection.cursor() as cursor:
        def insert(numbers):
            cursor.execute("""INSERT INTO "Leads" ("phone", "name") SELECT unnest(%s), 'next'""", ([f"{prefix}-{n}" for n in numbers],))

        for start in range(0, count, batch):
            numbers = range(start, min(start + batch, count))
            try:
                insert(numbers)
            except psycopg2.errors.UniqueViolation:
                # One that is refused takes all of its statement with it.
                for number in numbers:
                    try:
                        insert([number])
                    except psycopg2.errors.UniqueViolation:
                        duplicates += 1
    connection.close()
    return duplicates


def insert_on_both(places, count=10_000):
    """The same on several databases at once; duplicates by name."""
    results, threads = {}, []
    for name, conninfo in places.items():
        def work(name=name, conninfo=conninfo):
            try:
                results[name] = insert_many(conninfo, f"next-{name}", count)
            except psycopg2.Error as error:
                results[name] = error
        threads.append(threading.Thread(target=work))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return results


def numbers_given_twice(conninfo):
    connection = psycopg2.connect(conninfo)
    with connection, connection.cursor() as cursor:
        cursor.execute('SELECT count(*) - count(DISTINCT "id") FROM "Leads"')
        count = cursor.fetchone()[0]
    connection.close()
    return count
