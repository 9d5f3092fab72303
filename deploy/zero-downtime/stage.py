"""Two throwaway clusters, a pgbouncer, the worker, and the commands of lindero."""
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "bench"))
from clusters import Cluster, Failed, Workspace, end_with_parent, environment, wait_until  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SERVER_SETTINGS = dict(wal_level="logical", max_wal_senders=20, max_replication_slots=20, shared_buffers="256MB",
                       max_wal_size="4GB", log_min_messages="warning", max_connections=100,
                       log_lock_waits="on")

YAML = """version: 1
backend: shared
databases:
  bot:  {{ url: env:DATABASE_URL, roles: [bot_app] }}
  sync: {{ url: env:SYNC_DATABASE_URL, roles: [sync_app] }}
origin: bot
defaults: {{ unlisted_column: error }}
gates: {{ observe: 2s, verify_age: 1h, cutover_timeout: 30s }}
cutover:
  fence: {fence}
  pgbouncer:
    admin: env:PGBOUNCER_ADMIN_URL
    config: {entries}
    databases: {{ sync: hotel_sync }}
  command: [{command}]
tables:
  Reservas:
    match: [bookingId]
    insert: sync
    delete: sync
    private: [crmNotes]
    columns:
      bot:  [lastBotInteraction, whatsappThreadId, crmNotes]
      sync: [id, bookingId, hotelApartId, status, lastSyncBeds24, beds24Status, apiData, createdAt]
      shared:
        phone:       {{ policy: last_write }}
        guestName:   {{ policy: last_write }}
        arrivalDate: {{ policy: prefer, side: sync }}
        updatedAt:   {{ policy: max }}
        visits:      {{ policy: delta }}
  Leads:      {{ match: [phone], insert: [bot, sync], delete: bot, columns: {{ bot: "*" }} }}
  HotelApart: {{ match: [id], insert: sync, delete: sync, columns: {{ sync: "*" }} }}
"""

# What a team would have to move its direct clients: here a file that they look at before each write.
MOVE_SERVICE = """#!/bin/sh
# Called by lindero: see cutover.command. LINDERO_STEP=undo comes with both sides swapped, so it is the same.
set -eu
folder=$(dirname "$0")
printf '%s\\n' "$LINDERO_TO" > "$folder/route.new"
mv "$folder/route.new" "$folder/route"
echo "direct clients of $LINDERO_SERVICE go to $LINDERO_TO"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Stage:
    """Everything that runs; nothing is left behind unless it is to be kept."""

    def __init__(self, lindero, fence, keep):
        self.lindero, self.keep = lindero, keep
        self.workspace = Workspace(keep)
        self.folder = self.workspace.folder
        self.processes = {}
        for name in ("bot", "sync"):
            cluster = Cluster(self.workspace, name, SERVER_SETTINGS)
            self.workspace.clusters.append(cluster)
            cluster.start()
            cluster.sql("CREATE DATABASE hotel", "postgres")
        self.bot, self.sync = self.workspace.clusters
        with open(os.path.join(ROOT, "deploy/sample/hotel.sql")) as file:
            self.bot.sql(file.read(), "hotel")
        # A column that both services count up: whatever is lost or applied twice shows in the sum.
        self.bot.sql('ALTER TABLE "Reservas" ADD "visits" integer NOT NULL DEFAULT 0', "hotel")
        self.sync.sql("CREATE ROLE bot_app LOGIN; CREATE ROLE sync_app LOGIN", "postgres")
        self.route = os.path.join(self.folder, "route")
        self.write("route", "bot\n")
        self.write("move-service", MOVE_SERVICE)
        os.chmod(os.path.join(self.folder, "move-service"), 0o755)
        self.start_bouncer()
        self.write("lindero.yaml", YAML.format(
            fence=fence, entries=self.entries, command=os.path.join(self.folder, "move-service")))
        self.http = free_port()

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def start(self, name, arguments, **more):
        with open(os.path.join(self.folder, name + ".log"), "ab") as log:
            self.processes[name] = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent, **more)

    def log(self, name):
        with open(os.path.join(self.folder, name + ".log"), errors="replace") as file:
            return file.read()

    # pgbouncer

    def start_bouncer(self):
        folder = os.path.join(self.folder, "bouncer")
        os.mkdir(folder)
        self.bouncer_port = free_port()
        entry = f"host={self.bot.folder} port=5432 dbname=hotel"
        self.entries = self.write("bouncer/databases.ini", f"[databases]\nhotel_bot = {entry}\nhotel_sync = {entry}\n")
        self.write("bouncer/users", '"admin" ""\n"bot_app" ""\n"sync_app" ""\n')
        path = self.write("bouncer/pgbouncer.ini", f"""%include {self.entries}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.bouncer_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = admin
pool_mode = transaction
default_pool_size = 20
""")
        command = ["pgbouncer", path]
        if os.getuid() == 0:  # it refuses to run as root
            for name in os.listdir(folder):
                shutil.chown(os.path.join(folder, name), "postgres", "postgres")
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        self.start("bouncer", command, env=dict(environment(), PATH="/usr/sbin:" + os.environ["PATH"]))
        wait_until(lambda: self.listens(self.bouncer_port), "pgbouncer listens")

    @staticmethod
    def listens(port):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    # addresses

    def direct(self, side, user="postgres"):
        cluster = self.bot if side == "bot" else self.sync
        return f"host={cluster.folder} port=5432 user={user} dbname=hotel application_name={user}"

    def through_bouncer(self, service):
        return f"host=127.0.0.1 port={self.bouncer_port} user={service}_app dbname=hotel_{service} application_name={service}"

    def environment(self):
        return dict(
            os.environ, DATABASE_URL=f"host={self.bot.folder} port=5432 user=postgres dbname=hotel",
            SYNC_DATABASE_URL=f"host={self.sync.folder} port=5432 user=postgres dbname=hotel",
            PGBOUNCER_ADMIN_URL=f"postgresql://admin@127.0.0.1:{self.bouncer_port}/pgbouncer")

    def onlooker(self):
        """A database of its own on the busy server, with one row to write."""
        self.bot.sql("CREATE DATABASE onlooker", "postgres")
        self.bot.sql("CREATE TABLE mark (id int PRIMARY KEY, n int); INSERT INTO mark VALUES (1, 0)", "onlooker")
        return f"host={self.bot.folder} port=5432 user=postgres dbname=onlooker"

    # lindero

    def run(self, *arguments, may_fail=False):
        """A command to its end; what it printed on stdout."""
        command = [self.lindero, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, text=True)
        with open(os.path.join(self.folder, "commands.log"), "a") as log:
            log.write(f"$ lindero {' '.join(arguments)}\n{done.stderr}{done.stdout}\n")
        if done.returncode and not may_fail:
            raise Failed(f"lindero {' '.join(arguments)} ended with {done.returncode}: {(done.stderr + done.stdout)[-3000:]}")
        return done.stdout

    def start_worker(self):
        self.start("worker", [self.lindero, "run", "--http", f"127.0.0.1:{self.http}"], cwd=self.folder, env=self.environment())
        wait_until(lambda: self.listens(self.http), "the worker answers")

    def check_processes(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended with {process.returncode}: {self.log(name)[-3000:]}")

    def long_lock_waits(self):
        """Statements that waited for a lock longer than deadlock_timeout, a second, as the servers say; by database."""
        counts = {}
        for cluster in self.workspace.clusters:
            with open(os.path.join(cluster.folder, "server.log"), errors="replace") as file:
                counts[cluster.name] = sum(" still waiting for " in line for line in file)
        return counts

    def phase_records(self):
        rows = self.bot.sql(
            "SELECT json_build_object('move', move, 'number', number, 'from', from_phase, 'to', to_phase, 'step', step, 'work', work, "
            "'worker', worker, 'began', round(extract(epoch FROM began_at)::numeric, 3), "
            "'ended', round(extract(epoch FROM ended_at)::numeric, 3), 'figures', figures) FROM lindero.phase ORDER BY move, number", "hotel")
        return [json.loads(row[0]) for row in rows]

    def close(self):
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            if not self.keep and process.poll() is None:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.workspace.close()


class LagSampler(threading.Thread):
    """What the worker says of its lag, all the time."""

    def __init__(self, stage, every=0.25):
        super().__init__(daemon=True)
        self.stage, self.every = stage, every
        self.samples = []  # (time, direction, bytes, seconds or None)
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(self.every):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.stage.http}/status.json", timeout=2) as answer:
                    document = json.load(answer)
            except (OSError, ValueError):
                continue
            now = time.time()
            for direction in document.get("directions", []):
                if direction.get("lagBytes") is not None:
                    self.samples.append((now, direction["name"], direction["lagBytes"], direction.get("lagSeconds")))
