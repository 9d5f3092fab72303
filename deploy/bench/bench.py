#!/usr/bin/env python3
"""Measures Lindero beside other replicators; started by deploy/bench.sh, which installs what is needed."""
import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys

import backlog
import figures
import initial_copy
import latency
import peers
import report
import workloads
from clusters import Failed, Workspace, run
from cores import CoreShare

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = ["native", "native-binary", "pglogical", "pgcopydb", "drain", "relay", "two-sessions", "split", "split-conflicts", "beside-reader"]
COPIERS = ("lindero", "native", "pgcopydb")


def arguments():
    parser = argparse.ArgumentParser(prog="deploy/bench.sh")
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", choices=["small", "full"], default="full")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--core-share", type=float)
    parser.add_argument("--lindero")
    parser.add_argument("--out")
    options = parser.parse_args()
    named = [key for name in options.workloads for key in workloads.ALIASES.get(name, [name])]
    options.workloads = list(dict.fromkeys(named)) or list(workloads.ALL)
    options.peers = list(dict.fromkeys(name.strip() for name in options.peers.split(",")))
    options.peers = [name for name in options.peers if name not in ("", "lindero")]  # it is always there
    for name in options.workloads:
        if name not in workloads.ALL:
            parser.error(f"no workload is called {name}; there are {', '.join([*workloads.ALL, *workloads.ALIASES])}")
    for name in options.peers:
        if name not in PEERS:
            parser.error(f"no peer is called {name}; there are {', '.join(PEERS)}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.core_share is not None and not 0.05 <= options.core_share <= 1:
        parser.error("--core-share must be from 0.05 to 1")
    folder = "share" if options.core_share else "" if options.scale == "full" else "small"
    options.out = options.out or os.path.join(HERE, folder)
    return options


def machine():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / 1024 / 1024
    return dict(cpu=models[0] if models else platform.machine(), cores=os.cpu_count(), memoryGiB=round(memory),
                system=f"Linux {platform.release()}", postgresql=run(["postgres", "--version"]).split()[2])


def commit():
    try:
        return subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def earlier(options):
    """What was measured before at the same scale stays, until it is measured again; each workload with its machine."""
    path = os.path.join(options.out, "results.json")
    if os.path.exists(path):
        with open(path) as file:
            results = json.load(file)
        if results["scale"] == options.scale:
            return results
    return dict(scale=options.scale, workloads={})


def taking_part(workload, names):
    key = workload.key
    if not workload.applies:
        return ["lindero", *(name for name in names if name == "drain")]
    if key == "copy":
        return [name for name in ["lindero", *names] if name in COPIERS]
    without = {"pgcopydb"}
    if key in (*workloads.LATENCIES, "bigtx"):
        without |= {"split", "beside-reader", "two-sessions"}
    without |= {"drain"} if key in workloads.LATENCIES else {"relay"}
    if key != "shared":
        without |= {"split-conflicts"}
    else:
        # It takes no table whose replica identity is FULL.
        without |= {"pglogical"}
    return ["lindero", *(name for name in names if name not in without)]


def size(workload, records):
    if workload.key in workloads.LATENCIES:
        return (f"pgbench at {workload.rate:,} transactions/s, 30 % of what it can do here, for {workload.seconds} s; "
                f"scale {workload.branches}")
    if workload.key == "copy":
        return (f"pgbench tables at scale {workload.branches}, {records[0]['tablesMiB']:,} MiB with their indexes, "
                "from an empty database until every row, index and constraint is there")
    return f"{workload.transactions:,} transactions, {workload.changes:,} changes"


def describe(record):
    if not record["verified"]:
        return "NOT COUNTED: " + record["problem"]
    if "p50" in record:
        return f"p50 {record['p50']} ms, p99 {record['p99']} ms, worst {record['worst']} ms"
    speed = f", {record['changes'] / record['seconds']:,.0f} changes/s" if "changes" in record else \
        f", {record['tablesMiB'] / record['seconds']:,.0f} MiB/s"
    start = f" (start {record['startSeconds']:.2f} s)" if record.get("startSeconds") is not None else ""
    noise = figures.foreign_share([record])
    others = f", others took {100 * noise:.0f} % of the machine" if noise > figures.QUIET else ""
    return f"{record['seconds']:.2f} s{start}{speed}{others}"


def measure(bench, key, options):
    workload = workloads.ALL[key](options.scale == "small")
    module = latency if key in workloads.LATENCIES else initial_copy if key == "copy" else backlog
    print(f"{workload.name}: preparing", file=sys.stderr, flush=True)
    bench.cores = CoreShare(options.core_share) if options.core_share else None
    bench.profiling, bench.profiles = options.profile, {}
    records = []
    for record in module.measure(bench, workload, taking_part(workload, options.peers), options.runs):
        record["at"] = datetime.datetime.now().strftime("%H:%M:%S")
        records.append(record)
        print(f"  run {record['run']}  {record['peer']:14} {describe(record)}", file=sys.stderr, flush=True)
    return dict(name=workload.name, size=size(workload, records), date=datetime.date.today().isoformat(), commit=commit(),
                machine=machine(), runs=records, profiles=bench.profiles)


def draw(folder):
    path = os.path.join(folder, "results.json")
    if not os.path.exists(path):
        raise Failed(f"{path} is not there: measure first")
    with open(path) as file:
        results = json.load(file)
    report.write(results, folder)
    print(report.text(results))
    return 0


def interrupted(number, _):
    raise SystemExit(128 + number)


def main():
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    if options.draw:
        return draw(options.out)
    results = earlier(options)
    measured = dict(results, workloads={})
    failures = []
    workspace = Workspace(options.keep)
    try:
        bench = backlog.Bench(workspace, os.path.abspath(options.lindero), 120 if options.scale == "small" else 900)
        for key in options.workloads:
            try:
                measured["workloads"][key] = results["workloads"][key] = measure(bench, key, options)
            except Failed as problem:  # before the first run; the next workload begins with new clusters
                print(f"error: {key}: {problem}", file=sys.stderr, flush=True)
                failures.append(key)
                continue
            report.write(results, options.out)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        workspace.close()
    print(report.text(measured))
    print(f"\nwritten: {os.path.relpath(options.out)}/results.json, chart.svg, README.md's figures")
    runs = [run for entry in measured["workloads"].values() for run in entry["runs"]]
    if any(run.get("different") for run in runs):
        return 3
    return 0 if not failures and all(run["verified"] for run in runs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
