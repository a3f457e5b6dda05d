"""TLS over TCP against those who want to harm it, and without descriptors."""

import contextlib
import os
import socket
import ssl
import threading
import time

import tls_client
from harness import SANITIZE, SLOW, Server, Skip, alone, run, wait_until
from targets import TcpTarget, echo
from test_tls import MIB, open_stream, works

HANDSHAKE_SECONDS = 5


def hello():
    """The first bytes of a client that means well."""
    out = ssl.MemoryBIO()
    tls = tls_client.make_context(None).wrap_bio(
        ssl.MemoryBIO(), out, server_hostname="pinned.mytunnel.invalid")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def connect(server):
    host, port = server.address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)))
    sock.settimeout(30 * SLOW)
    return sock


def seconds_to_end(sock, begin):
    """How long the server keeps it, whatever it says before."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
    return time.monotonic() - begin


def check_deadline(took):
    assert HANDSHAKE_SECONDS - 0.5 < took < HANDSHAKE_SECONDS + 1 + SLOW, took


def test_slow_handshake():
    """One byte at a time, one that stops in the midst of its hello, and one that says nothing: each is
    out after 5 s, and nobody else notices."""
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        took = {}

        def drip(sock, begin):
            for byte in hello():
                try:
                    sock.sendall(bytes([byte]))
                except OSError:
                    break
                time.sleep(1)
            took["drip"] = time.monotonic() - begin

        with connect(server) as silent, connect(server) as half, connect(server) as slow:
            begin = time.monotonic()
            half.sendall(hello()[:100])
            thread = threading.Thread(target=drip, args=(slow, begin))
            thread.start()
            wait_until(lambda: server.metrics()["mytunnel_connections_half_open"] == 3,
                       what="three handshakes under way")
            assert works(profile, target)
            for sock in (silent, half, slow):
                check_deadline(seconds_to_end(sock, begin))
            thread.join()
            # Its next byte or the one behind it meets the end.
            assert took["drip"] < HANDSHAKE_SECONDS + 3 + SLOW, took
        metrics = server.metrics()
        assert metrics["mytunnel_connections_half_open"] == 0
        assert metrics["mytunnel_timeouts_total"] >= 3, metrics["mytunnel_timeouts_total"]
        assert works(profile, target)


def test_never_reads():
    """A client that opens a tunnel and reads nothing: the target waits, the server holds no more than a
    pipe's and a queue's worth, and others go on."""
    sent = [0]

    def pour(sock, _):
        block = bytes(65536)
        with contextlib.suppress(OSError):
            while True:
                sent[0] += sock.send(block)

    def memory(server):
        with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def has_stopped():
        before = sent[0]
        time.sleep(0.5)
        return before > 0 and sent[0] == before

    with Server() as server, TcpTarget(pour) as target, TcpTarget(echo) as other:
        profile = server.enrol()
        assert works(profile, other)
        before = memory(server)
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(open_stream(server, profile, target))
            wait_until(has_stopped, what="a target that waits")
            # The rest of it lies in sockets: at both ends, as much as the kernel lets them have. A
            # sanitizer keeps what has been freed for a while.
            assert SANITIZE or memory(server) - before < 8 * MIB, (before, memory(server))
            assert works(profile, other)
        wait_until(lambda: server.status()["tunnels"]["active"] == 0, what="the tunnels' end")


def test_garbage():
    """What is no TLS, or is broken TLS, is refused at once, and the server goes on."""
    good = hello()
    junk = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(4096),
        bytes(4096),
        b"\x16\x03\x01\xff\xff" + bytes(70000),
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x17\x03\x03\x00\x10" + bytes(16),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x14\x03\x03\x00\x01\x01" * 100,
        good[:60] + os.urandom(len(good) - 60),
        good + good,
        good + b"\x17\x03\x03\x00\x20" + bytes(32),
        good + b"\x15\x03\x03\x00\x02\x02\x28",
    )
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        for n, data in enumerate(junk):
            with connect(server) as sock:
                begin = time.monotonic()
                with contextlib.suppress(OSError):
                    sock.sendall(data)
                # Some are but the beginning of something.
                took = seconds_to_end(sock, begin)
                assert took < HANDSHAKE_SECONDS + 1 + SLOW, (n, took)
        assert works(profile, target)
        assert server.metrics()["mytunnel_connections_half_open"] == 0


def descriptors(server):
    return [int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd")]


def limit_files(server, limit):
    done = run(["prlimit", "--pid", str(server.process.pid), f"--nofile={limit}:"], check=False)
    if done.returncode != 0:
        raise Skip(f"prlimit: {done.stderr.strip()}")


def cpu_seconds(server):
    with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@alone
def test_no_descriptors():
    """Without descriptors: accepting rests and does not spin, tunnels go on, the control socket answers,
    and when there are some again new tunnels come by themselves."""
    with Server({"server.workers": "1"}) as server, TcpTarget(echo) as target:
        profile = server.enrol()
        with open_stream(server, profile, target, b"x") as stream, contextlib.ExitStack() as stack:
            assert stream.receive() == b"x"
            # A new descriptor gets the lowest free number, so this is room for eight at least.
            limit = max(descriptors(server)) + 9
            limit_files(server, limit)
            crowd = [stack.enter_context(connect(server)) for _ in range(limit + 20)]
            wait_until(lambda: len(descriptors(server)) >= limit - 1, what="the last descriptor")
            used = cpu_seconds(server)
            for n in range(10):
                stream.send(b"%d" % n)
                assert stream.receive() == b"%d" % n
                assert server.ctl("status", check=False).returncode == 0
                time.sleep(0.1)
            assert cpu_seconds(server) - used < 0.5 * SLOW, cpu_seconds(server) - used
            for sock in crowd:
                sock.close()
            wait_until(lambda: works(profile, target), what="a tunnel behind the crowd")
            stream.send(b"on")
            assert stream.receive() == b"on"


@alone
def test_storm_of_connections():
    """Thousands of connections that say nothing useful, as fast as they come: a tunnel beside them keeps
    its round trips short."""
    over = threading.Event()

    def storm(server, counts, index):
        data = hello()
        while not over.is_set() and counts[index] < 2000:
            try:
                with connect(server) as sock:
                    sock.sendall(data if counts[index] % 2 else b"\x16\x03\x01\x00\x04junk")
                    counts[index] += 1
            except OSError:
                pass

    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        with open_stream(server, profile, target, b"x") as stream:
            assert stream.receive() == b"x"
            counts = [0] * 4
            threads = [threading.Thread(target=storm, args=(server, counts, n)) for n in range(4)]
            for thread in threads:
                thread.start()
            times = []
            end = time.monotonic() + 4
            while time.monotonic() < end:
                begin = time.monotonic()
                stream.send(b"ping")
                assert stream.receive() == b"ping"
                times.append(time.monotonic() - begin)
            over.set()
            for thread in threads:
                thread.join()
        times.sort()
        print(f"      {sum(counts)} connections, {len(times)} round trips, median "
              f"{times[len(times) // 2] * 1000:.1f} ms, longest {times[-1] * 1000:.0f} ms")
        assert min(counts) > 5, counts
        assert times[len(times) // 2] < 0.1 * SLOW and times[-1] < 1 * SLOW, times[-5:]
        wait_until(lambda: server.metrics()["mytunnel_connections_half_open"] == 0,
                   what="the handshakes' end")
        assert works(profile, target)
