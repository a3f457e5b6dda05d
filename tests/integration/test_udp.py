"""UDP of every size, in sessions: the extended form, fragments, datagrams in streams."""

import os
import struct

from harness import SLOW, Server, wait_until
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
