"""Both services write while their database becomes two and one again; see deploy/zero-downtime.sh."""
import argparse
import json
import random
import subprocess
import sys
import time

from checks import Held, insert_many, insert_on_both, numbers_given_twice
from clients import Crew, Onlooker
from stage import Failed, LagSampler, Stage, wait_until
import report


def say(text):
    print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="deploy/zero-downtime.sh")
    parser.add_argument("--seconds", type=int, default=20, help="how long the services write in each phase (default 20)")
    parser.add_argument("--fence", choices=["none", "strict"], default="none")
    parser.add_argument("--rate", type=int, default=480, help="writes a second, both services together (default 480)")
    parser.add_argument("--clients", type=int, default=10, help="connections, both services together (default 10)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", help="where the report goes (default zero-downtime.json)", default="zero-downtime.json")
    parser.add_argument("--html", help="where the page goes (default zero-downtime.html)", default="zero-downtime.html")
    parser.add_argument("--keep", action="store_true", help="leave the clusters running")
    parser.add_argument("--verify-report", metavar="FILE", help="check a report's hash and what it claims; runs nothing")
    parser.add_argument("--lindero", help=argparse.SUPPRESS)
    return parser.parse_args()


class Journey:
    """The whole way, and what was seen on it."""

    def __init__(self, options):
        self.options = options
        self.seed = options.seed if options.seed is not None else random.randrange(1 << 32)
        self.stage = Stage(options.lindero, options.fence, options.keep)
        self.crew = Crew(options.clients, options.rate, self.seed)
        self.checks = []
        self.marks = []  # (time, what)

    def expect(self, name, found, wanted=0):
        holds = found == wanted
        self.checks.append(dict(name=name, found=found, expected=wanted, holds=holds))
        say(f"   {'✔' if holds else '✘'} {name}: {found}")

    def crew_up(self):
        stage, crew = self.stage, self.crew
        addresses = {service: (lambda route, service=service: stage.through_bouncer(service)) for service in ("bot", "sync")}
        for _ in range(crew.size):
            # Two thirds through pgbouncer, of either service alike; the others connect to the server.
            service = "bot" if len(crew.clients) % 2 == 0 else "sync"
            count = len(crew.of(service))
            if count % 3 != 2:
                crew.add(service, addresses[service])
            elif service == "bot":
                crew.add(service, lambda route: stage.direct("bot", "bot_app"), True)
            else:
                crew.add(service, lambda route: stage.direct(route, "sync_app"), True, stage.route)
        crew.start()

    def write_on(self, what):
        self.marks.append((time.time(), what))
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end:
            time.sleep(0.5)
            self.stage.check_processes()
            self.crew.check()

    def move(self, *command):
        say(f"\n$ lindero {' '.join(command)} --execute")
        began = time.monotonic()
        self.stage.run(*command, "--execute", "--timeout", "10min")
        self.crew.check()
        say(f"   done after {time.monotonic() - began:.1f} s, while both services wrote")

    def grant(self):
        """What a team gives its roles on the second database, once that has tables."""
        self.stage.sync.sql(
            'GRANT USAGE ON SCHEMA public TO bot_app, sync_app; GRANT SELECT, INSERT, UPDATE, DELETE ON "Reservas", "Leads", '
            '"HotelApart" TO bot_app, sync_app; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO bot_app, sync_app', "hotel")

    def verify(self, when):
        document = json.loads(self.stage.run("verify", "--json", may_fail=True))
        self.expect(f"differences by lindero verify, {when}", document.get("differences"))

    def settle(self):
        """All that was committed on either side is on both."""
        for side, place in (("bot", "sync"), ("sync", "bot")):
            source, target = (self.stage.bot, self.stage.sync) if side == "bot" else (self.stage.sync, self.stage.bot)
            lsn = source.value("SELECT pg_current_wal_insert_lsn()", "hotel")
            wait_until(lambda: target.value(
                f"SELECT greatest(applied_lsn, start_lsn) >= '{lsn}' FROM lindero.direction WHERE name = '{side}->{place}'",
                "hotel") == "t", f"{place} shows what {side} had at {lsn}", seconds=120, pause=0.2)

    def compare(self, when, side, private=False):
        found = Held(self.stage.direct(side)).compare(self.crew.clients, without=["crmNotes"] if private else [])
        words = dict(
            lost="acknowledged writes lost", doubled="rows there twice", stale="own columns without the last acknowledged value",
            uncounted="counts lost or counted twice", unexpected="rows and values that nobody wrote", private="private values that came over")
        say(f"   {when}, database {side}: {found['acknowledged']} acknowledged writes")
        for key, text in words.items():
            if key != "private" or private:
                self.expect(f"{text}, {when}, on {side}", found[key])

    # the way

    def run(self):
        stage, crew = self.stage, self.crew
        say(f"seed {self.seed}")
        stage.run("check")
        stage.start_worker()
        lag = LagSampler(stage)
        lag.start()
        # Writes beside everything, to a database of the same server that Lindero has nothing to do with: what the machine does.
        onlooker = Onlooker(stage.onlooker())
        onlooker.start()
        self.began = time.time()
        self.crew_up()
        say("\nshared: both services in one database")
        self.write_on("shared")
        self.move("advance", "--to", "replica")
        self.grant()
        self.write_on("replica")
        self.move("advance", "--to", "split")
        self.write_on("split")
        say("\nsplit: each service in its own database")
        self.verify("while split and written")
        crew.freeze()
        self.settle()
        for side in ("bot", "sync"):
            self.compare("while split", side, private=side == "sync")
        # The services rest: 20,000 inserts as fast as they go would be the load that is measured.
        duplicates = insert_on_both({name: stage.direct(name, f"{name}_app") for name in ("bot", "sync")})
        for name, count in duplicates.items():
            self.expect(f"duplicate keys in the next 10,000 inserts on {name}, while split", count)
        self.settle()
        crew.thaw()
        self.write_on("split, after the checks")
        self.move("rollback")
        self.write_on("replica again")
        self.verify("as a replica again and written")
        self.move("rollback")
        self.write_on("shared again")
        crew.stop()
        self.ended = time.time()
        lag.ended.set()
        onlooker.stop()
        self.onlooker = onlooker
        say("\nshared again: what the origin holds")
        self.compare("at the end", "bot")
        self.expect("duplicate keys in the next 10,000 inserts on bot, at the end", insert_many(stage.direct("bot", "bot_app"), "next-end"))
        self.expect("numbers given twice, at the end", numbers_given_twice(stage.direct("bot")))
        self.expect("inserts of both sides that the origin has", stage.bot.value(
            """SELECT count(*) FROM "Leads" WHERE "phone" LIKE 'next-%'""", "hotel"), "30000")
        self.records = stage.phase_records()
        self.lag = lag.samples


def main():
    options = arguments()
    if options.verify_report:
        return report.verify(options.verify_report)
    journey = Journey(options)
    try:
        journey.run()
        content = report.content(journey)
        report.write(content, options.json, options.html)
    except (Failed, RuntimeError, subprocess.SubprocessError) as error:
        say(f"\n✘ {error}")
        for name in ("worker", "bouncer"):
            if name in journey.stage.processes:
                say(f"--- the end of {name}.log\n{journey.stage.log(name)[-3000:]}")
        return 1
    finally:
        journey.crew.ended.set()
        journey.crew.going.set()
        journey.stage.close()
    return report.summary(content, options)


if __name__ == "__main__":
    sys.exit(main())
