"""What is replicated. setup() runs on the source before the slot is made, generate() after it."""
import re

from clusters import DATABASE, PUBLICATION, pipe, run

RESERVATIONS = """
CREATE TABLE reservations (
    id bigint PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, "guestName" text, phone text, "arrivalDate" date,
    status text, "apiData" jsonb, "lastSync" timestamptz, price numeric(12,2), updated timestamptz);
"""


def reservations(low, high):
    """An INSERT of rows low to high; the jsonb is about 300 bytes."""
    return f"""INSERT INTO reservations SELECT i, 'B-' || lpad(i::text, 12, '0'), 'Guest ' || md5(i::text),
        '+34' || (600000000 + i * 7919 % 99999999)::text, date '2026-01-01' + (i * 31 % 700)::int,
        (array['confirmed', 'cancelled', 'pending', 'arrived'])[1 + i % 4],
        jsonb_build_object('source', 'beds24', 'rooms', 1 + i % 3, 'adults', i % 5, 'reference', md5(i::text),
            'notes', md5((i + 1)::text) || md5((i + 2)::text) || md5((i + 3)::text),
            'guest', jsonb_build_object('first', md5((i + 4)::text), 'email', md5((i + 5)::text) || '@example.com')),
        timestamptz '2026-01-01 00:00+00' + i * interval '1 second', (i * 37 % 100000) / 100.0,
        timestamptz '2026-01-01 00:00+00' + i * interval '2 seconds'
        FROM generate_series({low}::bigint, {high}::bigint) i"""


class Workload:
    applies = True  # or the stream is only read
    reference = "native"  # what ratios are to: the better native subscription, or a peer
    lindero_settings = ""  # of `replication`, beside what stands where nothing is said
    network_milliseconds = 0  # what crosses from one server to the other takes
    marks = {}  # peer: the ratio that Lindero shall reach; at most, where less is better


class OLTP(Workload):
    """pgbench's TPC-B-like transaction, four changes each; pgbench_history gets a primary key."""

    key, name = "oltp", "W1 OLTP (pgbench)"
    marks = dict(native=2.5)

    def __init__(self, is_small):
        self.branches = 2 if is_small else 20
        self.transactions = 6_000 if is_small else 60_000
        self.changes = 4 * self.transactions

    def setup(self, source):
        run(["pgbench", "-i", "-q", "-s", str(self.branches), source.conninfo()])
        source.sql("ALTER TABLE pgbench_history ADD COLUMN hid bigserial PRIMARY KEY")

    def generate(self, source):
        run(["pgbench", "-n", "-c", "4", "-j", "2", "-t", str(self.transactions // 4), "--random-seed=42",
             source.conninfo()], PGOPTIONS="-c synchronous_commit=off")


class Inserts(Workload):
    key, name = "inserts", "W2 inserts, 500 a tx"
    marks = dict(native=1.2)

    def __init__(self, is_small):
        self.transactions = 200 if is_small else 2_000
        self.changes = 500 * self.transactions

    def setup(self, source):
        source.sql(RESERVATIONS + reservations(1, 1_000))

    def generate(self, source):
        source.sql(f"""SET synchronous_commit = off;
            DO $$ BEGIN FOR b IN 0..{self.transactions - 1} LOOP
                {reservations("1001 + b * 500", "1500 + b * 500")}; COMMIT;
            END LOOP; END $$""")


class Updates(Workload):
    key, name = "updates", "W3 updates, uniform"
    marks = dict(native=1.3)

    def __init__(self, is_small):
        self.rows = 20_000 if is_small else 200_000
        self.transactions = 1_000 if is_small else 10_000
        self.changes = 100 * self.transactions
        self.pick = f"1 + floor(random() * {self.rows})"

    def setup(self, source):
        source.sql(RESERVATIONS + reservations(1, self.rows) + "; VACUUM ANALYZE reservations")

    def generate(self, source):
        source.sql(f"""SET synchronous_commit = off;
            DO $$ DECLARE chosen bigint; BEGIN
                PERFORM setseed(0.42);
                FOR b IN 1..{self.transactions} LOOP
                    FOR k IN 1..100 LOOP
                        chosen := {self.pick};
                        UPDATE reservations SET price = (b * 7 + k) % 100000 / 100.0 WHERE id = chosen;
                    END LOOP;
                    COMMIT;
                END LOOP; END $$""")


class SharedUpdates(Updates):
    """The column belongs to both sides of a split, which takes the whole old row."""

    key, name = "shared", "W3s updates of a shared column"
    marks = {}

    def setup(self, source):
        super().setup(source)
        source.sql("ALTER TABLE reservations REPLICA IDENTITY FULL")


class HotUpdates(Updates):
    key, name = "hot", "W3h updates, 80 % on 1 %"
    marks = dict(native=2.2)

    def __init__(self, is_small):
        super().__init__(is_small)
        self.pick = (f"CASE WHEN random() < 0.8 THEN 1 + floor(random() * {self.rows // 100}) "
                     f"ELSE 1 + floor(random() * {self.rows}) END")


class BigTransaction(Workload):
    key, name = "bigtx", "W4 one big transaction"
    lindero_settings = "streaming: on"
    marks = dict(native=1.4)

    def __init__(self, is_small):
        self.transactions, self.changes = 1, 200_000 if is_small else 2_000_000

    def setup(self, source):
        source.sql(RESERVATIONS + reservations(1, 1_000))

    def generate(self, source):
        source.sql(reservations(1_001, 1_000 + self.changes))


class Latency(OLTP):
    """Steady pgbench at 30 % of what it could do; a row with the clock is committed every 20 ms."""

    key, name = "latency", "W5 latency"
    marks = dict(native=1.3)

    def __init__(self, is_small):
        super().__init__(is_small)
        self.seconds = 6 if is_small else 20
        self.rate = None

    def setup(self, source):
        super().setup(source)
        said = run(["pgbench", "-n", "-c", "4", "-j", "1", "-T", "3" if self.seconds < 10 else "8",
                    source.conninfo()])
        self.rate = max(50, round(0.3 * float(re.search(r"tps = ([\d.]+)", said).group(1))))


class NetworkLatency(Latency):
    """The same, and the servers stand apart; Lindero's worker is beside the source."""

    key, name = "latency-network", "W5n latency, 0.5 ms each way"
    network_milliseconds, marks = 0.5, {}


class InitialCopy(Workload):
    key, name = "copy", "W6 initial copy"
    marks = dict(native=1.3, pgcopydb=1.0)

    def __init__(self, is_small):
        self.branches = 13 if is_small else 135

    def setup(self, source):
        run(["pgbench", "-i", "-q", "-s", str(self.branches), source.conninfo()])
        source.sql("ALTER TABLE pgbench_history ADD COLUMN hid bigserial PRIMARY KEY; VACUUM ANALYZE")


class DecodeOLTP(OLTP):
    key, name = "decode-oltp", "W7 decode only, W1's backlog"
    applies, reference, marks = False, "drain", dict(drain=0.95)


class DecodeInserts(Inserts):
    key, name = "decode-inserts", "W7 decode only, W2's backlog"
    applies, reference, marks = False, "drain", dict(drain=0.95)


LATENCIES = ("latency", "latency-network")
KINDS = (OLTP, Inserts, Updates, SharedUpdates, HotUpdates, BigTransaction, Latency, NetworkLatency, InitialCopy, DecodeOLTP, DecodeInserts)
ALL = {kind.key: kind for kind in KINDS}
ALIASES = dict(W1=["oltp"], W2=["inserts"], W3=["updates"], W3s=["shared"], W3h=["hot"], W4=["bigtx"], W5=["latency"],
               W5n=["latency-network"], W6=["copy"], W7=["decode-oltp", "decode-inserts"], decode=["decode-oltp", "decode-inserts"])


def prepare_source(source, workload, with_pglogical):
    source.sql(f"CREATE DATABASE {DATABASE}", "postgres")
    source.sql("CREATE TABLE bench_marker (id int PRIMARY KEY, at timestamptz);"
               "CREATE TABLE bench_probe (id bigint PRIMARY KEY, at timestamptz)")
    workload.setup(source)
    source.sql(f"CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA public")
    if with_pglogical:
        node = source.conninfo(application="peer")
        source.sql(f"""CREATE EXTENSION pglogical;
            SELECT pglogical.create_node('provider', '{node}');
            SELECT pglogical.replication_set_add_all_tables('default', '{{public}}')""")


def make_template(source, target, template):
    """A database on the target that holds what the source holds now, indexes built after the data."""
    target.sql(f"CREATE DATABASE {template}", "postgres")
    pipe(["pg_dump", "-t", "public.*", "--no-publications", "-Fc", "-Z0", source.conninfo()],
         ["pg_restore", "-d", target.conninfo(template)])
    target.sql("VACUUM ANALYZE", template)
    target.sql(f"ALTER DATABASE {template} ALLOW_CONNECTIONS false", "postgres")
