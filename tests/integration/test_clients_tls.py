"""What an operator may do to a client holds over TLS as it does over QUIC."""

import contextlib
import time

import socks
from harness import SLOW, TIMEOUT, Server, wait_until
from targets import TcpTarget, UdpTarget, echo, receive_exactly
from test_clients import Answers, Load, Sink, ended_with, pour, stopped_within_a_second

TLS = ("--transport", "tls")


def over_tls(server, profile, wait=True):
    return server.client(profile, args=TLS, wait=wait)


def shown(server, name):
    return server.json("client", "show", name)["client"]


def rows(server):
    return server.connections()


def udp_stops(server, client, act, words):
    """Datagrams both ways end within a second of `act`, also those that a target sends by itself."""
    with UdpTarget(answer=lambda data: [data]) as target, socks.Association(client.port) as one:
        one.exchange(b"x", "127.0.0.1", target.port)
        assert any(row["udp_flows"] for row in rows(server)), rows(server)
        act()
        time.sleep(1.0 * SLOW)
        count = len(target.received)
        with contextlib.suppress(OSError):
            for _ in range(20):
                one.send(b"late", "127.0.0.1", target.port)
                time.sleep(0.01)
        time.sleep(0.2)
        assert len(target.received) == count, (count, len(target.received))
    ended_with(client, words)
    wait_until(lambda: not rows(server), what="the end of its connection")


def test_disable_revoke_and_enable_over_tls():
    """Each ends a live transfer within a second with its reason; a disabled client may return."""
    with Server() as server, TcpTarget(pour) as target:
        profile = server.enrol("x")
        stopped_within_a_second(over_tls(server, profile), target,
                                lambda: server.ctl("client", "disable", "x"), "disabled")
        ended_with(over_tls(server, profile, wait=False), "disabled")
        server.ctl("client", "enable", "x")
        stopped_within_a_second(over_tls(server, profile), target,
                                lambda: server.ctl("--yes", "client", "revoke", "x"), "revoked")
        ended_with(over_tls(server, profile, wait=False), "revoked")
        assert shown(server, "x")["connections"] == 0, shown(server, "x")


def test_udp_ends_over_tls():
    """Relays over TLS end with their client."""
    with Server() as server:
        for name, act, words in (
                ("a", lambda: server.ctl("client", "disable", "a"), "disabled"),
                ("b", lambda: server.ctl("--yes", "client", "revoke", "b"), "revoked"),
                ("c", lambda: server.ctl("client", "set", "c", "--expires", "1s"), "expired"),
                ("d", lambda: server.ctl("--yes", "client", "remove", "d"), "revoked|not known")):
            client = over_tls(server, server.enrol(name))

            def wait_too(act=act, name=name):
                act()
                if name == "c":
                    time.sleep(1)

            udp_stops(server, client, wait_too, words)


def test_expiry_over_tls():
    """A client whose time is over ends within a second and is refused."""
    with Server() as server, TcpTarget(pour) as target:
        profile = server.enrol("guest")
        client = over_tls(server, profile)
        load = Load([client.port], target, sending=False)
        try:
            wait_until(lambda: load.bytes > 0, what="traffic")
            server.ctl("client", "set", "guest", "--expires", "2s")
            expires = shown(server, "guest")["expires_at"]
            load.threads[0].join(TIMEOUT)
            late = time.time() - expires
            assert 0 <= late < 1.0 * SLOW, late
        finally:
            load.stop()
        ended_with(client, "expired")
        ended_with(over_tls(server, profile, wait=False), "expired")


def test_rates_over_tls():
    """A rate set while transfers run holds for all of them together, each direction on its own,
    and for datagrams; totals are those of the payload."""
    rate, seconds = 8_000_000, 4
    sink = Sink()
    with Server() as server, TcpTarget(pour) as source, TcpTarget(sink) as drain, \
            UdpTarget(answer=lambda _: [b"a" * 1000] * 20) as loud:
        profile = server.enrol("slow")
        clients = [over_tls(server, profile), server.client(profile)]
        ports = [client.port for client in clients]
        up, down = Load(ports, drain, sending=True), Load(ports, source, sending=False)
        try:
            wait_until(lambda: sink.bytes and down.bytes, what="traffic")
            server.ctl("client", "set", "slow", "--rate", str(rate))
            time.sleep(2)
            sent, got, begin = sink.bytes, down.bytes, time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - begin
            sent, got = ((now - then) * 8 / took for now, then in
                         ((sink.bytes, sent), (down.bytes, got)))
            assert rate * 0.7 / SLOW <= sent <= rate * 1.15, sent
            assert rate * 0.7 / SLOW <= got <= rate * 1.15, got
        finally:
            up.stop()
            down.stop()
        server.ctl("client", "set", "slow", "--rate", "2M")
        with socks.Association(clients[0].port) as one:
            answers = Answers(one)
            one.send(b"q", "127.0.0.1", loud.port)
            wait_until(lambda: answers.bytes, what="an answer")
            before, begin = answers.bytes, time.monotonic()
            while time.monotonic() < begin + seconds:
                one.send(b"q", "127.0.0.1", loud.port)
                time.sleep(0.02)
            got = (answers.bytes - before) * 8 / (time.monotonic() - begin)
            assert got <= 2_000_000 * 1.15, got
            answers.stopped = True
            answers.thread.join(TIMEOUT)


def test_max_connections_over_both():
    """Connections of both transports count together, and the other one is no way round a limit."""
    with Server() as server:
        profile = server.enrol("single")
        server.ctl("client", "set", "single", "--max-connections", "1")
        first = over_tls(server, profile)
        # All of one address are one connection.
        other = over_tls(server, profile)
        assert shown(server, "single")["connections"] == 1, shown(server, "single")
        second = server.client(profile, args=("--transport", "quic"), wait=False)
        second.process.wait_line("limit")
        assert shown(server, "single")["connections"] == 1, shown(server, "single")
        first.stop()
        other.stop()
        second.wait_connected()
        third = over_tls(server, profile, wait=False)
        third.process.wait_line("limit")
        assert third.process.alive()
        wait_until(lambda: shown(server, "single")["connections"] == 1, what="one connection")


def test_kick_over_tls():
    """A kicked connection ends its tunnels; the client comes back."""
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol("x")
        client = over_tls(server, profile)
        for act in (lambda: server.ctl("--yes", "client", "kick", "x"),
                    lambda: server.ctl("--yes", "kick", rows(server)[0]["id"])):
            with socks.connect(client.port, "127.0.0.1", target.port) as sock:
                sock.sendall(b"hello")
                assert receive_exactly(sock, 5) == b"hello"
                mark = client.process.mark()
                act()
                sock.settimeout(1.0 * SLOW)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
            client.wait_connected(start=mark)
            assert shown(server, "x")["connections"] == 1, shown(server, "x")


def test_access_over_tls():
    """A rule ends what it refuses: tunnels and datagrams, and spares the rest."""
    with Server() as server, TcpTarget(echo) as target, TcpTarget(echo) as other, \
            UdpTarget(answer=lambda data: [data]) as packets:
        client = over_tls(server, server.enrol("x"))
        with socks.connect(client.port, "127.0.0.1", target.port) as sock, \
                socks.connect(client.port, "127.0.0.1", other.port) as spared, \
                socks.Association(client.port) as one:
            for each in (sock, spared):
                each.sendall(b"hello")
                assert receive_exactly(each, 5) == b"hello"
            one.exchange(b"x", "127.0.0.1", packets.port)
            server.ctl("access", "add", "deny", "tcp", "127.0.0.1", "port", str(target.port))
            server.ctl("access", "add", "deny", "udp", "127.0.0.1", "port", str(packets.port))
            sock.settimeout(1.0 * SLOW)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            count = len(packets.received)
            one.send(b"late", "127.0.0.1", packets.port)
            time.sleep(0.3)
            assert len(packets.received) == count
            spared.sendall(b"still")
            assert receive_exactly(spared, 5) == b"still"


def test_removed_and_added_again_over_tls():
    """A new client of an old name has a new key, starts from nothing, and the old one is out."""
    with Server() as server, TcpTarget(pour) as target:
        old = server.enrol("x")
        client = over_tls(server, old)

        def again():
            server.ctl("--yes", "client", "remove", "x")
            server.enrol("x")

        stopped_within_a_second(client, target, again, "revoked|not know")
        show = shown(server, "x")
        assert show["bytes_sent"] == 0 and show["connections"] == 0, show
