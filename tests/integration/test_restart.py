"""The server goes away, kindly and unkindly, and comes back."""

import contextlib
import threading
import time

import socks
from harness import SLOW, TIMEOUT, Server, free_port, wait_until
from targets import EchoTarget, TcpTarget, echo, receive_exactly


def works(port, target_port):
    try:
        with socks.connect(port, "127.0.0.1", target_port, timeout=1) as sock:
            sock.sendall(b"x")
            return receive_exactly(sock, 1) == b"x"
    except (OSError, socks.SocksError, AssertionError):
        return False


def test_killed_and_back():
    """kill -9 in the middle of transfers: the client is back within 3 s of the new start, and every
    setting and identity acknowledged before is there."""
    stop = threading.Event()

    def pour(sock, _):
        while not stop.is_set():
            sock.sendall(bytes(1 << 16))

    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, \
            TcpTarget(pour) as source, TcpTarget(echo) as target:
        client = server.client()
        second = server.enrol("second")
        transfers = [socks.connect(client.port, "127.0.0.1", source.port) for _ in range(4)]
        for sock in transfers:
            receive_exactly(sock, 1 << 20)
        server.ctl("set", "quic.max_streams_per_conn", "77", "logging.level", "debug")
        server.ctl("client", "add", "last")
        server.process.kill()
        server.start()
        begin = time.monotonic()
        wait_until(lambda: works(client.port, target.port), what="the client to be back")
        took = time.monotonic() - begin
        assert took < 3 * SLOW, f"back after {took:.1f} s"
        stop.set()
        for sock in transfers:
            sock.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(1 << 20):
                    pass
                raise AssertionError("a cut transfer ended like a complete one")
            sock.close()
        assert server.ctl("get", "quic.max_streams_per_conn").stdout.strip() == "77"
        assert server.ctl("get", "logging.level").stdout.strip() == "debug"
        assert server.ctl("get", "access.allow_private").stdout.strip() == "on"
        names = server.ctl("client", "list").stdout
        assert all(name in names for name in ("client0", "second", "last")), names
        other = server.client(second)
        assert works(other.port, target.port)


def test_drain():
    """SIGTERM: clients are told, open tunnels may end, the exit is 0 within a bounded time."""
    with Server() as server, EchoTarget() as target:
        client = server.client()
        sock = socks.connect(client.port, "127.0.0.1", target.port)
        with sock:
            sock.sendall(b"before")
            receive_exactly(sock, 6)
            mark = client.process.mark()
            server.process.signal(15)
            client.process.wait_line(r"(?i)drain|shutting down", TIMEOUT, start=mark)
            sock.sendall(b"during")
            assert receive_exactly(sock, 6) == b"during", "an open tunnel goes on while draining"
        assert server.process.wait(40 * SLOW) == 0


def test_second_sigterm():
    """A second SIGTERM ends the drain at once."""
    with Server() as server, EchoTarget() as target:
        client = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x")
            receive_exactly(sock, 1)
            mark = client.process.mark()
            server.process.signal(15)
            client.process.wait_line(r"(?i)drain|shutting down", TIMEOUT, start=mark)
            server.process.signal(15)
            begin = time.monotonic()
            server.process.wait(TIMEOUT)
            assert time.monotonic() - begin < 2 * SLOW


def test_idle_server_stops_at_once():
    """Nothing to drain: SIGTERM ends the server quickly, with 0."""
    with Server() as server:
        begin = time.monotonic()
        server.process.stop()
        assert time.monotonic() - begin < 3 * SLOW


def test_client_waits_for_a_server():
    """A client that starts before its server connects when the server comes."""
    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, \
            TcpTarget(echo) as target:
        profile = server.enrol()
        server.process.stop()
        client = server.client(profile, wait=False)
        assert client.port  # listens already
        server.start()
        wait_until(lambda: works(client.port, target.port), 15 * SLOW, "the client to connect")


def test_thrown_out_again_and_again():
    """A server that lets the client in and ends the connection at once, time after time, is asked
    less and less often."""
    with Server() as server:
        server.client()
        before = server.metrics()["mytunnel_connections_total"]
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for row in server.connections():
                server.ctl("--yes", "kick", row["id"], check=False)
        came = server.metrics()["mytunnel_connections_total"] - before
        assert came <= 8, f"{came} connections in 4 s"
        wait_until(lambda: server.connections(), what="the client to be back")
