"""UDP of every size over a network that loses, reorders and duplicates packets."""

import contextlib
import os
import socket

from harness import SLOW, Server, run
from netns import Networks, inside
from targets import UdpTarget

NEEDS = ("sch_netem", "sch_tbf", "veth")

SIZES = (0, 1, 1200, 1472, 4000, 60000)
PAYLOADS = 40  # of each size
BAD = ("loss", "1%", "delay", "10ms", "4ms", "duplicate", "3%")


@contextlib.contextmanager
def bad_network():
    with Networks() as nets:
        for namespace, device in ((nets.server, "s1"), (nets.client, "c1")):
            # A bucket smaller than a batch cuts it up: netem would lose all of its packets together.
            run(["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "handle", "1:",
                 "tbf", "rate", "100mbit", "burst", "3000", "latency", "200ms"])
            run(["tc", "-n", namespace, "qdisc", "add", "dev", device, "parent", "1:1", "netem",
                 *BAD])
        yield nets


def payload(size, number):
    """One that no other payload is a part of, as far as its size allows."""
    return (number.to_bytes(4, "big") + os.urandom(max(size - 4, 0)))[:size]


def exchange(sock, address, sent, size):
    """Sends payloads one by one; returns how many came back. An answer that is late counts too, one
    that is none of what was sent fails."""
    came = 0
    for number in range(PAYLOADS):
        data = payload(size, number)
        sent.add(data)
        sock.sendto(data, address)
        with contextlib.suppress(TimeoutError):
            answer = sock.recv(65536)
            assert answer in sent, f"{len(answer)} bytes that were never sent"
            came += 1
    return came


def check(transport, args):
    with bad_network() as nets, Server(
            {"server.bind_addr": f"{Networks.SERVER}:0"}, prefix=nets.enter(nets.server)) as server:
        def in_server(family, kind):
            return inside(nets.server, lambda: socket.socket(family, kind))

        with UdpTarget(make_socket=in_server) as target:
            client = server.client(args=["-U", f"127.0.0.1:0:127.0.0.1:{target.port}", *args],
                                   prefix=nets.enter(nets.client))
            found = client.process.wait_line(r"^udp-forward 127\.0\.0\.1:(\d+) ")
            address = ("127.0.0.1", int(found.group(1)))
            sent = set()
            came = {}
            with inside(nets.client,
                        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
                sock.settimeout(0.25 * SLOW)
                for size in SIZES:
                    came[size] = exchange(sock, address, sent, size)
            print(f"      {transport}: of {PAYLOADS} payloads came back {came}")
            assert all(came.values()), came
            assert set(target.received) <= sent, "the target got what was never sent"
            assert server.connections()[0]["transport"] == transport
            counters = server.json("stats")["counters"]
            return came, counters


def test_quic_with_loss():
    """Whole or not at all: what comes back is what was sent, and of every size something does."""
    came, counters = check("quic", [])
    assert came[60000] < PAYLOADS, "no fragment was lost: the network is too good for this test"
    assert counters["udp_fragments"] > 1000, counters
    assert counters["udp_reassembly_bytes"] <= 2 * 1024 * 1024, counters


def test_tls_with_loss():
    """The same over TLS, where TCP brings what was lost: all of it comes back."""
    came, counters = check("tls", ["--transport", "tls"])
    assert min(came.values()) > PAYLOADS // 2, came
    assert counters["udp_fragments"] == 0, counters
