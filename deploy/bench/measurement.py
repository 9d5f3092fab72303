"""One run of one peer: its clock, its cost, its proof, in one record."""
import contextlib
import time

from clusters import Failed
from meter import Meter

TROUBLE = (Failed, OSError, ValueError)


def rounds(names, runs, measure_one, **facts):
    """A B A B: what disturbs one peer disturbs its neighbour. Yields one record a run; a run that fails is one, too.

    One run before them has no record, unless it goes wrong: who is the first to touch the machine's memory pays for it."""
    def record_of(name, number):
        record = dict(peer=name, run=number, **facts)
        try:
            record.update(measure_one(name))
        except TROUBLE as problem:
            record.update(verified=False, problem=str(problem) or type(problem).__name__)
        return record

    warming = record_of(names[0], 0)
    if not warming["verified"]:
        yield warming
    for number in range(1, runs + 1):
        for name in names:
            yield record_of(name, number)


def timed(bench, peer):
    """Runs a peer that is prepared until it has reached the end, and stops it; what it took."""
    session = bench.target.session()
    meter = Meter(bench.source, bench.target, peer)
    meter.start()
    limits = bench.cores.limiting((bench.source, bench.target), peer) if bench.cores else contextlib.nullcontext()
    try:
        with limits:
            began, began_at = time.monotonic(), time.time()
            peer.start()
            if bench.profiler:
                bench.profiler.start(meter)
            bench.wait_for_end(peer, session)
            whole = time.monotonic() - began
    finally:
        if bench.profiler:
            bench.profiler.stop()
        cost = meter.result()
        session.close()
        peer.stop()
    return dict(**clock(peer, whole, began_at, cost.pop("walsenderBegan")), verified=True, **cost)


def clock(peer, whole, began_at, walsender_began):
    """A replicator's own start counts. A worker that PostgreSQL's launcher starts may have to wait for it, up to
    wal_retrieve_retry_interval (5 s): that is no part of its speed, so its clock starts with its walsender's session; and
    so does the clock of what only reads, where reading alone is in question."""
    start = None if walsender_began is None else min(whole, max(0.0, walsender_began - began_at))
    counted = whole - start if peer.clock_from_session and start is not None else whole
    return dict(seconds=round(counted, 3), wholeSeconds=round(whole, 3),
                startSeconds=None if start is None else round(start, 3))


def compare(record, expected, found):
    """Notes in the record whether every table is equal, and which are not."""
    different = [table for table in sorted({*expected, *found}) if expected.get(table) != found.get(table)]
    record["verified"] = not different
    if different:
        record["different"] = True
        record["problem"] = "; ".join(f"{table}: {expected.get(table)} became {found.get(table)}"
                                      for table in different)
