"""The report: figures, checks, a hash over both, and a page that shows them."""
import hashlib
import json
import os
import platform
import subprocess
import time

from page import page

PAUSE_LIMIT_MILLISECONDS = {"none": 250, "strict": 2_000}


def percentile(values, share):
    return round(values[min(len(values) - 1, int(len(values) * share))], 1) if values else None


def milliseconds(write):
    return (write[1] - write[0]) * 1_000


def move_windows(records):
    """When services were moved: only then can a move make a writer wait."""
    return [(record["began"], record["ended"]) for record in records if record["work"] == "move_services" and record["ended"]]


def slowest(clients, records, onlooker, count=8):
    """The longest writes, each with the work that was under way, and what the onlooker's writes took meanwhile."""
    writes = sorted((write for client in clients for write in client.ledger.writes), key=milliseconds, reverse=True)[:count]
    found = []
    for write in writes:
        works = [f"{record['from']}->{record['to']} {record['work']}" for record in records
                 if record["began"] <= write[1] and (record["ended"] or write[1]) >= write[0]]
        found.append(dict(milliseconds=round(milliseconds(write), 1), at=round(write[0], 3), kind=write[2], works=works,
                          onlookerMilliseconds=onlooker.longest_milliseconds(write[0], write[1])))
    return found


def service(clients, windows):
    writes = sorted((write for client in clients for write in client.ledger.writes))
    latencies = sorted(milliseconds(write) for write in writes)
    during = [write for write in writes if any(write[1] >= began and write[0] <= ended for began, ended in windows)]
    longest = max(writes, key=milliseconds, default=None)
    failures = [failure for client in clients for failure in client.ledger.failures]
    codes = {}
    for _, _, code in failures:
        codes[code] = codes.get(code, 0) + 1
    return dict(
        clients=len(clients), directClients=sum(client.is_direct for client in clients),
        acknowledgedWrites=len(writes), failedWrites=len(failures), failuresByCode=codes,
        reconnectedWrites=sum(len(client.ledger.reconnected) for client in clients),
        longestWriteMilliseconds=round(milliseconds(longest), 1) if longest else None,
        longestWriteAt=round(longest[0], 3) if longest else None,
        longestWriteDuringMovesMilliseconds=round(max(map(milliseconds, during), default=0), 1), writesDuringMoves=len(during),
        p50Milliseconds=percentile(latencies, 0.5), p99Milliseconds=percentile(latencies, 0.99))


def series(clients, began, ended, step=0.5):
    """Writes and latencies by time, for the chart."""
    count = int((ended - began) / step) + 1
    buckets = [[] for _ in range(count)]
    for client in clients:
        for write in client.ledger.writes:
            index = int((write[1] - began) / step)
            if 0 <= index < count:
                buckets[index].append(milliseconds(write))
    points = []
    for index, bucket in enumerate(buckets):
        bucket.sort()
        if bucket:
            points.append([round(index * step, 1), len(bucket), percentile(bucket, 0.5), round(bucket[-1], 1)])
    return points


def lag_series(samples, began):
    directions = {}
    for at, name, size, seconds in samples:
        directions.setdefault(name, []).append([round(at - began, 2), size, seconds])
    return directions


def version(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def content(journey):
    options, crew, stage = journey.options, journey.crew, journey.stage
    records, began = journey.records, journey.began
    windows = move_windows(records)
    services = {name: service(crew.of(name), windows) for name in ("bot", "sync")}
    for name, figures in services.items():
        figures["slowest"] = [dict(write, at=round(write["at"] - began, 3)) for write in slowest(crew.of(name), records, journey.onlooker)]
    limit = PAUSE_LIMIT_MILLISECONDS[options.fence]
    checks = journey.checks + [
        dict(name=f"failed writes of {name}", found=figures["failedWrites"], expected=0, holds=figures["failedWrites"] == 0)
        for name, figures in services.items()
    ] + [
        dict(name=f"longest write of {name} in the whole run, in ms", found=figures["longestWriteMilliseconds"],
             expected=f"< {limit}", holds=figures["longestWriteMilliseconds"] < limit)
        for name, figures in services.items()
    ]
    rate = sum(figures["acknowledgedWrites"] for figures in services.values()) / (journey.ended - began)
    checks.append(dict(name="acknowledged writes a second, both services together", found=round(rate), expected=">= 400", holds=rate >= 400))
    document = dict(
        what="lindero zero-downtime", lindero=version([stage.lindero, "--version"]),
        postgresql=stage.bot.value("SHOW server_version", "postgres"), pgbouncer=version(["/usr/sbin/pgbouncer", "--version"]),
        machine=dict(cores=os.cpu_count(), system=platform.platform(), loadAverage=[round(load, 1) for load in os.getloadavg()]),
        settings=dict(fence=options.fence, secondsInEachPhase=options.seconds, clients=options.clients, writesPerSecond=options.rate,
                      seed=journey.seed),
        beganAt=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)), seconds=round(journey.ended - began, 1),
        services=services, onlooker=dict(
            what="one writer to another database of the same server, all the time", writes=len(journey.onlooker.writes),
            longestWriteMilliseconds=journey.onlooker.longest_milliseconds()),
        lockWaitsOverASecond=stage.long_lock_waits(), checks=checks, holds=all(check["holds"] for check in checks),
        marks=[[round(at - began, 2), what] for at, what in journey.marks],
        phases=[dict(record, began=round(record["began"] - began, 3), ended=record["ended"] and round(record["ended"] - began, 3))
                for record in records],
        writes={name: series(crew.of(name), began, journey.ended) for name in ("bot", "sync")},
        lag=lag_series(journey.lag, began))
    document["sha256"] = digest(document)
    return document


def digest(document):
    """Of everything but the hash itself: keys sorted, no spaces, UTF-8."""
    plain = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def write(document, json_path, html_path):
    for path, text in ((json_path, json.dumps(document, indent=1, ensure_ascii=False) + "\n"), (html_path, page(document))):
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)


def summary(document, options):
    print()
    for name, figures in document["services"].items():
        print(f"{name}: {figures['failedWrites']} failed writes of {figures['acknowledgedWrites']:,}; longest write "
              f"{figures['longestWriteMilliseconds']} ms, {figures['longestWriteDuringMovesMilliseconds']} ms while services moved; "
              f"median {figures['p50Milliseconds']} ms; {figures['reconnectedWrites']} writes done again on a new connection")
        for write in figures["slowest"][:3]:
            print(f"   {write['milliseconds']} ms: {write['kind']} at {write['at']} s during {', '.join(write['works']) or 'no move'}; "
                  f"a write beside everything took {write['onlookerMilliseconds']} ms meanwhile")
    print(f"a writer to another database of the same server: longest write {document['onlooker']['longestWriteMilliseconds']} ms")
    for check in document["checks"]:
        if not check["holds"]:
            print(f"✘ {check['name']}: {check['found']}, expected {check['expected']}")
    print(f"{'everything holds' if document['holds'] else 'NOT everything holds'}: {options.json}, {options.html}, sha256 {document['sha256']}")
    return 0 if document["holds"] else 3


def recheck(document):
    """What the report claims, from its own figures: a hash alone would bless any text."""
    wrong = []
    for check in document["checks"]:
        found, expected = check["found"], check["expected"]
        if isinstance(expected, str) and expected.startswith("< "):
            holds = found < float(expected[2:])
        elif isinstance(expected, str) and expected.startswith(">= "):
            holds = found >= float(expected[3:])
        else:
            holds = found == expected
        if holds != check["holds"]:
            wrong.append(f"\"{check['name']}\" says that it {'holds' if check['holds'] else 'does not hold'}")
    if document["holds"] != all(check["holds"] for check in document["checks"]):
        wrong.append("the summary does not follow from the checks")
    for name, figures in document["services"].items():
        for mark, found in (("failed writes of " + name, figures["failedWrites"]),
                            (f"longest write of {name} in the whole run, in ms", figures["longestWriteMilliseconds"])):
            if [check["found"] for check in document["checks"] if check["name"] == mark] != [found]:
                wrong.append(f"\"{mark}\" is not what the figures say")
    return wrong


def verify(path):
    try:
        with open(path) as file:
            document = json.load(file)
        wrong = [] if digest(document) == document.get("sha256") else ["its content does not have the hash that it names"]
        wrong += recheck(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"✘ {path}: {error!r}")
        return 1
    for text in wrong:
        print(f"✘ {path}: {text}")
    if not wrong:
        print(f"✔ {path} is as it was written (sha256 {document['sha256']}); it says that "
              f"{'everything holds' if document['holds'] else 'NOT everything holds'}")
        print("  A hash shows changes; who wrote the report it does not show.")
    return 1 if wrong else 0
