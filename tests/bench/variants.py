#!/usr/bin/env python3
"""The same program built with different values of something in the sources, measured by turns.

Usage: tests/bench/variants.py FILE OLD NEW VALUE... -- [PROGRAM [ARGUMENT]...]

For each VALUE the tree is copied to build/variants, OLD in FILE is replaced by NEW, in which {}
stands for VALUE, and PROGRAM (bench/loopback) is built there; with --build-only that is all, with
--keep the copies of an earlier run are measured. Then the programs run by turns, --rounds times.
Prints for each value the medians of what build/bench/loopback says. Examples:

  tests/bench/variants.py proto/quic/conn_write.c '#define SEGMENTS_MAX 64u' \\
      '#define SEGMENTS_MAX {}u' 8 16 32 45 64 -- bench/loopback tunnel down 512
  tests/bench/variants.py proto/quic/conn_new.c 'settings->initial_ts =' \\
      'settings->ack_thresh = {}; settings->initial_ts =' 2 4 10 20 -- bench/loopback tunnel up 512
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "build", "variants")
SAID = re.compile(r"([\d.]+) Gbit/s, CPU s/GiB: server ([\d.]+), client ([\d.]+)")
SOURCES = ("Makefile", "proto", "store", "tests/bench", "tests/sim")


def folder_of(value):
    return os.path.join(FOLDER, re.sub(r"\W", "_", value))


def build(args, value, program):
    to = folder_of(value)
    for name in SOURCES:
        source, target = os.path.join(ROOT, name), os.path.join(to, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    path = os.path.join(to, args.file)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.count(args.old) != 1:
        sys.exit(f"variants: {args.file} has {args.old!r} {text.count(args.old)} times, not once")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(args.old, args.new.replace("{}", value)))
    subprocess.run(["make", "--no-print-directory", "-C", to, f"build/{program}"],
                   check=True, stdout=subprocess.DEVNULL)


def measure(value, command):
    program = os.path.join(folder_of(value), "build", command[0])
    done = subprocess.run([program, *command[1:]], check=True, stdout=subprocess.PIPE, text=True)
    found = SAID.search(done.stdout)
    if not found:
        sys.exit(f"variants: {command[0]} does not say what it measured")
    return [float(part) for part in found.groups()]


def main():
    rest = sys.argv[1:]
    at = rest.index("--") if "--" in rest else len(rest)
    command = rest[at + 1:] or ["bench/loopback", "tunnel", "down", "512"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("file")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("values", nargs="+")
    args = parser.parse_args(rest[:at])
    if not args.keep:
        shutil.rmtree(FOLDER, ignore_errors=True)
        for value in args.values:
            build(args, value, command[0])
    if args.build_only:
        return
    found = {value: [] for value in args.values}
    for _ in range(args.rounds):
        for value, results in found.items():
            results.append(measure(value, command))
    print("value\tgbit_s\tserver_cpu_s_per_gib\tclient_cpu_s_per_gib")
    for value, results in found.items():
        medians = (statistics.median(column) for column in zip(*results))
        print("\t".join([value, *(f"{median:.2f}" for median in medians)]))


if __name__ == "__main__":
    main()
