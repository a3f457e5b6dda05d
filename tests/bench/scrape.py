#!/usr/bin/env python3
"""What looking costs: the time of a scrape while connections are held, and what a scrape every second
does to a tunnel's throughput. Rounds with and without scrapes alternate, because machines change.

    make build/bench/holder && tests/bench/scrape.py [--connections 10000] [--rounds 6] [--seconds 5]
"""
import argparse
import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
os.environ.setdefault("MYTUNNEL_BUILD", "build")

import socks  # noqa: E402
from harness import Server, raise_file_limit, wait_until  # noqa: E402
from targets import TcpTarget  # noqa: E402

SCRAPES = 200


class Scraper:
    """Asks for one page, on one connection; keeps how long each answer took."""

    def __init__(self, server, path="/metrics"):
        host, port = server.status()["http"]["address"].rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=30)
        self.path = path
        self.times = []
        self.size = 0

    def scrape(self):
        begun = time.perf_counter()
        self.connection.request("GET", self.path)
        answer = self.connection.getresponse()
        self.size = len(answer.read())
        assert answer.status == 200, answer.status
        self.times.append((time.perf_counter() - begun) * 1000)

    def every_second(self, over):
        while not over.is_set():
            self.scrape()
            over.wait(1)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pid_of(server):
    return server.status()["pid"]


def hold(server, count):
    """Starts the holder; returns when it holds `count` connections."""
    holder = subprocess.Popen([os.path.join(ROOT, "build/bench/holder"), "--count", str(count),
                               "--hold", "120", server.enrol("holder")], stdout=subprocess.DEVNULL)
    wait_until(lambda: holder.poll() is not None or
               server.metrics()["mytunnel_connections_active"] >= count, 300, what="connections")
    assert holder.poll() is None, "the holder has ended"
    return holder


def measure_scrapes(server, count):
    holder = hold(server, count)
    try:
        for path in ("/metrics", "/stats", "/connections"):
            scraper = Scraper(server, path)
            before = cpu_seconds(pid_of(server))
            for _ in range(SCRAPES):
                scraper.scrape()
                time.sleep(0.01)
            spent = cpu_seconds(pid_of(server)) - before
            times = sorted(scraper.times)
            print(f"{path} at {count} connections: median {statistics.median(times):.2f} ms, "
                  f"p99 {times[len(times) * 99 // 100]:.2f} ms, {scraper.size} bytes, "
                  f"{spent * 1000 / SCRAPES:.2f} ms of CPU (with what the connections cost)")
    finally:
        holder.terminate()
        holder.wait()


def send_for_ever(sock, _):
    data = bytes(1 << 18)
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(data)


def transfer(server, client, target, seconds, scraping):
    """MiB/s and the server's CPU seconds per GiB."""
    over = threading.Event()
    scraper = Scraper(server)
    looker = threading.Thread(target=scraper.every_second, args=(over,))
    with socks.connect(client.port, "127.0.0.1", target.port) as sock:
        sock.recv(1 << 18)
        if scraping:
            looker.start()
        begun, cpu, received = time.monotonic(), cpu_seconds(pid_of(server)), 0
        while time.monotonic() - begun < seconds:
            received += len(sock.recv(1 << 18))
        took, cpu = time.monotonic() - begun, cpu_seconds(pid_of(server)) - cpu
    over.set()
    if scraping:
        looker.join()
    return received / took / (1 << 20), cpu / (received / (1 << 30))


def measure_throughput(server, rounds, seconds):
    results = {False: [], True: []}
    client = server.client()
    with TcpTarget(send_for_ever) as target:
        transfer(server, client, target, 1, False)  # windows have grown
        for number in range(rounds):
            for scraping in ((False, True) if number % 2 == 0 else (True, False)):
                results[scraping].append(transfer(server, client, target, seconds, scraping))
    middle = {}
    for scraping, figures in results.items():
        middle[scraping] = [statistics.median(column) for column in zip(*figures)]
        print(f"{'a scrape every second' if scraping else 'nobody looks':22}: "
              f"{middle[scraping][0]:.1f} MiB/s, {middle[scraping][1]:.2f} s of CPU a GiB "
              f"(medians; {' '.join(f'{rate:.0f}/{cpu:.2f}' for rate, cpu in figures)})")
    change = [100 * (middle[True][i] / middle[False][i] - 1) for i in range(2)]
    print(f"change: {change[0]:+.1f} % throughput, {change[1]:+.1f} % CPU a GiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10000, help="0: without them")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    raise_file_limit()
    with Server() as server:
        measure_throughput(server, options.rounds, options.seconds)
        if options.connections > 0:
            measure_scrapes(server, options.connections)


if __name__ == "__main__":
    main()
