"""Packets of several connections in one coalesced buffer, which the kernel gives to one worker."""

import contextlib
import re
import select
import socket
import struct
import threading

import socks
from harness import SANITIZE, TIMEOUT, Server, wait_until
from targets import TcpTarget, receive_all, receive_exactly, send_blocks, sum_of

SIZE = (1 << 20) if SANITIZE else (3 << 20)
TUNNELS = 450  # five connections of 100 streams
SOL_UDP, UDP_SEGMENT = 17, 103
SEGMENTS_MAX = 40
MESSAGE_MAX = 65000


class Mixer:
    """A UDP relay for one client that sends what it finds waiting on, sorted by length, as few
    messages of many equal segments: packets of different connections stand in one of them."""

    def __init__(self, server_port):
        self.client = None
        self.inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inner.bind(("127.0.0.1", 0))
        self.outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outer.connect(("127.0.0.1", server_port))
        for sock in (self.inner, self.outer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sock.setblocking(False)
        self.port = self.inner.getsockname()[1]
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join(5)
        self.inner.close()
        self.outer.close()

    def _run(self):
        while self.running:
            ready, _, _ = select.select([self.inner, self.outer], [], [], 0.1)
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                if self.outer in ready:
                    for _ in range(64):
                        self.inner.sendto(self.outer.recv(65536), self.client)
            if self.inner in ready:
                self._forward()

    def _forward(self):
        packets = []
        with contextlib.suppress(BlockingIOError):
            while len(packets) < 256:
                data, self.client = self.inner.recvfrom(65536)
                packets.append(data)
        packets.sort(key=len)
        while packets:
            size = len(packets[0])
            most = max(1, min(SEGMENTS_MAX, MESSAGE_MAX // size))
            run = [p for p in packets[:most] if len(p) == size]
            del packets[:len(run)]
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                self.outer.sendmsg([b"".join(run)],
                                   [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))])


def handler(sock, _):
    receive_exactly(sock, 1)
    return receive_all(sock)


def test_packets_reach_their_worker():
    """One buffer with packets for both workers: each reaches its connection, checksums equal."""
    with Server({"server.workers": "2"}) as server, TcpTarget(handler) as target, \
            Mixer(server.port) as mixer, contextlib.ExitStack() as stack:
        profile = server.enrol()
        with open(profile, encoding="ascii") as file:
            uri = re.sub(r"@127\.0\.0\.1:\d+", f"@127.0.0.1:{mixer.port}", file.read().strip())
        client = server.client(server.write_profile("mixed", uri))
        socks_of = []
        # More tunnels need more connections; each starts at a worker of chance.
        while len({c["worker"] for c in server.connections()}) < 2:
            assert len(socks_of) < 4 * TUNNELS, server.connections()
            for _ in range(TUNNELS):
                sock = stack.enter_context(
                    socks.connect(client.port, "127.0.0.1", target.port, timeout=TIMEOUT))
                sock.sendall(b"x")
                socks_of.append(sock)
        chosen = socks_of[::40]
        threads = [threading.Thread(target=lambda s=s: (send_blocks(s, SIZE),
                                                        s.shutdown(socket.SHUT_WR)))
                   for s in chosen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        target.wait_ended(len(chosen))
        assert not target.errors, target.errors
        assert set(target.results) == {(SIZE, sum_of(SIZE))}, target.results
        handed = wait_until(lambda: server.metrics()["mytunnel_packets_foreign_total"],
                            what="packets for the other worker")
        assert handed > 0
