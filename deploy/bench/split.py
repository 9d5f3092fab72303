"""Lindero with both directions running: the backlog goes one way, the other way is asked about every row."""
import os
import signal
import subprocess

from clusters import BIN, DATABASE, PUBLICATION, Failed, end_with_parent, environment, run, wait_until
from peers import KINDS, Lindero, slot_is_idle

CONFIGURATION = """version: 1
backend: split
databases:
  source: {{ url: "{source}" }}
  target: {{ url: "{target}" }}
origin: source
replication: {{ snapshot: never, slot: bench_run, publication: {publication} }}
tables:
{tables}
"""

# A split that has begun, with equal databases at the start of the base slot.
BEGIN = """INSERT INTO lindero.direction (name, slot, publication, origin, system_identifier, start_lsn, prepared_at,
    applied_lsn, hybrid_clock, causal_lsn, causal_clock)
  VALUES ('{source}->{target}', '{slot}', '{publication}', '{source}', '{system}', '{applied}', now(),
    '{applied}', 0, '{seen}', 0)"""


# Rows that the backlog changes: on the target their old price is not the one that it holds.
CHANGED = """SELECT string_agg(id::text, ',') FROM reservations
  WHERE id % {} = 0 AND price <> (id * 37 % 100000) / 100.0"""


BACK = f"lindero_{DATABASE}_source"


def publish_back(source, target):
    """The other direction's slot, and what it reads: the tables with a shared column, which is what the source shows."""
    shared = [row[0] for row in source.sql("SELECT relname FROM pg_class WHERE relreplident = 'f' AND relkind = 'r'")]
    target.sql(f"CREATE PUBLICATION {BACK}" + (f" FOR TABLE {', '.join(shared)}" if shared else ""))
    for table in shared:
        target.sql(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    target.sql(f"SELECT pg_create_logical_replication_slot('{BACK}', 'pgoutput')")
    return shared


class LinderoBesideReader(Lindero):
    """One way, while pg_recvlogical reads what comes back and does nothing with it, as a second direction does at the least."""

    reader = None

    def prepare(self):
        super().prepare()
        publish_back(self.source, self.target)

    def start(self):
        super().start()
        self.reader = subprocess.Popen(
            [f"{BIN}/pg_recvlogical", "-d", self.target.conninfo(application="peer"), "-S", BACK, "--start", "-f", "/dev/null",
             "-o", "proto_version=1", "-o", "binary=true", "-o", f"publication_names={BACK}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
            preexec_fn=end_with_parent)

    def check(self):
        super().check()
        if self.reader.poll() is not None:
            raise Failed(f"pg_recvlogical ended with {self.reader.returncode}")

    def stop(self):
        if self.reader is not None:
            self.reader.send_signal(signal.SIGINT)
            self.reader.wait()
        super().stop()
        wait_until(lambda: slot_is_idle(self.target, BACK), "the slot of what comes back is free")
        self.target.sql(f"SELECT pg_drop_replication_slot('{BACK}')")


class LinderoSplit(Lindero):
    """Every column belongs to the source, unless the workload says otherwise."""

    conflicts = 0  # one row in so many is written on the target, too

    def __init__(self, bench, name):
        super().__init__(bench, name)
        self.configuration = os.path.join(bench.workspace.folder, "split.yaml")

    def prepare(self):
        super().prepare()
        self.leave()
        shared = publish_back(self.source, self.target)
        tables = "  \"*\": { insert: source, delete: source, columns: { source: \"*\" } }"
        for table in shared:
            tables += (f"\n  {table}: {{ insert: source, delete: source, columns: {{ source: \"*\", "
                       "shared: { price: { policy: prefer, side: source } } } }")
        with open(self.configuration, "w") as file:
            file.write(CONFIGURATION.format(
                source=self.source.conninfo(application="peer"), target=self.target.conninfo(application="peer"),
                publication=PUBLICATION, tables=tables))
        run([self.bench.lindero, "migrate", "--config", self.configuration])
        ahead = self.position(self.source, self.slot)
        behind = self.position(self.target, BACK)
        system = "SELECT system_identifier FROM pg_control_system()"
        self.target.sql(BEGIN.format(source="source", target="target", slot=self.slot, publication=PUBLICATION,
                                     system=self.source.value(system), applied=ahead, seen=behind))
        self.source.sql(BEGIN.format(source="target", target="source", slot=BACK, publication=BACK,
                                     system=self.target.value(system), applied=behind, seen=ahead))
        if self.conflicts:
            ids = self.source.value(CHANGED.format(self.conflicts))
            self.target.sql(f"UPDATE reservations SET price = -1 WHERE id IN ({ids})")

    @staticmethod
    def position(cluster, slot):
        return cluster.value(f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'")

    def arguments(self):
        return [self.bench.lindero, "run", "--http", "none", "--config", self.configuration]

    def leave(self):
        """What a run before this one has left on the source: it is the same for all peers."""
        self.source.sql("DROP SCHEMA IF EXISTS lindero CASCADE;"
                        "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")

    def stop(self):
        super().stop()
        self.leave()
        self.target.sql(f"SELECT pg_drop_replication_slot('{BACK}')")


class LinderoSplitConflicts(LinderoSplit):
    """The target's own writes lose, on both sides: so the source stays what it is for the others."""

    conflicts = 100


KINDS.update({"beside-reader": LinderoBesideReader, "split": LinderoSplit, "split-conflicts": LinderoSplitConflicts})
