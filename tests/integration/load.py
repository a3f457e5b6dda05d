"""Transfers that go on while something changes, and what the tests of changes share."""

import contextlib
import hashlib
import json
import os
import socket
import threading
import time

import socks
from harness import TIMEOUT, wait_until
from targets import TcpTarget, receive_exactly

PIECE = 4096


class Trickle:
    """Transfers that go on, piece by piece, until `stop`; both ends keep a checksum."""

    def __init__(self, clients, count):
        self.stopping = threading.Event()
        self.target = TcpTarget(self._send)
        self.clients = clients
        self.count = count
        self.sums = []
        self.errors = []
        self.threads = []
        self.started = threading.Semaphore(0)
        self.pieces = 0

    def _send(self, sock, _):
        digest = hashlib.sha256()
        with sock:
            while not self.stopping.wait(0.1):
                piece = os.urandom(PIECE)
                sock.sendall(piece)
                digest.update(piece)
                self.pieces += 1  # about: threads may lose one
        return digest.hexdigest()

    def wait_for_more(self, count):
        """Until so many more pieces have been sent."""
        goal = self.pieces + count
        wait_until(lambda: self.pieces >= goal, what="the load to go on")

    def _receive(self, port):
        digest = hashlib.sha256()
        try:
            with socks.connect(port, "127.0.0.1", self.target.port, timeout=TIMEOUT * 3) as sock:
                digest.update(receive_exactly(sock, PIECE))
                self.started.release()
                while data := sock.recv(1 << 16):
                    digest.update(data)
            self.sums.append(digest.hexdigest())
        except (OSError, AssertionError) as error:
            self.errors.append(error)
            self.started.release()

    def __enter__(self):
        self.target.__enter__()
        for i in range(self.count):
            port = self.clients[i % len(self.clients)].port
            thread = threading.Thread(target=self._receive, args=(port,), daemon=True)
            thread.start()
            self.threads.append(thread)
        for _ in range(self.count):
            assert self.started.acquire(timeout=TIMEOUT * 3), "a transfer did not begin"
        assert not self.errors, self.errors[:3]
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        if kind is None:
            for thread in self.threads:
                thread.join(TIMEOUT * 3)
            self.target.wait_ended(self.count)
        self.target.__exit__()
        if kind is None:
            assert not self.errors, self.errors[:3]
            assert len(self.sums) == self.count
            assert sorted(self.sums) == sorted(self.target.results), "bytes were lost or changed"


class Flood:
    """One download that goes on until the end, and how much has come."""

    def __init__(self, client):
        self.target = TcpTarget(self._send)
        self.client = client
        self.count = 0

    @staticmethod
    def _send(sock, _):
        with sock, contextlib.suppress(OSError):
            while True:
                sock.sendall(bytes(1 << 16))

    def _receive(self, sock):
        with contextlib.suppress(OSError):
            while data := sock.recv(1 << 16):
                self.count += len(data)

    def __enter__(self):
        self.target.__enter__()
        self.socket = socks.connect(self.client.port, "127.0.0.1", self.target.port)
        threading.Thread(target=self._receive, args=(self.socket,), daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.target.__exit__()

    def rate(self, seconds):
        """Bits a second over so long."""
        start, before = time.monotonic(), self.count
        time.sleep(seconds)
        return (self.count - before) * 8 / (time.monotonic() - start)


def change(server, *words):
    """Sets, and returns the rows of the answer by their keys."""
    return {row["key"]: row for row in server.json("set", *words)["settings"]}


def events(server, name=None):
    done = server.ctl("--json", "events")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [row for row in rows if name in (None, row["event"])]


def tunnel(client, target):
    """One byte there and back through the tunnel."""
    with socks.connect(client.port, "127.0.0.1", target.port) as sock:
        sock.sendall(b"x")
        assert receive_exactly(sock, 1) == b"x"
