#!/usr/bin/env python3
"""Runs the integration tests: run.py [PART_OF_A_NAME]...

One line per test while they run; the programs' logs when one fails; the sum at the end. A test is
a function test_* in a module test_*.py of this folder; its doc string says what it shows.
"""

import glob
import importlib
import os
import sys
import threading
import time
import traceback

import harness

# A test that hangs in spite of its own time limits ends the run with the stacks of all threads.
LIMIT_SECONDS = int(os.environ.get("MYTUNNEL_LIMIT") or
                    (240 * harness.SLOW if not harness.FULL else 1800))


def discover(parts):
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "test_*.py"))):
        name = os.path.basename(path)[:-3]
        module = importlib.import_module(name)
        for key, function in list(vars(module).items()):
            if key.startswith("test_") and callable(function) and function.__module__ == name:
                full = f"{name[5:]}.{key[5:]}"
                if not parts or any(part in full for part in parts):
                    yield full, function


def hung(name):
    sys.stdout.flush()
    print(f"FAIL  {name}: hangs since {LIMIT_SECONDS} s", flush=True)
    for thread, frame in sys._current_frames().items():
        print(f"thread {thread}")
        traceback.print_stack(frame, file=sys.stdout)
    harness.leftovers.print(sys.stdout)
    sys.stdout.flush()
    os._exit(1)


def run_one(name, function):
    harness.leftovers = harness.Leftovers()
    begin = time.monotonic()
    watchdog = threading.Timer(LIMIT_SECONDS, hung, (name,))
    watchdog.daemon = True
    watchdog.start()
    try:
        function()
    except harness.Skip as reason:
        print(f"skip  {name}: {reason}", flush=True)
        return "skipped"
    except KeyboardInterrupt:
        raise
    except BaseException:
        print(f"FAIL  {name} ({time.monotonic() - begin:.1f} s)")
        for line in traceback.format_exc().splitlines():
            print(f"      {line}")
        harness.leftovers.print(sys.stdout)
        sys.stdout.flush()
        return "failed"
    finally:
        watchdog.cancel()
    print(f"ok    {name} ({time.monotonic() - begin:.1f} s)", flush=True)
    return "passed"


def main(parts):
    harness.raise_file_limit()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    for name, function in discover(parts):
        outcome = run_one(name, function)
        counts[outcome] += 1
        if outcome == "failed":
            failures.append(name)
    if failures:
        print("failed: " + " ".join(failures))
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"integration: {counts['passed']} passed, {counts['failed']} failed{skipped}")
    results = os.environ.get("MT_RESULTS")
    if results:
        with open(results, "a", encoding="ascii") as file:
            file.write(f"integration {counts['passed']} {counts['failed']}\n")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
