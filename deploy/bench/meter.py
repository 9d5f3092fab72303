"""What a run costs: CPU seconds of walsender, target backends and worker, memory, and what others took meanwhile."""
import os
import re
import threading
import time

from clusters import APPLICATION, DATABASE, Failed

TICKS = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # the process is gone
        return ""


def cpu_ticks(pid, with_ended_children=False):
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text.rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15 if with_ended_children else 13]))


def children(pid):
    kids = [int(kid) for kid in read(f"/proc/{pid}/task/{pid}/children").split()]
    return kids + [grandchild for kid in kids for grandchild in children(kid)]


def memory_mib(pid, field):
    match = re.search(field + r":\s+(\d+) kB", read(f"/proc/{pid}/status"))
    return int(match.group(1)) / 1024 if match else 0


class MachineShare:
    """CPU seconds that this benchmark did not spend: other people on the machine, and stolen time."""

    def __init__(self, clusters):
        self.roots = [os.getpid()] + [cluster.pid() for cluster in clusters]
        self.begin = self.busy(), self.ours()

    @staticmethod
    def busy():
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
        return user + nice + system + irq + softirq + steal

    def ours(self):
        pids = self.roots + [child for root in self.roots for child in children(root)]
        return sum(cpu_ticks(pid, with_ended_children=True) or 0 for pid in set(pids))

    def result(self):
        busy, ours = self.busy() - self.begin[0], self.ours() - self.begin[1]
        return dict(machineCpuSeconds=round(busy / TICKS, 2),
                    foreignCpuSeconds=round(max(0, busy - ours) / TICKS, 2))


def threads(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


class Meter(threading.Thread):
    """Looks five times a second, because a process that ended can no longer be asked."""

    def __init__(self, source, target, peer):
        super().__init__(daemon=True)
        self.clusters, self.peer = (source, target), peer
        self.last, self.threads, self.anonymous, self.peak = {}, {}, {}, 0
        # When each walsender's session began, by the clock.
        self.walsenders, self.began = {}, time.monotonic()
        self.stopping = threading.Event()
        self.sessions = source.session("postgres"), target.session("postgres")
        self.share = MachineShare(self.clusters)

    def pids(self):
        source, target = self.sessions
        found = []
        for pid, began in source.rows(
                "SELECT a.pid, extract(epoch FROM a.backend_start) FROM pg_replication_slots s "
                f"JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE {self.peer.stream}"):
            found.append(("walsender", pid))
            self.walsenders[pid] = float(began)
        found += [("target", row[0]) for row in target.rows(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{DATABASE}' "
            f"AND application_name <> '{APPLICATION}' AND backend_type NOT LIKE 'autovacuum%'")]
        worker = self.peer.worker_pid()
        if worker:
            found += [("worker", pid) for pid in [worker] + children(worker)]
        return found

    def sample(self):
        for role, pid in self.pids():
            ticks = cpu_ticks(pid)
            if ticks is None:
                continue
            self.last[role, pid] = ticks
            self.anonymous[role] = max(self.anonymous.get(role, 0), memory_mib(pid, "RssAnon"))
            if role == "worker":
                for thread in threads(pid):
                    self.threads[pid, thread] = cpu_ticks(f"{pid}/task/{thread}") or 0
                self.peak = max(self.peak, memory_mib(pid, "VmHWM"))

    def run(self):
        while not self.stopping.wait(0.2):
            try:
                self.sample()
            except (Failed, OSError, ValueError):
                return

    def result(self):
        self.stopping.set()
        self.join()
        try:
            self.sample()
        except (Failed, OSError, ValueError):
            pass
        for session in self.sessions:
            session.close()
        cpu, busiest = {}, {}
        for (role, _), ticks in self.last.items():
            cpu[role] = round(cpu.get(role, 0) + ticks / TICKS, 2)
            busiest[role] = round(max(busiest.get(role, 0), ticks / TICKS), 2)
        if self.threads:
            busiest["worker"] = round(max(self.threads.values()) / TICKS, 2)
        return dict(walsenderBegan=min(self.walsenders.values(), default=None), walsenders=len(self.walsenders),
                    capacityCpuSeconds=round((time.monotonic() - self.began) * os.cpu_count(), 2), cpuSeconds=cpu,
                    busiestCpuSeconds=busiest, peakAnonymousMiB={role: round(mib, 1) for role, mib in self.anonymous.items()},
                    workerPeakMiB=round(self.peak, 1) or None, **self.share.result())
