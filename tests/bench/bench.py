#!/usr/bin/env python3
"""Measures MyTunnel beside a reference in the same run, and beside its peers with --peers.

Contestants take turns round by round, so that what else the machine does hits all of them; a figure
is the median of its rounds. Prints a table and writes a JSON file. `make bench` calls it; see --help.
"""
import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import contestants  # noqa: E402
import measures  # noqa: E402
import report  # noqa: E402
from harness import BUILD, raise_file_limit  # noqa: E402

OVERHEAD_S = 0.15  # of a measurement beside its seconds, until there is experience
LIMIT_FACTOR = 4  # a run that takes so much longer than planned is ended


class Progress:
    """One line on standard error: what runs, how far, how long yet. Off a terminal a line of its own
    for each round, not for each measurement."""

    def __init__(self, total, seconds):
        self.total = total
        self.done = 0
        self.begun = time.monotonic()
        self.seconds = seconds
        self.terminal = sys.stderr.isatty()
        self.last = None

    def left(self):
        spent = time.monotonic() - self.begun
        each = spent / self.done if self.done > 10 else self.seconds
        return max(0, (self.total - self.done) * each)

    def show(self, case, contestant, number, rounds):
        minutes, seconds = divmod(int(self.left()), 60)
        share = self.done * 100 // self.total
        text = (f"[{share:3d} %] {case.part}, round {number + 1} of {rounds}: {case.title} - "
                f"{contestant.title}")
        rest = f"{minutes}:{seconds:02d} left"
        if self.terminal:
            columns = shutil.get_terminal_size().columns - len(rest) - 3
            sys.stderr.write(f"\r{text[:columns]:<{max(columns, 1)}}  {rest}")
            sys.stderr.flush()
        elif (case.part, number) != self.last:
            self.last = (case.part, number)
            sys.stderr.write(f"[{share:3d} %] {case.part}, round {number + 1} of {rounds}, {rest}\n")

    def end(self):
        if self.terminal:
            sys.stderr.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")


def machine():
    """What the figures depend on beside the programs."""
    model = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        model = models[0] if models else ""
    return {"cpu": model, "cpus": os.cpu_count(), "usable_cpus": len(os.sched_getaffinity(0)),
            "kernel": platform.release(), "load_average": os.getloadavg()[0]}


def parse_pins(text):
    """`server=0 client=1 load=0-1` as a dictionary; sides that are not named run everywhere."""
    pins = {"server": "", "client": "", "load": ""}
    for word in text.split():
        side, _, cpus = word.partition("=")
        if side not in pins or not cpus:
            raise SystemExit(f"bench: '{word}': SIDE=CPUS with the sides server, client and load")
        pins[side] = cpus
    return pins


def parse_parts(text):
    names = [name for name in text.replace(",", " ").split() if name] or list(measures.PARTS)
    for name in names:
        if name not in measures.PARTS:
            raise SystemExit(f"bench: no part '{name}': {', '.join(measures.PARTS)}")
    return names


def choose(args, parts, pins):
    """The contestants of this run; those that are not installed are told and left out."""
    kinds = [contestants.Direct, contestants.MyTunnel]
    kinds += [contestants.MyTunnelTls] if args.peers else []
    if "workers" in parts:
        kinds += [contestants.OneWorker, contestants.TwoWorkers, contestants.TwoServers,
                  contestants.OneClient]
    kinds += contestants.PEERS if args.peers else ()
    kinds += [contestants.Crowd] if "interactive" in parts else []
    wanted = args.contestants.replace(",", " ").split()
    known = {kind.name: kind for kind in contestants.ALL}
    for name in wanted:
        if name not in known:
            raise SystemExit(f"bench: no contestant '{name}': {', '.join(known)}")
    if wanted:
        kinds = [kind for name, kind in known.items() if name in wanted]
    chosen, absent = [], {}
    for kind in kinds:
        one = kind(pins)
        if one.missing():
            absent[one.name] = f"not installed: {', '.join(one.missing())}"
        else:
            chosen.append(one)
    return chosen, absent


class Interrupted(Exception):
    """Somebody wants the run to end, or it takes far longer than planned."""


class Run:
    """All rounds of all cases."""

    def __init__(self, args, parts, running):
        self.args = args
        self.running = running
        self.cases = [case for part in parts for case in measures.PARTS[part]]
        self.rounds = {}  # (case, contestant): figures of each round
        self.errors = []
        pairs = sum(case.takes(one) * case.turns for case in self.cases for one in running)
        pairs *= args.rounds
        planned = args.warm + args.seconds + OVERHEAD_S
        self.progress = Progress(max(pairs, 1), planned)
        self.deadline = time.monotonic() + 60 + pairs * planned * LIMIT_FACTOR

    def everything(self):
        """What was measured before an interruption is kept."""
        try:
            self.all_rounds()
        except (Interrupted, KeyboardInterrupt) as reason:
            self.errors.append(f"ended early: {reason or 'interrupted'}")
        self.progress.end()

    def all_rounds(self):
        for part in dict.fromkeys(case.part for case in self.cases):
            cases = [case for case in self.cases if case.part == part]
            for number in range(self.args.rounds):
                for turn in range(cases[0].turns):
                    for case in cases:
                        self.one_round(case, number, turn)

    def one_round(self, case, number, turn):
        entered = [one for one in self.running if case.takes(one)]
        first = (number + turn) % len(entered) if entered else 0
        for one in entered[first:] + entered[:first]:
            self.progress.show(case, one, number, self.args.rounds)
            if time.monotonic() > self.deadline:
                raise Interrupted("it took far longer than planned")
            self.once(case, one)
            self.progress.done += 1

    def once(self, case, one):
        peaks = self.rounds.get((case.key.removesuffix("-load"), one.name))
        try:
            figures = measures.measure(case, one, self.args.warm, self.args.seconds,
                                       peaks[-1]["rate"] if peaks else None)
        except (measures.Failed, AssertionError, OSError) as error:
            self.errors.append(f"{case.title}, {one.title}: {error}")
            return
        self.rounds.setdefault((case.key, one.name), []).append(figures)

    def results(self):
        rows = []
        for case in self.cases:
            for one in self.running:
                rounds = self.rounds.get((case.key, one.name))
                if rounds:
                    middle = {key: statistics.median(figures[key] for figures in rounds)
                              for key in rounds[0]}
                    rows.append({"part": case.part, "case": case.name, "title": case.title,
                                 "kind": case.kind, "contestant": one.name, "median": middle,
                                 "rounds": rounds})
        return rows


def write(result, folder):
    os.makedirs(folder, exist_ok=True)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = os.path.join(folder, f"results-{stamp}.json")
    for path in (path, os.path.join(folder, "results-latest.json")):
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
        os.replace(path + ".new", path)
    return os.path.join(folder, f"results-{stamp}.json")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="measure all peers that are installed")
    parser.add_argument("--contestants", default="", metavar="NAME,...",
                        help=f"only these, of {', '.join(one.name for one in contestants.ALL)}")
    parser.add_argument("--only", default="", metavar="PART,...",
                        help=f"only these parts: {', '.join(measures.PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    parser.add_argument("--warm", type=float, default=0.2, help="seconds before each measurement")
    parser.add_argument("--pin", default="", metavar="'SIDE=CPUS...'",
                        help="sides server, client and load; by default all run on all CPUs")
    parser.add_argument("--out", default=os.path.join(BUILD, "bench"), help="folder of the results")
    args = parser.parse_args()
    if args.rounds < 1 or args.seconds <= 0 or args.warm < 0:
        parser.error("there must be rounds, and each must take some time")
    return args


def interrupt(*_):
    raise Interrupted("ended by a signal")


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, interrupt)
    parts, pins = parse_parts(args.only), parse_pins(args.pin)
    raise_file_limit()
    chosen, absent = choose(args, parts, pins)
    with contextlib.ExitStack() as stack:
        running = []
        for one in chosen:
            try:
                running.append(stack.enter_context(one))
            except (AssertionError, OSError) as error:
                absent[one.name] = f"does not start: {error}"
        run = Run(args, parts, running)
        run.everything()
    now = datetime.datetime.now().astimezone()
    result = {"schema": report.SCHEMA, "date": now.isoformat("T", "seconds"), "machine": machine(),
              "programs": contestants.versions(),
              "settings": {"peers": args.peers, "rounds": args.rounds, "seconds": args.seconds,
                           "warm": args.warm, "pin": pins, "parts": parts},
              "contestants": {one.name: one.title for one in running}, "absent": absent,
              "errors": run.errors, "results": run.results()}
    result["goals"] = report.goals(result)
    path = write(result, args.out)
    report.print_tables(result)
    print(f"\nwritten to {os.path.relpath(path)}")
    ours = [name for name in absent if name.startswith(("mytunnel", "workers", "crowd"))]
    return 1 if run.errors or ours else 0


if __name__ == "__main__":
    sys.exit(main())
