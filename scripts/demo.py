#!/usr/bin/env python3
"""The part of `make demo` after the build: a server, a client, targets, real traffic, a summary.

Everything listens on loopback, on ports that the kernel chooses, lives in build/demo/, and is
stopped at the end.
"""

import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import harness  # noqa: E402
import socks  # noqa: E402
import targets  # noqa: E402

FILE_BYTES = 200_000_000
LIMIT_SECONDS = 300
PAGE = b"<!doctype html>\n<title>Hello</title>\n<p>This page came through a tunnel.\n"


class Demo:
    def __init__(self):
        self.number = 2
        self.shown = []

    def step(self, text):
        self.number += 1
        print(f"== {self.number}. {text}", flush=True)

    def check(self, text, good):
        self.shown.append((text, good))
        print(f"   {'ok  ' if good else 'FAIL'}  {text}", flush=True)


def checksum(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def make_files(folder):
    with open(os.path.join(folder, "index.html"), "wb") as file:
        file.write(PAGE)
    with open(os.path.join(folder, "file.bin"), "wb") as file:
        left = FILE_BYTES
        while left > 0:
            file.write(os.urandom(min(left, 1 << 20)))
            left -= 1 << 20
    return {name: checksum(os.path.join(folder, name)) for name in ("index.html", "file.bin")}


def fetch(demo, kind, options, url, expected):
    out = os.path.join(tempfile.gettempdir(), "fetched")
    args = ["curl", "-sS", "--max-time", "120", *options, "-o", out,
            "-w", "%{http_code} %{size_download} %{time_total}", url]
    print(f"   $ {' '.join(args[:1] + options + [url])}", flush=True)
    done = harness.run(args, timeout=130, check=False)
    code, size, seconds = (done.stdout.split() + ["0", "0", "0"])[:3]
    good = done.returncode == 0 and code == "200" and checksum(out) == expected
    name = url.rsplit("/", 1)[1]
    demo.check(f"{name}, {int(size):,} bytes in {float(seconds):.2f} s over {kind}, "
               f"checksum {'equal' if good else 'DIFFERENT ' + done.stderr.strip()}", good)


def traffic(demo, server, work):
    demo.step("Enrol a client: mytunnelctl client add laptop > laptop.uri")
    profile = server.enrol("laptop")
    demo.step("Start the client: mytunnel connect laptop.uri --socks 127.0.0.1:0")
    client = server.client(profile)
    proxy = f"127.0.0.1:{client.port}"
    print(f"   connected; SOCKS5 and HTTP proxy on {proxy}")
    demo.step(f"Targets on loopback: an HTTP server with a page and {FILE_BYTES // 10**6} MB, "
              "a DNS resolver")
    folder = os.path.join(work, "www")
    os.mkdir(folder)
    sums = make_files(folder)
    with targets.HttpTarget(folder) as http, targets.DnsTarget() as dns:
        demo.step("Fetch both through the tunnel, over SOCKS5 and over HTTP CONNECT")
        for kind, options in (("SOCKS5", ["--socks5-hostname", proxy]),
                              ("HTTP CONNECT", ["--proxy", f"http://{proxy}", "--proxytunnel"])):
            for name, expected in sums.items():
                fetch(demo, kind, options, f"http://localhost:{http.port}/{name}", expected)
        demo.step("Ask the resolver over UDP, through the tunnel (SOCKS5 UDP ASSOCIATE)")
        query = targets.dns_query("www.example.org")
        with socks.Association(client.port) as association:
            answer = association.exchange(query, "127.0.0.1", dns.port)[0]
        demo.check("www.example.org has the address 192.0.2.53",
                   answer == targets.dns_answer(query) and answer[-4:] == bytes([192, 0, 2, 53]))
        demo.step("What the server says: mytunnelctl status")
        print("   " + server.ctl("status").stdout.rstrip().replace("\n", "\n   "))
        print("   " + server.ctl("connections").stdout.rstrip().replace("\n", "\n   "))


def main():
    signal.alarm(LIMIT_SECONDS)
    harness.raise_file_limit()
    work = os.path.join(ROOT, "build", "demo")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    tempfile.tempdir = work
    demo = Demo()
    begin = time.monotonic()
    demo.step("Start the server: mytunneld, with private targets allowed for this demonstration")
    try:
        with harness.Server() as server:
            print(f"   listening on {server.address}, state in {server.state}")
            traffic(demo, server, work)
            demo.step("Stop the client and the server")
        demo.check("both ended cleanly", True)
    except Exception as error:
        demo.check(f"{type(error).__name__}: {error}", False)
        harness.leftovers.print(sys.stdout)
    shutil.rmtree(work, ignore_errors=True)
    failed = sum(1 for _, good in demo.shown if not good)
    print(f"\nSummary after {time.monotonic() - begin:.0f} s:")
    for text, good in demo.shown:
        print(f"  {'ok  ' if good else 'FAIL'}  {text}")
    print("The tunnel works." if not failed else f"{failed} of {len(demo.shown)} checks failed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
