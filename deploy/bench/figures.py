"""From runs to medians, ratios and bottlenecks. Counted is a run whose tables were equal after; a speed, only of a quiet
machine."""
import statistics

from workloads import ALL, LATENCIES

ORDER = ["lindero", "two-sessions", "split", "split-conflicts", "beside-reader", "native-binary", "native", "pglogical", "pgcopydb", "relay", "drain"]
LABELS = {"drain": "no apply (pg_recvlogical)", "relay": "the least a program in between does (relay.c)",
          "lindero": "Lindero", "native": "native subscription",
          "native-binary": "native, binary", "split": "Lindero, split", "two-sessions": "Lindero, two sessions",
          "beside-reader": "Lindero one way, what comes back only read",
          "split-conflicts": "Lindero, split, 1 % conflicts"}
QUIET = 0.10  # what others may take of the machine before a speed is noise
ROLES = ("walsender", "target", "worker")


class Figure:
    """One quantity of one peer in one workload: median, least, most."""

    def __init__(self, values):
        self.median, self.least, self.most, self.count = statistics.median(values), min(values), max(values), len(values)


class Quantity:
    """What is measured in a workload."""

    def __init__(self, title, unit, more_is_better, value):
        self.title, self.unit, self.more_is_better, self.value = title, unit, more_is_better, value

    def better(self, values):
        return (max if self.more_is_better else min)(values)

    def name(self):
        return self.unit if self.title == "throughput" else f"{self.title}, {self.unit}"


def quantities(key):
    if key in LATENCIES:
        return [Quantity(part, "ms", False, lambda run, part=part: run[part]) for part in ("p50", "p99")]
    if key == "copy":
        return [Quantity("throughput", "MiB/s", True, lambda run: run["tablesMiB"] / run["seconds"])]
    return [Quantity("throughput", "changes/s", True, lambda run: run["changes"] / run["seconds"])]


def foreign_share(runs):
    """The part of the machine that others had during the runs, stolen time included."""
    capacity = sum(run.get("capacityCpuSeconds", run.get("machineCpuSeconds", 0)) for run in runs)
    return sum(run.get("foreignCpuSeconds", 0) for run in runs) / capacity if capacity else 0


def is_quiet(run):
    return run["verified"] and foreign_share([run]) <= QUIET


class Entry:
    """A workload's runs."""

    def __init__(self, key, data):
        self.key, self.data, self.machine, self.kind = key, data, data["machine"], ALL[key]
        self.cores = self.machine["cores"]
        self.runs = data["runs"]
        self.counted = [run for run in self.runs if run["verified"]]
        self.quiet = [run for run in self.runs if is_quiet(run)]
        self.peers = [peer for peer in ORDER if any(run["peer"] == peer for run in self.runs)]

    def of(self, peer, runs):
        return [run for run in runs if run["peer"] == peer]

    def speeds(self, quantity):
        """The figure of every peer that has a quiet run."""
        return {peer: Figure([quantity.value(run) for run in self.of(peer, self.quiet)])
                for peer in self.peers if self.of(peer, self.quiet)}

    def reference(self, speeds, quantity):
        """The peer that ratios are to: of the native subscriptions the better one."""
        names = ["native", "native-binary"] if self.kind.reference == "native" else [self.kind.reference]
        there = [name for name in names if name in speeds]
        return quantity.better([(speeds[name].median, name) for name in there])[1] if there else None

    def ratio(self, speeds, quantity, peer):
        """How many times as good as the reference; for times, as long."""
        to = self.reference(speeds, quantity)
        return speeds[peer].median / speeds[to].median if to and peer in speeds else None

    def middle(self, peer, *path, runs=None):
        """The median of a nested field over a peer's counted runs."""
        values = []
        for run in self.of(peer, self.counted if runs is None else runs):
            value = run
            for name in path:
                value = value.get(name) if value else None
            if value is not None:
                values.append(value)
        return statistics.median(values) if values else None

    def microseconds(self, peer, *roles):
        """CPU for a change, all these roles together."""
        changes = self.middle(peer, "changes")
        spent = [self.middle(peer, "cpuSeconds", role) for role in roles]
        return 1e6 * sum(part or 0 for part in spent) / changes if changes and any(spent) else None

    def bound(self, peer):
        """How busy each process was while the peer ran, as parts of a core, and which of them bounds the time."""
        runs = self.of(peer, self.quiet)
        wall = self.middle(peer, "wholeSeconds", runs=runs)
        if not wall:
            return None
        busy = {role: self.middle(peer, "busiestCpuSeconds", role, runs=runs) for role in ROLES}
        busy = {role: seconds / wall for role, seconds in busy.items() if seconds is not None}
        everything = sum(self.middle(peer, "cpuSeconds", role, runs=runs) or 0 for role in ROLES) / wall
        most = max(busy, key=busy.get, default=None)
        if most and busy[most] >= 0.8:
            return wall, busy, everything, most
        if everything >= 0.85 * self.cores:
            return wall, busy, everything, f"the machine's {self.cores} cores"
        return wall, busy, everything, "none of them: they wait for one another, or for the disk"


def entries(results):
    return [Entry(key, results["workloads"][key])
            for key in ALL if key in results["workloads"]]
