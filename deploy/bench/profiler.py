"""Where walsender, target and worker spend their time: perf looks at one run of Lindero's that counts for nothing else."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from clusters import Failed, run

HERTZ, SHOWN = 999, 8
LINE = re.compile(r"^\s*(\d+\.\d+)%\s+(\S+)\s+\[(.)\]\s+(\S.*?)\s*(?:-\s+-\s*)?$")


class Profiler:
    """One perf for each role, from when its processes are there until `stop`."""

    def __init__(self):
        if not shutil.which("perf"):
            raise Failed("--profile needs perf (Debian: linux-perf)")
        self.folder, self.found = None, {}

    def start(self, meter):
        self.folder = tempfile.TemporaryDirectory(prefix="lindero-profile.")
        self.recorders, self.ended = {}, False
        self.thread = threading.Thread(target=self.attach, args=(meter,), daemon=True)
        self.thread.start()

    def attach(self, meter):
        """The meter knows who they are, five times a second."""
        while not self.ended:
            pids = {}
            for role, pid in list(meter.last):
                if os.path.exists(f"/proc/{pid}"):
                    pids.setdefault(role, []).append(str(pid))
            # The walsender comes last.
            for role in pids if "walsender" in pids else ():
                recorder = self.recorders.get(role)
                if recorder is None or recorder.poll() not in (None, 0):  # one of its processes had just ended
                    self.recorders[role] = subprocess.Popen(
                        ["perf", "record", "-q", "-F", str(HERTZ), "-p", ",".join(pids[role]), "-o", self.path(role)],
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.05)

    def path(self, role):
        return os.path.join(self.folder.name, role)

    def stop(self):
        self.ended = True
        self.thread.join()
        for recorder in self.recorders.values():
            recorder.send_signal(signal.SIGINT)
            recorder.wait()
        self.found = {role: summary(self.path(role)) for role in self.recorders if os.path.exists(self.path(role))}
        self.folder.cleanup()


def summary(path):
    """Share of the kernel, and the functions that took most, in percent of the samples."""
    said = run(["perf", "report", "-i", path, "--stdio", "--no-children", "--sort", "dso,symbol"])
    lines = [match.groups() for match in map(LINE.match, said.splitlines()) if match]
    kernel = sum(float(share) for share, _, kind, _ in lines if kind == "k")
    top = [[float(share), dso, demangled(symbol)] for share, dso, _, symbol in lines[:SHOWN]]
    return dict(kernel=round(kernel, 1), top=top)


def demangled(symbol):
    if not symbol.startswith("$s") or not shutil.which("swift"):
        return symbol
    return run(["swift", "demangle", "--simplified", "--compact", symbol]).strip()[:80]
