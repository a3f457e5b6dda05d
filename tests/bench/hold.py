#!/usr/bin/env python3
"""Many connections held by one server: its memory and processor time for each, what a new tunnel
costs beside them, one client too many, looking at them, and a storm of clients beside a tunnel.
Prints a line for each figure, and writes them to OUT/hold.json and OUT/hold.csv.

    make bench-hold [HOLD=1,100,10000,100000]
"""
import argparse
import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
os.environ.setdefault("MYTUNNEL_BUILD", "build")

import targets  # noqa: E402
from harness import Server, program, raise_file_limit  # noqa: E402

LATER_S = 30  # for memory to go back when all have gone

COLUMNS = ["step", "connections", "seconds", "server_rss_kib", "rss_per_connection_bytes",
           "server_cpu_s", "cpu_us_per_keep_alive", "tunnels", "per_second", "p50_ms", "p99_ms",
           "server_cpu_us", "refused"]


class Holder:
    """The program that holds; `steps` fills while it runs."""

    def __init__(self, server, profile, target, *options, quiet=False, idle=False, steps=None):
        self.steps = [] if steps is None else steps
        self.process = subprocess.Popen(
            [program("bench/holder"), "--pid", str(server.process.pid), "--target", target, *options,
             profile], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            preexec_fn=idle_priority if idle else None)

    def until(self, step):
        """Reads on to the next such step and returns it; None at the end."""
        for line in self.process.stdout:
            self.steps.append(json.loads(line))
            if self.steps[-1]["step"] == step:
                return self.steps[-1]
        return None

    def leave(self):
        """Ends a wait; returns all steps when it has ended."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.finish()

    def finish(self):
        self.until(None)
        self.process.stdin.close()
        status = self.process.wait(60)
        assert status == 0, f"the holder ended with {status}"
        return self.steps

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def idle_priority():
    """For what would run on other machines: it gets what nobody else wants of the processor."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def address(target):
    return f"{target.host}:{target.port}"


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def one_too_many(server):
    """A client beside a full server: told why, counted; it gets in when `leave` has made room."""
    client = server.client(wait=False)
    line = client.process.wait_line(r"(?i)server is full", 30).string
    page = server.http("/metrics")
    hits = re.search(r'^mytunnel_limit_hits_total\{limit="connections"\} (\d+)', page, re.M)
    return client, {"step": "full", "said": line.strip(), "limit_hits": int(hits.group(1)),
                    "status": server.status()["connections"]}


def looking(server):
    """Milliseconds for each way to look at all of them."""
    def timed(call, *args):
        begun = time.perf_counter()
        call(*args)
        return round((time.perf_counter() - begun) * 1000, 1)

    return {"step": "look",
            "status_ms": timed(server.status),
            "connections_ms": timed(server.connections),
            "connections_20_ms": timed(server.ctl, "connections", "--limit", "20"),
            "page_connections_ms": timed(server.http, "/connections", 60),
            "page_metrics_ms": timed(server.http, "/metrics"),
            "set_ms": timed(server.ctl, "set", "logging.level", "info")}


def given_back(server, report):
    """What the daemon gives back by and by, until no more is asked of it; at most LATER_S."""
    start = of(report, "start")[0]["server_rss_kib"]
    most = max(s.get("server_rss_kib", 0) for s in report)
    begun = time.monotonic()
    while resident_kib(server.process.pid) > start + (most - start) / 10 and \
            time.monotonic() - begun < LATER_S:
        time.sleep(0.1)
    return {"step": "later", "connections": 1, "seconds": round(time.monotonic() - begun, 1),
            "server_rss_kib": resident_kib(server.process.pid)}


def hold(counts, options, report):
    last = max(counts)
    settings = {"quic.idle_timeout_secs": "120", "logging.level": "warn",
                "quic.max_connections": str(last + 1)}
    with Server(settings) as server, targets.TcpTarget(targets.echo) as target:
        holder = Holder(server, server.enrol("holder"), address(target), "--count",
                        ",".join(map(str, counts)), "--tunnels", "--wait", "--settle", "3",
                        *options, steps=report)
        try:
            assert holder.until("wait"), "the holder ended early"
            client, full = one_too_many(server)
            report.append(looking(server))
            begun = time.monotonic()
            holder.leave()
            client.wait_connected(60)
            full["in_after_s"] = round(time.monotonic() - begun, 1)
            report.append(full)
        finally:
            holder.kill()
        report.append(given_back(server, report))


def probe(server, target, name):
    """Tunnels one after the other for five seconds, on a connection of their own."""
    steps = Holder(server, server.enrol(name), address(target), "--count", "0", "--probe", "5",
                   "--settle", "0", quiet=True).finish()
    return of(steps, "probe")[0]


@contextlib.contextmanager
def spinners():
    """As busy as the clients of a storm, by the same priority, and nothing to do with the server."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=idle_priority)
               for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait(10)


def storm(count, report):
    """So many clients at once beside one that makes tunnels. The clients are other machines in
    earnest: here they get what nobody else wants of the processor. What that alone costs the tunnels
    tells a control, beside programs that only use it up."""
    settings = {"quic.idle_timeout_secs": "120", "logging.level": "warn"}  # as above
    with Server(settings) as server, targets.TcpTarget(targets.echo) as target:
        calm = [probe(server, target, "calm")]
        with spinners():
            control = probe(server, target, "control")
        calm.append(probe(server, target, "calm2"))
        crowd = Holder(server, server.enrol("crowd"), address(target), "--count", str(count), "--at-once",
                       str(count), "--hold", "0", "--probe", "0", "--settle", "0", "--limit", "120",
                       idle=True)
        try:
            crowd.until("start")
            beside = probe(server, target, "beside")
            done = crowd.until("connect")
            crowd.finish()
        finally:
            crowd.kill()
        metrics = server.metrics()
    report.append({"step": "storm", "connections": done["connections"], "seconds": done["seconds"],
                   "refused": done["refused"], "reasons": done["reasons"],
                   "calm_p99_ms": sum(c["p99_ms"] for c in calm) / 2,
                   "control_p99_ms": control["p99_ms"], "p99_ms": beside["p99_ms"],
                   "asked": count,
                   "retries": metrics.get("mytunnel_retries_total")})


def of(steps, name):
    return [s for s in steps if s["step"] == name]


def verdicts(report):
    """What is to be reached, as rows: what, figure, limit, reached."""
    rows = []

    def row(what, value, limit, unit):
        rows.append({"what": what, "value": round(value, 3), "limit": round(limit, 3), "unit": unit,
                     "reached": value <= limit})

    for step in of(report, "connect")[-1:]:
        row(f"memory of each of {step['connections']:,}", step["rss_per_connection_bytes"] / 1024, 32,
            "KiB")
    for step in of(report, "tunnels"):
        row("the same after a tunnel each", step["rss_per_connection_bytes"] / 1024, 40, "KiB")
    for step in of(report, "hold")[-1:]:
        row("a keep-alive, server's CPU", step["cpu_us_per_keep_alive"], 15, "us")
    probes = of(report, "probe")
    alone = [s for s in probes if s["connections"] <= 1]  # the first one finds everything cold
    p99 = min((s["p99_ms"] for s in alone), default=0)
    cpu = min((s["server_cpu_us"] for s in alone), default=0)
    for step in (s for s in probes if s["connections"] > 1):
        beside = f"a new tunnel beside {step['connections']:,}"
        row(f"{beside}, p99", step["p99_ms"], 1.5 * p99, "ms")
        row(f"{beside}, server's CPU", step["server_cpu_us"], 1.15 * cpu, "us")
    for step in of(report, "later"):
        start = of(report, "start")[0]["server_rss_kib"]
        most = max(s.get("server_rss_kib", 0) for s in report)
        row("memory when all have gone", step["server_rss_kib"] / 1024,
            (start + (most - start) / 10) / 1024, "MiB")
    for step in of(report, "storm"):
        row(f"of {step['asked']:,} clients at once not in", step["asked"] - step["connections"], 0, "")
        row("a new tunnel beside them, p99", step["p99_ms"], 2 * step["calm_p99_ms"], "ms")
    return rows


def print_verdicts(rows):
    print("\n| to reach | unit | figure | at most | reached |\n| --- | --- | ---: | ---: | --- |")
    for r in rows:
        print(f"| {r['what']} | {r['unit']} | {r['value']:,} | {r['limit']:,} | "
              f"{'yes' if r['reached'] else 'NO'} |")


class Report(list):
    """Prints each step, and writes all of them again: a run that is cut short leaves what it had."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def append(self, step):
        super().append(step)
        print(json.dumps(step), flush=True)
        write(self, self.folder)


def write(report, folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "hold.json"), "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "steps": report, "verdicts": verdicts(report)}, file, indent=1)
    with open(os.path.join(folder, "hold.csv"), "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(report)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1,100,1000,10000", help="rising (%(default)s)")
    parser.add_argument("--storm", type=int, default=2000, help="clients at once, 0: none")
    parser.add_argument("--keep-alive", default="15", help="seconds between keep-alives")
    parser.add_argument("--hold", default="15", help="seconds of keep-alives that are measured")
    parser.add_argument("--probe", default="5", help="seconds of new tunnels at each count")
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "bench"))
    args = parser.parse_args()
    raise_file_limit()
    counts = [int(c) for c in args.counts.split(",") if c]
    report = Report(args.out)
    if counts:
        hold(counts, ["--keep-alive", args.keep_alive, "--hold", args.hold, "--probe", args.probe],
             report)
    if args.storm:
        storm(args.storm, report)
    print_verdicts(verdicts(report))


if __name__ == "__main__":
    main()
