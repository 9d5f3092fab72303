"""A backlog is generated once; every run of every peer reads the same WAL until its last row is on the target."""
import time

import peers
import split  # noqa: F401  its kinds of peer
from clusters import DATABASE, TEMPLATE, Failed
from measurement import compare, rounds, timed
from network import Network
from profiler import Profiler
from workloads import make_template, prepare_source

LEFTOVERS = "SELECT quote_ident(subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = '{}'"


class Bench:
    """What a measurement needs: two clusters, the program, and where the stream ends."""

    def __init__(self, workspace, lindero, timeout):
        self.workspace, self.lindero, self.timeout = workspace, lindero, timeout
        self.source = self.target = self.end_lsn = None
        self.profiling, self.profiler, self.profiles = False, None, {}
        self.cores = None  # or what every process gets of one
        self.lindero_settings = ""
        self.network = Network(workspace, 0)
        self.size = 0, 0  # transactions and changes of the backlog, with the marker's

    def begin(self, workload, names):
        self.lindero_settings = workload.lindero_settings
        self.network.close()
        self.network = Network(self.workspace, workload.network_milliseconds)
        preload = "pglogical" if "pglogical" in names else ""
        self.source, self.target = self.workspace.fresh_clusters(preload)
        prepare_source(self.source, workload, with_pglogical=bool(preload))
        make_template(self.source, self.target, TEMPLATE)

    def reset_target(self, template, preload=""):
        """The target as every run finds it. A restart, for two reasons: DROP DATABASE hangs while pglogical's
        supervisor runs on PostgreSQL 15, and no peer should carry another one's hooks."""
        self.target.restart()
        # Of a run that failed: no database with a subscription can be dropped.
        for (name,) in self.target.sql(LEFTOVERS.format(DATABASE), "postgres"):
            self.target.sql(f"ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE);"
                            f"DROP SUBSCRIPTION {name}")
        self.target.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE); CREATE DATABASE {DATABASE} "
                        f"TEMPLATE {template}; SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin",
                        "postgres")
        if preload:
            self.target.restart(preload)
        for cluster in (self.target, self.source):
            cluster.sql("CHECKPOINT", "postgres")

    def profile(self, one_run):
        """Lets perf look at a run, if that was asked for."""
        if not self.profiling:
            return
        self.profiler = Profiler()
        try:
            one_run()
            self.profiles = self.profiler.found
        finally:
            self.profiler = None

    def drop_slots(self, keep=""):
        self.source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                        f"WHERE slot_name NOT LIKE '{keep}' AND NOT active", "postgres")

    def wait_for_end(self, peer, session):
        began = time.monotonic()
        while not peer.has_reached_end(session):
            peer.check()
            if time.monotonic() - began > self.timeout:
                raise Failed(f"{peer.name} did not reach the end within {self.timeout} s")
            time.sleep(0.01)


def measure(bench, workload, names, runs):
    """Yields one record a run."""
    bench.begin(workload, names)
    source = bench.source
    everyone = {name: peers.make(bench, name, workload.applies) for name in names}
    for plugin in sorted({peer.plugin for peer in everyone.values()}):
        source.sql(f"SELECT pg_create_logical_replication_slot('base_{plugin}', '{plugin}')")
    start = source.value("SELECT pg_current_wal_lsn()")
    workload.generate(source)
    source.sql("INSERT INTO bench_marker VALUES (1, clock_timestamp())")
    bench.end_lsn = source.value("SELECT pg_current_wal_flush_lsn()")
    wal_mib = float(source.value(f"SELECT ('{bench.end_lsn}'::pg_lsn - '{start}'::pg_lsn) / 1048576"))
    bench.size = workload.transactions + 1, workload.changes + 1
    expected = source.fingerprints()
    yield from rounds(names, runs, lambda name: run_once(bench, everyone[name], expected),
                      transactions=workload.transactions, changes=workload.changes, walMiB=round(wal_mib))
    bench.profile(lambda: run_once(bench, everyone["lindero"], expected))


def run_once(bench, peer, expected):
    bench.drop_slots(keep=r"base\_%")
    bench.reset_target(TEMPLATE, peer.preload)
    peer.prepare()
    record = timed(bench, peer)
    if peer.applies:
        compare(record, expected, bench.target.fingerprints())
    else:
        peer.require_everything(record)
    return record
