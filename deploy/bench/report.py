"""From runs to medians, ratios, text and Markdown. Only runs whose tables were equal after are counted."""
import json
import os
import re
import statistics

import chart
from workloads import ALL

ORDER = ["lindero", "native-binary", "native", "pglogical", "pgcopydb", "drain"]
LABELS = {"drain": "no apply (pg_recvlogical)", "lindero": "Lindero", "native": "native subscription",
          "native-binary": "native, binary"}
BEGIN, END = "<!-- figures: written by deploy/bench.sh -->", "<!-- end of figures -->"


class Figure:
    """One quantity of one peer in one workload: median, least, most."""

    def __init__(self, values):
        self.median, self.least, self.most, self.count = statistics.median(values), min(values), max(values), len(values)


def quantities(key):
    """What is measured: (title, unit, whether more is better, a run's value)."""
    if key == "latency":
        return [(f"{part}", "ms", False, lambda run, part=part: run[part]) for part in ("p50", "p99")]
    if key == "copy":
        return [("throughput", "MiB/s", True, lambda run: run["tablesMiB"] / run["seconds"])]
    return [("throughput", "changes/s", True, lambda run: run["changes"] / run["seconds"])]


def figures(key, runs):
    """For each quantity its title, unit, direction and the figure of every peer that has one."""
    good = [run for run in runs if run["verified"]]
    for title, unit, more_is_better, value in quantities(key):
        by_peer = {peer: Figure([value(run) for run in good if run["peer"] == peer])
                   for peer in ORDER if any(run["peer"] == peer for run in good)}
        yield title, unit, more_is_better, by_peer


def ratio(by_peer, peer, more_is_better):
    """How many times as good as the better native subscription; for times, as long."""
    natives = [by_peer[name].median for name in ("native", "native-binary") if name in by_peer]
    if not natives:
        return None
    return by_peer[peer].median / (max(natives) if more_is_better else min(natives))


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(figure):
    if figure.count == 1:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.least)}–{number(figure.most)})"


def middle(runs, peer, *path):
    """The median of a nested field over a peer's good runs."""
    values = []
    for run in runs:
        value = run if run["verified"] and run["peer"] == peer else None
        for name in path:
            value = value.get(name) if value else None
        if value is not None:
            values.append(value)
    return statistics.median(values) if values else None


def cpu_cells(runs, peer):
    cells = [middle(runs, peer, "cpuSeconds", role) for role in ("walsender", "target", "worker")]
    changes = middle(runs, peer, "changes")
    per_change = 1e6 * cells[2] / changes if cells[2] is not None and changes and peer == "lindero" else None
    everything = 1e6 * sum(cell or 0 for cell in cells) / changes if changes and any(cells) else None
    peak = middle(runs, peer, "workerPeakMiB") if peer == "lindero" else None
    return [*cells, everything, per_change, peak]


def rows(key, runs):
    """One row a peer and quantity, all text."""
    for title, unit, more_is_better, by_peer in figures(key, runs):
        for peer, figure in by_peer.items():
            times = ratio(by_peer, peer, more_is_better)
            cells = ["" if cell is None else number(cell) for cell in cpu_cells(runs, peer)]
            what = unit if title == "throughput" else f"{title}, {unit}"
            others = foreign_share([run for run in runs if run["verified"] and run["peer"] == peer])
            yield [LABELS.get(peer, peer), what, spread(figure), "" if times is None else f"{times:.2f} ×", *cells,
                   f"{100 * others:.0f} %"]


HEADINGS = ["peer", "figure", "median (min–max)", "÷ native", "walsender CPU s", "target CPU s", "worker CPU s",
            "all three, µs/change", "worker, µs/change", "worker peak MiB", "others' CPU"]


def foreign_share(runs):
    """The part of the machine's CPU time during the runs that this benchmark did not use."""
    busy = sum(run.get("machineCpuSeconds", 0) for run in runs)
    return sum(run.get("foreignCpuSeconds", 0) for run in runs) / busy if busy else 0


def footnotes(entry):
    runs = entry["runs"]
    bad = [run for run in runs if not run["verified"]]
    count = max(run["run"] for run in runs)
    yield (f"{entry['date']}, commit {entry['commit']}, {count} run{'s' if count > 1 else ''} of each peer, "
           f"{100 * foreign_share(runs):.0f} % of the CPU time used went to others on the machine")
    if foreign_share(runs) > 0.2:
        yield "on a machine this busy the speeds and their ratios are no evidence; the CPU seconds are closer to one"
    for run in bad:
        yield f"not counted: {run['peer']} run {run['run']}: {run['problem'][:300]}"


def workloads(results):
    return [(key, results["workloads"][key]) for key in ALL if key in results["workloads"]]


def text(results):
    lines = []
    for key, entry in workloads(results):
        lines += ["", f"{entry['name']} — {entry['size']}"]
        table = [HEADINGS, *rows(key, entry["runs"])]
        widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        lines += ["  " + line for line in footnotes(entry)]
    return "\n".join(lines)


def markdown(results):
    machine = results["machine"]
    lines = [f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memoryGiB']} GiB, {machine['system']}; "
             f"PostgreSQL {machine['postgresql']}; scale: {results['scale']}.", ""]
    for key, entry in workloads(results):
        lines += [f"### {entry['name']}", "", f"{entry['size']}.", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
        lines += ["| " + " | ".join(row) + " |" for row in rows(key, entry["runs"])]
        lines += ["", *(f"{line[0].upper()}{line[1:]}." for line in footnotes(entry)), ""]
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
    for key, entry in workloads(results):
        for title, unit, more_is_better, by_peer in figures(key, entry["runs"]):
            heading = entry["name"] + (f", {title}" if key == "latency" else "")
            bars = [(peer, LABELS.get(peer, peer), figure, number(figure.median),
                     ratio(by_peer, peer, more_is_better)) for peer, figure in by_peer.items()]
            yield heading, unit + (", more is better" if more_is_better else ", less is better"), bars


def caption(results):
    machine = results["machine"]
    share = foreign_share([run for _, entry in workloads(results) for run in entry["runs"]])
    noise = f"; others took {100 * share:.0f} % of the CPU: speeds are no evidence" if share > 0.2 else ""
    return (f"{machine['cpu']}, {machine['cores']} cores, PostgreSQL {machine['postgresql']}, "
            f"scale {results['scale']}{noise}")
