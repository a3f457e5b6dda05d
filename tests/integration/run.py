#!/usr/bin/env python3
"""Runs the integration tests: run.py [--folder FOLDER] [--jobs N] [PART_OF_A_NAME]...

A test is a function test_* in a module test_*.py of the folder (default: this one); its doc string
says what it shows; one marked @harness.over_tls is two. Each runs in a process of its own, several at
a time: MYTUNNEL_JOBS or --jobs, default twice the processors. Those begin first that took longest the
last time, or are marked @harness.lengthy. Those marked @harness.alone, which measure time or need the
machine for themselves, run one after the other when the rest is done. One line per test as they end,
the programs' logs with one that failed, the slowest ten and the sum at the end. Kernel modules that a
module of tests names in NEEDS are loaded before each of its tests.
With MYTUNNEL_REPEAT=1 what failed has a second try by itself at the end.
"""

import argparse
import contextlib
import glob
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import harness  # noqa: E402

# A test that hangs in spite of its own time limits ends with the stacks of all its threads.
LIMIT_SECONDS = int(os.environ.get("MYTUNNEL_LIMIT") or
                    (240 * harness.SLOW if not harness.FULL else 1800))
# For a test whose very process hangs.
GRACE_SECONDS = 60
SILENCE_SECONDS = 60
SKIPPED = 77
SLOWEST = 10
LENGTHY_SECONDS = 30
REPEATED_MAX = 10  # more are no accident
# How long each took when it was run last: the longest begin first, so that none is late alone.
SECONDS_FILE = os.path.join(harness.ROOT, "build", "test-seconds.json")


def discover(folder, parts):
    for path in sorted(glob.glob(os.path.join(folder, "test_*.py"))):
        name = os.path.basename(path)[:-3]
        module = importlib.import_module(name)
        for key, function in list(vars(module).items()):
            if key.startswith("test_") and callable(function) and function.__module__ == name:
                full = f"{name[5:]}.{key[5:]}"
                for full, test in ((full, function),
                                   (full + "_over_tls", getattr(function, "over_tls", None))):
                    if test and (not parts or any(part in full for part in parts)):
                        yield full, test


def hung(name):
    sys.stdout.flush()
    print(f"{name} hangs since {LIMIT_SECONDS} s", flush=True)
    for thread, frame in sys._current_frames().items():
        print(f"thread {thread}")
        traceback.print_stack(frame, file=sys.stdout)
    harness.leftovers.print(sys.stdout)
    sys.stdout.flush()
    os._exit(1)


def run_here(name, function):
    """One test in this process; its exit status."""
    watchdog = threading.Timer(LIMIT_SECONDS, hung, (name,))
    watchdog.daemon = True
    watchdog.start()
    try:
        for module in getattr(sys.modules[function.__module__], "NEEDS", ()):
            harness.load_module(module)
        function()
    except harness.Skip as reason:
        print(f"skip: {reason}")
        return SKIPPED
    except BaseException:
        for line in traceback.format_exc().splitlines():
            print(f"      {line}")
        harness.leftovers.print(sys.stdout)
        return 1
    finally:
        watchdog.cancel()
        sys.stdout.flush()
    return 0


class Running:
    """A test in a process and a session of its own."""

    def __init__(self, name, folder):
        self.name = name
        self.begin = time.monotonic()
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--folder", folder, "--one", name],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            start_new_session=True)

    def seconds(self):
        return time.monotonic() - self.begin

    def ended(self):
        if self.seconds() > LIMIT_SECONDS + GRACE_SECONDS:
            self.end()
        return self.process.poll() is not None

    def end(self):
        """Ends whatever of it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self):
        self.output.seek(0)
        with self.output:
            return self.output.read().decode("utf-8", "replace")


class Run:
    def __init__(self, folder, tests, jobs):
        self.folder = folder
        self.jobs = jobs
        self.total = len(tests)
        self.seconds = {}
        self.outcomes = {"ok": [], "FAIL": [], "skip": []}
        self.unsteady = []
        self.running = []
        self.spoke = time.monotonic()
        before = remembered()
        guess = {name: LENGTHY_SECONDS * getattr(function, "lengthy", False)
                 for name, function in tests}
        self.together = sorted((name for name, function in tests if not is_alone(function)),
                               key=lambda name: -before.get(name, guess[name]))
        self.alone = [name for name, function in tests if is_alone(function)]

    def say(self, text):
        print(text, flush=True)
        self.spoke = time.monotonic()

    def report(self, test):
        test.end()
        seconds = self.seconds[test.name] = test.seconds()
        status = test.process.returncode
        outcome = {0: "ok", SKIPPED: "skip"}.get(status, "FAIL")
        self.outcomes[outcome].append(test.name)
        done = sum(len(names) for names in self.outcomes.values())
        text = test.text()
        reason = text.rsplit("skip: ", 1)[-1].strip() if outcome == "skip" else ""
        how = f": {reason}" if reason else ""
        if status < 0:
            how = f": ended by signal {-status}"
        self.say(f"{outcome:4}  {test.name}{how} ({seconds:.1f} s) [{done}/{self.total}]")
        if text and outcome != "skip":
            self.say(text.rstrip("\n"))

    def drain(self, names, jobs):
        waiting = list(names)
        while waiting or self.running:
            while waiting and len(self.running) < jobs:
                self.running.append(Running(waiting.pop(0), self.folder))
            for test in [test for test in self.running if test.ended()]:
                self.running.remove(test)
                self.report(test)
            if time.monotonic() - self.spoke > SILENCE_SECONDS:
                self.say("...   running: " + ", ".join(
                    f"{test.name} ({test.seconds():.0f} s)" for test in self.running))
            time.sleep(0.05)

    def all(self):
        try:
            self.drain(self.together, self.jobs)
            if self.alone and self.together:
                self.say(f"...   {len(self.alone)} that run alone")
            self.drain(self.alone, 1)
            if os.environ.get("MYTUNNEL_REPEAT") and len(self.outcomes["FAIL"]) <= REPEATED_MAX:
                self.repeat()
        finally:
            for test in self.running:
                test.end()

    def repeat(self):
        """Where other work shares the machine, a test that failed has a second try by itself. Both
        results are told."""
        failed, self.outcomes["FAIL"] = self.outcomes["FAIL"], []
        if failed:
            self.say(f"...   {len(failed)} once more, alone")
        self.drain(failed, 1)
        self.unsteady = [name for name in failed if name in self.outcomes["ok"]]

    def summary(self, label, begin):
        slowest = sorted(self.seconds, key=lambda name: -self.seconds[name])[:SLOWEST]
        if self.total > SLOWEST:
            print("slowest: " + ", ".join(f"{n} {self.seconds[n]:.0f} s" for n in slowest))
        if self.unsteady:
            print("failed at first, passed alone: " + " ".join(self.unsteady))
        if self.outcomes["FAIL"]:
            print("failed: " + " ".join(self.outcomes["FAIL"]))
        passed, failed, skipped = (len(self.outcomes[key]) for key in ("ok", "FAIL", "skip"))
        print(f"{label}: {passed} passed, {failed} failed"
              f"{f', {skipped} skipped' if skipped else ''} after {time.monotonic() - begin:.0f} s")
        results = os.environ.get("MT_RESULTS")
        if results:
            with open(results, "a", encoding="ascii") as file:
                file.write(f"{label} {passed} {failed}\n")
        remember(self.seconds)
        return 1 if failed or not passed else 0


def is_alone(function):
    return getattr(function, "alone", False)


def remembered():
    with contextlib.suppress(OSError, ValueError):
        with open(SECONDS_FILE, encoding="utf-8") as file:
            return json.load(file)
    return {}


def remember(seconds):
    """What is known of other tests stays. Runs side by side may each lose what the other adds."""
    known = {**remembered(), **seconds}
    mine = f"{SECONDS_FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        with open(mine, "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(mine, SECONDS_FILE)


def main():
    parser = argparse.ArgumentParser(description="Runs the integration tests.")
    parser.add_argument("--folder", default=HERE)
    parser.add_argument("--jobs", type=int, default=int(
        os.environ.get("MYTUNNEL_JOBS") or 2 * (os.cpu_count() or 1)))
    parser.add_argument("--one", metavar="NAME", help="this test, in this process")
    parser.add_argument("parts", nargs="*", metavar="PART_OF_A_NAME")
    args = parser.parse_args()
    folder = os.path.abspath(args.folder)
    sys.path.insert(0, folder)
    harness.raise_file_limit()
    if args.one:
        return next(run_here(name, function) for name, function in discover(folder, [args.one])
                    if name == args.one)
    # A signal must end the tests too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin = time.monotonic()
    run = Run(folder, list(discover(folder, args.parts)), max(args.jobs, 1))
    run.all()
    return run.summary(os.path.basename(folder), begin)


if __name__ == "__main__":
    sys.exit(main())
