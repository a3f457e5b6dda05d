"""What clients may use: rates, quotas, expiry, connections; how they end; what is counted."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, alone, free_port, lengthy, over_tls, wait_until
from targets import TcpTarget, UdpTarget, echo, receive_exactly

RATE = 50_000_000
SECONDS = 10
CHUNK = b"r" * 65536


def pour(sock, _):
    """A target that sends as fast as it can."""
    try:
        while True:
            sock.sendall(CHUNK)
    except OSError:
        pass


class Sink:
    """A target that takes all that comes, and counts it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.bytes = 0

    def __call__(self, sock, _):
        try:
            while True:
                data = sock.recv(262144)
                if not data:
                    return
                with self.lock:
                    self.bytes += len(data)
        except OSError:
            pass


class Load:
    """Threads that send or receive through SOCKS proxies until they are told to stop."""

    def __init__(self, ports, target, sending):
        self.bytes = 0
        self.lock = threading.Lock()
        self.stopped = False
        self.socks = [socks.connect(port, "127.0.0.1", target.port) for port in ports]
        body = self._send if sending else self._receive
        self.threads = [threading.Thread(target=body, args=(sock,), daemon=True)
                        for sock in self.socks]
        for thread in self.threads:
            thread.start()

    def _send(self, sock):
        try:
            while not self.stopped:
                sock.sendall(CHUNK)
        except OSError:
            pass

    def _receive(self, sock):
        try:
            while not self.stopped:
                data = sock.recv(262144)
                if not data:
                    return
                with self.lock:
                    self.bytes += len(data)
        except OSError:
            pass

    def stop(self):
        self.stopped = True
        for sock in self.socks:
            sock.close()
        for thread in self.threads:
            thread.join(5)


def rate_of(read):
    """Bits a second of a counter over SECONDS, after a second for the beginning."""
    time.sleep(1)
    begin, before = time.monotonic(), read()
    time.sleep(SECONDS)
    return (read() - before) * 8 / (time.monotonic() - begin)


def workers_of(server, name):
    return {c["worker"] for c in server.connections() if c["client"] == name}


def connected(server, name, count, workers=1):
    """`count` clients of one identity, on at least so many workers."""
    profile = server.enrol(name)
    while True:
        clients = [server.client(profile) for _ in range(count)]
        if len(workers_of(server, name)) >= workers:
            return clients
        for client in clients:
            client.stop()
        server.clients[-count:] = []


def check_rate(name, value):
    if not SANITIZE:
        assert RATE * 0.95 <= value <= RATE * 1.05, f"{name}: {value / 1e6:.2f} Mbit/s"


@alone
def test_rate_over_connections_and_workers():
    """50 Mbit/s in total with 4 connections on 2 workers, each direction; others stay fast."""
    sink, other_sink = Sink(), Sink()
    with Server() as server, TcpTarget(pour) as source, TcpTarget(sink) as drain, \
            TcpTarget(other_sink) as other_drain:
        slow = connected(server, "slow", 4, workers=2)
        free = server.client()
        server.ctl("client", "set", "slow", "--rate", "50M")
        ports = [client.port for client in slow]
        down = Load(ports, source, sending=False)
        up = Load(ports, drain, sending=True)
        other = Load([free.port], other_drain, sending=True)
        try:
            results = {}

            def measure(name, read):
                results[name] = rate_of(read)

            threads = [threading.Thread(target=measure, args=args) for args in (
                ("to the client", lambda: down.bytes), ("from the client", lambda: sink.bytes),
                ("unlimited", lambda: other_sink.bytes))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            check_rate("to the client", results["to the client"])
            check_rate("from the client", results["from the client"])
            assert results["unlimited"] > 4 * RATE / SLOW, results
            # Lifted, it is gone at once.
            server.ctl("client", "set", "slow", "--rate", "none")
            time.sleep(0.5)
            before = down.bytes
            time.sleep(1)
            assert (down.bytes - before) * 8 > 2 * RATE / SLOW
        finally:
            for load in (down, up, other):
                load.stop()
        stats = server.ctl("stats", "--clients").stdout
        assert re.search(r"^slow +\d+ .*^\(total\)", stats, re.S | re.M), stats
        show = server.json("client", "show", "slow")["client"]
        assert show["bytes_sent"] > RATE / 8 * SECONDS and show["bytes_received"] > 0, show


@alone
def test_udp_rate():
    """UDP is held to the rate too: what is sent too fast is dropped and counted, answers wait."""
    rate, size, seconds = 2_000_000, 1000, 4
    with Server() as server, UdpTarget(answer=lambda _: None) as target, \
            UdpTarget(answer=lambda data: [b"a" * size] * 20) as loud:
        profile = server.enrol("slow")
        client = server.client(profile)
        with socks.Association(client.port) as association:
            association.exchange(b"x", "127.0.0.1", loud.port)
            server.ctl("client", "set", "slow", "--rate", "2M")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                association.send(b"u" * size, "127.0.0.1", target.port)
                time.sleep(0.0005)
            got = sum(len(data) for data in target.received) * 8 / seconds
            assert got <= rate * 1.1, got
            assert SANITIZE or got >= rate * 0.8, got
            assert server.json("stats")["counters"]["udp_dropped_rate"] > 0
            # The other way: twenty answers of a kilobyte for each question.
            answers = Answers(association)
            before = answers.bytes
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                association.send(b"q", "127.0.0.1", loud.port)
                time.sleep(0.02)
            got = (answers.bytes - before) * 8 / seconds
            assert got <= rate * 1.1, got
            assert SANITIZE or got >= rate * 0.8, got
            answers.stopped = True
            answers.thread.join(TIMEOUT)
        show = server.json("client", "show", "slow")["client"]
        assert show["bytes_received"] > 0 and show["bytes_sent"] > 0, show


class Datagrams:
    """A process that sends datagrams of 1,200 bytes through an association at a rate, until it is
    stopped: this one has enough to do."""

    CODE = ("import sys, time; sys.path.insert(0, sys.argv[1]); import socks\n"
            "with socks.Association(int(sys.argv[2])) as a:\n"
            "    gap, due = 1200 * 8 / float(sys.argv[4]), time.monotonic()\n"
            "    while True:\n"
            "        a.send(b'u' * 1200, '127.0.0.1', int(sys.argv[3]))\n"
            "        due = max(due + gap, time.monotonic() - 0.02)\n"
            "        time.sleep(max(0, due - time.monotonic()))\n")

    def __init__(self, client, target, rate):
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, os.path.dirname(__file__), str(client.port),
             str(target.port), str(rate)])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class UdpSink:
    """Counts the bytes of the datagrams that come."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.port = self.socket.getsockname()[1]
        self.bytes = 0
        self.stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.stopped:
            with contextlib.suppress(TimeoutError):
                self.bytes += len(self.socket.recv(65536))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped = True
        self.thread.join(TIMEOUT)
        self.socket.close()


@alone
def test_udp_and_tcp_share_a_rate():
    """Datagrams and streams of one client in the same direction: each has at least a quarter of the
    rate, both together have it within 5 %."""
    sink = Sink()
    with Server() as server, TcpTarget(sink) as drain, UdpSink() as packets:
        client = server.client(server.enrol("both"))
        for rate in (5_000_000, RATE):
            server.ctl("client", "set", "both", "--rate", str(rate))
            load = Load([client.port] * 2, drain, sending=True)
            with Datagrams(client, packets, rate * 1.5):
                wait_until(lambda: packets.bytes > 0 and sink.bytes > 0, what="both to begin")
                time.sleep(1)
                begin = time.monotonic()
                before = (sink.bytes, packets.bytes)
                time.sleep(SECONDS)
                took = time.monotonic() - begin
                tcp, udp = ((now - then) * 8 / took / rate for now, then in
                            zip((sink.bytes, packets.bytes), before))
            load.stop()
            packets.bytes = sink.bytes = 0
            assert tcp >= 0.25 / SLOW and udp >= 0.25 / SLOW, (rate, tcp, udp)
            assert tcp + udp <= 1.05, (rate, tcp, udp)
            assert SANITIZE or tcp + udp >= 0.95, (rate, tcp, udp)


class Answers:
    """Counts what comes back to an association."""

    def __init__(self, association):
        self.association = association
        self.bytes = 0
        self.stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.association.socket.settimeout(0.2)
        while not self.stopped:
            try:
                self.bytes += len(self.association.receive()[0])
            except TimeoutError:
                pass


def ended_with(client, words):
    """Waits for the end of a client with exit status 1 and a reason; returns what it said."""
    assert client.process.wait(TIMEOUT) == 1, client.process.text()
    text = client.process.text()
    assert re.search(words, text), text
    return text


def stopped_within_a_second(client, target, act, words):
    """A live transfer ends within a second of `act`, and the client says why."""
    load = Load([client.port], target, sending=False)
    try:
        wait_until(lambda: load.bytes > 0, what="traffic")
        act()
        begin = time.monotonic()
        load.threads[0].join(TIMEOUT)
        assert time.monotonic() - begin < 1.0 * SLOW, time.monotonic() - begin
    finally:
        load.stop()
    ended_with(client, words)


def test_disable_revoke_and_enable():
    """Each ends a live transfer within a second with its reason; a disabled client may return."""
    with Server() as server, TcpTarget(pour) as target, TcpTarget(echo) as echoing:
        profile = server.enrol("x")
        other = server.client()
        stopped_within_a_second(server.client(profile), target,
                                lambda: server.ctl("client", "disable", "x"), "disabled")
        ended_with(server.client(profile, wait=False), "disabled")
        server.ctl("client", "enable", "x")
        stopped_within_a_second(server.client(profile), target,
                                lambda: server.ctl("--yes", "client", "revoke", "x"), "revoked")
        ended_with(server.client(profile, wait=False), "revoked")
        assert server.json("client", "show", "x")["client"]["state"] == "revoked"
        with socks.connect(other.port, "127.0.0.1", echoing.port) as sock:
            sock.sendall(b"y")
            receive_exactly(sock, 1)


def test_expiry():
    """A client whose time is over ends within a second, is refused, and comes back when prolonged."""
    with Server() as server, TcpTarget(pour) as target:
        profile = server.enrol("guest")
        client = server.client(profile)
        load = Load([client.port], target, sending=False)
        try:
            wait_until(lambda: load.bytes > 0, what="traffic")
            server.ctl("client", "set", "guest", "--expires", "2s")
            expires = server.json("client", "show", "guest")["client"]["expires_at"]
            load.threads[0].join(TIMEOUT)
            late = time.time() - expires
            assert 0 <= late < 1.0 * SLOW, late
        finally:
            load.stop()
        ended_with(client, "expired")
        ended_with(server.client(profile, wait=False), "expired")
        assert server.json("client", "show", "guest")["client"]["state"] == "expired"
        server.ctl("client", "set", "guest", "--expires", "1h")
        server.client(profile)


@over_tls
def test_quota():
    """Used up, it ends connections within a second and refuses new ones until it is raised."""
    quota = 20_000_000
    with Server() as server, TcpTarget(pour) as target:
        profile = server.enrol("metered")
        client = server.client(profile)
        server.ctl("client", "set", "metered", "--rate", "40M", "--quota", "20M/month")
        load = Load([client.port], target, sending=False)
        try:
            load.threads[0].join(TIMEOUT)
        finally:
            load.stop()
        ended_with(client, "quota")
        show = server.json("client", "show", "metered")["client"]
        assert show["state"] == "over quota", show
        # A second of the rate at most beyond the quota.
        assert quota <= show["period_bytes"] <= quota + 5_000_000, show
        ended_with(server.client(profile, wait=False), "quota")
        wait_until(lambda: "quota_reached" in server.process.text(), what="the log")
        server.ctl("client", "set", "metered", "--quota", "1G/month")
        server.client(profile)
        assert server.json("client", "show", "metered")["client"]["period_bytes"] >= quota


def test_max_connections():
    """One too many is closed with the reason; its client goes on trying and gets in later."""
    with Server() as server:
        profile = server.enrol("pair")
        server.ctl("client", "set", "pair", "--max-connections", "2")
        clients = [server.client(profile) for _ in range(2)]
        third = server.client(profile, wait=False)
        third.process.wait_line("limit")
        assert third.process.alive()
        assert len(server.connections()) == 2
        mark = third.process.mark()
        clients[0].stop()
        third.wait_connected(start=mark)
        wait_until(lambda: server.json("client", "show", "pair")["client"]["connections"] == 2,
                   what="two connections")
        # Kicked, both come back.
        done = server.ctl("--yes", "client", "kick", "pair")
        assert done.stdout.startswith("2 connections"), done.stdout
        wait_until(lambda: len(server.connections()) == 2, what="both to come back")


@lengthy
def test_totals_survive_kill():
    """kill -9 loses at most five seconds of the totals, and nothing is counted twice."""
    sink = Sink()
    # The profile must still be right after a new start.
    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, \
            TcpTarget(sink) as target:
        profile = server.enrol("busy")
        server.ctl("client", "set", "busy", "--rate", "20M")
        last = 0
        for _ in range(2):
            client = server.client(profile)
            before = sink.bytes
            load = Load([client.port], target, sending=True)
            time.sleep(7)
            counted = sink.bytes - before
            server.process.kill()
            load.stop()
            server.start()
            show = server.json("client", "show", "busy")["client"]
            kept = show["bytes_received"] - last
            # The rate bounds what five seconds are.
            assert counted - 5 * 20_000_000 / 8 <= kept <= sink.bytes - before, (counted, kept)
            assert kept > 0 and re.match(r"127\.0\.0\.1:\d+", show["last_address"]), show
            last = show["bytes_received"]
            client.process.kill()
            server.clients.clear()
        # A clean end loses nothing.
        client = server.client(profile)
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"z" * 100_000)
            expected = last + 100_000
            wait_until(lambda: server.json("client", "show", "busy")["client"]["bytes_received"]
                       == expected, what="the counter")
        server.process.stop()
        server.start()
        assert server.json("client", "show", "busy")["client"]["bytes_received"] == expected


def test_verbs():
    """What is written is kept, shown, refused with the reason, and leaves stdout to the profile."""
    with Server() as server:
        done = server.ctl("client", "add", "guest", "--expires=30d", "--rate", "50M", "--quota",
                          "100G/month", "--max-connections", "4", "--note", "for visitors", "--qr")
        assert re.fullmatch(r"mytunnel://\S+#guest\n", done.stdout), done.stdout
        assert "\u2588" in done.stderr
        show = server.json("client", "show", "guest")["client"]
        assert (show["rate_bits"], show["quota_bytes"], show["quota_period"],
                show["max_connections"], show["note"]) == (
                    50_000_000, 100_000_000_000, "month", 4, "for visitors"), show
        assert 29 * 86400 < show["expires_at"] - time.time() < 31 * 86400
        for bad in (("--rate", "fast"), ("--rate", "1"), ("--expires", "2001-01-01"),
                    ("--quota", "1G/week"), ("--max-connections", "0"), ("--note", "x" * 201),
                    ("--rate", "1M", "--quota", "-1")):
            done = server.ctl("client", "set", "guest", *bad, check=False)
            assert done.returncode == 1 and "nothing was changed" in done.stderr, (bad, done)
        assert server.json("client", "show", "guest")["client"] == show
        for bad in ((), ("--speed", "1M"), ("--rate",)):
            assert server.ctl("client", "set", "guest", *bad, check=False).returncode == 2, bad
        done = server.ctl("client", "add", "other", "--rate", "x", check=False)
        assert done.returncode == 1 and "no client was added" in done.stderr
        assert server.ctl("client", "show", "other", check=False).returncode == 1
        server.ctl("client", "set", "guest", "--expires", "none", "--rate", "none", "--quota",
                   "none", "--max-connections", "none", "--note", "none")
        server.process.kill()
        server.start()
        show = server.json("client", "show", "guest")["client"]
        assert (show["expires_at"], show["rate_bits"], show["quota_bytes"],
                show["max_connections"], show["note"]) == (None, None, None, None, ""), show
        assert "guest" in server.ctl("client", "list").stdout
