"""UDP of every size, in sessions: the extended form, fragments, datagrams in streams."""

import contextlib
import os
import re
import signal
import socket
import struct
import time

import socks
from harness import SLOW, TIMEOUT, Server, Skip, wait_until
from targets import UdpTarget
from test_protocol import datagram, hexed, interop, one

REASSEMBLY_CONNECTION = 2 * 1024 * 1024


def extended(session, port, host, payload, packet=0, fragment=0, count=1):
    return struct.pack(">HIHBB", 0, session, packet, fragment, count) + datagram(
        port, host, payload)


def fragments(session, port, host, payload, packet, piece=1000):
    count = -(-len(payload) // piece)
    return [extended(session, port, host, payload[i * piece:(i + 1) * piece], packet, i, count)
            for i in range(count)]


def parse(data):
    """(session, packet, fragment, count, port, host, payload) of an extended datagram."""
    mark, session, packet, fragment, count, port, size = struct.unpack(">HIHBBHB", data[:13])
    assert mark == 0, data[:13].hex()
    return (session, packet, fragment, count, port, data[13:13 + size].decode(),
            data[13 + size:])


def framed(*datagrams):
    return b"".join(struct.pack(">H", len(data)) + data for data in datagrams)


def test_sessions_have_sockets_of_their_own():
    """The same target from two sessions and in the plain form: three sources, and every answer comes
    in the form and session that asked, also what comes unasked."""
    with Server() as server, UdpTarget(lambda data: [data, data + b"!"]) as target:
        got = interop(server.enrol(), expect=6, collect_ms=3000 * SLOW, datagrams=hexed(
            extended(1, target.port, "localhost", b"one"),
            extended(0xfffffffe, target.port, "127.0.0.1", b"two"),
            datagram(target.port, "localhost", b"three")))
        wanted = []
        for end in (b"", b"!"):
            wanted += [extended(1, target.port, "localhost", b"one" + end),
                       extended(0xfffffffe, target.port, "127.0.0.1", b"two" + end),
                       datagram(target.port, "localhost", b"three" + end)]
        assert sorted(got["datagrams"]) == sorted(hexed(*wanted)), got
        assert len(set(target.sources)) == 3, target.sources


def test_fragments_both_ways():
    """A payload in fragments, in any order, one of them twice, is one packet to its target; the answer
    comes in fragments."""
    payload = os.urandom(4000)
    with Server() as server, UdpTarget() as target:
        pieces = fragments(5, target.port, "localhost", payload, 77)
        pieces = [pieces[2], pieces[0], pieces[2], pieces[3], pieces[1]]
        got = interop(server.enrol(), collect_ms=700 * SLOW, datagrams=hexed(*pieces))
        answers = [parse(bytes.fromhex(text)) for text in got["datagrams"]]
        assert len(answers) == answers[0][3] >= 3, [answer[:6] for answer in answers]
        assert {answer[0] for answer in answers} == {5}
        assert len({answer[1] for answer in answers}) == 1
        assert b"".join(a[6] for a in sorted(answers, key=lambda a: a[2])) == payload
        assert target.received == [payload]


def test_contradicting_fragments():
    """Another Count, another target, other bytes: dropped and counted, nothing reaches the target."""
    with Server() as server, UdpTarget() as target:
        port = target.port
        bad = [extended(1, port, "127.0.0.1", b"a", 1, 0, 2),
               extended(1, port, "127.0.0.1", b"b", 1, 1, 3),
               extended(1, port, "127.0.0.1", b"a", 2, 0, 2),
               extended(1, port, "localhost", b"b", 2, 1, 2),
               extended(1, port, "127.0.0.1", b"a", 3, 0, 2),
               extended(1, port, "127.0.0.1", b"b", 3, 0, 2),
               extended(1, port, "127.0.0.1", b"x", 4, 0, 0),
               extended(1, port, "127.0.0.1", b"x", 4, 1, 1),
               extended(1, 0, "127.0.0.1", b"x")]
        got = interop(server.enrol(), expect=1, collect_ms=3000 * SLOW, datagrams=hexed(
            *bad, extended(1, port, "127.0.0.1", b"good")))
        assert got["datagrams"] == hexed(extended(1, port, "127.0.0.1", b"good")), got
        assert target.received == [b"good"]
        counters = server.json("stats")["counters"]
        assert counters["udp_reassembly_mismatch"] == 3, counters
        assert counters["udp_dropped_malformed"] >= 3, counters


def test_fragments_that_never_complete():
    """Their memory has a cap, is given back after a while, and others are served meanwhile."""
    with Server() as server, UdpTarget() as target:
        profile = server.enrol()
        piece = os.urandom(1000)
        hostile = [extended(number // 20, target.port, "127.0.0.1", piece, number // 120,
                            number % 100, 200) for number in range(6000)]
        got = interop(profile, expect=1, collect_ms=3000 * SLOW, datagrams=hexed(
            *hostile, extended(1, target.port, "127.0.0.1", b"good")))
        assert got["datagrams"] == hexed(extended(1, target.port, "127.0.0.1", b"good")), got
        counters = server.json("stats")["counters"]
        assert counters["udp_fragments"] > 3000, counters
        assert counters["udp_reassembly_full"] > 20, counters
        assert counters["udp_reassembly_bytes"] <= REASSEMBLY_CONNECTION, counters
        assert target.received == [b"good"]
        wait_until(lambda: server.json("stats")["counters"]["udp_reassembly_bytes"] == 0,
                   timeout=10 * SLOW, what="the memory to be given back")


def test_reassembly_in_time():
    """What a connection leaves incomplete ends with the connection, or after its time."""
    with Server() as server, UdpTarget() as target:
        profile = server.enrol()
        interop(profile, collect_ms=100, datagrams=hexed(
            extended(1, target.port, "127.0.0.1", b"x", 1, 0, 2)))
        wait_until(lambda: server.json("stats")["counters"]["udp_reassembly_bytes"] == 0,
                   what="the memory to be given back")
        interop(profile, collect_ms=4500 * SLOW, datagrams=hexed(
            extended(1, target.port, "127.0.0.1", b"x", 1, 0, 2)))
        assert server.json("stats")["counters"]["udp_reassembly_late"] == 1


def test_stream_carries_datagrams():
    """Type 0x03: both forms, cut anywhere, answers by the stream, up to the largest payload."""
    with Server() as server, UdpTarget() as target:
        profile = server.enrol()
        frames = framed(datagram(target.port, "localhost", b"plain"),
                        extended(9, target.port, "127.0.0.1", b""),
                        extended(9, target.port, "127.0.0.1", b"extended"))
        chunks = hexed(b"\3" + frames[:7], frames[7:40], frames[40:])
        got = one(profile, chunks=chunks, gap_ms=20, timeout_ms=1500 * SLOW)
        received = bytes.fromhex(got["received"])
        assert received[:1] == b"\0" and sorted(split(received[1:])) == sorted(split(frames)), got
        large = framed(extended(9, target.port, "127.0.0.1", os.urandom(60000)))
        got = one(profile, chunks=hexed(b"\3" + large), timeout_ms=1500 * SLOW)
        assert got["bytes"] == 1 + len(large), got
        assert len(target.received[-1]) == 60000
        assert server.json("stats")["counters"]["udp_streams_active"] == 0


def split(data):
    found = []
    while data:
        size = struct.unpack(">H", data[:2])[0]
        found.append(data[2:2 + size])
        data = data[2 + size:]
    return found


def test_stream_ends():
    """FIN is answered by FIN, also within a datagram; malformed datagrams are dropped and counted."""
    with Server() as server, UdpTarget() as target:
        profile = server.enrol()
        good = datagram(target.port, "127.0.0.1", b"good")
        bad = framed(b"", b"x", b"\0\0\0", datagram(0, "127.0.0.1", b"x"))
        for tail in (b"", b"\0", b"\xff\xff" + b"x" * 100):
            got = one(profile, chunks=hexed(b"\3" + bad + tail), fin=True)
            assert (got["received"], got["end"]) == ("00", "fin"), got
        got = one(profile, chunks=hexed(b"\3" + bad + framed(good)), timeout_ms=1000 * SLOW)
        assert got["received"] == (b"\0" + framed(good)).hex(), got
        assert server.json("stats")["counters"]["udp_dropped_malformed"] == 16


def test_rules_hold_in_every_form():
    """A refused target is refused in sessions, in fragments and by streams."""
    with Server({"access.allow_private": "off"}) as server, UdpTarget() as target:
        profile = server.enrol()
        port = target.port
        interop(profile, collect_ms=300, datagrams=hexed(
            extended(1, port, "127.0.0.1", b"x"),
            *fragments(1, port, "127.0.0.1", bytes(3000), 1)))
        one(profile, chunks=hexed(b"\3" + framed(extended(1, port, "127.0.0.1", b"x"))),
            timeout_ms=300)
        assert target.received == []
        assert server.json("stats")["counters"]["udp_dropped_denied"] == 3


SIZES = (0, 1, 1200, 1472, 4000, 60000)


def exchange(sock, address, data, tries=3):
    """One question, one answer on a plain UDP socket; UDP may lose either."""
    sock.settimeout(TIMEOUT / tries)
    for left in range(tries - 1, -1, -1):
        sock.sendto(data, address)
        with contextlib.suppress(TimeoutError):
            return sock.recv(65536)
        assert left, f"no answer to {len(data)} bytes"


@contextlib.contextmanager
def forwarded(client):
    """A local socket and the address of the client's first -U forward."""
    line = client.process.wait_line(r"^udp-forward (\S+):(\d+) ")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock, (line.group(1), int(line.group(2)))


def test_every_size_by_socks():
    """What an association sends comes back equal, whatever its size; whole, and as one packet."""
    with Server() as server, UdpTarget() as target:
        client = server.client()
        with socks.Association(client.port) as association:
            for size in SIZES:
                data = os.urandom(size)
                assert association.exchange(data, "127.0.0.1", target.port)[0] == data, size
        assert [len(data) for data in target.received] == list(SIZES)
        assert server.json("stats")["counters"]["udp_fragments"] > 40


def test_forward_every_size():
    """The same by -U, where the application knows nothing of SOCKS5; 65,507 bytes as well."""
    with Server() as server, UdpTarget() as target:
        client = server.client(args=["-U", f"0:localhost:{target.port}"])
        with forwarded(client) as (sock, address):
            for size in (*SIZES, 65507):
                data = os.urandom(size)
                assert exchange(sock, address, data) == data, size


def test_applications_do_not_see_each_other():
    """Two associations and two senders to a forward talk to one target: four sessions, and each gets
    its own answers, and only these."""
    with Server() as server, UdpTarget(lambda data: [data, data]) as target:
        client = server.client(args=["-U", f"0:127.0.0.1:{target.port}"])
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(socks.Association(client.port)) for _ in range(2))
            three, address = stack.enter_context(forwarded(client))
            four, _ = stack.enter_context(forwarded(client))
            for number in range(50):
                for user in (one, two):
                    user.send(b"%d %d" % (id(user), number), "127.0.0.1", target.port)
                for user in (three, four):
                    user.sendto(b"%d %d" % (id(user), number), address)
                for user in (one, two, three, four):
                    user_socket = getattr(user, "socket", user)
                    user_socket.settimeout(TIMEOUT)
                    for _ in range(2):
                        got = user_socket.recv(65536)
                        assert got.endswith(b"%d %d" % (id(user), number)), (number, got)
            assert len(set(target.sources)) == 4, target.sources
            assert server.json("stats")["counters"]["udp_sessions_active"] == 4
            # Who knows the server's port may answer, and only the session's owner hears it.
            source = target.sources[target.received.index(b"%d 0" % id(one))]
            with UdpTarget() as stranger:
                stranger.socket.sendto(b"unasked", source)
                assert one.receive()[0] == b"unasked"
        # Closed associations end their sessions at the server; those of the forward stay.
        wait_until(lambda: server.json("stats")["counters"]["udp_sessions_active"] == 2,
                   what="the sessions to end")


def test_forward_answers_of_the_target_alone():
    """What a stranger sends to the server's port does not come out of a forward."""
    with Server() as server, UdpTarget() as target, UdpTarget() as stranger:
        client = server.client(args=["-U", f"0:127.0.0.1:{target.port}"])
        with forwarded(client) as (sock, address):
            assert exchange(sock, address, b"asked") == b"asked"
            stranger.socket.sendto(b"unasked", target.sources[0])
            assert exchange(sock, address, b"again") == b"again"


def test_several_forwards():
    """Each -U has its own target; bad ones are refused with a reason, and nothing starts."""
    with Server() as server, UdpTarget() as first, UdpTarget(lambda data: data[::-1]) as second:
        client = server.client(args=["-U", f"0:127.0.0.1:{first.port}",
                                     "-U", f"127.0.0.1:0:localhost:{second.port}"])
        client.process.wait_line(r"^udp-forward .*localhost")
        ports = re.findall(r"^udp-forward 127\.0\.0\.1:(\d+) ", client.process.text(), re.M)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            assert exchange(sock, ("127.0.0.1", int(ports[0])), b"abc") == b"abc"
            assert exchange(sock, ("127.0.0.1", int(ports[1])), b"abc") == b"cba"


def test_request_says_the_port():
    """RFC 1928: datagrams come from the port of the request, when it names one; others are dropped."""
    with Server() as server, UdpTarget() as target:
        client = server.client()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
            mine.bind(("127.0.0.1", 0))
            mine.settimeout(TIMEOUT)
            with socks.Association(client.port, source=mine.getsockname()) as association:
                association.send(b"foreign", "127.0.0.1", target.port)
                mine.sendto(b"\0\0\0" + socks.encode_address("127.0.0.1", target.port) + b"mine",
                            association.relay)
                assert association.parse(mine.recv(65536))[0] == b"mine"
        assert target.received == [b"mine"]


def test_every_size_over_tls():
    """On a network that lets TCP through only, the same sizes come back equal, and sessions are apart."""
    with Server() as server, UdpTarget(lambda data: data) as target:
        client = server.client(args=["--transport", "tls", "-U", f"0:localhost:{target.port}"])
        with forwarded(client) as (one, address), forwarded(client) as (two, _):
            for size in (*SIZES, 65507):
                for sock in (one, two):
                    data = os.urandom(size)
                    assert exchange(sock, address, data) == data, size
        with socks.Association(client.port) as association:
            for size in SIZES:
                data = os.urandom(size)
                assert association.exchange(data, "127.0.0.1", target.port)[0] == data, size
        assert len(set(target.sources)) == 3, len(set(target.sources))
        assert {c["transport"] for c in server.connections()} == {"tls"}, server.connections()
        counters = server.json("stats")["counters"]
        assert counters["udp_streams_active"] == 1, counters
        # Payload is counted where it travelled, and once.
        carried = 2 * (sum(SIZES) + 65507) + sum(SIZES)
        assert counters["tls_bytes_received"] == carried, counters
        assert counters["tls_bytes_sent"] == carried, counters
        assert counters["quic_bytes_received"] == counters["quic_bytes_sent"] == 0, counters
        # The closed association ended its session at the server.
        wait_until(lambda: server.json("stats")["counters"]["udp_sessions_active"] == 2,
                   what="the session to end")


def test_bursts_over_tls():
    """Many datagrams at once over TLS, for as long as the server looks at its connections: none is lost
    for good, nothing stalls."""
    with Server() as server, UdpTarget() as target:
        client = server.client(args=["--transport", "tls", "-U", f"0:127.0.0.1:{target.port}"])
        with forwarded(client) as (sock, address):
            sock.settimeout(TIMEOUT)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                for size in (4, 1400, 4000):
                    sent = {os.urandom(size) for _ in range(20)}
                    for data in sent:
                        sock.sendto(data, address)
                    assert {sock.recv(65536) for _ in sent} == sent
        assert server.process.alive()


def need_large_buffers():
    with open("/proc/sys/net/core/rmem_max", encoding="ascii") as file:
        if int(file.read()) < 1 << 20:
            raise Skip("net.core.rmem_max allows no larger buffers")


BURST = [struct.pack(">I", i) * 250 for i in range(200)]


def check_burst(server, target, association, send):
    """`send` sends all of BURST while the server is held up; every one arrives afterwards."""
    association.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    association.exchange(b"first", "127.0.0.1", target.port)
    server.process.signal(signal.SIGSTOP)
    try:
        send()
    finally:
        server.process.signal(signal.SIGCONT)
    assert sorted(association.receive()[0] for _ in BURST) == BURST


def test_burst_to_targets():
    """Two hundred datagrams at once while the server is held up: what the connection does not take
    waits in the application's socket, and none pushes out another."""
    need_large_buffers()
    with Server() as server, UdpTarget() as target:
        target.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client = server.client()
        with socks.Association(client.port) as association:
            def send():
                for data in BURST:
                    association.send(data, "127.0.0.1", target.port)
                for _ in range(5):  # the client has some turns
                    with socks.Association(client.port):
                        pass

            check_burst(server, target, association, send)


def test_burst_of_answers():
    """Two hundred answers at once while the server is held up: the sockets towards targets keep them
    until it goes on."""
    need_large_buffers()
    with Server() as server, UdpTarget() as target:
        client = server.client()
        with socks.Association(client.port) as association:
            def send():
                for data in BURST:
                    target.socket.sendto(data, target.sources[0])

            check_burst(server, target, association, send)
