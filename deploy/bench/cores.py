"""Plays a machine with more and slower cores: whatever is busy gets a part of a core, and no more."""
import contextlib
import os
import threading

from clusters import Failed
from meter import children, threads

GROUPS = "/sys/fs/cgroup/cpu"  # cgroup v1; v2 wants a tree of its own for threads
PERIOD = 5_000  # microseconds


class CoreShare:
    """Each process of both clusters, and each thread of the worker, in a group of its own."""

    def __init__(self, share):
        self.share, self.groups = share, {}
        if not os.access(GROUPS, os.W_OK) or not os.path.exists(f"{GROUPS}/cpu.cfs_quota_us"):
            raise Failed(f"--core-share wants root and the cpu controller of cgroup v1 at {GROUPS}")

    @contextlib.contextmanager
    def limiting(self, clusters, peer):
        stopping = threading.Event()
        watcher = threading.Thread(target=self.watch, args=(stopping, clusters, peer), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopping.set()
            watcher.join()
            self.remove()

    def watch(self, stopping, clusters, peer):
        while not stopping.wait(0.02):
            for cluster in clusters:
                for pid in children(cluster.pid()):
                    self.limit(pid)
            for tid in threads(peer.worker_pid() or 0):
                self.limit(int(tid))

    def limit(self, tid):
        if tid in self.groups:
            return
        group = f"{GROUPS}/lindero-bench-{tid}"
        with contextlib.suppress(OSError):  # it is gone
            os.makedirs(group, exist_ok=True)
            for name, value in [("cpu.cfs_period_us", PERIOD), ("cpu.cfs_quota_us", int(PERIOD * self.share)), ("tasks", tid)]:
                with open(f"{group}/{name}", "w") as file:
                    file.write(str(value))
        self.groups[tid] = group

    def remove(self):
        """Groups of what has not ended yet stay until it has: the kernel removes none that is in use."""
        for tid, group in list(self.groups.items()):
            with contextlib.suppress(OSError):
                with open(f"{GROUPS}/tasks", "w") as file:
                    file.write(str(tid))
            with contextlib.suppress(OSError):
                os.rmdir(group)
            del self.groups[tid]
