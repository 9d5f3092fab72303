"""A self-contained page: figures, a timeline of phases, lag and latency, and every check."""
import html
import json
import math

WIDTH, LEFT, RIGHT = 1120, 78, 16
PHASE_COLOURS = {"shared": "#dfe7ef", "replica": "#cfe3d4", "split": "#f3dfc1"}
LINE_COLOURS = {"bot": "#1f6fb2", "sync": "#c2410c", "bot->sync": "#1f6fb2", "sync->bot": "#c2410c"}


def escape(value):
    return html.escape(str(value))


class Chart:
    """One picture: lanes below each other over one axis of time."""

    def __init__(self, document):
        self.document = document
        self.seconds = max(document["seconds"], 1)
        self.parts, self.y = [], 0

    def x(self, seconds):
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds, 0), self.seconds) / self.seconds

    def text(self, x, y, text, size=12, anchor="start", colour="#334155"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>')

    def box(self, began, ended, y, height, colour, title, opacity=1.0):
        x, width = self.x(began), max(self.x(ended) - self.x(began), 1.5)
        self.parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}" opacity="{opacity}">'
                          f"<title>{escape(title)}</title></rect>")

    # lanes

    def phases(self):
        """Bands of phases, and the works of the moves between them."""
        moves = {}
        for record in self.document["phases"]:
            moves.setdefault(record["move"], []).append(record)
        at, phase, bands = 0.0, "shared", []
        for records in moves.values():
            began, ended = records[0]["began"], records[-1]["ended"] or self.seconds
            bands.append((at, began, phase))
            at, phase = ended, records[-1]["to"]
        bands.append((at, self.seconds, phase))
        y = self.y + 22
        self.text(LEFT, y - 8, "phase, and the moves between phases", 12)
        for began, ended, name in bands:
            self.box(began, ended, y, 30, PHASE_COLOURS[name], f"{name}: {ended - began:.1f} s")
            if self.x(ended) - self.x(began) > 8 * len(name):
                self.text((self.x(began) + self.x(ended)) / 2, y + 20, name, 13, "middle", "#1e293b")
        for records in moves.values():
            last = records[-1]["ended"] or self.seconds
            self.box(records[0]["began"], last, y, 30, "#64748b", f"{records[0]['from']} to {records[0]['to']}", 0.35)
            for record in records:
                is_move = record["work"] == "move_services"
                title = f"{record['step']}, {record['work']}: {(record['ended'] or self.seconds) - record['began']:.2f} s {json.dumps(record['figures'])}"
                self.box(record["began"], record["ended"] or self.seconds, y + 32, 12, "#b91c1c" if is_move else "#64748b", title,
                         1 if is_move else 0.6)
        self.text(LEFT, y + 58, "red: services move (hold the pointer over a step for its figures)", 11, colour="#64748b")
        self.y = y + 66

    def lane(self, title, lines, height, unit, least):
        """Curves on a logarithmic scale; lines: (name, points, colour, width)."""
        top, values = self.y + 24, [value for _, points, _, _ in lines for _, value in points if value > 0]
        low = math.floor(math.log10(max(min(values, default=1), least)))
        high = max(math.ceil(math.log10(max(values, default=10))), low + 1)

        def place(value):
            return top + height - height * (math.log10(max(value, 10 ** low)) - low) / (high - low)

        for _, _, began, ended in self.windows():
            self.box(began, ended, top, height, "#b91c1c", "services move", 0.12)
        self.text(LEFT, top - 8, title, 12)
        for power in range(low, high + 1):
            y = place(10 ** power)
            self.parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e8f0"/>')
            self.text(LEFT - 6, y + 4, f"{self.number(10 ** power)} {unit}", 11, "end", "#64748b")
        for name, points, colour, width in lines:
            path, before = "", None
            for at, value in points:
                # Where nothing was measured there is no line.
                path += f"{'M' if before is None or at - before > 3 else 'L'}{self.x(at):.1f} {place(value):.1f}"
                before = at
            if path:
                self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round">'
                                  f"<title>{escape(name)}</title></path>")
        x = WIDTH - RIGHT
        for name, _, colour, width in reversed(lines):
            self.text(x, top - 8, name, 11, "end", colour)
            x -= 7 * len(name) + 18
        self.y = top + height + 8

    @staticmethod
    def number(value):
        for limit, word in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
            if value >= limit:
                return f"{value / limit:g}{word}"
        return f"{value:g}"

    def windows(self):
        return [(record["from"], record["to"], record["began"], record["ended"] or self.seconds)
                for record in self.document["phases"] if record["work"] == "move_services"]

    def axis(self):
        step = next(s for s in (5, 10, 20, 30, 60, 120, 300, 600, 3_600, 86_400) if self.seconds / s <= 16)
        for tick in range(0, int(self.seconds) + 1, step):
            self.text(self.x(tick), self.y + 12, f"{tick} s", 11, "middle", "#64748b")
        self.y += 20

    def svg(self):
        writes, lag = self.document["writes"], self.document["lag"]
        self.phases()
        latencies = []
        for name, points in writes.items():
            latencies.append((f"{name} longest", [(p[0], p[3]) for p in points], LINE_COLOURS[name], 1.6))
            latencies.append((f"{name} median", [(p[0], p[2]) for p in points], LINE_COLOURS[name] + "66", 1.2))
        self.lane("write latency, each half second (milliseconds)", latencies, 170, "ms", 0.1)
        self.lane("acknowledged writes a second", [
            (name, [(p[0], p[1] * 2) for p in points], LINE_COLOURS[name], 1.4) for name, points in writes.items()], 90, "", 1)
        self.lane("lag, in bytes of the source's log", [
            (name, [(p[0], max(p[1], 1)) for p in points], LINE_COLOURS.get(name, "#475569"), 1.4) for name, points in lag.items()], 110, "B", 1)
        seconds = [(name, [(p[0], max(p[2] * 1_000, 0.1)) for p in points if p[2] is not None], LINE_COLOURS.get(name, "#475569"), 1.4)
                   for name, points in lag.items()]
        self.lane("lag, from commit to visible (milliseconds)", seconds, 110, "ms", 0.1)
        self.axis()
        return (f'<svg viewBox="0 0 {WIDTH} {self.y:.0f}" role="img" aria-label="Timeline of phases, latency and lag" '
                f'font-family="system-ui, sans-serif">{"".join(self.parts)}</svg>')


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1e293b; max-width: 1140px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-weight: 600; } .good { color: #15803d; } .bad { color: #b91c1c; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e2e8f0; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; } svg { width: 100%; height: auto; }
code, .hash { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; } .quiet { color: #64748b; }
"""


def table(head, rows):
    def cells(tag, row):
        return "".join(f'<{tag}{" class=figure" if index else ""}>{cell}</{tag}>' for index, cell in enumerate(row))
    return (f"<table><tr>{cells('th', map(escape, head))}</tr>" + "".join(f"<tr>{cells('td', row)}</tr>" for row in rows) + "</table>")


def page(document):
    services = document["services"]
    labels = [
        ("acknowledged writes", "acknowledgedWrites"), ("failed writes", "failedWrites"),
        ("longest write while services moved, ms", "longestWriteDuringMovesMilliseconds"),
        ("longest write at all, ms", "longestWriteMilliseconds"), ("median write, ms", "p50Milliseconds"),
        ("99th percentile, ms", "p99Milliseconds"), ("writes done again on a new connection after a move", "reconnectedWrites"),
        ("connections", "clients"), ("of them straight to the server", "directClients"),
    ]
    figures = [[escape(label)] + [f"{services[name][key]:,}" for name in services] for label, key in labels]
    checks = [[escape(check["name"]), escape(check["found"]), escape(check["expected"]),
               '<span class="good">holds</span>' if check["holds"] else '<span class="bad">does not hold</span>'] for check in document["checks"]]
    settings, machine = document["settings"], document["machine"]
    verdict = ('<span class="good">Everything below holds.</span>' if document["holds"] else '<span class="bad">Not everything below holds.</span>')
    # "</" would end the element that the report is in.
    embedded = json.dumps(document, ensure_ascii=False).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>One database becomes two, and one again</title><style>{STYLE}</style></head><body>
<h1>One database becomes two, and one again, while both services write</h1>
<p class="verdict">{verdict}</p>
<p>shared → replica → split → replica → shared, in {document["seconds"]:.0f} s, fence: {escape(settings["fence"])}.
<span class="quiet">{escape(document["beganAt"])}, lindero {escape(document["lindero"])}, PostgreSQL {escape(document["postgresql"])},
{escape(document["pgbouncer"])}, {machine["cores"]} cores, load {escape(", ".join(map(str, machine["loadAverage"])))},
seed {settings["seed"]}.</span></p>
{Chart(document).svg()}
<h2>Writes</h2>
{table(["", *services], figures)}
<p class="quiet">A write is measured from its first try to its acknowledgement, waits in pgbouncer and new connections included.
Statements that waited for a lock longer than a second, as the servers say: {escape(", ".join(f"{count} on {name}" for name, count in document["lockWaitsOverASecond"].items()))}.
What else made a write long is the machine: see its load above.</p>
<h2>Checks</h2>
{table(["", "found", "expected", ""], checks)}
<h2>The report itself</h2>
<p>SHA-256 over its canonical JSON: <span class="hash">{document["sha256"]}</span>. The JSON file is checked by
<code>deploy/zero-downtime.sh --verify-report FILE</code>; the same document is in this page.</p>
<script type="application/json" id="report">{embedded}</script>
</body></html>
"""
