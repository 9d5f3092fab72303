"""Lindero and the others. Each starts from a slot that stands before the backlog, at a target that holds the same."""
import json
import os
import signal
import subprocess

from clusters import BIN, DATABASE, PUBLICATION, Failed, compile_c, end_with_parent, environment, wait_until


def slot_is_idle(source, slot):
    return source.value(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'", "postgres") != "t"


class Peer:
    plugin, slot, preload, applies = "pgoutput", "bench_run", "", True
    clock_from_session = False  # or from before its start: see measurement.clock
    far = "source"  # which server is at the other end of the network: it runs in, or beside, the other one

    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        self.source, self.target = bench.source, bench.target

    def conninfo(self, side):
        """How it connects to one of the servers."""
        cluster = getattr(self.bench, side)
        host = self.bench.network.host(cluster) if side == self.far else None
        return cluster.conninfo(application="peer", host=host)

    def base_slot(self):
        return "base_" + self.plugin

    def copy_slot(self):
        """A slot of this run's own, at the place where every run begins."""
        self.source.sql(f"SELECT pg_copy_logical_replication_slot('{self.base_slot()}', '{self.slot}')")

    def prepare(self):  # outside the clock
        self.copy_slot()

    def start(self):  # the clock starts just before
        raise NotImplementedError

    def has_reached_end(self, session):
        return session.value("SELECT 1 FROM bench_marker WHERE id = 1") is not None

    def check(self):
        """Raises if it can be known already that this run will not end well."""

    def stop(self):  # after the clock
        pass

    def worker_pid(self):
        return None

    @property
    def stream(self):
        """The slots that it reads from, as a condition."""
        return f"slot_name = '{self.slot}'"

    def require_everything(self, record):
        """Of a peer that applies nothing: that it has read all there was."""


class Program(Peer):
    """A replicator that is a program of its own."""

    far = "target"
    process, variables = None, {}

    def arguments(self):
        raise NotImplementedError

    def start(self):
        self.log = os.path.join(self.bench.workspace.folder, f"{self.name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.bench.workspace.folder,
                env=environment(NO_COLOR="1", **self.variables), preexec_fn=end_with_parent)

    def said(self):
        with open(self.log) as log:
            return log.read()

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}: {self.said().strip()[-500:]}")

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        wait_until(lambda: slot_is_idle(self.source, self.slot), f"the slot of {self.name} is free")

    def worker_pid(self):
        return self.process.pid if self.process is not None and self.process.poll() is None else None


class Lindero(Program):
    def prepare(self):
        """Its schema stands in the target, as a subscription stands in the catalog."""
        super().prepare()
        made = subprocess.run([self.bench.lindero, "migrate"], capture_output=True, text=True,
                              env=environment(DATABASE_URL=self.target.conninfo()))
        if made.returncode:
            raise Failed(f"lindero migrate ended with {made.returncode}: {made.stderr.strip()[-500:]}")

    @property
    def settings(self):
        return self.bench.lindero_settings

    def arguments(self):
        if self.settings:
            return [self.bench.lindero, "run", "--http", "none", "--config", self.configuration()]
        return [self.bench.lindero, "run", "--http", "none", "--source", self.conninfo("source"),
                "--target", self.conninfo("target"), "--slot", self.slot,
                "--publication", PUBLICATION]

    def configuration(self):
        """What the command line means, and what the workload asks for besides."""
        self.variables = dict(SOURCE_URL=self.conninfo("source"), TARGET_URL=self.conninfo("target"))
        path = os.path.join(self.bench.workspace.folder, "replica.yaml")
        with open(path, "w") as file:
            file.write(f"""version: 1
backend: replica
origin: source
databases:
  source: {{ url: "env:SOURCE_URL" }}
  target: {{ url: "env:TARGET_URL" }}
replication: {{ snapshot: never, slot: {self.slot}, publication: {PUBLICATION}, {self.settings} }}
tables: {{ "*": {{ columns: {{ source: "*" }} }} }}
""")
        return path


class LinderoTwoSessions(Lindero):
    settings = "apply_sessions: 2"


class Reader(Program):
    """Reads everything, applies nothing, and ends."""

    applies, clock_from_session = False, True

    def has_reached_end(self, session):
        return self.process.poll() == 0

    def check(self):
        if self.process.poll():
            super().check()


class LinderoDecode(Reader):
    """Lindero's reader, decoder and assembler with nothing behind them, through a copy of the slot."""

    stream = r"slot_name LIKE 'lindero\_read\_%'"

    def __init__(self, bench, name):
        super().__init__(bench, name)
        self.variables = dict(DATABASE_URL=self.conninfo("source"))

    def arguments(self):
        return [self.bench.lindero, "events", "measure", "--slot", self.slot, "--publication", PUBLICATION,
                "--until", self.bench.end_lsn, "--json"]

    def require_everything(self, record):
        said = self.said()
        found = json.loads(said[said.index("{"):])
        wanted = self.bench.size
        if (found["transactions"], found["changes"]) != wanted:
            raise Failed(f"{found['transactions']} transactions and {found['changes']} changes were read, "
                         f"but {wanted[0]} and {wanted[1]} there were")


class Drain(Reader):
    """No replicator: PostgreSQL's own client reads the same stream to /dev/null. Nothing can be faster."""

    def arguments(self):
        return [f"{BIN}/pg_recvlogical", "-d", self.conninfo("source"), "-S", self.slot, "--start",
                "--no-loop", "-E", self.bench.end_lsn, "-f", "/dev/null", "-o", "proto_version=2",
                "-o", "streaming=on", "-o", "binary=true", "-o", f"publication_names={PUBLICATION}"]


class Relay(Program):
    """The least that a program between the two servers can do: relay.c."""

    def prepare(self):
        super().prepare()
        self.arguments()

    def arguments(self):
        return [compile_c("relay", self.bench.workspace.folder, "-lpq"), self.conninfo("source"), self.conninfo("target"),
                self.slot, PUBLICATION]


class Native(Peer):
    clock_from_session = True

    def __init__(self, bench, name):
        super().__init__(bench, name)
        self.options = ", binary = true" if name == "native-binary" else ""

    def prepare(self):
        self.copy_slot()
        self.target.sql(f"""CREATE SUBSCRIPTION bench_subscription
            CONNECTION '{self.conninfo("source")}' PUBLICATION {PUBLICATION} WITH (
                create_slot = false, copy_data = false, enabled = false, slot_name = {self.slot}{self.options})""")

    def start(self):
        self.target.sql("ALTER SUBSCRIPTION bench_subscription ENABLE")

    def stop(self):
        self.target.sql("ALTER SUBSCRIPTION bench_subscription DISABLE")
        wait_until(lambda: slot_is_idle(self.source, self.slot), "the subscription's slot is free")
        self.target.sql("ALTER SUBSCRIPTION bench_subscription SET (slot_name = none);"
                        "DROP SUBSCRIPTION bench_subscription")


class Pglogical(Peer):
    """It makes its slot itself; ours takes that one's place while the subscription is disabled."""

    plugin, preload, clock_from_session = "pglogical_output", "pglogical", True
    slot = f"pgl_{DATABASE}_provider_subscriber"

    def prepare(self):
        node = self.conninfo("target")
        self.target.sql(f"""CREATE EXTENSION pglogical;
            SELECT pglogical.create_node('target', '{node}');
            SELECT pglogical.create_subscription('subscriber', '{self.conninfo("source")}',
                synchronize_structure := false, synchronize_data := false)""")
        status = "SELECT status FROM pglogical.show_subscription_status()"
        wait_until(lambda: self.target.value(status) == "replicating", "pglogical replicates", pause=0.1)
        self.switch("disable")
        wait_until(lambda: slot_is_idle(self.source, self.slot), "pglogical's slot is free")
        self.source.sql(f"SELECT pg_drop_replication_slot('{self.slot}')")
        self.copy_slot()
        start = self.source.value(
            f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{self.slot}'")
        wait_until(lambda: self.origin_moved_to(start), "pglogical's origin is free")

    def origin_moved_to(self, lsn):
        try:
            self.target.sql(f"SELECT pg_replication_origin_advance('{self.slot}', '{lsn}')")
            return True
        except Failed:
            return False

    def switch(self, what):
        self.target.sql(f"SELECT pglogical.alter_subscription_{what}('subscriber', true)")

    def start(self):
        self.switch("enable")

    def stop(self):
        self.switch("disable")
        wait_until(lambda: slot_is_idle(self.source, self.slot), "pglogical's slot is free")


KINDS = {"lindero": Lindero, "two-sessions": LinderoTwoSessions, "native": Native, "native-binary": Native, "pglogical": Pglogical, "drain": Drain, "relay": Relay}


def make(bench, name, applies=True):
    return LinderoDecode(bench, name) if name == "lindero" and not applies else KINDS[name](bench, name)
