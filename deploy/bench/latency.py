"""Latency's clock: from the return of COMMIT on the source until the row is seen on the target."""
import subprocess
import threading
import time

import peers
from clusters import DATABASE, TEMPLATE, Failed, end_with_parent, environment, wait_until
from measurement import compare, rounds
from meter import Meter
from workloads import make_template

PROBE_SECONDS = 0.02


class Prober:
    """Commits a row every 20 ms, while another thread looks for them on the target without a pause worth the name."""

    def __init__(self, bench):
        self.source, self.target = bench.source.session(), bench.target.session()
        self.first = int(self.source.value("SELECT coalesce(max(id), 0) FROM bench_probe"))
        self.committed, self.seen = {}, {}
        self.stopped_at, self.problem = None, None
        self.threads = [threading.Thread(target=self.guarded, args=(part,), daemon=True)
                        for part in (self.commit, self.look)]
        for thread in self.threads:
            thread.start()

    def guarded(self, part):
        try:
            part()
        except Failed as problem:
            self.problem = problem

    def commit(self):
        number, due = self.first, time.monotonic()
        while self.stopped_at is None:
            number += 1
            self.source.rows(f"INSERT INTO bench_probe VALUES ({number}, clock_timestamp())")
            self.committed[number] = time.monotonic()
            due += PROBE_SECONDS
            time.sleep(max(0, due - time.monotonic()))

    def look(self):
        highest = self.first
        while True:
            found = int(self.target.value("SELECT coalesce(max(id), 0) FROM bench_probe"))
            now = time.monotonic()
            for number in range(highest + 1, found + 1):
                self.seen[number] = now
            highest = max(highest, found)
            if self.stopped_at is not None and now > self.stopped_at + 1:
                if highest >= max(self.committed) or now > self.stopped_at + 60:
                    return
            time.sleep(0.0005)

    def finish(self):
        self.stopped_at = time.monotonic()
        for thread in self.threads:
            thread.join()
        self.source.close()
        self.target.close()
        if self.problem:
            raise self.problem
        # A row may be seen before its COMMIT has returned to the prober: that is zero, not less.
        return sorted(max(0.0, 1000 * (self.seen[number] - at))
                      for number, at in self.committed.items() if number in self.seen), \
            len(self.committed) - len(self.seen)


def measure(bench, workload, names, runs):
    """Yields one record a run."""
    bench.begin(workload, names)
    yield from rounds(names, runs, lambda name: run_once(bench, workload, peers.make(bench, name)),
                      transactionsPerSecond=workload.rate)
    bench.profile(lambda: run_once(bench, workload, peers.make(bench, "lindero")))


def refresh_template(bench):
    """The source has moved on since the last run: the target must start as it is now."""
    bench.target.restart()
    bench.target.sql(f"ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS true; DROP DATABASE {TEMPLATE} WITH (FORCE)",
                     "postgres")
    make_template(bench.source, bench.target, TEMPLATE)


def run_once(bench, workload, peer):
    bench.drop_slots()
    refresh_template(bench)
    bench.reset_target(TEMPLATE, peer.preload)
    bench.source.sql(f"SELECT pg_create_logical_replication_slot('{peer.base_slot()}', '{peer.plugin}')")
    peer.prepare()
    meter = Meter(bench.source, bench.target, peer)
    meter.start()
    load = None
    try:
        peer.start()
        if bench.profiler:
            bench.profiler.start(meter)
        mark(bench, peer, "2026-01-01")
        load = subprocess.Popen(
            ["pgbench", "-n", "-c", "4", "-j", "1", "-R", str(workload.rate), "-T", str(workload.seconds + 2),
             bench.source.conninfo()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment(), preexec_fn=end_with_parent)
        time.sleep(1.5)
        prober = Prober(bench)
        time.sleep(workload.seconds)
        times, lost = prober.finish()
        if load.wait():
            raise Failed("pgbench did not end well")
        mark(bench, peer, "2026-01-02")
    finally:
        if load is not None and load.poll() is None:
            load.terminate()
            load.wait()
        if bench.profiler:
            bench.profiler.stop()
        cost = meter.result()
        cost.pop("walsenderBegan")
        peer.stop()
    record = dict(samples=len(times), verified=True, p50=at(times, 0.5), p99=at(times, 0.99), worst=at(times, 1), **cost)
    compare(record, bench.source.fingerprints(), bench.target.fingerprints())
    if lost:
        record.update(verified=False, problem=f"{lost} rows were not seen within a minute")
    return record


def at(times, part):
    return round(times[min(len(times) - 1, int(part * len(times)))], 2)


def mark(bench, peer, day):
    """Commits a row and waits until it is there: the peer is up, or has caught up."""
    bench.source.sql(f"INSERT INTO bench_marker VALUES (1, '{day}') ON CONFLICT (id) DO UPDATE SET at = '{day}'")
    wait_until(lambda: peer.check() or bench.target.value(
        f"SELECT 1 FROM bench_marker WHERE at = '{day}'", DATABASE), f"{peer.name} carries a row", 60)
