#!/usr/bin/env python3
"""Takes the documentation's pictures of the dashboard: take_pictures.py [SECONDS]

Real programs carry traffic of several clients for so long (default: 300), then a browser looks at
the dashboard through one of them. The pictures go into docs/.
"""

import contextlib
import os
import random
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

import socks  # noqa: E402
from devtools import Browser  # noqa: E402
from harness import ROOT, raise_file_limit  # noqa: E402
from targets import TcpTarget, UdpTarget, receive_exactly  # noqa: E402
from test_tunnel import appliance  # noqa: E402

DOCS = os.path.join(ROOT, "docs")
NAMES = {"laptop": 12, "phone": 4, "office-gateway": 30, "build-agent-7": 20, "tablet": 2}


def answer(sock, _):
    """Sends as many KiB as it is asked for, after as many as it is told to take."""
    with sock, contextlib.suppress(OSError, AssertionError):
        take, give = struct.unpack(">II", receive_exactly(sock, 8))
        receive_exactly(sock, take * 1024)
        sock.sendall(bytes(give * 1024))


class Load:
    """What the people behind a client do."""

    def __init__(self, client, weight, target, udp, seed):
        self.random = random.Random(seed)
        self.client, self.weight, self.target, self.udp = client, weight, target, udp
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def run(self):
        begin = time.monotonic()
        while not self.stopping.wait(self.random.expovariate(0.8 + self.weight / 8)):
            wave = 1.2 + random.Random(int((time.monotonic() - begin) / 45)).uniform(-0.8, 0.8)
            with contextlib.suppress(OSError, socks.SocksError, AssertionError):
                self.one(int(self.random.paretovariate(1.3) * self.weight * 12 * wave) + 1)

    def one(self, give):
        kind = self.random.random()
        if kind < 0.003:
            socks.connect(self.client.port, "127.0.0.1", 1)
        elif kind < 0.005:
            socks.connect(self.client.port, "host.invalid", 443)
        elif kind < 0.15:
            with socks.Association(self.client.port, 2) as association:
                association.exchange(b"question", "127.0.0.1", self.udp.port)
        give, take = min(give, 4000), min(give // 8, 500)
        with socks.connect(self.client.port, "127.0.0.1", self.target.port) as sock:
            sock.sendall(struct.pack(">II", take, give) + bytes(take * 1024))
            while sock.recv(1 << 16):
                pass


def look(browser, url):
    page = browser.page()
    page.open(url)
    page.wait("document.getElementById('live').dataset.state === 'live'")
    page.value("document.querySelector('[data-range=\"300\"]').click()")
    return page


def main(seconds):
    raise_file_limit()
    with appliance() as (server, own), TcpTarget(answer) as target, UdpTarget() as udp:
        loads = [Load(server.client(server.enrol(name)), weight, target, udp, weight)
                 for name, weight in NAMES.items()]
        server.enrol("spare")
        profile = server.enrol("old-phone")
        server.ctl("--yes", "client", "revoke", "old-phone")
        server.client(profile, wait=False)
        with Browser(own.port) as browser:
            page = look(browser, f"http://{server.status()['http']['address']}/")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(1)
            for name, width, height, dark in (("", 1280, 900, False), ("-phone", 390, 844, False),
                                              ("", 1280, 900, True), ("-phone", 390, 844, True)):
                page.look(width, height, dark, mobile=width < 600)
                time.sleep(2.5)
                page.screenshot(os.path.join(
                    DOCS, f"dashboard{name}-{'dark' if dark else 'light'}.png"), whole=not name)
        for load in loads:
            load.stopping.set()
        for load in loads:
            for thread in load.threads:
                thread.join(30)
        server.clients[-1].process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
