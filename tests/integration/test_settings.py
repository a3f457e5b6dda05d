"""Every setting has an effect on a running server, and none of them breaks what is running."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import threading
import time

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, wait_until
from targets import TcpTarget, echo, receive_exactly
from test_protocol import interop, request

LOAD = 40 if SANITIZE else 200
PIECE = 4096

# A new value for every key that can be changed under a load.
CHANGES = {
    "server.bind_addr": "127.0.0.1:0,[::1]:0",
    "server.workers": "3",
    "server.public_addr": "vpn.example.org:4433",
    "quic.max_connections": "5000",
    "quic.max_streams_per_conn": "50",
    "quic.idle_timeout_secs": "60",
    "quic.max_udp_payload": "1300",
    "quic.congestion_control": "bbr",
    "quic.max_stream_window": "1Mi",
    "quic.max_conn_window": "32Mi",
    "quic.enable_0rtt": "off",
    "metrics.enabled": "off",
    "metrics.bind_addr": "127.0.0.1:0",
    "logging.level": "warn",
    "logging.format": "pretty",
    "logging.access": "on",
    "limits.max_new_conn_per_sec": "500",
    "limits.max_bandwidth_per_conn": "500M",
    "access.require_identity": "off",
    "access.allow_private": "on",
}


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


def test_every_key_under_load():
    """Every key changes under a load of running transfers: all go on, each change is in force
    within a second, and is there after kill -9."""
    with Server() as server:
        clients = [server.client(), server.client()]
        keys = {row["key"] for row in server.json("get")["settings"]}
        assert keys == set(CHANGES), keys ^ set(CHANGES)
        with Trickle(clients, LOAD) as load:
            for key, value in CHANGES.items():
                start = time.monotonic()
                row = change(server, key, value)[key]
                took = time.monotonic() - start
                assert took < SLOW, (key, took)
                assert row["value"] == server.ctl("get", key).stdout.strip(), row
            load.wait_for_more(2 * LOAD)
        server.process.kill()
        server.start()
        for key, value in CHANGES.items():
            assert server.ctl("get", key).stdout.strip() == value, key
        assert server.status()["workers"] == 3


def test_refused_whole():
    """Out of range, mistyped, ten keys with one bad: nothing changes, the reason is told."""
    with Server() as server:
        before = server.json("get")["settings"]
        for words, reason in (
                (["quic.max_connections", "0"], "quic.max_connections"),
                (["quic.max_connections", "many"], "expected"),
                (["quic.idle_timeout_secs", "1"], "5 to 600"),
                (["quic.max_conection", "5"], "quic.max_connections"),
                (["quic.max_conn_window", "256Ki"], "quic.max_stream_window"),
                (["quic.enable_0rtt", "on"], "0-RTT"),
                (["logging.level", "loud"], "one of"),
                (["server.bind_addr", "nowhere"], "addresses such as"),
                (["access.allow_private", "perhaps"], "on or off"),
                (["quic.max_connections", "10", "quic.max_streams_per_conn", "10",
                  "quic.idle_timeout_secs", "10", "quic.max_udp_payload", "1300",
                  "quic.congestion_control", "reno", "quic.max_stream_window", "1Mi",
                  "logging.level", "debug", "logging.format", "pretty", "logging.access", "on",
                  "limits.max_new_conn_per_sec", "0"], "limits.max_new_conn_per_sec")):
            done = server.ctl("set", *words, check=False)
            assert done.returncode == 1, done
            assert reason in done.stderr and "nothing was changed" in done.stderr, done.stderr
            assert server.json("get")["settings"] == before, words


def test_bind_addr():
    """New clients come by the new address while a transfer on the old one goes on; the old one
    takes nobody new, and is closed when it is not used any more."""
    with Server() as server, TcpTarget(echo) as target:
        old = server.port
        profile = server.enrol("early")
        client = server.client(profile)
        with Trickle([client], 4):
            row = change(server, "server.bind_addr", "127.0.0.1:0,[::1]:0")["server.bind_addr"]
            assert "new connections" in row["applies"], row
            assert server.port == old  # still named: kept as it is
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                free = probe.getsockname()[1]
            change(server, "server.bind_addr", f"127.0.0.1:{free}")
            assert server.port == free
            tunnel(server.client(), target)
            tunnel(client, target)  # a new tunnel on the old connection
            # A new connection to the old address is refused, and the reason is told.
            assert not interop(profile, streams=[])["connected"]
            assert any("served no longer" in event["reason"]
                       for event in events(server, "refused"))
        client.stop()
        wait_until(lambda: any(event["address"].endswith(f":{old}")
                               for event in events(server, "listener_closed")),
                   what="the end of the old address")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", old))


def test_bind_addr_and_back():
    """An address that is given up and named again serves as before, with its connections."""
    with Server() as server, TcpTarget(echo) as target:
        first = server.address
        client = server.client()
        with Trickle([client], 2):
            for _ in range(3):
                change(server, "server.bind_addr", "[::1]:0")
                change(server, "server.bind_addr", first)
                assert server.address == first
                tunnel(client, target)
            tunnel(server.client(), target)


def test_bind_addr_narrower_and_wider():
    """From one address to the wildcard on the same port and back: connections move along."""
    with Server() as server, TcpTarget(echo) as target:
        port = server.port
        client = server.client()
        with Trickle([client], 2):
            for address in (f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
                before = len(events(server, "listener_closed"))
                change(server, "server.bind_addr", address)
                assert server.address == address
                tunnel(client, target)
                tunnel(server.client(server.enrol(f"on-{address[:3]}")
                                     if address[0] == "1" else client_profile(server, port)),
                       target)
                wait_until(lambda: len(events(server, "listener_closed")) > before,
                           what="the end of the socket that was replaced")
                tunnel(client, target)
        assert len(events(server, "connected")) == 3, events(server, "connected")


def client_profile(server, port):
    """A profile for a server on the wildcard."""
    server.ctl("set", "server.public_addr", f"127.0.0.1:{port}")
    profile = server.enrol("wild")
    server.ctl("reset", "server.public_addr")
    return profile


def test_bind_addr_in_use():
    """An address that cannot be had changes nothing."""
    with Server() as server, TcpTarget(echo) as target, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        before = server.address
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for value in (taken, f"[::1]:0,{taken}"):
            done = server.ctl("set", "server.bind_addr", value, check=False)
            assert done.returncode == 1 and taken in done.stderr, done.stderr
            assert "nothing was changed" in done.stderr, done.stderr
            assert server.ctl("get", "server.bind_addr").stdout.strip() == "127.0.0.1:0"
            assert server.address == before and len(server.status()["listeners"]) == 1
        tunnel(server.client(), target)


def test_workers():
    """They change at the next start, and the answer says so."""
    with Server() as server:
        assert "next start" in change(server, "server.workers", "1")["server.workers"]["applies"]
        assert server.status()["workers"] == 2
        server.process.stop()
        server.start()
        assert server.status()["workers"] == 1


def test_public_addr():
    """New profiles name it."""
    with Server() as server:
        assert "@127.0.0.1:" in server.ctl("client", "add", "before").stdout
        server.ctl("set", "server.public_addr", "vpn.example.org:4433")
        assert "@vpn.example.org:4433?" in server.ctl("client", "add", "after").stdout


def test_max_connections():
    """One more than allowed is refused; those that are there stay."""
    with Server({"server.workers": "1"}) as server, TcpTarget(echo) as target:
        clients = [server.client(), server.client()]
        profile = server.enrol("late")
        assert interop(profile, streams=[])["connected"]
        server.ctl("set", "quic.max_connections", "1")
        assert not interop(profile, streams=[])["connected"]
        for client in clients:
            tunnel(client, target)
        assert any("full" in event["reason"] for event in events(server, "refused"))
        server.ctl("reset", "quic.max_connections")
        assert interop(profile, streams=[])["connected"]


def test_max_streams_per_conn():
    """A client with many tunnels needs more connections when each carries few."""
    with Server() as server, TcpTarget(echo) as target, contextlib.ExitStack() as stack:
        def open_six(client):
            for _ in range(6):
                sock = stack.enter_context(socks.connect(client.port, "127.0.0.1", target.port))
                sock.sendall(b"x")
                receive_exactly(sock, 1)

        def of(name):
            return server.json("connections", "--client", name)["connections"]

        open_six(server.client())
        assert len(of("client0")) == 1 and of("client0")[0]["streams"] >= 6
        server.ctl("set", "quic.max_streams_per_conn", "3")
        open_six(server.client())
        assert len(of("client1")) > 1 and all(c["streams"] <= 3 for c in of("client1"))


def seconds_to_idle_end(server):
    """How long a client that says nothing any more stays connected."""
    client = server.client()
    connection = max(server.connections(), key=lambda c: c["connected_at"])["id"]
    client.process.signal(signal.SIGSTOP)
    start = time.monotonic()
    try:
        wait_until(lambda: any(event.get("id") == connection and event["reason"] == "idle timeout"
                               for event in events(server, "disconnected")),
                   timeout=30, what="the idle timeout")
        return time.monotonic() - start
    finally:
        client.process.signal(signal.SIGCONT)
        client.process.kill()


def test_idle_timeout():
    """A silent connection ends when its own timeout is over."""
    with Server({"quic.idle_timeout_secs": "12"}) as server:
        assert seconds_to_idle_end(server) > 9
        server.ctl("set", "quic.idle_timeout_secs", "5")
        assert seconds_to_idle_end(server) < 9


class Relay:
    """Between a client and the server; notes the largest packet that the server sends."""

    def __init__(self, port):
        self.server = ("127.0.0.1", port)
        self.largest = 0
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.back.connect(self.server)
        self.port = self.front.getsockname()[1]
        self.client = None

    def __enter__(self):
        for loop in (self._forth, self._back):
            threading.Thread(target=loop, daemon=True).start()
        return self

    def __exit__(self, *_):
        for sock in (self.front, self.back):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _forth(self):
        with contextlib.suppress(OSError):
            while True:
                data, self.client = self.front.recvfrom(65536)
                with contextlib.suppress(ConnectionRefusedError):
                    self.back.send(data)

    def _back(self):
        with contextlib.suppress(OSError):
            while True:
                data = self.back.recv(65536)
                if self.client is None:
                    continue
                self.largest = max(self.largest, len(data))
                self.front.sendto(data, self.client)


def largest_packet(server, name, size=300_000):
    def send(sock, _):
        with sock:
            sock.sendall(bytes(size))

    with Relay(server.port) as relay, TcpTarget(send) as target:
        server.ctl("set", "server.public_addr", f"127.0.0.1:{relay.port}")
        client = server.client(server.enrol(name))
        for _ in range(3):
            with socks.connect(client.port, "127.0.0.1", target.port) as sock:
                receive_exactly(sock, size)
        client.stop()
        server.clients.remove(client)
        return relay.largest


def test_max_udp_payload():
    """No packet of a new connection is larger."""
    with Server() as server:
        assert largest_packet(server, "wide") == 1452
        server.ctl("set", "quic.max_udp_payload", "1200")
        assert largest_packet(server, "narrow") == 1200


def test_congestion_control():
    """A new connection has the new one, an old connection keeps its own."""
    with Server() as server:
        server.client()
        for wanted in ("bbr", "reno"):
            server.ctl("set", "quic.congestion_control", wanted)
            server.client()
        found = {c["client"]: c["congestion_control"] for c in server.connections()}
        assert found == {"client0": "cubic", "client1": "bbr", "client2": "reno"}, found


def accepted_by_stalled_targets(server, name, streams):
    """Bytes that the server takes for targets that read nothing."""
    stop = threading.Event()

    def stall(sock, _):
        with sock:
            stop.wait(60)

    def small(family):
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return sock

    with TcpTarget(stall, make_socket=small) as target:
        job = {"chunks": [request(target.port, "127.0.0.1").hex()], "after_status": True,
               "send_bytes": 20_000_000, "timeout_ms": 3000 * SLOW}
        result = interop(server.enrol(name), streams=[job] * streams, parallel=True)
        stop.set()
        return sum(stream["sent_bytes"] for stream in result["streams"])


def test_windows():
    """What a client may send ahead of its targets is bounded by both windows."""
    with Server() as server:
        before = accepted_by_stalled_targets(server, "a", 1)
        server.ctl("set", "quic.max_stream_window", "64Ki")
        after = accepted_by_stalled_targets(server, "b", 1)
        assert before - after > 150_000, (before, after)
        server.ctl("reset", "quic.max_stream_window")
        before = accepted_by_stalled_targets(server, "c", 20)
        server.ctl("set", "quic.max_conn_window", "256Ki", "quic.max_stream_window", "256Ki")
        after = accepted_by_stalled_targets(server, "d", 20)
        assert before - after > 18 * 200_000, (before, after)


def reachable(url_address):
    try:
        socket.create_connection(url_address, 2).close()
        return True
    except OSError:
        return False


def test_metrics():
    """The HTTP endpoint comes, goes and moves."""
    with Server() as server:
        host, port = server.status()["http"]["address"].rsplit(":", 1)
        assert "mytunnel_up" in server.http("/metrics")
        server.ctl("set", "metrics.enabled", "off")
        assert not reachable((host, int(port)))
        server.ctl("set", "metrics.enabled", "on")
        first = server.status()["http"]["address"]
        assert "mytunnel_up" in server.http("/metrics")
        server.ctl("set", "metrics.bind_addr", "[::1]:0")
        second = server.status()["http"]["address"]
        assert second.startswith("[::1]:") and second != first
        assert "mytunnel_up" in server.http("/metrics")
        assert not reachable((first.rsplit(":", 1)[0], int(first.rsplit(":", 1)[1])))
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            done = server.ctl("set", "metrics.bind_addr", taken, check=False)
            assert done.returncode == 1 and taken in done.stderr, done.stderr
        assert server.status()["http"]["address"] == second
        assert "mytunnel_up" in server.http("/metrics")


def test_logging():
    """Level and format hold from the next line on."""
    with Server({"logging.level": "warn"}) as server:
        server.enrol("unseen")
        mark = server.process.mark()
        server.ctl("set", "logging.level", "info")
        server.enrol("seen")
        line = server.process.wait_line(r"client_added.*seen", start=mark).string
        assert line.startswith("{"), line
        assert "unseen" not in server.process.text()
        mark = server.process.mark()
        server.ctl("set", "logging.format", "pretty")
        server.enrol("plain")
        line = server.process.wait_line(r"client_added.*plain", start=mark).string
        assert not line.startswith("{"), line


def test_access_log():
    """A line for each tunnel that has ended, when it is on."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()

        def once():
            with socks.connect(client.port, "localhost", target.port) as sock:
                sock.sendall(b"12345")
                sock.shutdown(socket.SHUT_WR)
                receive_exactly(sock, 5)
                assert sock.recv(1) == b""

        once()
        server.ctl("set", "logging.access", "on")
        once()
        line = server.process.wait_line(r"tunnel_closed").string
        for part in ('"client":"client0"', f'"target":"localhost:{target.port}"',
                     '"bytes_received":5', '"bytes_sent":5', '"duration_ms":', '"reason":"done"'):
            assert part in line, (part, line)
        server.ctl("set", "logging.access", "off")
        once()
        assert server.process.text().count("tunnel_closed") == 1


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


def test_max_bandwidth_per_conn():
    """A running download slows down, and speeds up again; both of a connection share it."""
    with Server() as server:
        client = server.client()
        with Flood(client) as first, Flood(client) as second:
            wait_until(lambda: first.count > 1 << 22, what="a fast download")
            free = first.rate(1)
            server.ctl("set", "limits.max_bandwidth_per_conn", "8M")
            # What is on its way already comes first.
            wait_until(lambda: first.rate(0.5) + second.rate(0.5) < 12e6, what="the limit")
            start = time.monotonic()
            before = first.count + second.count
            time.sleep(4)
            both = (first.count + second.count - before) * 8 / (time.monotonic() - start)
            assert 7.2e6 < both < 8.8e6, both
            server.ctl("reset", "limits.max_bandwidth_per_conn")
            wait_until(lambda: first.rate(0.5) > min(free / 3, 50e6), what="the old speed")


def test_max_new_conn_per_sec():
    """Connections that come faster are refused."""
    with Server({"server.workers": "1"}) as server:
        profile = server.enrol()

        def burst():
            return [interop(profile, streams=[])["connected"] for _ in range(6)]

        assert all(burst())
        server.ctl("set", "limits.max_new_conn_per_sec", "1")
        assert not all(burst())
        assert any("too many new" in event["reason"] for event in events(server, "refused"))


def admitted(profile, target, **job):
    """Whether a client gets a tunnel through."""
    got = interop(profile, streams=[{"chunks": [request(target.port, "127.0.0.1").hex()],
                                     "fin": True, "timeout_ms": 3000 * SLOW}], **job)
    return got["connected"] and got["streams"][0]["received"] == "00"


def test_require_identity():
    """Off lets in a client without a certificate; on again ends its connection."""
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        assert not admitted(profile, target, identity="none")
        assert events(server, "refused")[-1]["reason"] == "no client certificate"
        done = server.ctl("set", "access.require_identity", "off")
        assert "anybody" in done.stderr, done
        assert admitted(profile, target, identity="none")
        result = {}

        def stay():
            result.update(interop(profile, identity="none", streams=[], wait_close_ms=8000))

        thread = threading.Thread(target=stay)
        thread.start()
        wait_until(lambda: any(c["client"] == "" for c in server.connections()),
                   what="a client without identity")
        server.ctl("set", "access.require_identity", "on")
        thread.join(TIMEOUT)
        assert result["connected"] and result.get("close"), result
        assert not admitted(profile, target, identity="none")
        assert admitted(profile, target)


def test_allow_private():
    """Off refuses a target on this host and ends the tunnels there."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x")
            receive_exactly(sock, 1)
            server.ctl("set", "access.allow_private", "off")
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
        try:
            socks.connect(client.port, "127.0.0.1", target.port).close()
            raise AssertionError("a private target was reached")
        except socks.SocksError as error:
            assert error.reply == socks.NOT_ALLOWED, error
        server.ctl("set", "access.allow_private", "on")
        tunnel(client, target)


def test_confirm():
    """A change on trial goes back by itself, also by kill -9; a confirmed one stays."""
    key = "quic.max_connections"
    with Server() as server:
        done = server.ctl("set", key, "777", "--confirm", "5s")
        assert "confirm" in done.stdout, done.stdout
        assert server.ctl("get", key).stdout.strip() == "777"
        assert any("trial" in warning for warning in server.status()["warnings"])
        again = server.ctl("set", key, "778", "--confirm", "5s", check=False)
        assert again.returncode == 1 and "mytunnelctl confirm" in again.stderr, again.stderr
        wait_until(lambda: server.ctl("get", key).stdout.strip() == "100000", timeout=10,
                   what="the way back")
        assert events(server, "setting_reverted")[-1]["key"] == key
        assert server.ctl("confirm", check=False).returncode == 1

        server.ctl("set", key, "777", "--confirm", "5m")
        server.process.kill()
        server.start()
        assert server.ctl("get", key).stdout.strip() == "100000"

        server.ctl("set", key, "777", "--confirm", "5m")
        server.ctl("set", "quic.idle_timeout_secs", "40")
        server.ctl("confirm")
        server.process.kill()
        server.start()
        assert server.ctl("get", key).stdout.strip() == "777"
        assert server.ctl("get", "quic.idle_timeout_secs").stdout.strip() == "40"
        for words in (["server.workers", "1", "--confirm", "5m"], [key, "5", "--confirm", "1s"],
                      [key, "5", "--confirm", "2h"]):
            done = server.ctl("set", *words, check=False)
            assert done.returncode == 1 and "nothing was changed" in done.stderr, done
        assert server.ctl("set", key, "5", "--confirm", "soon", check=False).returncode == 2


def test_confirm_of_an_address():
    """Who moves the server away from under himself has it back."""
    with Server() as server, TcpTarget(echo) as target:
        first = server.address
        client = server.client()
        profile = server.enrol("later")
        with Trickle([client], 2):
            server.ctl("set", "server.bind_addr", "[::1]:0", "--confirm", "5")
            assert not interop(profile, streams=[])["connected"]
            wait_until(lambda: server.address == first, timeout=10, what="the old address")
            assert interop(profile, streams=[])["connected"]
            tunnel(client, target)


def test_get_changed():
    """Only what differs from the defaults."""
    with Server() as server:
        keys = [row["key"] for row in server.json("get", "--changed")["settings"]]
        assert sorted(keys) == sorted(server.settings), keys
        assert server.json("get", "quic", "--changed")["settings"] == []
        server.ctl("set", "quic.idle_timeout_secs", "31")
        assert [row["key"] for row in server.json("get", "quic", "--changed")["settings"]] == [
            "quic.idle_timeout_secs"]
