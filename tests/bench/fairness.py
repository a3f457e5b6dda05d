#!/usr/bin/env python3
"""What small round trips wait for beside a bulk transfer, through the real programs: 100 tunnels of
one connection, or one tunnel of each of 100 connections, and a bulk transfer on the same connection,
or on one more, all of one worker.

    make build/bench/interactive all && tests/bench/fairness.py [--case one,many,direct]
        [--bulk down,up] [--rate max,1000M] [--rounds 3] [--seconds 4] [--json FILE]

Round trips of 100 bytes begin every 20 ms on each tunnel, by the clock. `max` lets the bulk transfer
take what it can: then a machine with few cores is full, and everything on it waits for a core, with
or without a tunnel; the case `direct` shows how long without. Phases without and with the bulk
transfer alternate; the table has medians of the rounds.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
os.environ.setdefault("MYTUNNEL_BUILD", "build")

from harness import BUILD, Server, raise_file_limit  # noqa: E402

TUNNELS = 100
COLUMNS = ("case", "bulk", "rate", "p50", "p99", "loaded p50", "loaded p99", "p99 ratio",
           "bulk Gbit/s", "server CPU", "client CPU", "server waits", "client waits")


def rate_of(text):
    units = {"M": 10**6, "G": 10**9}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def measure(ports, bulk_port, pids, case, args):
    """Lines of tests/bench/interactive, shown as they come."""
    command = [os.path.join(BUILD, "bench", "interactive"), "--bulk", case["bulk"],
               "--rounds", str(args.rounds), "--seconds", str(args.seconds),
               "--tunnels", str(TUNNELS), "--bulk-socks", str(bulk_port)]
    if args.normal:
        command.append("--normal")
    if args.bulk_nice:
        command += ["--bulk-nice", str(args.bulk_nice)]
    if case["rate"] != "max":
        command += ["--bulk-rate", str(rate_of(case["rate"]))]
    for pid in pids:
        command += ["--pid", str(pid)]
    command.append(",".join(map(str, ports)))
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            rows.append(json.loads(line))
            if sys.stderr.isatty() or args.verbose:
                row = rows[-1]
                print(f"  {case['case']} {case['bulk']} {case['rate']}: round {row['round']} "
                      f"{'with' if row['loaded'] else 'without'} bulk, "
                      f"p99 {row['p99_ms']} ms, {row['bulk_gbit_s']} Gbit/s",
                      file=sys.stderr, flush=True)
    if process.returncode != 0:
        raise SystemExit("interactive failed")
    return rows


def summary(case, rows):
    def median(loaded, key):
        return statistics.median(row[key] for row in rows if row["loaded"] == loaded)

    def use(what, index):
        values = [row[what][index] for row in rows if row["loaded"] and len(row[what]) > index]
        return statistics.median(values) if values else 0

    return {**case, "p50": median(False, "p50_ms"), "p99": median(False, "p99_ms"),
            "loaded p50": median(True, "p50_ms"), "loaded p99": median(True, "p99_ms"),
            "p99 ratio": median(True, "p99_ms") / median(False, "p99_ms"),
            "bulk Gbit/s": median(True, "bulk_gbit_s"), "server CPU": use("cpu", 0),
            "client CPU": use("cpu", 1), "server waits": use("waited", 0),
            "client waits": use("waited", 1), "phases": rows}


def show(result):
    cells = [value if isinstance(value, str) else f"{value:.3f}"
             for value in (result[column] for column in COLUMNS)]
    print("  ".join(f"{cell:>{max(len(column), 8)}}" for cell, column in zip(cells, COLUMNS)),
          flush=True)


def run_case(name, args, results):
    with contextlib.ExitStack() as stack:
        ports, pids, bulk_port = [0], [], 0
        if name != "direct":
            server = stack.enter_context(Server({"server.workers": "1"}))
            bulk = server.client()
            bulk_port = bulk.port
            pids = [server.process.pid, bulk.process.pid]
            clients = [bulk]
            if name == "many":
                clients = [server.client(wait=False) for _ in range(TUNNELS)]
                for client in clients:
                    client.wait_connected(60)
            ports = [client.port for client in clients]
        for rate in args.rate.split(","):
            for bulk in args.bulk.split(","):
                case = {"case": name, "bulk": bulk, "rate": rate}
                result = summary(case, measure(ports, bulk_port, pids, case, args))
                results.append(result)
                show(result)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="direct,one,many")
    parser.add_argument("--bulk", default="down,up")
    parser.add_argument("--rate", default="max,1000M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--bulk-nice", type=int, default=0,
                        help="how far the bulk's own ends give way to everything, up to 19")
    parser.add_argument("--normal", action="store_true",
                        help="the round trips' own ends without real-time priority")
    parser.add_argument("--json", help="a file for all figures")
    parser.add_argument("--verbose", action="store_true", help="progress off a terminal too")
    args = parser.parse_args()
    raise_file_limit()
    results = []
    print("milliseconds; CPU, and waiting for a core, in cores while loaded")
    print("  ".join(f"{column:>8}" for column in COLUMNS), flush=True)
    for name in args.case.split(","):
        run_case(name, args, results)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
