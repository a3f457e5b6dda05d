"""A client's address changes in the middle of transfers: the streams survive."""

import contextlib
import hashlib
import re
import select
import socket
import threading
import time

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, alone, wait_until
from netns import Networks, inside
from targets import TcpTarget, blocks, receive_all

# Payload between two changes: as much as shows that the streams are well again.
PAUSE_BYTES = (1 << 20) if SANITIZE else (16 << 20)
GAP_SECONDS = 2.0 * SLOW


class Nat:
    """A UDP relay in front of the server, whose outer port changes on demand: what was mapped
    before is dropped, both ways."""

    def __init__(self, server_port):
        self.server = ("127.0.0.1", server_port)
        self.inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inner.bind(("127.0.0.1", 0))
        self.inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.port = self.inner.getsockname()[1]
        self.lock = threading.Lock()
        self.outer = {}  # client's address -> our socket towards the server
        self.poll = select.epoll()
        self.poll.register(self.inner, select.EPOLLIN)
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join(5)
        self.rebind()
        self.inner.close()
        self.poll.close()

    def rebind(self):
        """Forgets every mapping: the next packet of a client leaves from another port."""
        with self.lock:
            for sock in self.outer.values():
                self.poll.unregister(sock)
                sock.close()
            self.outer.clear()

    def _outer(self, client):
        if client not in self.outer:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sock.connect(self.server)
            self.outer[client] = sock
            self.poll.register(sock, select.EPOLLIN)
        return self.outer[client]

    def _run(self):
        while self.running:
            for fd, _ in self.poll.poll(0.1):
                with self.lock, contextlib.suppress(OSError):
                    if fd == self.inner.fileno():
                        self._forward_out()
                    else:
                        self._forward_back(fd)

    def _forward_out(self):
        for _ in range(64):
            data, client = self.inner.recvfrom(65536, socket.MSG_DONTWAIT)
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                self._outer(client).send(data, socket.MSG_DONTWAIT)

    def _forward_back(self, fd):
        for client, sock in self.outer.items():
            if sock.fileno() == fd:
                for _ in range(64):
                    self.inner.sendto(sock.recv(65536, socket.MSG_DONTWAIT), client)


class Flow:
    """Both directions of one end of a tunnel at once, until told to stop."""

    def __init__(self, sock, seed):
        self.sock = sock
        self.seed = seed
        self.stop = threading.Event()
        self.count = 0
        self.longest_gap = 0.0
        self.last = time.monotonic()
        self.sent = None

    def run(self):
        """Returns when both directions have ended: ((bytes, checksum) received, the same sent)."""
        sender = threading.Thread(target=self._send)
        sender.start()
        received = receive_all(self.sock, self._on_data)
        sender.join(TIMEOUT)
        return received, self.sent

    def _send(self):
        digest, count = hashlib.sha256(), 0
        for block in blocks(1 << 40, self.seed):
            if self.stop.is_set():
                break
            self.sock.sendall(block)
            digest.update(block)
            count += len(block)
        self.sent = count, digest.hexdigest()
        self.sock.shutdown(socket.SHUT_WR)

    def _on_data(self, count):
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now
        self.count = count


def flow_target(sock, target):
    """A target's side; its Flow is in target.flow for the test."""
    target.flow = Flow(sock, 2)
    return target.flow.run()


def transfer(server, connect, target, change):
    """Both directions at once, through change(1), change(2), change(3)."""
    before = server.connections()
    results = []
    with connect() as sock:
        near = Flow(sock, 1)
        thread = threading.Thread(target=lambda: results.append(near.run()))
        thread.start()
        wait_until(lambda: target.accepted and hasattr(target, "flow"), what="the target's side")
        far = target.flow
        for number in (1, 2, 3, None):
            marks = near.count + PAUSE_BYTES, far.count + PAUSE_BYTES
            wait_until(lambda: near.count > marks[0] and far.count > marks[1], 30 * SLOW,
                       f"the transfer to go on (before change {number})")
            if number:
                change(number)
        after = server.connections()
        near.stop.set()
        far.stop.set()
        thread.join(TIMEOUT)
        target.wait_ended()
    assert not target.errors, target.errors
    (near_received, near_sent), (far_received, far_sent) = results[0], target.results[0]
    assert near_received == far_sent and far_received == near_sent
    assert {c["id"]: c["worker"] for c in after} == {c["id"]: c["worker"] for c in before}, after
    assert {c["peer"] for c in before}.isdisjoint({c["peer"] for c in after}), (before, after)
    gap = max(near.longest_gap, far.longest_gap)
    print(f"      the longest gap: {gap:.2f} s")
    assert gap <= GAP_SECONDS, f"a gap of {gap:.2f} s"


@alone
def test_nat_gives_a_new_port():
    """A NAT changes the client's port three times in the middle of a transfer both ways: same
    connection, same worker of two, checksums equal, no gap over 2 s."""
    with Server({"server.workers": "2"}) as server, TcpTarget(flow_target) as target:
        assert server.status()["workers"] in (2, [0, 1]) or len(server.status()["workers"]) == 2
        with Nat(server.port) as nat:
            profile = server.enrol()
            with open(profile, encoding="ascii") as file:
                uri = re.sub(r"@127\.0\.0\.1:\d+", f"@127.0.0.1:{nat.port}", file.read().strip())
            client = server.client(server.write_profile("natted", uri))
            connect = lambda: socks.connect(client.port, "127.0.0.1", target.port, timeout=TIMEOUT)
            transfer(server, connect, target, lambda _: nat.rebind())


@alone
def test_other_interface():
    """The client's address goes away and another interface appears, there and back and there
    again, in the middle of a transfer: same connection, same worker, no gap over 2 s."""
    with Networks() as nets:
        def change(number):
            old, new = (1, 2) if number % 2 else (2, 1)
            nets.down(old)
            nets.up(new)

        settings = {"server.bind_addr": "0.0.0.0:0", "server.workers": "2",
                    "server.public_addr": nets.SERVER}
        with Server(settings, prefix=nets.enter(nets.server)) as server:
            target = inside(nets.server, lambda: TcpTarget(flow_target))
            with target:
                profile = server.enrol()
                with open(profile, encoding="ascii") as file:
                    uri = re.sub(r"@[^?]+\?", f"@{nets.SERVER}:{server.port}?", file.read().strip())
                client = server.client(server.write_profile("moving", uri),
                                       prefix=nets.enter(nets.client))
                connect = lambda: inside(nets.client, lambda: socks.connect(
                    client.port, "127.0.0.1", target.port, timeout=TIMEOUT))
                transfer(server, connect, target, change)
