"""The two services as live writers: every write is remembered with its time and what became of it."""
import os
import random
import threading
import time

import psycopg2

HOT_ROWS = range(1, 51)        # both services write their shared phone
COUNTED_ROWS = range(51, 101)  # both services count up, in a column with policy delta
OWN_ROWS = range(101, 5001)    # each client has its own of these
RETRY_SECONDS = 20.0


class Ledger:
    """What one client was told: the only record that the checks go by."""

    def __init__(self):
        self.writes = []       # (began, ended, kind) in seconds of the wall clock, acknowledged
        self.inserted = {}     # key: table
        self.deleted = set()   # keys of inserted rows
        self.last = {}         # (row, column): last acknowledged value of this client's own rows
        self.counted = {}      # row: acknowledged increments
        self.unsure = {}       # row: increments without an answer
        self.maybe = set()     # keys of inserts and deletes without an answer
        self.phones = {}       # row: every value tried
        self.failures = []     # (time, kind, SQLSTATE)
        self.reconnected = []  # the same, of a direct client that was sent to the other database meanwhile


class Client(threading.Thread):
    """One connection of a service that writes at a steady rate."""

    def __init__(self, crew, service, number, address, is_direct, route=None):
        super().__init__(daemon=True)
        self.crew, self.service, self.address, self.route = crew, service, address, route
        self.is_direct = is_direct
        self.label = f"{service}{number}"
        self.ledger = Ledger()
        self.random = random.Random(f"{crew.seed}-{self.label}")
        self.rows = [row for row in OWN_ROWS if row % crew.size == len(crew.clients)]
        self.number = 0
        self.connection = None
        self.seen_route = None
        self.parked = threading.Event()
        self.broken = None

    # connections

    def connect(self):
        self.seen_route = self.route_now()
        self.connection = psycopg2.connect(self.address(self.seen_route))
        self.connection.autocommit = True

    def route_now(self):
        if not self.route:
            return None
        with open(self.route) as file:
            return file.read().strip()

    def close(self):
        if self.connection:
            try:
                self.connection.close()
            except psycopg2.Error:
                pass
        self.connection = None

    # writing

    def run(self):
        try:
            self.work()
        except Exception as error:  # a bug here must not look like a quiet service
            self.broken = error
        finally:
            self.close()
            self.parked.set()

    def work(self):
        pause = 1.0 / self.crew.rate_per_client
        due = time.monotonic() + self.random.random() * pause
        while not self.crew.ended.is_set():
            if not self.crew.going.is_set():
                self.parked.set()
                self.crew.going.wait(0.5)
                due = time.monotonic()
                continue
            self.parked.clear()
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            # After a pause the service does not write all that it missed.
            due = max(due + pause, time.monotonic())
            self.number += 1
            self.write(self.choose())

    def choose(self):
        own = self.random.choice(self.rows)
        value = f"{self.label}:{self.number}"
        roll = self.random.random()
        if roll < 0.15:
            row = self.random.choice(HOT_ROWS)
            phone = f"+{self.label}{self.number}"
            self.ledger.phones.setdefault(row, set()).add(phone)
            return ("phone", row, phone, 'UPDATE "Reservas" SET "phone" = %s, "updatedAt" = now() WHERE "bookingId" = %s',
                    (phone, f"beds24-{row}"))
        if roll < 0.35:
            row = self.random.choice(COUNTED_ROWS)
            return ("count", row, None, 'UPDATE "Reservas" SET "visits" = "visits" + 1 WHERE "bookingId" = %s',
                    (f"beds24-{row}",))
        key = f"zd-{self.label}-{self.number}"
        if self.service == "bot":
            if roll < 0.65:
                return ("lead", key, None, 'INSERT INTO "Leads" ("phone", "name") VALUES (%s, %s)', (key, value))
            column = "whatsappThreadId" if roll < 0.85 else "crmNotes"
            return ("own", (own, column), value, f'UPDATE "Reservas" SET "{column}" = %s, "lastBotInteraction" = now() '
                    'WHERE "bookingId" = %s', (value, f"beds24-{own}"))
        if roll < 0.60:
            return ("booking", key, None, 'INSERT INTO "Reservas" ("id", "bookingId", "status", "guestName", "arrivalDate", '
                    '"lastSyncBeds24", "beds24Status", "apiData") VALUES (%s, %s, \'NEW\', %s, current_date, now(), \'new\', %s)',
                    ("c" + key, key, value, f'{{"n": {self.number}}}'))
        if roll < 0.70:
            return ("lead", key, None, 'INSERT INTO "Leads" ("phone", "name") VALUES (%s, %s)', (key, value))
        if roll < 0.75:
            old = next((k for k, table in self.ledger.inserted.items() if table == "Reservas" and k not in self.ledger.deleted), None)
            if old:
                return ("delete", old, None, 'DELETE FROM "Reservas" WHERE "bookingId" = %s', (old,))
        return ("own", (own, "beds24Status"), value, 'UPDATE "Reservas" SET "beds24Status" = %s, "lastSyncBeds24" = now() '
                'WHERE "bookingId" = %s', (value, f"beds24-{own}"))

    def write(self, write):
        kind, key, value, sql, parameters = write
        began = time.time()
        give_up = time.monotonic() + RETRY_SECONDS
        errors = []
        while True:
            try:
                if self.connection is None or self.route_now() != self.seen_route:
                    self.close()
                    self.connect()
                with self.connection.cursor() as cursor:
                    cursor.execute(sql, parameters)
                    touched = cursor.rowcount
                break
            except psycopg2.Error as error:
                code = error.pgcode or "lost"
                if errors and code == "23505" and kind in ("lead", "booking"):
                    touched = 1  # the try before had arrived, and its answer was lost
                    break
                errors.append(code)
                self.close()
                if kind == "count":
                    self.ledger.unsure[key] = self.ledger.unsure.get(key, 0) + 1
                if time.monotonic() > give_up or self.crew.ended.is_set():
                    self.ledger.failures.append((began, kind, ",".join(errors)))
                    if kind in ("lead", "booking", "delete"):
                        self.ledger.maybe.add(key)
                    elif kind == "own":
                        self.ledger.last.pop(key, None)
                    return
                time.sleep(0.02)
        self.acknowledge(kind, key, value, began, touched)
        if errors:
            # Only a client that connects directly may lose its connection to a move, and only to write elsewhere then.
            is_move = self.route and set(errors) <= {"57P01", "25006", "lost"}
            (self.ledger.reconnected if is_move else self.ledger.failures).append((began, kind, ",".join(errors)))

    def acknowledge(self, kind, key, value, began, touched):
        ledger = self.ledger
        ended = time.time()
        ledger.writes.append((began, ended, kind))
        if touched != 1:
            # Every one of these rows exists, so an answer of 0 rows is a lost row.
            ledger.failures.append((began, kind, f"{touched} rows"))
        elif kind == "lead":
            ledger.inserted[key] = "Leads"
        elif kind == "booking":
            ledger.inserted[key] = "Reservas"
        elif kind == "delete":
            ledger.deleted.add(key)
        elif kind == "own":
            ledger.last[key] = value
        elif kind == "count":
            ledger.counted[key] = ledger.counted.get(key, 0) + 1


class Onlooker(threading.Thread):
    """Writes to a database that nobody moves, all the time: how long its writes take is the machine's doing."""

    def __init__(self, conninfo, every=0.01):
        super().__init__(daemon=True)
        self.every = every
        self.connection = psycopg2.connect(conninfo)
        self.connection.autocommit = True
        self.writes = []  # (began, ended)
        self.ended = threading.Event()

    def run(self):
        with self.connection.cursor() as cursor:
            while not self.ended.wait(self.every):
                began = time.time()
                cursor.execute("UPDATE mark SET n = n + 1 WHERE id = 1")
                self.writes.append((began, time.time()))

    def stop(self):
        self.ended.set()
        self.join()
        self.connection.close()

    def longest_milliseconds(self, began=None, ended=None):
        """The longest write of those that touch a stretch of time."""
        return round(max(((write[1] - write[0]) * 1_000 for write in self.writes
                          if began is None or write[1] >= began and write[0] <= ended), default=0), 1)


class Crew:
    """All clients of both services."""

    def __init__(self, size, rate, seed):
        self.size, self.seed = size, seed
        self.rate_per_client = rate / size
        self.clients = []
        self.going, self.ended = threading.Event(), threading.Event()

    def add(self, service, address, is_direct=False, route=None):
        number = sum(1 for client in self.clients if client.service == service)
        self.clients.append(Client(self, service, number, address, is_direct, route))

    def start(self):
        self.going.set()
        for client in self.clients:
            client.start()

    def freeze(self):
        """Between two writes of each client: nothing is under way, and nothing waits for an answer."""
        self.going.clear()
        for client in self.clients:
            client.parked.clear()
        for client in self.clients:
            if not client.parked.wait(RETRY_SECONDS + 10):
                raise RuntimeError(f"{client.label} did not come to rest")
        self.check()

    def thaw(self):
        self.going.set()

    def check(self):
        for client in self.clients:
            if client.broken:
                raise client.broken

    def stop(self):
        self.freeze()
        self.ended.set()
        for client in self.clients:
            client.join()
        self.check()

    def of(self, service):
        return [client for client in self.clients if client.service == service]


def write_route(path, name):
    with open(path + ".new", "w") as file:
        file.write(name + "\n")
    os.rename(path + ".new", path)
