"""The backlog's clock: from the start of a peer until the workload's last row is visible on the target."""
import time

import peers
from clusters import DATABASE, TEMPLATE, Failed
from meter import Meter
from workloads import make_template, prepare_source


class Bench:
    """What a measurement needs: two clusters, the program, and where the stream ends."""

    def __init__(self, workspace, lindero, timeout):
        self.workspace, self.lindero, self.timeout = workspace, lindero, timeout
        self.source = self.target = self.end_lsn = None

    def begin(self, workload, names):
        preload = "pglogical" if "pglogical" in names else ""
        self.source, self.target = self.workspace.fresh_clusters(preload)
        prepare_source(self.source, workload, with_pglogical=bool(preload))
        make_template(self.source, self.target, TEMPLATE)

    def reset_target(self, peer):
        """The target as every run finds it. A restart, for two reasons: DROP DATABASE hangs while pglogical's
        supervisor runs on PostgreSQL 15, and no peer should carry another one's hooks."""
        self.target.restart()
        self.target.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE); CREATE DATABASE {DATABASE} "
                        f"TEMPLATE {TEMPLATE}; SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin",
                        "postgres")
        if peer.preload:
            self.target.restart(peer.preload)
        for cluster in (self.target, self.source):
            cluster.sql("CHECKPOINT", "postgres")

    def drop_slots(self, keep=""):
        self.source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                        f"WHERE slot_name NOT LIKE '{keep}'", "postgres")

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
    everyone = [peers.make(bench, name) for name in names]
    for plugin in sorted({peer.plugin for peer in everyone}):
        source.sql(f"SELECT pg_create_logical_replication_slot('base_{plugin}', '{plugin}')")
    start = source.value("SELECT pg_current_wal_lsn()")
    workload.generate(source)
    source.sql("INSERT INTO bench_marker VALUES (1, clock_timestamp())")
    bench.end_lsn = source.value("SELECT pg_current_wal_flush_lsn()")
    wal_mib = float(source.value(f"SELECT ('{bench.end_lsn}'::pg_lsn - '{start}'::pg_lsn) / 1048576"))
    expected = source.fingerprints()
    for number in range(1, runs + 1):
        for peer in everyone:
            record = dict(peer=peer.name, run=number, transactions=workload.transactions,
                          changes=workload.changes, walMiB=round(wal_mib))
            try:
                record.update(run_once(bench, peer, expected))
            except Failed as problem:
                record.update(verified=False, problem=str(problem))
            bench.drop_slots(keep=r"base\_%")
            yield record


def run_once(bench, peer, expected):
    bench.reset_target(peer)
    peer.prepare()
    session = bench.target.session()
    meter = Meter(bench.source, bench.target, peer.slot, peer.worker_pid)
    meter.start()
    try:
        began = time.monotonic()
        peer.start()
        bench.wait_for_end(peer, session)
        seconds = time.monotonic() - began
    finally:
        cost = meter.result()
        session.close()
        peer.stop()
    record = dict(seconds=round(seconds, 3), verified=True, **cost)
    if peer.applies:
        compare(record, expected, bench.target.fingerprints())
    return record


def compare(record, expected, found):
    """Notes in the record whether every table is equal, and which are not."""
    different = [table for table in sorted({*expected, *found}) if expected.get(table) != found.get(table)]
    record["verified"] = not different
    if different:
        record["different"] = True
        record["problem"] = "; ".join(f"{table}: {expected.get(table)} became {found.get(table)}"
                                      for table in different)
