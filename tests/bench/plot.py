"""Bars as SVG: results for the documentation, without any library."""
from xml.sax.saxutils import escape

import report

PANEL_WIDTH = 430
LABEL_WIDTH = 130
VALUE_WIDTH = 75
BAR_HEIGHT = 16
ROW_HEIGHT = 22
TITLE_HEIGHT = 34
OURS, OTHERS = ("#1f6feb", "#8bb8f8"), ("#6e7781", "#c3c9d0")


def _text(x, y, words, anchor="start", size=12, weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="#1f2328">{escape(words)}</text>')


def panel(title, rows, x, y):
    """Bars of `rows`: label, parts that are put one behind the other, whether it is ours."""
    lines = [_text(x, y + 16, title, size=13, weight="bold")]
    most = max((sum(parts) for _, parts, _ in rows), default=0) or 1
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    for i, (label, parts, ours) in enumerate(rows):
        top = y + TITLE_HEIGHT + i * ROW_HEIGHT - 8
        left = x + LABEL_WIDTH
        lines.append(_text(left - 6, top + 13, label, "end"))
        for part, colour in zip(parts, OURS if ours else OTHERS):
            width = part / most * room
            lines.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR_HEIGHT}" '
                         f'fill="{colour}"/>')
            left += width
        lines.append(_text(left + 6, top + 13, report.number(sum(parts))))
    return lines


def _rows(result, case, figures):
    r = report.Results(result)
    rows = []
    for name, title in result["contestants"].items():
        parts = [r.get(case, name, figure) for figure in figures]
        if None not in parts and name != "direct":
            rows.append((title.split(",")[0] if name == "v2ray" else title, parts,
                         name.startswith("mytunnel")))
    return rows


PANELS = (
    ("Down, one stream: Gbit/s", "bulk/down-1", ("rate",)),
    ("Down, CPU s/GiB: server (dark), client", "bulk/down-1", ("server_cpu", "client_cpu")),
    ("Up, one stream: Gbit/s", "bulk/up-1", ("rate",)),
    ("Up, CPU s/GiB: server (dark), client", "bulk/up-1", ("server_cpu", "client_cpu")),
    ("New tunnels per second", "tunnels/32", ("rate",)),
    ("New tunnels, CPU us: server (dark), client", "tunnels/32", ("server_cpu", "client_cpu")),
    ("UDP, 1,000 bytes: packets per second", "udp/1000", ("rate",)),
    ("UDP, CPU us: server (dark), client", "udp/1000", ("server_cpu", "client_cpu")),
)


def peers(result):
    """The picture of all contestants of a run."""
    lines, y, width = [], 10, 2 * PANEL_WIDTH + 40
    for i in range(0, len(PANELS), 2):
        tall = 0
        for k, (title, case, figures) in enumerate(PANELS[i:i + 2]):
            rows = _rows(result, case, figures)
            if rows:
                lines += panel(title, rows, 10 + k * (PANEL_WIDTH + 20), y)
                tall = max(tall, TITLE_HEIGHT + len(rows) * ROW_HEIGHT + 12)
        y += tall
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" '
                      f'viewBox="0 0 {width} {y}" font-family="sans-serif">',
                      f'<rect width="{width}" height="{y}" fill="#ffffff"/>', *lines, "</svg>", ""])
