#!/usr/bin/env python3
"""Past what one AES-GCM key may seal, 2^23 packets or about 11 GiB: 20 GiB down and 20 GiB up on one
connection, checksums equal, and a key update, at least, in each direction.

    make test-keys [KEYS_GIB=20]
"""
import hashlib
import os
import socket
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import socks  # noqa: E402
from harness import Server  # noqa: E402
from targets import TcpTarget, blocks  # noqa: E402

GIB = 1 << 30
SECONDS_A_GIB = 60  # slower is a failure
SAID_EVERY = 5
PACKETS = 1 << 23
PACKET_BYTES = 1452


class Progress:
    def __init__(self, what, size):
        self.what, self.size, self.done = what, size, 0
        self.begun = self.said = time.monotonic()

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.said >= SAID_EVERY or self.done == self.size:
            self.said = now
            rate = self.done * 8e-9 / (now - self.begun)
            print(f"{self.what}: {self.done / GIB:.1f} of {self.size / GIB:g} GiB, "
                  f"{rate:.2f} Gbit/s", flush=True)
        if now - self.begun > SECONDS_A_GIB * max(1, self.size / GIB):
            raise AssertionError(f"{self.what} takes too long")


def send(sock, size, seed):
    digest = hashlib.sha256()
    for block in blocks(size, seed):
        sock.sendall(block)
        digest.update(block)
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def receive(sock, progress):
    digest, room = hashlib.sha256(), bytearray(1 << 20)
    view = memoryview(room)
    while count := sock.recv_into(room):
        digest.update(view[:count])
        progress.add(count)
    return digest.hexdigest()


def transfer(client, what, size, seed):
    """One tunnel with `size` bytes in one direction, whose checksum both ends must agree on."""
    progress = Progress(what, size)

    def far(sock, _):
        with sock:
            return send(sock, size, seed) if what == "down" else receive(sock, progress)

    with TcpTarget(far) as target:
        with socks.connect(client.port, "127.0.0.1", target.port, timeout=60) as sock:
            if what == "down":
                near = receive(sock, progress)
            else:
                near = send(sock, size, seed)
                assert not sock.recv(1), "bytes that nobody sent"
        target.wait_ended(timeout=60)
        assert not target.errors, target.errors
        assert progress.done == size, (progress.done, size)
        assert [near] == target.results, f"{what}: the bytes differ"


def main():
    size = int(float(os.environ.get("KEYS_GIB") or 20) * GIB)
    seen = 0
    with Server({"server.workers": "1", "quic.max_udp_payload": str(PACKET_BYTES)}) as server:
        client = server.client()
        for seed, what in enumerate(("down", "up")):
            transfer(client, what, size, seed)
            metrics = server.metrics()
            updates = int(metrics["mytunnel_key_updates_total"])
            print(f"{what}: checksums equal, {updates - seen} key updates", flush=True)
            assert updates > seen or size < PACKETS * PACKET_BYTES, "no key update"
            seen = updates
        assert metrics["mytunnel_connections_total"] == 1, "the connection did not last"
    print(f"one connection throughout, {seen} key updates in all")


if __name__ == "__main__":
    main()
