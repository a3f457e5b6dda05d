#!/usr/bin/env python3
"""Writes a result of `make bench PEERS=1` into the documentation: document.py [RESULT.json]

Replaces what stands between two marks in docs/performance.md, and draws docs/peers.svg.
"""
import os
import sys

import compare
import plot
import report

DOCUMENT = os.path.join(compare.ROOT, "docs", "performance.md")
PICTURE = os.path.join(compare.ROOT, "docs", "peers.svg")
BEGIN, END = "<!-- make bench-table: begin -->\n", "<!-- make bench-table: end -->\n"


def bulk_cells(r, name, streams):
    cells = []
    for way in ("down", "up"):
        cells += [r.get(f"bulk/{way}-{streams}", name, figure)
                  for figure in ("rate", "server_cpu", "client_cpu")]
    return cells


def small_cells(r, name):
    return ([r.get("tunnels/32", name, figure) for figure in ("rate", "server_cpu", "client_cpu")] +
            [r.get("trips/1", name, figure) for figure in ("p50_us", "p99_us", "server_cpu")])


def udp_cells(r, name):
    cells = []
    for size in (64, 512, 1000, 1200):
        cells += [r.get(f"udp/{size}", name, figure) for figure in ("rate", "server_cpu")]
    return cells + [r.get("udp/1000", name, figure) for figure in ("p50_us", "p99_us")]


def pivot(result, title, heads, cells_of):
    """A table with a line for each contestant that has figures; nothing without any."""
    r = report.Results(result)
    rows = []
    for name, contestant in result["contestants"].items():
        cells = cells_of(r, name)
        if any(cell is not None for cell in cells):
            rows.append([contestant, *map(report.number, cells)])
    return ["", title, "", *report.table(["", *heads], rows, markdown=True)] if rows else []


def section(result):
    bulk = [f"{way} {unit}" for way in ("down", "up")
            for unit in ("Gbit/s", "server s/GiB", "client s/GiB")]
    yield f"Measured on {result['date'][:10]}: {report.describe(result)}."
    yield "Versions: " + "; ".join(version if name in version else f"{name} {version}"
                                   for name, version in result["programs"].items()) + "."
    yield ""
    yield from report.goal_table(result, markdown=True)
    yield from ("", report.tcp_line(result), "", "![Contestants side by side](peers.svg)")
    for streams in (1, 8, 64):
        yield from pivot(result, f"Bulk transfer, {streams} stream{'s' * (streams > 1)}:", bulk,
                         lambda r, name, n=streams: bulk_cells(r, name, n))
    yield from pivot(result, "New tunnels (32 at once, 1 KiB each way) and round trips on an open one:",
                     ["tunnels/s", "server us", "client us", "round trip p50 us", "p99 us", "server us"],
                     small_cells)
    yield from pivot(result, "UDP relay, 32 datagrams on their way; packets per second and the server's us "
                     "for each, by payload; latency at 1,000 bytes:",
                     [f"{size} B {unit}" for size in ("64", "512", "1,000", "1,200")
                      for unit in ("/s", "us")] + ["p50 us", "p99 us"], udp_cells)
    for title, lines in report.tables(result, markdown=True, parts=("streams", "handshakes", "workers", "interactive")):
        yield from ("", f"{title[0].upper()}{title[1:]}:", "", *lines)
    for name, reason in result["absent"].items():
        yield from ("", f"Left out: {name}, {reason}.")
    for error in result["errors"]:
        yield from ("", f"Failed: {error}.")


def main(argv):
    words = [word for word in argv[1:] if word]
    folder = os.path.join(compare.ROOT, os.environ.get("MYTUNNEL_BUILD") or "build", "bench")
    result = compare.read(words[0] if words else os.path.join(folder, "results-latest.json"))
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"document: {DOCUMENT} has lost its marks: {BEGIN}{END}")
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "\n" + "\n".join(section(result)) + "\n\n" + END + after)
    with open(PICTURE, "w", encoding="utf-8") as file:
        file.write(plot.peers(result))
    print(f"written: {os.path.relpath(DOCUMENT)}, {os.path.relpath(PICTURE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
