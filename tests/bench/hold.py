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
import select
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
os.environ.setdefault("MYTUNNEL_BUILD", "build")

from harness import Server, program, raise_file_limit  # noqa: E402

ECHO_S = 30  # for its port
STEP_S = 1800  # more than the longest step takes
LATER_S = 30  # for memory to go back when all have gone
STORM_PROBE_S = 5
ROUNDS = 5  # of probes beside and without connections, by turns

COLUMNS = ["step", "connections", "seconds", "server_rss_kib", "rss_per_connection_bytes",
           "server_cpu_s", "cpu_us_per_keep_alive", "cpu_us_per_keep_alive_asleep", "tunnels",
           "per_second", "p50_ms", "p99_ms",
           "max_ms", "server_cpu_us", "bare_p50_ms", "bare_p99_ms", "bare_server_cpu_us", "refused",
           "left", "had"]


class Lines:
    """What a program prints, a line at a time, each waited for at most so many seconds."""

    def __init__(self, pipe, title):
        self.pipe = pipe
        self.title = title
        self.rest = b""

    def next(self, seconds):
        """None at the end."""
        until = time.monotonic() + seconds
        while b"\n" not in self.rest:
            if not select.select([self.pipe], [], [], max(until - time.monotonic(), 0))[0]:
                raise AssertionError(f"{self.title} said nothing for {seconds} s")
            piece = os.read(self.pipe.fileno(), 65536)
            if not piece:
                return None
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()


class Holder:
    """The program that holds; `steps` fills while it runs."""

    def __init__(self, server, profile, *options, quiet=False, steps=None):
        self.steps = [] if steps is None else steps
        self.process = subprocess.Popen(
            [program("bench/holder"), "--pid", str(server.process.pid), *options, profile], bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None)
        self.lines = Lines(self.process.stdout, "the holder")

    def until(self, step):
        """Reads on to the next such step and returns it."""
        while self.read_step():
            if self.steps[-1]["step"] == step:
                return self.steps[-1]
        raise AssertionError(f"the holder ended before the step '{step}'")

    def read_step(self):
        """Whether there was one more."""
        line = self.lines.next(STEP_S)
        if line is not None:
            self.steps.append(json.loads(line))
        return line is not None

    def go_on(self):
        """Ends a wait."""
        self.process.stdin.write(b"\n")

    def leave(self):
        """Ends the last wait; returns all steps when it has ended."""
        self.go_on()
        return self.finish()

    def finish(self):
        while self.read_step():
            pass
        self.process.stdin.close()
        status = self.process.wait(60)
        assert status == 0, f"the holder ended with {status}"
        return self.steps

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def real_time():
    """For the ends of what is measured, which stand for other machines too: they never wait for a
    core, as far as that is allowed. They sleep most of the time."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))


def is_real_time(process):
    return os.sched_getscheduler(process.pid) == os.SCHED_RR


@contextlib.contextmanager
def echo():
    """The target of all tunnels; its address."""
    process = subprocess.Popen([program("bench/echo")], bufsize=0, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, preexec_fn=real_time)
    try:
        port = Lines(process.stdout, "the echo").next(ECHO_S)
        assert port is not None, "the echo ended without a port"
        yield f"127.0.0.1:{int(port)}"
        process.stdin.close()
        assert process.wait(10) == 0, "the echo failed"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        process.stdin.close()
        process.stdout.close()


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def one_too_many(server, count):
    """A client beside `count` for whom alone there is room: told why, counted; it gets in when
    `leave` has made room."""
    server.ctl("set", "quic.max_connections", str(count))
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
    return {"step": "later", "connections": server.status()["connections"]["active"],
            "seconds": round(time.monotonic() - begun, 1),
            "server_rss_kib": resident_kib(server.process.pid)}


def probe(server, profile, target, seconds, connections=0, idle_cpu=0):
    """Tunnels one after the other for so many seconds, on a connection of their own. The server's
    CPU for each is told without the `idle_cpu` seconds a second that the connections beside it cost
    it alone."""
    process = subprocess.Popen(
        [program("bench/probe"), profile, str(server.process.pid), target, str(seconds)], text=True,
        stdout=subprocess.PIPE, preexec_fn=real_time)
    try:
        first = is_real_time(process)
        out = process.communicate(timeout=60 + 10 * float(seconds))[0]
        assert process.returncode == 0, f"the probe ended with {process.returncode}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    step = {"step": "probe", "connections": connections, "real_time": first, **json.loads(out)}
    cpu_s = step["server_cpu_s"] - idle_cpu * step["seconds"]
    step["per_second"] = round(step["tunnels"] / step["seconds"])
    step["server_cpu_us"] = round(cpu_s * 1e6 / step["tunnels"], 1)
    return step


def compare(server, bare, target, seconds, connections=0, idle_cpu=0):
    """Probes of a server with connections, and of one without, by turns: in the minutes that it takes
    to connect many the machine becomes faster or slower by a third. Medians."""
    rounds = []
    for _ in range(ROUNDS):
        rounds.append((probe(*bare, target, seconds),
                       probe(*server, target, seconds, connections, idle_cpu)))

    def median(side, name):
        return round(statistics.median(r[side][name] for r in rounds), 3)

    names = ("p50_ms", "p99_ms", "max_ms", "server_cpu_us", "per_second")
    return {"step": "probe", "connections": connections, "real_time": rounds[0][1]["real_time"],
            **{name: median(1, name) for name in names},
            **{"bare_" + name: median(0, name) for name in names},
            "tunnels": sum(r[1]["tunnels"] for r in rounds), "rounds": rounds}


def hold(counts, options, report, probe_s):
    last = max(counts)
    settings = {"quic.idle_timeout_secs": "120", "logging.level": "warn",
                "quic.max_connections": str(last + 1)}
    with Server(settings) as server, Server(settings) as other, echo() as target:
        held, bare = ((s, s.enrol("probe")) for s in (server, other))
        report.append(compare(held, bare, target, probe_s))
        holder = Holder(server, server.enrol("holder"), "--target", target, "--count",
                        ",".join(map(str, counts)), "--tunnels", "--wait", "--settle", "3",
                        *options, steps=report)
        try:
            for count in counts:
                holder.until("wait")
                idle = [s for s in of(report, "hold") if s["connections"] == count]
                report.append(compare(held, bare, target, probe_s, count, sum(
                    s["server_cpu_s"] / s["seconds"] for s in idle)))
                holder.go_on()
            holder.until("wait")
            client, full = one_too_many(server, last)
            report.append(looking(server))
            begun = time.monotonic()
            holder.leave()
            client.wait_connected(60)
            full["in_after_s"] = round(time.monotonic() - begun, 1)
            report.append(full)
        finally:
            holder.kill()
        report.append(given_back(server, report))


def storm(count, report):
    """So many clients at once beside one that makes tunnels. The clients are other machines in
    earnest: here they get what nobody else wants of the processors."""
    settings = {"quic.idle_timeout_secs": "120", "logging.level": "warn"}  # as above
    with Server(settings) as server, echo() as target:
        profile = server.enrol("probe")
        calm = [probe(server, profile, target, STORM_PROBE_S)]
        calm.append(probe(server, profile, target, STORM_PROBE_S))
        crowd = Holder(server, server.enrol("crowd"), "--count", str(count), "--at-once", str(count),
                       "--hold", "0", "--settle", "0", "--limit", "120", "--idle")
        try:
            crowd.until("start")
            beside = probe(server, profile, target, STORM_PROBE_S)
            done = crowd.until("connect")
            crowd.finish()
        finally:
            crowd.kill()
        metrics = server.metrics()
    report.append({"step": "storm", "connections": done["connections"], "seconds": done["seconds"],
                   "refused": done["refused"], "reasons": done["reasons"],
                   "calm_p99_ms": sum(c["p99_ms"] for c in calm) / 2,
                   "p99_ms": beside["p99_ms"], "calm": calm, "beside": beside, "asked": count,
                   "real_time": beside["real_time"],
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
        row("a keep-alive, server's CPU, processors awake", step["cpu_us_per_keep_alive"], 15, "us")
    for step in (s for s in of(report, "probe") if s["connections"] > 1):
        beside = f"a new tunnel beside {step['connections']:,}"
        row(f"{beside}, p99", step["p99_ms"], 1.5 * step["bare_p99_ms"], "ms")
        row(f"{beside}, server's CPU", step["server_cpu_us"], 1.15 * step["bare_server_cpu_us"], "us")
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
    parser.add_argument("--probe", default="2", help="seconds of new tunnels, five times (%(default)s)")
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "bench"))
    args = parser.parse_args()
    raise_file_limit()
    counts = [int(c) for c in args.counts.split(",") if c]
    report = Report(args.out)
    if counts:
        hold(counts, ["--keep-alive", args.keep_alive, "--hold", args.hold], report, args.probe)
    if args.storm:
        storm(args.storm, report)
    print_verdicts(verdicts(report))


if __name__ == "__main__":
    main()
