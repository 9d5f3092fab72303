"""The copy's clock: from the start with an empty database until every row, index and constraint is there."""
import os
import shutil

from clusters import PUBLICATION, pipe
from measurement import compare, rounds, timed
from peers import Lindero, Native, Program
from workloads import prepare_source

INDEXES = """
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY 1"""


class LinderoCopy(Lindero):
    """`lindero run` with a file: makes the tables, copies them, then builds the indexes, then streams."""

    slot = "lindero_source_target"

    def prepare(self):
        self.configuration = os.path.join(self.bench.workspace.folder, "lindero.yaml")
        with open(self.configuration, "w") as file:
            file.write(f"""version: 1
backend: replica
databases:
  source: {{ url: "{self.source.conninfo(application='peer')}" }}
  target: {{ url: "{self.target.conninfo(application='peer')}" }}
origin: source
replication: {{ snapshot: initial }}
""")

    def arguments(self):
        return [self.bench.lindero, "run", "--http", "none", "--config", self.configuration]

    def has_reached_end(self, session):
        return " streaming" in self.said()


class NativeCopy(Native):
    """The tables and their keys must be there before, as everybody has them who uses it."""

    def prepare(self):
        pipe(["pg_dump", "-s", "-t", "public.*", "--no-publications", self.source.conninfo()],
             ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.target.conninfo()])

    def start(self):
        self.target.sql(f"""CREATE SUBSCRIPTION bench_subscription
            CONNECTION '{self.source.conninfo(application="peer")}' PUBLICATION {PUBLICATION}
            WITH (slot_name = {self.slot})""")

    def has_reached_end(self, session):
        return session.value("SELECT 1 FROM pg_subscription_rel HAVING count(*) > 0 "
                             "AND bool_and(srsubstate IN ('s', 'r'))") is not None


class Pgcopydb(Program):
    def prepare(self):
        self.work = os.path.join(self.bench.workspace.folder, "pgcopydb")

    def arguments(self):
        return ["pgcopydb", "clone", "--dir", self.work, "--source", self.source.conninfo(application="peer"),
                "--target", self.target.conninfo(application="peer"), "--table-jobs", "2", "--index-jobs", "2",
                "--no-owner", "--skip-large-objects"]

    def has_reached_end(self, session):
        return self.process.poll() == 0

    def check(self):
        if self.process.poll():
            super().check()

    def stop(self):
        super().stop()
        shutil.rmtree(self.work, ignore_errors=True)


KINDS = {"lindero": LinderoCopy, "native": NativeCopy, "pgcopydb": Pgcopydb}


def measure(bench, workload, names, runs):
    """Yields one record a run."""
    bench.source, bench.target = bench.workspace.fresh_clusters("")
    source = bench.source
    prepare_source(source, workload, with_pglogical=False)
    expected = source.fingerprints(), source.sql(INDEXES)
    mib = float(source.value("SELECT sum(pg_total_relation_size(oid)) / 1048576.0 FROM pg_class "
                             "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"))
    yield from rounds(names, runs, lambda name: run_once(bench, KINDS[name](bench, name), *expected),
                      tablesMiB=round(mib))


def run_once(bench, peer, tables, indexes):
    bench.drop_slots()
    bench.source.sql("DROP SCHEMA IF EXISTS lindero CASCADE; DROP PUBLICATION IF EXISTS lindero_source_target")
    bench.reset_target("template1")
    peer.prepare()
    record = timed(bench, peer)
    # A slot names one walsender; the copies read through other backends of the source.
    for costs in (record["cpuSeconds"], record["busiestCpuSeconds"]):
        costs.pop("walsender", None)
    compare(record, tables, bench.target.fingerprints())
    if record["verified"] and bench.target.sql(INDEXES) != indexes:
        record.update(verified=False, different=True, problem="indexes or constraints are not the same")
    return record
