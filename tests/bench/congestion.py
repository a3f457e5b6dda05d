#!/usr/bin/env python3
"""Draws and sums up what build/bench/congestion printed.

Usage: tests/bench/congestion.py [--svg FILE] [--by share] TABLE...

Prints a table for docs/performance.md: of each rate and RTT the median over the queues, one column
for each loss and congestion control. --svg draws the same, a panel for each rate and RTT, with the
range over the queues as a band. --by names another column of the tables.
"""

import argparse
import html
import statistics
import sys

COLOURS = {"cubic": "#1f6feb", "bbr": "#d1521a", "reno": "#6e7781"}
PANEL = (190, 120)
GAP = (44, 44)
MARGIN = (64, 60)


def read(paths):
    rows = []
    for path in paths:
        with open(path, encoding="utf-8") as table:
            names = table.readline().rstrip("\n").split("\t")
            rows += [dict(zip(names, line.rstrip("\n").split("\t"))) for line in table]
    if not rows:
        sys.exit("congestion.py: the tables are empty")
    return rows


def numbers(rows, column):
    return sorted({int(row[column]) for row in rows})


class Cells:
    """The rows of one congestion control, rate, RTT and loss: one for each queue."""

    def __init__(self, rows, by):
        self.found = {}
        for row in rows:
            key = (row["cc"], int(row["rate_mbit"]), int(row["rtt_ms"]), int(row["loss_permille"]))
            self.found.setdefault(key, []).append(float(row[by]))

    def median(self, *key):
        values = self.found.get(key)
        return statistics.median(values) if values else None

    def range(self, *key):
        values = self.found.get(key)
        return (min(values), max(values)) if values else None


def print_table(rows, cells):
    losses = numbers(rows, "loss_permille")
    controls = [cc for cc in COLOURS if any(row["cc"] == cc for row in rows)]
    names = " / ".join(controls)
    print("| rate | RTT | " + " | ".join(f"{n / 10:g} % loss" for n in losses) + f" | ({names})")
    print("| --- | --- |" + " --- |" * len(losses))
    for rate in numbers(rows, "rate_mbit"):
        for rtt in numbers(rows, "rtt_ms"):
            line = []
            for loss in losses:
                values = [cells.median(cc, rate, rtt, loss) for cc in controls]
                line.append(" / ".join("-" if v is None else f"{v:.2f}" for v in values))
            print(f"| {rate} Mbit/s | {rtt} ms | " + " | ".join(line) + " |")


def text(x, y, words, anchor="middle", size=11, colour="#24292f"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{html.escape(words)}</text>'
    )


def panel(left, top, cells, place, losses, highest):
    """One rate and RTT: the value over the loss, a line for each congestion control."""
    width, height = PANEL

    def at(index, value):
        x = left + width * (index + 0.5) / len(losses)
        return x, top + height * (1 - min(value / highest, 1))

    out = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" '
        'stroke="#d0d7de"/>',
        text(left + width / 2, top - 6, f"{place[0]} Mbit/s, {place[1]} ms"),
    ]
    for part in (0, 0.5, 1):
        y = top + height * (1 - part)
        out.append(text(left - 5, y + 4, f"{highest * part:g}", "end", 10))
        out.append(
            f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#eaeef2"/>'
        )
    for index, loss in enumerate(losses):
        out.append(text(at(index, 0)[0], top + height + 14, f"{loss / 10:g} %", size=10))
    for cc, colour in COLOURS.items():
        keys = [(i, (cc, *place, loss)) for i, loss in enumerate(losses)]
        keys = [(i, key) for i, key in keys if cells.median(*key) is not None]
        lows = [at(i, cells.range(*key)[0]) for i, key in keys]
        highs = [at(i, cells.range(*key)[1]) for i, key in keys]
        line = [at(i, cells.median(*key)) for i, key in keys]
        if not line:
            continue
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in lows + highs[::-1])
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        out.append(f'<polygon points="{band}" fill="{colour}" fill-opacity="0.13"/>')
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
    return out


def draw(rows, cells, by):
    rates, rtts = numbers(rows, "rate_mbit"), numbers(rows, "rtt_ms")
    losses = numbers(rows, "loss_permille")
    highest = 1 if by.startswith("share") else max(float(row[by]) for row in rows) or 1
    width = MARGIN[0] + len(rtts) * (PANEL[0] + GAP[0])
    height = MARGIN[1] + len(rates) * (PANEL[1] + GAP[1])
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(MARGIN[0], 18, f"{by}, over the loss by chance; band: over the queues", "start", 13),
    ]
    for index, (cc, colour) in enumerate(COLOURS.items()):
        out.append(text(width - 190 + 60 * index, 18, cc, "start", 13, colour))
    for row, rate in enumerate(rates):
        for column, rtt in enumerate(rtts):
            left = MARGIN[0] - 20 + column * (PANEL[0] + GAP[0])
            top = MARGIN[1] - 12 + row * (PANEL[1] + GAP[1])
            out += panel(left, top, cells, (rate, rtt), losses, highest)
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--svg", metavar="FILE")
    parser.add_argument("--by", metavar="COLUMN", default="share")
    parser.add_argument("tables", metavar="TABLE", nargs="+")
    args = parser.parse_args()
    rows = read(args.tables)
    if args.by not in rows[0]:
        sys.exit(f"congestion.py: no column {args.by}; there are " + ", ".join(rows[0]))
    cells = Cells(rows, args.by)
    print_table(rows, cells)
    if args.svg:
        with open(args.svg, "w", encoding="utf-8") as out:
            out.write(draw(rows, cells, args.by))


if __name__ == "__main__":
    main()
