#!/usr/bin/env python3
"""Two results of `make bench` side by side: compare.py [A.json B.json], by default the last two.

B / A: for rates more than 1 is better, for CPU, latency and memory less. Machines drift: a contestant
that did not change tells by how much.
"""
import glob
import json
import os
import sys

import report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIGURES = (("rate", None), ("server_cpu", "server"), ("client_cpu", "client"), ("p50_us", "p50 us"),
           ("p99_us", "p99 us"))


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
    except (OSError, ValueError) as error:
        raise SystemExit(f"compare: {path}: {error}") from None
    if result.get("schema") != report.SCHEMA:
        raise SystemExit(f"compare: {path}: not of this version of the suite")
    return result


def last_two(folder):
    found = sorted(path for path in glob.glob(os.path.join(folder, "results-*.json"))
                   if not path.endswith("-latest.json"))
    if len(found) < 2:
        raise SystemExit(f"compare: fewer than two results in {folder}: make bench")
    return found[-2:]


def rows(a, b):
    """For each measurement that both have: its name, then A, B and B / A of each figure."""
    there = {(row["part"], row["case"], row["contestant"]): row["median"] for row in b["results"]}
    for row in a["results"]:
        other = there.get((row["part"], row["case"], row["contestant"]))
        if other is None:
            continue
        rate, cpu = report.UNITS[row["kind"]]
        name = a["contestants"].get(row["contestant"], row["contestant"])
        for figure, side in FIGURES:
            one, two = row["median"].get(figure), other.get(figure)
            if one and two is not None:
                unit = rate if side is None else side if " " in side else f"{side} {cpu}"
                yield [f"{row['title']}, {name}" if side is None else "", unit, report.number(one),
                       report.number(two), f"{two / one:.2f}"]


def main(argv):
    folder = os.path.join(ROOT, os.environ.get("MYTUNNEL_BUILD") or "build", "bench")
    words = [word for word in argv[1:] if word]
    if words and len(words) != 2:
        raise SystemExit("compare: two files, or none for the last two")
    paths = words or last_two(folder)
    a, b = map(read, paths)
    for letter, path, result in (("A", paths[0], a), ("B", paths[1], b)):
        print(f"{letter}: {os.path.relpath(path)}, {result['date']}: {report.describe(result)}")
    print()
    print("\n".join(report.table(["", "", "A", "B", "B / A"], rows(a, b))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
