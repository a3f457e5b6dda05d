#!/usr/bin/env python3
"""Draws what tests/bench/hold.py has written: memory, and the cost of a new tunnel, over the number of
connections.  hold_plot.py [HOLD.json [PICTURE.svg]]
"""
import json
import math
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WIDTH, HEIGHT, LEFT, TOP, PLOT_W, PLOT_H = 860, 300, 70, 40, 320, 200


def ticks(most, count=4):
    """Round steps from 0 to at least `most`."""
    rough = most / count or 1
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough)
    return [step * i for i in range(math.ceil(most / step) + 1)]


def number(value):
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def panel(left, title, unit, points, decades):
    """`points`: (connections, value); connections stand on a logarithmic scale, from 1 on."""
    marks = ticks(max(value for _, value in points))
    x = lambda n: left + PLOT_W * math.log10(max(n, 1)) / decades
    y = lambda v: TOP + PLOT_H * (1 - v / marks[-1])
    yield f'<text x="{left}" y="{TOP - 16}" class="t">{title}</text>'
    for mark in marks:
        yield f'<line x1="{left}" y1="{y(mark):.1f}" x2="{left + PLOT_W}" y2="{y(mark):.1f}" class="g"/>'
        yield f'<text x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{number(mark)}</text>'
    yield f'<text x="{left - 6}" y="{TOP + PLOT_H + 36}" text-anchor="end">{unit}</text>'
    for decade in range(decades + 1):
        yield (f'<text x="{x(10 ** decade):.1f}" y="{TOP + PLOT_H + 18}" text-anchor="middle">'
               f'{10 ** decade:,}</text>')
    yield (f'<text x="{left + PLOT_W / 2}" y="{TOP + PLOT_H + 36}" text-anchor="middle">'
           'connections held</text>')
    line = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in points)
    yield f'<polyline points="{line}" class="l"/>'
    for n, v in points:
        yield (f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="4" class="d">'
               f'<title>{n:,}: {number(v)} {unit}</title></circle>')


def picture(steps):
    memory = [(s["connections"], s["server_rss_kib"] / 1024) for s in steps if s["step"] == "connect"]
    cost = [(s["connections"], s["server_cpu_us"]) for s in steps if s["step"] == "probe"]
    decades = math.ceil(math.log10(max(n for n, _ in memory + cost)))
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">')
    yield ('<style>svg{background:#fff}text{fill:#333}.t{font-size:14px;font-weight:bold}'
           '.g{stroke:#ddd}.l{fill:none;stroke:#1f6feb;stroke-width:2}.d{fill:#1f6feb}</style>')
    yield from panel(LEFT, "Memory of the server", "MiB", memory, decades)
    yield from panel(LEFT + PLOT_W + 110, "Server CPU of a new tunnel", "us", cost, decades)
    yield "</svg>"


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "bench", "hold.json")
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "docs", "connections.svg")
    with open(source, encoding="utf-8") as file:
        steps = json.load(file)["steps"]
    with open(out, "w", encoding="utf-8") as file:
        file.write("\n".join(picture(steps)) + "\n")


if __name__ == "__main__":
    main()
