"""Every setting has an effect on a running server, and none of them breaks what is running."""

import contextlib
import os
import signal
import socket
import threading
import time

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, alone, wait_until
from load import Flood, Trickle, change, events, tunnel
from targets import TcpTarget, echo, receive_exactly
from test_protocol import interop, request

LOAD = 40 if SANITIZE else 200

# A new value for every key that can be changed under a load.
CHANGES = {
    "server.bind_addr": "127.0.0.1:0,[::1]:0",
    "server.workers": "3",
    "server.public_addr": "vpn.example.org:4433",
    "quic.max_connections": "5000",
    "quic.max_streams_per_conn": "50",
    "quic.idle_timeout_secs": "60",
    "quic.max_udp_payload": "1300",
    "quic.congestion_control": "cubic",
    "quic.max_stream_window": "1Mi",
    "quic.max_conn_window": "32Mi",
    "quic.enable_0rtt": "off",
    "tcp.enabled": "on",
    "tcp.bind_addr": "127.0.0.1:0",
    "tls.auto_generate": "off",
    "metrics.enabled": "off",
    "metrics.bind_addr": "127.0.0.1:0",
    "metrics.per_client": "5",
    "logging.level": "warn",
    "logging.format": "pretty",
    "logging.access": "on",
    "limits.max_new_conn_per_sec": "500",
    "limits.max_bandwidth_per_conn": "500M",
    "limits.max_memory_mb": "2000",
    "access.require_identity": "off",
    "access.allow_private": "on",
}


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
    """One more than allowed on all workers together is refused; those that are there stay."""
    with Server({"server.workers": "3"}) as server, TcpTarget(echo) as target:
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
    name = f"client{len(server.clients)}"
    client = server.client()
    [connection] = [c["id"] for c in server.connections() if c["client"] == name]
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


def largest_packet(server, name, size=1_500_000):
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
        assert largest_packet(server, "wide") == 16368
        server.ctl("set", "quic.max_udp_payload", "1200")
        assert largest_packet(server, "narrow") == 1200


def test_congestion_control():
    """A new connection has the new one, an old connection keeps its own."""
    with Server() as server:
        server.client()
        for wanted in ("cubic", "reno"):
            server.ctl("set", "quic.congestion_control", wanted)
            server.client()
        found = {c["client"]: c["congestion_control"] for c in server.connections()}
        assert found == {"client0": "bbr", "client1": "cubic", "client2": "reno"}, found


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
                     '"bytes_received":5', '"bytes_sent":5', '"total_ms":', '"reason":"done"'):
            assert part in line, (part, line)
        server.ctl("set", "logging.access", "off")
        once()
        assert server.process.text().count("tunnel_closed") == 1


@alone
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


def test_max_memory_mb():
    """Without memory left new clients are told so and refused; who is in stays."""
    with Server({"server.workers": "1"}) as server, TcpTarget(echo) as target:
        clients = [server.client() for _ in range(30)]
        profile = server.enrol()
        assert admitted(profile, target)
        memory = server.status()["memory"]
        assert 0.75 * (1 << 20) < memory["used_bytes"] < memory["limit_bytes"], memory
        with socks.connect(clients[0].port, "127.0.0.1", target.port) as sock:
            server.ctl("set", "limits.max_memory_mb", "1")
            assert server.status()["memory"]["limit_bytes"] == 1 << 20
            assert not admitted(profile, target)
            assert any("out of memory" in event["reason"] for event in events(server, "refused"))
            server.ctl("reset", "limits.max_memory_mb")
            assert admitted(profile, target)
            sock.sendall(b"still here")
            assert receive_exactly(sock, 10) == b"still here"


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

        def reverts():
            rows = server.json("audit")["entries"]
            return [e["detail"]["changes"][key] for e in rows if e["verb"] == "revert"]

        assert reverts() == [["777", "100000"]], "the trail says who is right"
        server.ctl("set", key, "778", "--confirm", "5m")
        server.process.stop()
        server.start()
        assert server.ctl("get", key).stdout.strip() == "100000"
        assert reverts()[1:] == [["778", "100000"]], "an orderly end is recorded as well"

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
        # What is so already is not on trial.
        done = server.ctl("set", key, server.ctl("get", key).stdout.strip(), "--confirm", "5m")
        assert "goes back" not in done.stdout, done.stdout
        # A restore during a trial: what the backup says stays, and nothing goes back later.
        backup = os.path.join(server.folder, "trial.db")
        server.ctl("set", key, "900", "--confirm", "5s")
        server.ctl("backup", backup)
        server.ctl("--yes", "restore", backup)
        assert server.ctl("get", key).stdout.strip() == "777", "a trial is in no backup"
        assert server.ctl("confirm", check=False).returncode == 1
        server.ctl("set", key, "901")
        assert len(reverts()) == 2, reverts()
        # Put back to its default for good while on trial.
        server.ctl("set", key, "902", "--confirm", "5s")
        server.ctl("reset", key)
        assert server.ctl("confirm", check=False).returncode == 1
        time.sleep(5.5)
        assert server.ctl("get", key).stdout.strip() == "100000"
        assert len(reverts()) == 2, reverts()


def test_get_changed():
    """Only what differs from the defaults."""
    with Server() as server:
        keys = [row["key"] for row in server.json("get", "--changed")["settings"]]
        assert sorted(keys) == sorted(server.settings), keys
        assert server.json("get", "quic", "--changed")["settings"] == []
        server.ctl("set", "quic.idle_timeout_secs", "31")
        assert [row["key"] for row in server.json("get", "quic", "--changed")["settings"]] == [
            "quic.idle_timeout_secs"]
