"""Figures in words: text for the terminal, Markdown for the page, panels for the chart."""
import json
import os
import re

import chart
from figures import LABELS, QUIET, ROLES, entries, foreign_share, quantities
from workloads import LATENCIES

BEGIN, END = "<!-- figures: written by deploy/bench.sh -->", "<!-- end of figures -->"
HEADINGS = ["peer", "figure", "median (min–max)", "÷ reference", "start, s", "walsender CPU s", "target CPU s",
            "worker CPU s", "all three, µs/change", "worker, µs/change", "worker peak MiB", "quiet runs", "others' CPU"]


def number(value):
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(part):
    return "" if part is None else f"{100 * part:.0f} %"


def spread(figure):
    if figure is None:
        return "—"
    if figure.count == 1:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.least)}–{number(figure.most)})"


def label(peer):
    return LABELS.get(peer, peer)


def times(ratio):
    return "" if ratio is None else f"{ratio:.2f} ×"


def rows(entry):
    """One row a peer and quantity, all text."""
    for quantity in quantities(entry.key):
        speeds = entry.speeds(quantity)
        for peer in entry.peers:
            if not entry.of(peer, entry.counted):
                continue
            is_lindero = peer == "lindero"
            yield [label(peer), quantity.name(), spread(speeds.get(peer)), times(entry.ratio(speeds, quantity, peer)),
                   number(entry.middle(peer, "startSeconds")),
                   *(number(entry.middle(peer, "cpuSeconds", role)) for role in ROLES),
                   number(entry.microseconds(peer, *ROLES)),
                   number(entry.microseconds(peer, "worker")) if is_lindero else "",
                   number(entry.middle(peer, "workerPeakMiB")) if is_lindero else "",
                   f"{len(entry.of(peer, entry.quiet))} of {len(entry.of(peer, entry.runs))}",
                   percent(foreign_share(entry.of(peer, entry.counted)))]


def footnotes(entry):
    yield f"{entry.data['date']}, commit {entry.data['commit']}, {entry.machine['system']}; the reference is {entry.kind.reference}"
    noisy = len(entry.counted) - len(entry.quiet)
    if noisy:
        yield (f"{noisy} of {len(entry.counted)} runs had others take more than {percent(QUIET)} of the machine: their "
               "speed is left out, their CPU seconds are not")
    for run in entry.runs:
        if not run["verified"]:
            yield f"not counted: {run['peer']} run {run['run']}: {run['problem'][:300]}"
        elif run.get("walsenders", 1) > 1 and entry.key != "copy":
            yield f"{run['peer']} run {run['run']} needed {run['walsenders']} sessions on the source"


# --- what follows from the figures

def marks(results):
    """What issue 3 asks for, and what was reached: (workload, what, mark, reached, whether, what the machine allows)."""
    for entry in entries(results):
        for quantity in quantities(entry.key):
            speeds = entry.speeds(quantity)
            for peer, mark in entry.kind.marks.items():
                to = entry.reference(speeds, quantity) if peer == "native" else peer
                what = f"{quantity.name()} ÷ {'the better native' if peer == 'native' else label(peer)}"
                sign = "≥" if quantity.more_is_better else "≤"
                if to not in speeds or "lindero" not in speeds:
                    yield entry, what, f"{sign} {mark:.2f}", "no quiet run of both", None, ""
                    continue
                reached = speeds["lindero"].median / speeds[to].median
                yield (entry, what, f"{sign} {mark:.2f}", f"{reached:.2f}",
                       reached >= mark if quantity.more_is_better else reached <= mark,
                       ceiling(entry, speeds, to) if peer == "native" and quantity.more_is_better else floor(speeds, to))
        yield from split_marks(entry)
        if entry.key in ("oltp", "inserts", "updates", "hot"):
            cost = entry.microseconds("lindero", "worker")
            if cost is not None:
                reading = entry.microseconds("drain", "worker")
                least = f"a reader that applies nothing takes {number(reading)}" if reading else ""
                yield entry, "worker CPU, µs/change", "< 1.50", number(cost), cost < 1.5, least
        if entry.key == "bigtx":
            peak = entry.middle("lindero", "workerPeakMiB")
            if peak is not None:
                yield entry, "worker's peak memory, MiB", "< 96", number(peak), peak < 96, ""


def ceiling(entry, speeds, reference):
    """Two bounds of the ratio: reading the stream and applying nothing, and the CPU that the three processes take."""
    said = []
    if "drain" in speeds:
        said.append(f"reading alone {speeds['drain'].median / speeds[reference].median:.2f}")
    cost = entry.microseconds("lindero", *ROLES)
    if cost:
        said.append(f"all cores busy {entry.cores * 1e6 / cost / speeds[reference].median:.2f}")
    return ", ".join(said)


SPLIT_MARKS = {"split": 0.8, "split-conflicts": 0.5}
BOUNDS = ("lindero", "drain", "relay", "beside-reader")


def split_marks(entry):
    """Both directions, of one way; and one way with a bare reader in place of the second."""
    quantity = quantities(entry.key)[0]
    speeds = entry.speeds(quantity)
    one_way = speeds["lindero"].median if "lindero" in speeds else None
    for peer, mark in SPLIT_MARKS.items():
        if one_way and peer in speeds:
            reached = speeds[peer].median / one_way
            bound = f"one way beside a bare reader {speeds['beside-reader'].median / one_way:.2f}" if "beside-reader" in speeds else ""
            yield entry, f"{quantity.unit}, {label(peer)} ÷ one way", f"≥ {mark:.2f}", f"{reached:.2f}", reached >= mark, bound


def floor(speeds, reference):
    """A bound of W5's ratio: what lies between two servers and does no more than it must."""
    if "relay" not in speeds:
        return ""
    return f"the least in between {speeds['relay'].median / speeds[reference].median:.2f}"


def bounds(results):
    """Which process was busy while Lindero, the better native and the bare reader ran."""
    for entry in entries(results):
        quantity = quantities(entry.key)[0]
        shown = ["lindero", entry.reference(entry.speeds(quantity), quantity), "drain"]
        for peer in dict.fromkeys(name for name in shown if name):
            found = entry.bound(peer)
            if found and entry.key not in LATENCIES:
                wall, busy, everything, what = found
                yield [entry.data["name"], label(peer), number(wall), *(percent(busy.get(role)) for role in ROLES),
                       percent(everything / entry.cores), what]


def profiles(results):
    """What perf saw of a run of Lindero's: (workload, process, the kernel's share, the functions that took most)."""
    for entry in entries(results):
        for role, found in entry.data.get("profiles", {}).items():
            yield [entry.data["name"], role, percent(found["kernel"] / 100),
                   ", ".join(f"{symbol} {share:.0f} %" for share, _, symbol in found["top"]).replace("|", "\\|")]


def faster(results):
    """Where others are better, in speed or in CPU."""
    for entry in entries(results):
        others = [peer for peer in entry.peers if peer not in BOUNDS]
        for quantity in quantities(entry.key):
            speeds = entry.speeds(quantity)
            for peer in others if "lindero" in speeds else []:
                if peer in speeds and quantity.better((speeds[peer].median, speeds["lindero"].median)) \
                        == speeds[peer].median:
                    yield (f"{entry.data['name']}: {label(peer)} has {number(speeds[peer].median)} {quantity.name()}, "
                           f"Lindero {number(speeds['lindero'].median)}")
        own = entry.microseconds("lindero", *ROLES)
        for peer in others:
            cost = entry.microseconds(peer, *ROLES)
            if own and cost and cost < own:
                yield (f"{entry.data['name']}: {label(peer)} needs {number(cost)} µs of CPU for a change in all, "
                       f"Lindero {number(own)}")


# --- the forms

def text(results):
    lines = []
    for entry in entries(results):
        lines += ["", f"{entry.data['name']} — {entry.data['size']}"]
        table = [HEADINGS, *rows(entry)]
        widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        lines += ["  " + line for line in footnotes(entry)]
    return "\n".join(lines)


def table(headings, body):
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings),
            *("| " + " | ".join(row) + " |" for row in body), ""]


def machines(results):
    """Each machine that workloads were measured on; ratios are of one run on one of them."""
    return dict.fromkeys(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memoryGiB']} GiB, {machine['system']}; "
        f"PostgreSQL {machine['postgresql']}" for machine in (entry.machine for entry in entries(results)))


def markdown(results):
    held = {True: "yes", False: "**no**", None: ""}
    lines = [*(f"Machine: {machine}.  " for machine in machines(results)), f"Scale: {results['scale']}.", "", "### Marks", ""]
    lines += table(["workload", "what", "mark", "reached", "held", "the machine allows"],
                   [[entry.data["name"], what, mark, reached, held[whether], allowed]
                    for entry, what, mark, reached, whether, allowed in marks(results)])
    bound = list(bounds(results))
    lines += ["### What bounds each figure", ""]
    lines += table(["workload", "peer", "time, s", "walsender", "busiest target process", "busiest worker thread",
                    "of the whole machine", "bound by"], bound) if bound else ["No run was quiet enough to tell.", ""]
    seen = list(profiles(results))
    if seen:
        lines += ["### Profiles", "", "Of one run of Lindero's that perf looked at, and that counts for nothing else.", ""]
        lines += table(["workload", "process", "in the kernel", "functions that took most"], seen)
    ahead = list(faster(results))
    lines += ["### Where others are better", "", *(f"- {line}." for line in ahead or ["Nowhere in what was measured"]), ""]
    for entry in entries(results):
        lines += [f"### {entry.data['name']}", "", f"{entry.data['size']}.", ""]
        lines += table(HEADINGS, rows(entry))
        lines += [*(f"{line[0].upper()}{line[1:]}.  " for line in footnotes(entry)), ""]
    return "\n".join(lines)


def write(results, folder):
    """results.json, chart.svg, and the figures between the two marks of the folder's README.md, if it has one."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump(results, file, indent=1, ensure_ascii=False)
        file.write("\n")
    with open(os.path.join(folder, "chart.svg"), "w") as file:
        file.write(chart.svg(panels(results), caption(results)))
    readme = os.path.join(folder, "README.md")
    if os.path.exists(readme):
        with open(readme) as file:
            page = file.read()
        page = re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n{markdown(results)}\n{END}", page)
        with open(readme, "w") as file:
            file.write(page)


def panels(results):
    for entry in entries(results):
        for quantity in quantities(entry.key):
            speeds = entry.speeds(quantity)
            heading = entry.data["name"] + (f", {quantity.title}" if entry.key in LATENCIES else "")
            bars = [(peer, label(peer), figure, number(figure.median), entry.ratio(speeds, quantity, peer))
                    for peer, figure in speeds.items()]
            yield heading, quantity.unit + (", more is better" if quantity.more_is_better else ", less is better"), bars


def caption(results):
    left_out = [entry.data["name"].split()[0] for entry in entries(results) if not entry.quiet]
    noise = f"; no quiet run yet of {', '.join(left_out)}" if left_out else ""
    return "; ".join([*machines(results), f"scale {results['scale']}{noise}"])
