#!/usr/bin/env python3
"""Checks that no compiler makes: which folder may include which, banned functions, lengths.

Usage: scripts/lint.py FILE... ; prints "file:line: message" per finding, exit status 1 if any.
"""

import re
import sys

# What a folder may include of the project itself; tests may include anything.
LAYERS = {
    "proto/wire": ("proto/wire/",),
    "proto/quic": ("proto/wire/", "proto/quic/"),
    "proto/io": ("proto/wire/", "proto/quic/", "proto/io/"),
    "store": ("store/", "proto/wire/", "proto/quic/identity.h"),
    "web": ("web/", "proto/wire/"),
    "daemon": ("daemon/", "proto/", "store/", "web/"),
    "ctl": ("ctl/", "proto/wire/"),
    "client": ("client/", "proto/"),
}

BANNED = {
    "strcpy": "mt_bytes or snprintf",
    "strcat": "snprintf",
    "strncpy": "snprintf: it truncates silently",
    "strncat": "snprintf",
    "sprintf": "snprintf",
    "vsprintf": "vsnprintf",
    "gets": "fgets",
    "atoi": "strtol with checks",
    "atol": "strtol with checks",
    "atoll": "strtoll with checks",
    "atof": "strtod with checks",
    "sscanf": "a parser that checks",
    "system": "posix_spawn",
    "popen": "posix_spawn",
    "gethostbyname": "c-ares",
    "tmpnam": "mkstemp",
    "mktemp": "mkstemp",
    "rand": "gnutls_rnd",
    "srand": "gnutls_rnd",
    "alloca": "a fixed buffer or the heap",
}
# Tests want the same numbers every time.
REPEATABLE = ("rand", "srand")
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
SLEEP_CALL = re.compile(r"(?<![\w.>])(sleep|usleep|nanosleep)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
PRIVATE = re.compile(r"[/_](impl|private)\.h$")  # includes the public one first
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")

FILE_LINES = 600
FUNCTION_LINES = 100
LINE_COLUMNS = 100


def without_comments(text):
    """Blanks comments and literals, keeps line numbers."""

    def blank(match):
        found = match.group(0)
        return re.sub(r"[^\n]", " ", found) if found[0] == "/" else found[0] + found[-1]

    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def folder_of(path):
    for folder in sorted(LAYERS, key=len, reverse=True):
        if path.startswith(folder + "/"):
            return folder
    return None


def check_includes(path, lines, report):
    folder = folder_of(path)
    first = True
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(1)
        if "/" not in name:
            report(number, f'"{name}": includes are written from the root of the tree')
        elif folder and not name.startswith(LAYERS[folder]):
            report(number, f'"{name}": {folder}/ may not include it')
        own = path[:-1] + "h"
        private = folder and name.startswith(folder + "/") and PRIVATE.search(name)
        if first and own in HEADERS and own != name and path.endswith(".c") and not private:
            report(number, f'"{own}" comes first in its own .c')
        first = False


def check_functions(code, report):
    start = None
    for number, line in enumerate(code, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start > FUNCTION_LINES:
                report(start, f"a function of {number - start} lines, {FUNCTION_LINES} at most")
            start = None


def check_c(path, text, report):
    lines = text.split("\n")
    code = without_comments(text).split("\n")
    check_includes(path, lines, report)
    check_functions(code, report)
    for number, line in enumerate(code, 1):
        for match in BANNED_CALL.finditer(line):
            name = match.group(1)
            if not (path.startswith("tests/") and name in REPEATABLE):
                report(number, f"{name}() is not used here; take {BANNED[name]}")
        if SLEEP_CALL.search(line) and not path.startswith("tests/bench/"):
            report(number, "sleeping is no synchronisation")
    for number, line in enumerate(lines, 1):
        if len(line.expandtabs(8)) > LINE_COLUMNS:
            report(number, f"longer than {LINE_COLUMNS} columns")
    if path.endswith(".h") and "#pragma once" not in text:
        report(1, "#pragma once is missing")


def main(paths):
    findings = []
    HEADERS.update(path for path in paths if path.endswith(".h"))
    for path in paths:

        def report(number, message):
            findings.append(f"{path}:{number}: {message}")

        with open(path, encoding="utf-8") as file:
            text = file.read()
        lines = text.split("\n")
        if len(lines) - 1 > FILE_LINES:
            report(FILE_LINES, f"{len(lines) - 1} lines, {FILE_LINES} at most: split the file")
        if not path.endswith("lint.py"):
            for number, line in enumerate(lines, 1):
                if UNFINISHED.search(line):
                    report(number, "unfinished work is not committed")
                if line.rstrip("\r") != line.rstrip():
                    report(number, "white space at the end of the line")
        if path.endswith((".c", ".h")):
            check_c(path, text, report)
    for finding in findings:
        print(finding)
    print(f"lint: {len(paths)} files, {len(findings)} findings")
    return 1 if findings else 0


HEADERS = set()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
