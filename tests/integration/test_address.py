"""A client's address changes in the middle of transfers: the streams survive."""

import contextlib
import ctypes
import os
import re
import select
import socket
import threading
import time

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, Skip, need, run, wait_until
from targets import TcpTarget, receive_all, receive_exactly, send_blocks, sum_of

SIZE = (8 << 20) if SANITIZE else (48 << 20)
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


class Gaps:
    """The longest time between two pieces of data."""

    def __init__(self):
        self.last = time.monotonic()
        self.longest = 0.0

    def __call__(self, _count):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now


def both_ways(sock, _):
    """Target: sends and receives at the same time."""
    sender = threading.Thread(target=lambda: (send_blocks(sock, SIZE, 2),
                                              sock.shutdown(socket.SHUT_WR)))
    sender.start()
    gaps = Gaps()
    received = receive_all(sock, gaps)
    sender.join(TIMEOUT)
    return received, gaps.longest


def transfer(server, port, host, target, change):
    """Both directions at once; `change(n)` is called at a quarter, a half, three quarters."""
    quarters = [SIZE * n // 4 for n in (1, 2, 3)]
    gaps = Gaps()
    before = server.connections()
    workers = {c["id"]: c["worker"] for c in before}
    peers = {c["peer"] for c in before}

    def progress(count):
        gaps(count)
        if quarters and count >= quarters[0]:
            quarters.pop(0)
            change(3 - len(quarters))

    with socks.connect(port, host, target.port, timeout=TIMEOUT) if isinstance(port, int) \
            else port() as sock:
        sender = threading.Thread(target=lambda: (send_blocks(sock, SIZE, 1),
                                                  sock.shutdown(socket.SHUT_WR)))
        sender.start()
        got = receive_all(sock, progress)
        sender.join(TIMEOUT)
        target.wait_ended()
        # The last change may come when all bytes are under way already: it is seen a little later.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: peers.isdisjoint({c["peer"] for c in server.connections()}),
                       GAP_SECONDS, "the last change")
        after = server.connections()
    assert not quarters
    assert got == (SIZE, sum_of(SIZE, 2)), got
    (received, target_gap) = target.results[0]
    assert received == (SIZE, sum_of(SIZE, 1)), received
    assert {c["id"]: c["worker"] for c in after} == workers, (before, after)
    assert peers.isdisjoint({c["peer"] for c in after}), (before, after)
    assert max(gaps.longest, target_gap) <= GAP_SECONDS, (gaps.longest, target_gap)


def test_nat_gives_a_new_port():
    """A NAT changes the client's port three times in the middle of a transfer both ways: same
    connection, same worker of two, checksums equal, no gap over 2 s."""
    with Server({"server.workers": "2"}) as server, TcpTarget(both_ways) as target:
        assert server.status()["workers"] in (2, [0, 1]) or len(server.status()["workers"]) == 2
        with Nat(server.port) as nat:
            profile = server.enrol()
            with open(profile, encoding="ascii") as file:
                uri = re.sub(r"@127\.0\.0\.1:\d+", f"@127.0.0.1:{nat.port}", file.read().strip())
            client = server.client(server.write_profile("natted", uri))
            transfer(server, client.port, "127.0.0.1", target, lambda _: nat.rebind())


# ---- network namespaces ----
_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def inside(namespace, function):
    """Calls a function in a thread inside a network namespace: sockets made there stay there."""
    result = []

    def work():
        with open(f"/run/netns/{namespace}", "rb") as file:
            if _libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        result.append(function())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not result:
        raise AssertionError(f"nothing came of it in {namespace}")
    return result[0]


class Networks:
    """Two namespaces, server and client, joined by two pairs of interfaces; only the first pair is
    up. The server's address is on its loopback, so both ways lead to it."""

    SERVER = "10.111.9.1"

    def __init__(self):
        need("ip")
        self.server = f"mts{os.getpid()}"
        self.client = f"mtc{os.getpid()}"
        self.names = []

    def __enter__(self):
        try:
            for name in (self.server, self.client):
                done = run(["ip", "netns", "add", name], check=False)
                if done.returncode:
                    raise Skip(f"no network namespaces here: {done.stderr.strip()}")
                self.names.append(name)
                self.ip(name, "link", "set", "lo", "up")
            self.ip(self.server, "addr", "add", f"{self.SERVER}/32", "dev", "lo")
            for number in (1, 2):
                self.ip(self.server, "link", "add", f"s{number}", "type", "veth", "peer", "name",
                        f"c{number}", "netns", self.client)
                self.ip(self.server, "addr", "add", f"10.111.{number}.1/24", "dev", f"s{number}")
                self.ip(self.server, "link", "set", f"s{number}", "up")
            self.up(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            run(["ip", "netns", "del", name], check=False)

    @staticmethod
    def ip(namespace, *args):
        return run(["ip", "-n", namespace, *args])

    def up(self, number):
        self.ip(self.client, "addr", "add", f"10.111.{number}.2/24", "dev", f"c{number}")
        self.ip(self.client, "link", "set", f"c{number}", "up")
        self.ip(self.client, "route", "replace", "default", "via", f"10.111.{number}.1")

    def down(self, number):
        self.ip(self.client, "addr", "flush", "dev", f"c{number}")
        self.ip(self.client, "link", "set", f"c{number}", "down")

    def enter(self, name):
        return ["ip", "netns", "exec", name]


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
            target = inside(nets.server, lambda: TcpTarget(both_ways))
            with target:
                profile = server.enrol()
                with open(profile, encoding="ascii") as file:
                    uri = re.sub(r"@[^?]+\?", f"@{nets.SERVER}:{server.port}?", file.read().strip())
                client = server.client(server.write_profile("moving", uri),
                                       prefix=nets.enter(nets.client))
                connect = lambda: inside(nets.client, lambda: socks.connect(
                    client.port, "127.0.0.1", target.port, timeout=TIMEOUT))
                transfer(server, connect, "127.0.0.1", target, change)
