"""A chart in SVG: a panel for each workload, a bar for each peer, the whisker from the least to the most."""
from xml.sax.saxutils import escape

WIDTH, MARGIN, GAP, TOP = 1000, 24, 28, 64
PANEL = (WIDTH - 2 * MARGIN - GAP) / 2
NAME, VALUE = 150, 100  # left and right of the bars
BAR, STEP = 16, 23
COLORS = {"lindero": "#0b7285", "drain": "#dee2e6", "relay": "#dee2e6"}
OTHERS = "#adb5bd"
FONT = "font-family=\"system-ui, 'DejaVu Sans', sans-serif\""


def label(x, y, words, size=12, fill="#343a40", anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def height(panel):
    return 44 + STEP * len(panel[2])


def draw(panel, x, y):
    heading, unit, bars = panel
    parts = [label(x, y + 14, heading, 14, weight="600"), label(x, y + 30, unit, 11, "#868e96")]
    most = max(figure.most for _, _, figure, _, _ in bars)
    room = PANEL - NAME - VALUE
    y += 40
    for peer, name, figure, value, ratio in bars:
        left, middle = x + NAME, y + BAR / 2
        end = left + room * figure.median / most
        weight = "600" if peer == "lindero" else "normal"
        parts.append(label(left - 8, middle + 4, name, 11, anchor="end", weight=weight))
        parts.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{end - left:.1f}" height="{BAR}" rx="2" '
                     f'fill="{COLORS.get(peer, OTHERS)}"/>')
        last = end
        if figure.count > 1:
            low, last = (left + room * edge / most for edge in (figure.least, figure.most))
            parts.append(f'<path d="M{low:.1f} {middle:.1f}H{last:.1f}M{low:.1f} {middle - 3:.1f}v6'
                         f'M{last:.1f} {middle - 3:.1f}v6" stroke="#343a40" fill="none"/>')
        times = "" if ratio is None else f" · {ratio:.2f}×"
        parts.append(label(max(last, end) + 6, middle + 4, value + times, 11, weight=weight))
        y += STEP
    return parts


def svg(panels, caption):
    panels = [panel for panel in panels if panel[2]]
    parts, y = [], TOP
    for index in range(0, len(panels), 2):
        pair = panels[index:index + 2]
        for column, panel in enumerate(pair):
            parts += draw(panel, MARGIN + column * (PANEL + GAP), y)
        y += max(map(height, pair)) + 16
    title = [label(MARGIN, 30, "Lindero beside PostgreSQL's own and other replicators", 17, weight="600"),
             label(MARGIN, 48, caption + "; ×: to the better native, W7's to no apply", 11, "#868e96")]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" {FONT}>',
        f'<rect width="{WIDTH}" height="{y:.0f}" fill="#ffffff"/>', *title, *parts, "</svg>", ""])
