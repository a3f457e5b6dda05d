"""The suite of `make bench`, with next to no load: everything starts, and the results can be read. What
the figures are does not matter here."""

import glob
import json
import os
import sys
import tempfile
import xml.etree.ElementTree

from harness import ROOT, SLOW, run

BENCH = os.path.join(ROOT, "tests", "bench")
CONTESTANTS = ("direct", "mytunnel", "workers-2", "workers-apart", "crowd")


def measure(folder, parts, *contestants):
    """A run of a few seconds: its output, its result."""
    done = run([sys.executable, os.path.join(BENCH, "bench.py"), "--rounds", "1", "--seconds", "0.03",
                "--warm", "0.02", "--out", folder, "--only", parts, "--contestants",
                ",".join(contestants)], timeout=120 * SLOW)
    with open(f"{folder}/results-latest.json", encoding="utf-8") as file:
        return done, json.load(file)


def test_bench_runs():
    """Every part, with a result for each case, a table, and progress on standard error only."""
    with tempfile.TemporaryDirectory() as folder:
        done, result = measure(folder, "", *CONTESTANTS)
    assert result["schema"] == 1 and not result["errors"] and not result["absent"], result
    measured = {(row["part"], row["case"], row["contestant"]) for row in result["results"]}
    bulk = ("down-1", "up-1", "down-8", "up-8", "down-64", "up-64")
    for part, cases in (("bulk", bulk), ("streams", bulk),
                        ("tunnels", ("32",)), ("trips", ("1",)), ("handshakes", ("16",)),
                        ("udp", ("64", "512", "1000", "1200", "1000-load")),
                        ("interactive", ("down", "up"))):
        for case in cases:
            assert {(part, case, "direct"), (part, case, "mytunnel")} <= measured, (part, case)
    for case in ("tunnels", "tunnels-each"):
        for contestant in ("workers-2", "workers-apart"):
            assert ("workers", case, contestant) in measured, (case, contestant)
    assert ("interactive", "up", "crowd") in measured
    for row in result["results"]:
        # Bulk beside round trips gives way to everything, on a busy machine for a whole window.
        told = "p50_us" if row["part"] == "interactive" else "rate"
        assert row["median"][told] > 0, row
        assert row["contestant"] == "direct" or row["median"]["server_cpu"] >= 0, row
    ratios = {goal["work"]: goal["ratio"] for goal in result["goals"]}
    assert ratios["bulk up, 64 streams"] > 0, ratios
    assert "new tunnels, 32 at once" in done.stdout and "to reach" in done.stdout
    assert "100 %" not in done.stdout and "left" in done.stderr, done.stderr


def test_bench_ratio():
    """Windows are held against those beside them, and only against those."""
    sys.path.insert(0, BENCH)
    try:
        import report
    finally:
        sys.path.remove(BENCH)

    def ratio(ours, others):
        rows = [{"part": "p", "case": case, "contestant": "c", "median": {},
                 "rounds": [{"rate": rate} for rate in rates]}
                for case, rates in (("many", ours), ("one", others))]
        return report.Results({"results": rows}).ratio("p/many", "p/one", "c", "rate")

    # The machine slows down: the medians alone have 0.5 to each other.
    assert ratio([8, 4, 1], [8, 8, 1]) == 1
    assert ratio([8, 4], [8]) is None and ratio([], []) is None and ratio([1], [0]) is None


def test_bench_compares():
    """Two results side by side, and what the documentation is made of."""
    sys.path.insert(0, BENCH)
    try:
        import document
        import plot
    finally:
        sys.path.remove(BENCH)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        measure(first, "tunnels,trips", "direct", "mytunnel")
        _, result = measure(second, "trips", "direct", "mytunnel")
        paths = [next(path for path in glob.glob(f"{folder}/results-*.json") if "latest" not in path)
                 for folder in (first, second)]
        out = run([sys.executable, os.path.join(BENCH, "compare.py"), *paths]).stdout
        assert "B / A" in out and "round trips on an open tunnel, MyTunnel" in out, out
        assert "new tunnels" not in out, out
        refused = run([sys.executable, os.path.join(BENCH, "compare.py"), paths[0], __file__],
                      check=False)
        assert refused.returncode == 1 and "test_bench.py" in refused.stderr, refused.stderr
    text = "\n".join(document.section(result))
    assert "| MyTunnel, QUIC |" in text and "| round trip, median |" in text, text
    assert "\nNew tunnels (32 at once, 1 KiB each way) and round trips on an open one:\n" in text, text
    assert xml.etree.ElementTree.fromstring(plot.peers(result)).tag.endswith("svg")
