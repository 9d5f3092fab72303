"""Throwaway PostgreSQL clusters on unix sockets, and psql as the only client library."""
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time

VERSION = 15
BIN = f"/usr/lib/postgresql/{VERSION}/bin"
APPLICATION = "bench_control"  # our own sessions: never counted, never replicated to
DATABASE, TEMPLATE = "bench", "bench_template"
PUBLICATION = "bench_publication"


class Failed(Exception):
    """Something went wrong that a person must read; the text says what."""


_libc = ctypes.CDLL(None)


def end_with_parent():
    """In a child, before exec: SIGTERM when this script is gone, however it went; Ctrl-C is for the script alone."""
    os.setpgid(0, 0)
    _libc.prctl(1, signal.SIGTERM)


def environment(**more):
    return dict(os.environ, PATH=BIN + ":" + os.environ["PATH"], LC_ALL="C.UTF-8", **more)


def run(arguments, stdin=None, **more):
    """A command that must succeed; returns what it printed."""
    done = subprocess.run(arguments, input=stdin, text=True, capture_output=True, env=environment(**more))
    if done.returncode:
        raise Failed(f"{' '.join(arguments[:4])} …: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def compile_c(name, folder, *libraries):
    """One of the programs beside this one, made in a folder unless it is there; its path."""
    program = os.path.join(folder, name)
    if not os.path.exists(program):
        include, library = run(["pg_config", "--includedir"]).strip(), run(["pg_config", "--libdir"]).strip()
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".c")
        run(["clang", "-O2", "-o", program, source, "-I" + include, "-L" + library, *libraries])
    return program


def pipe(first, second):
    """first | second, both of which must succeed."""
    with tempfile.TemporaryFile() as errors:
        left = subprocess.Popen(first, stdout=subprocess.PIPE, stderr=errors, env=environment())
        right = subprocess.Popen(
            second, stdin=left.stdout, stdout=subprocess.DEVNULL, stderr=errors, env=environment())
        left.stdout.close()
        codes = right.wait(), left.wait()
        if any(codes):
            errors.seek(0)
            raise Failed(f"{first[0]} | {second[0]}: {errors.read().decode()[-600:]}")


def wait_until(fact, what, seconds=60, pause=0.02):
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise Failed(f"after {seconds} s still not so: {what}")
        time.sleep(pause)


class Session:
    """One psql that stays: a question costs one round trip to the server and not a process."""

    def __init__(self, conninfo):
        self.process = subprocess.Popen(
            ["psql", "-X", "-q", "-A", "-t", "-F", "\t", conninfo], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1 << 16,
            env=environment(PGAPPNAME=APPLICATION), preexec_fn=end_with_parent)
        self.end = "end-" + secrets.token_hex(8)

    def rows(self, text):
        pipe_in = self.process.stdin
        pipe_in.write(f"{text};\n\\echo {self.end} :ERROR\n")
        pipe_in.flush()
        rows = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line.startswith(self.end):
                if line.endswith("true"):
                    raise Failed(f"{text[:200]}: {' '.join(rows)[-400:]}")
                return [tuple(row.split("\t")) for row in rows]
            rows.append(line)
        raise Failed(f"psql ended: {' '.join(rows)[-400:]}")

    def value(self, text):
        rows = self.rows(text)
        return rows[0][0] if rows else None

    def close(self):
        self.process.terminate()
        self.process.stdout.close()
        self.process.wait()
        try:
            self.process.stdin.close()
        except OSError:
            pass


class Cluster:
    def __init__(self, workspace, name, settings):
        self.name, self.settings = name, settings
        self.folder = os.path.join(workspace.folder, name)
        self.data = os.path.join(self.folder, "data")
        self.preload = None
        os.mkdir(self.folder)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.as_server(f"{BIN}/initdb", "-D", self.data, "-A", "trust", "-U", "postgres",
                       "--locale=C.UTF-8", "-E", "UTF8", "--no-sync")

    def as_server(self, *command):
        """PostgreSQL refuses to run as root."""
        if os.getuid() == 0:
            command = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command)
        # A server that starts keeps our pipes open, so a file takes what is said.
        with tempfile.TemporaryFile() as said:
            code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/",
                                   env=environment(HOME="/tmp"))
            if code:
                said.seek(0)
                raise Failed(f"{self.name}: {' '.join(command[-4:])}: {said.read().decode()[-600:]}")

    def start(self, preload=""):
        self.preload = preload
        options = [f"-c {key}={value}" for key, value in self.settings.items()]
        options += [f"-c unix_socket_directories={self.folder}", "-c listen_addresses=", "-c port=5432",
                    f"-c shared_preload_libraries={preload}"]
        self.as_server(f"{BIN}/pg_ctl", "-D", self.data, "-l", os.path.join(self.folder, "server.log"),
                       "-w", "-t", "120", "-o", " ".join(options), "start")

    def stop(self, mode="fast"):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.as_server(f"{BIN}/pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "120", "stop")

    def restart(self, preload=""):
        self.stop()
        self.start(preload)

    def pid(self):
        with open(os.path.join(self.data, "postmaster.pid")) as file:
            return int(file.readline())

    def conninfo(self, database=DATABASE, application=APPLICATION, host=None):
        return (f"host={host or self.folder} port=5432 user=postgres dbname={database} "
                f"application_name={application}")

    def session(self, database=DATABASE):
        return Session(self.conninfo(database))

    def sql(self, text, database=DATABASE):
        """Statements, each its own transaction; returns the rows they gave."""
        out = run(["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1",
                   self.conninfo(database)], stdin=text)
        return [tuple(line.split("\t")) for line in out.splitlines()]

    def value(self, text, database=DATABASE):
        rows = self.sql(text, database)
        return rows[0][0] if rows else None

    def fingerprints(self, database=DATABASE):
        """Rows and an order-independent hash of every table of the schema public."""
        tables = [row[0] for row in self.sql(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", database)]
        text = "SET timezone = 'UTC';" + "".join(
            f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM public.{table} t;"
            for table in tables)
        return dict(zip(tables, self.sql(text, database)))


class Workspace:
    """A folder with two clusters, source and target, removed at the end whatever happens."""

    def __init__(self, keep):
        self.keep = keep
        self.folder = tempfile.mkdtemp(prefix="lindero-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
        os.chmod(self.folder, 0o755)
        self.clusters = []
        self.keeper = subprocess.Popen(
            ["bash", "-c", KEEPER, "keeper", str(os.getpid()), self.folder, BIN], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fresh_clusters(self, preload):
        """A new pair: no workload inherits what another left behind."""
        self.end_clusters()
        with open("/proc/meminfo") as file:
            memory = int(file.readline().split()[1]) // 1024
        settings = dict(
            wal_level="logical", shared_buffers=f"{min(1024, memory // 8)}MB", max_wal_size="4GB",
            max_wal_senders=30, max_replication_slots=30, max_worker_processes=24,
            max_logical_replication_workers=12, log_min_messages="warning")
        for name in ("source", "target"):
            self.clusters.append(Cluster(self, name, settings))
            self.clusters[-1].start(preload)
        return self.clusters

    def end_clusters(self):
        for cluster in self.clusters:
            cluster.stop("immediate")
            shutil.rmtree(cluster.folder)
        self.clusters = []

    def close(self):
        if self.keep:
            for cluster in self.clusters:
                print(f"kept: psql '{cluster.conninfo(application='psql')}'")
            print(f"to end it: pg_ctl -m immediate -D …/data stop for both, then rm -rf {self.folder}")
        else:
            self.end_clusters()
            shutil.rmtree(self.folder, ignore_errors=True)
        self.keeper.kill()
        self.keeper.wait()


# Ends the servers and removes the folder should this script be killed outright.
KEEPER = """
trap '' INT TERM HUP
tail --pid="$1" -f /dev/null
for data in "$2"/*/data; do
  [ -e "$data/postmaster.pid" ] || continue
  if [ "$(id -u)" = 0 ]; then as='setpriv --reuid=postgres --regid=postgres --init-groups'; else as=; fi
  $as "$3/pg_ctl" -D "$data" -m immediate -w stop
done
rm -rf "$2"
"""
