"""A network between the two servers, as far as its delay goes: delay.c."""
import os
import subprocess

from clusters import compile_c, end_with_parent, wait_until


class Network:
    """What crosses it arrives later by `milliseconds`, each way; none at all when that is 0."""

    def __init__(self, workspace, milliseconds):
        self.folder, self.milliseconds, self.processes = workspace.folder, milliseconds, {}

    def host(self, cluster):
        """Where a peer at the other end finds a server."""
        if not self.milliseconds:
            return cluster.folder
        here = os.path.join(self.folder, "across-" + cluster.name)
        if cluster.name not in self.processes:
            os.makedirs(here, exist_ok=True)
            sockets = [os.path.join(folder, ".s.PGSQL.5432") for folder in (here, cluster.folder)]
            self.processes[cluster.name] = subprocess.Popen(
                [compile_c("delay", self.folder, "-lpthread"), *sockets, str(round(1000 * self.milliseconds))],
                preexec_fn=end_with_parent)
            wait_until(lambda: os.path.exists(sockets[0]), "the network is there")
        return here

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes = {}
