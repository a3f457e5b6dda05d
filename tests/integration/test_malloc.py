"""What a tunnel asks of the heap when traffic is steady: nothing. The counting is done by
tests/preload/count_malloc.c, loaded into the real programs, and so takes in what their libraries do."""

import collections
import concurrent.futures
import contextlib
import mmap
import os
import re
import struct
import tempfile
import threading

import socks
from harness import BUILD, SANITIZE, Server, Skip, need, run
from targets import TcpTarget, UdpTarget, receive_exactly

LIBRARY = os.path.join(BUILD, "libcount_malloc.so")
THREADS_MAX, TRACES_MAX, FRAMES_MAX = 256, 256, 20
HEAD = struct.Struct("=QQQ")
THREAD = struct.Struct("=QQQ")
TRACE = struct.Struct(f"={1 + FRAMES_MAX}Q")

KIB = bytes(range(256)) * 4
MIB = 1 << 20


class Counts:
    """The counts of one process, by the names of its threads."""

    def __init__(self, folder, name):
        self.path = os.path.join(folder, name)
        with open(self.path, "wb") as file:
            file.truncate(HEAD.size + THREADS_MAX * THREAD.size + TRACES_MAX * TRACE.size)
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        self.prefix = ("env", f"LD_PRELOAD={LIBRARY}", f"MYTUNNEL_MALLOC_COUNTS={self.path}")
        self.pid = None

    def _names(self):
        names = {}
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{tid}/comm", encoding="ascii") as file:
                names[int(tid)] = "main" if int(tid) == self.pid else file.read().strip()
        return names

    def read(self):
        """Name of a thread -> how often it asked the heap (threads of one name together)."""
        names = self._names()
        _, count, _ = HEAD.unpack_from(self.map, 0)
        assert 0 < count < THREADS_MAX, f"{count} threads were counted"
        result = collections.Counter()
        for i in range(count):
            tid, allocations, _ = THREAD.unpack_from(self.map, HEAD.size + i * THREAD.size)
            result[names.get(tid, "gone")] += allocations
        return result

    def trace(self):
        """From now on the stacks are kept."""
        struct.pack_into("=QQQ", self.map, 0, 1, HEAD.unpack_from(self.map, 0)[1], 0)

    def stacks(self):
        """Where the traced ones were asked for, most frequent first."""
        start = HEAD.size + THREADS_MAX * THREAD.size
        count = min(HEAD.unpack_from(self.map, 0)[2], TRACES_MAX)
        names = self._names()
        found = collections.Counter()
        for i in range(count):
            tid, *frames = TRACE.unpack_from(self.map, start + i * TRACE.size)
            found[names.get(tid, "gone"), tuple(f for f in frames if f)] += 1
        with open(f"/proc/{self.pid}/maps", encoding="utf-8") as file:
            maps = [re.match(r"(\w+)-(\w+) \S+ (\w+) \S+ \S+\s+(/.*)", line) for line in file]
        maps = [(int(m[1], 16), int(m[2], 16), int(m[3], 16), m[4]) for m in maps if m]
        return "\n".join(
            f"{times} times in {name}: " + " < ".join(where(maps, f) for f in frames[2:])
            for (name, frames), times in found.most_common(8))


def where(maps, address):
    for first, end, offset, path in maps:
        if first <= address < end:
            done = run(["addr2line", "-f", "-e", path, hex(address - 1 - first + offset)],
                       check=False)
            name = done.stdout.split("\n")[0]
            return f"{name or '??'} ({os.path.basename(path)})"
    return hex(address)


# ---- what is carried ----

def answer(sock, _):
    with sock:
        sock.sendall(receive_exactly(sock, len(KIB)))
        sock.recv(1)


def tunnels(port, target, count, at_once=4):
    """So many, one after the other in each of a few threads: open, 1 KiB each way, close."""

    def some(number):
        for _ in range(number):
            with socks.connect(port, "127.0.0.1", target.port) as sock:
                sock.sendall(KIB)
                assert receive_exactly(sock, len(KIB)) == KIB

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(some, count // at_once) for _ in range(at_once)]:
            done.result()


def echo_bulk(sock, _):
    with sock:
        while data := sock.recv(1 << 18):
            sock.sendall(data)


def bulk(sock, mib):
    """So many MiB there and back through an open tunnel, both ways at once."""

    def send():
        for _ in range(mib):
            sock.sendall(KIB * 1024)

    sender = threading.Thread(target=send)
    sender.start()
    left = mib * MIB
    while left:
        left -= len(sock.recv(min(left, 1 << 18)))
    sender.join()


def datagrams(association, target, count, window=16):
    """So many there and back, a window of them under way; UDP may lose some."""
    association.socket.settimeout(1)
    answered = 0
    for _ in range(count // window):
        for _ in range(window):
            association.send(KIB[:1000], "127.0.0.1", target.port)
        try:
            for _ in range(window):
                association.receive()
                answered += 1
        except TimeoutError:
            pass
    return answered


# ---- the tests ----

class Pair:
    """Server and client with both counted, and the targets; a context manager."""

    def __init__(self):
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with self.stack as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.counts = {"server": Counts(folder, "server"), "client": Counts(folder, "client")}
            server = stack.enter_context(
                Server({"logging.access": "on"}, prefix=self.counts["server"].prefix))
            self.small = stack.enter_context(TcpTarget(answer))
            self.big = stack.enter_context(TcpTarget(echo_bulk))
            self.udp = stack.enter_context(UdpTarget())
            client = server.client(args=("--verbose",), prefix=self.counts["client"].prefix)
            server.ctl("client", "set", "client0", "--quota", "1T/month", "--rate", "100G")
            self.port = client.port
            self.counts["server"].pid = server.process.pid
            self.counts["client"].pid = client.process.pid
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *problem):
        return self.stack.__exit__(*problem)

    def measure(self, what, work):
        """Nobody asks the heap for anything while `work()` is done, but the control thread, whose
        work comes with the time, not with the traffic: it saves what clients have used."""
        before = {name: counts.read() for name, counts in self.counts.items()}
        for counts in self.counts.values():
            counts.trace()
        work()
        for name, counts in self.counts.items():
            asked = counts.read() - before[name]
            control = asked.pop("main", 0) if name == "server" else 0
            print(f"      {what}: {name} {sum(asked.values())} allocations"
                  + (f", its control thread {control}" if control else ""))
            assert not asked, f"{name}, {what}: {dict(asked)}\n{counts.stacks()}"


def need_counting():
    if SANITIZE:
        raise Skip("a sanitizer has a heap of its own")
    need("addr2line")


def test_steady_state():
    """Tunnels to addresses (opened, 1 KiB each way, closed), bulk both ways, UDP datagrams: no
    malloc in server or client, their libraries included; logs, a quota and a rate are on."""
    need_counting()
    with Pair() as pair:
        tunnels(pair.port, pair.small, 400, at_once=8)
        with socks.connect(pair.port, "127.0.0.1", pair.big.port) as sock, \
                socks.Association(pair.port) as association:
            bulk(sock, 48)
            datagrams(association, pair.udp, 800, window=32)
            pair.measure("300 tunnels", lambda: tunnels(pair.port, pair.small, 300))
            pair.measure("24 MiB there and back", lambda: bulk(sock, 24))
            pair.measure("800 datagrams there and back",
                         lambda: enough(datagrams(association, pair.udp, 800)))


def enough(answered):
    assert answered > 400, f"{answered} of 800 datagrams were answered"
