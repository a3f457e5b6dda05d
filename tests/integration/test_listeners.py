"""The addresses of the server change while it runs."""

import socket

from harness import Server, free_port, wait_until
from load import Trickle, change, events, tunnel
from targets import TcpTarget, echo
from test_protocol import interop


def closed_quic(server):
    return [event for event in events(server, "listener_closed") if event["protocol"] == "quic"]


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
            free = free_port()
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
                               and event["protocol"] == "quic"
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
                before = len(closed_quic(server))
                change(server, "server.bind_addr", address)
                assert server.address == address
                tunnel(client, target)
                tunnel(server.client(server.enrol(f"on-{address[:3]}")
                                     if address[0] == "1" else client_profile(server, port)),
                       target)
                wait_until(lambda: len(closed_quic(server)) > before,
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
            assert server.address == before and len(server.status()["listeners"]) == 2
        tunnel(server.client(), target)


def test_bind_addr_without_its_tcp_port():
    """Where only the TCP port is another program's, QUIC does not move alone: whoever asked is told how
    both can, in one change."""
    with Server() as server, TcpTarget(echo) as target, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        before = server.address
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        done = server.ctl("set", "server.bind_addr", taken, check=False)
        assert done.returncode == 1 and f"TCP {taken}" in done.stderr, done.stderr
        assert "set server.bind_addr ... tcp.bind_addr" in done.stderr, done.stderr
        assert server.address == before and len(server.status()["listeners"]) == 2
        server.ctl("set", "server.bind_addr", taken, "tcp.bind_addr", "127.0.0.1:0")
        assert server.address == taken and len(server.status()["listeners"]) == 2
        tunnel(server.client(), target)


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
