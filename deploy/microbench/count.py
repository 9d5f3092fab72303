"""Counts instructions for each benchmark under valgrind, and compares two builds; started by deploy/microbench.sh."""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys

MOST = 1.10
# A hash table's order, and with it the work, must not depend on the run.
ENVIRONMENT = dict(os.environ, SWIFT_DETERMINISTIC_HASHING="1", LC_ALL="C")
TOOLS = {
    "instructions": (["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"], r"I\s+refs:\s+([\d,]+)"),
    # Allocated, whether freed or not.
    "bytes": (["--tool=dhat", "--dhat-out-file=/dev/null"], r"Total:\s+([\d,]+) bytes"),
}


def benchmarks(program):
    """Names, and the changes of one pass."""
    listed = subprocess.run([program, "list"], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return {name: int(changes) for name, changes in (line.split() for line in listed.stdout.splitlines())}


def counted(program, tool, name, passes):
    options, pattern = TOOLS[tool]
    done = subprocess.run(["valgrind", *options, program, name, str(passes)], capture_output=True, text=True,
                          env=ENVIRONMENT)
    found = re.search(pattern, done.stderr)
    if done.returncode or not found:
        sys.exit(f"error: {name} under valgrind ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return int(found.group(1).replace(",", ""))


def per_change(program, tool, name, changes):
    """What two more passes cost: start, input and the first pass's caches cancel out."""
    return (counted(program, tool, name, 3) - counted(program, tool, name, 1)) / 2 / changes


def measure(program, names, tools):
    changes = benchmarks(program)
    wanted = [name for name in changes if not names or any(part in name for part in names)]
    if not wanted:
        sys.exit(f"error: no benchmark's name has {' or '.join(names)} in it; there are {', '.join(changes)}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = {(name, tool): pool.submit(per_change, program, tool, name, changes[name])
                 for name in wanted for tool in tools}
        return {name: {tool: tasks[name, tool].result() for tool in tools} for name in wanted}


def main():
    parser = argparse.ArgumentParser(prog="deploy/microbench.sh")
    parser.add_argument("program")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--earlier")
    parser.add_argument("--label", default="")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    present = measure(options.program, options.names, TOOLS)
    earlier = measure(options.earlier, options.names, ["instructions"]) if options.earlier else {}
    ratio = f"{'ratio to ' + options.label:>20}" if earlier else ""
    print(f"{'benchmark':18}{'instructions/change':>20}{'bytes/change':>14}{ratio}")
    worse = []
    for name, cost in present.items():
        line = f"{name:18}{cost['instructions']:20,.0f}{cost['bytes']:14,.0f}"
        if name in earlier:
            cost["ratio"] = cost["instructions"] / earlier[name]["instructions"]
            line += f"{cost['ratio']:20.3f}"
            if cost["ratio"] > MOST:
                worse.append(name)
        print(line)
    os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
    with open(options.json, "w") as file:
        json.dump(dict(against=options.label or None, benchmarks={
            name: {key: round(value, 3 if key == "ratio" else 1) for key, value in cost.items()} for name, cost in present.items()}), file, indent=1)
        file.write("\n")
    if worse:
        print(f"more than {MOST:.2f} times the instructions of {options.label}: {', '.join(worse)}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
