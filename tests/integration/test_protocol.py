"""The wire protocol as another implementation (quic-go) speaks it, well and badly."""

import json
import os
import subprocess

from harness import INTEROP, SLOW, TIMEOUT, Server, Skip, environment, wait_until
from targets import TcpTarget, UdpTarget, echo, receive_all, reset, send_blocks, watch


def interop(profile, timeout=TIMEOUT * 3, **job):
    if not os.path.exists(INTEROP):
        raise Skip("build/interop is missing (make deps; make build/interop)")
    done = subprocess.run([INTEROP], input=json.dumps({"profile": profile, **job}), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def request(port, host, kind=1):
    name = host if isinstance(host, bytes) else host.encode()
    return bytes([kind]) + port.to_bytes(2, "big") + bytes([len(name)]) + name


def datagram(port, host, payload=b""):
    name = host if isinstance(host, bytes) else host.encode()
    return port.to_bytes(2, "big") + bytes([len(name)]) + name + payload


def hexed(*chunks):
    return [chunk.hex() for chunk in chunks]


def one(profile, **stream):
    result = interop(profile, streams=[stream])
    assert result["connected"], result
    return result["streams"][0]


def test_tcp_with_half_close():
    """Data right behind the header, FIN from the client first, then the whole answer and FIN."""
    size = 3_000_000

    def handler(sock, _):
        received = receive_all(sock)
        return received, send_blocks(sock, size, 7)

    def closing(sock, target):
        with sock:
            return handler(sock, target)

    with Server() as server, TcpTarget(closing) as target:
        got = one(server.enrol(), chunks=hexed(request(target.port, "127.0.0.1")),
                  send_bytes=size, fin=True)
        target.wait_ended()
        (count, digest), sent = target.results[0]
        assert (count, digest) == (size, got["sent_sha256"])
        assert got["received"].startswith("00") and got["end"] == "fin", got
        assert (got["bytes"], got["sha256"]) == (size + 1, sent)


def test_names_and_literals():
    """A name, an IPv4 literal, an IPv6 literal bare and in brackets."""
    hosts = ["localhost", "127.0.0.1"]
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        streams = [{"chunks": hexed(request(target.port, host) + b"hello"), "fin": True}
                   for host in hosts]
        for got in interop(profile, streams=streams)["streams"]:
            assert (got["received"], got["end"]) == ("00" + b"hello".hex(), "fin"), got
        try:
            six = TcpTarget(echo, "::1")
        except OSError:
            return
        with six:
            streams = [{"chunks": hexed(request(six.port, host) + b"hello"), "fin": True}
                       for host in ("::1", "[::1]")]
            for got in interop(profile, streams=streams)["streams"]:
                assert (got["received"], got["end"]) == ("00" + b"hello".hex(), "fin"), got


def test_resets():
    """RESET_STREAM reaches the target as a reset; a target's reset comes as RESET_STREAM."""
    with Server() as server:
        profile = server.enrol()
        with TcpTarget(watch) as target:
            one(profile, chunks=hexed(request(target.port, "127.0.0.1") + b"x"), reset=9,
                after_status=True, timeout_ms=5000 * SLOW)
            target.wait_ended()
            assert target.results == ["reset"], target.results
        with TcpTarget(lambda sock, _: (sock.sendall(b"y" * 1000), reset(sock))) as target:
            got = one(profile, chunks=hexed(request(target.port, "127.0.0.1")))
            assert got["end"] == "reset" and got["code"] in (7, None), got


def test_second_control_channel():
    """One control channel at a time: another is answered by 0x01 and FIN, the first goes on."""
    with Server() as server:
        streams = [{"chunks": ["02"], "timeout_ms": 1500 * SLOW}] * 2
        got = interop(server.enrol(), parallel=True, streams=streams)["streams"]
        open_one, refused = sorted(got, key=lambda stream: stream["received"])
        assert open_one["received"].startswith("00") and open_one["end"] == "timeout", got
        assert (refused["received"], refused["end"]) == ("01", "fin"), got


def test_udp():
    """Datagrams out and back; the answer names the host as it was asked for."""
    with Server() as server, UdpTarget() as target:
        got = interop(server.enrol(), expect=3, collect_ms=3000 * SLOW, datagrams=hexed(
            datagram(target.port, "localhost", b"one"), datagram(target.port, "localhost", b"two"),
            datagram(target.port, "localhost", b"")))
        wanted = hexed(*(datagram(target.port, "localhost", data) for data in
                         (b"one", b"two", b"")))
        assert sorted(got["datagrams"]) == sorted(wanted), got


def test_malformed_datagrams():
    """Dropped and counted, no socket opened, and the connection lives on."""
    with Server() as server, UdpTarget() as target:
        bad = [b"", b"\1", b"\1\2", b"\1\2\0", b"\1\2\0x", b"\1\2\5abc", b"\1\2\xff" + b"a" * 254,
               b"\0\0" + bytes(12), datagram(target.port, b"127.0.0\0001", b"x"),
               datagram(0, "127.0.0.1", b"x")]
        profile = server.enrol()
        before = server.metrics()
        got = interop(profile, collect_ms=500, datagrams=hexed(*bad))
        assert got["datagrams"] == [], got
        assert target.received == []
        after = server.metrics()
        name = "mytunnel_datagrams_received"
        assert after[name] >= before.get(name, 0), after
        got = interop(profile, expect=1, collect_ms=3000 * SLOW,
                      datagrams=hexed(*bad[1:], datagram(target.port, "127.0.0.1", b"good")))
        assert got["datagrams"] == hexed(datagram(target.port, "127.0.0.1", b"good")), got
        dropped = [key for key, value in server.metrics().items()
                   if "drop" in key and value > 0]
        assert dropped, "no counter shows the dropped datagrams"


def test_header_at_every_split():
    """The header in two parts at each byte, and byte by byte; then data follows."""
    with Server() as server, TcpTarget(echo) as target:
        head = request(target.port, "127.0.0.1")
        streams = [{"chunks": hexed(head[:n], head[n:] + b"data"), "gap_ms": 15, "fin": True}
                   for n in range(1, len(head))]
        streams.append({"chunks": hexed(*(bytes([b]) for b in head), b"data"), "gap_ms": 5,
                        "fin": True})
        result = interop(server.enrol(), streams=streams, parallel=True)
        for n, got in enumerate(result["streams"]):
            assert (got["received"], got["end"]) == ("00" + b"data".hex(), "fin"), (n, got)


def test_malformed_headers():
    """Bad headers get a failure status or a reset; nothing reaches a target, others go on."""
    with Server() as server, TcpTarget(echo) as target:
        port = target.port
        # The longest names: one that cannot exist, and one full of what is no name.
        bad = {
            "host_len 0": request(port, b""),
            "NUL": request(port, b"127.0.0.1\0"),
            "NUL inside": request(port, b"127.0\0.0.1"),
            "percent": request(port, b"fe80::1%lo"),
            "bracket open": request(port, b"[::1"),
            "brackets around a name": request(port, b"[localhost]"),
            "empty brackets": request(port, b"[]"),
            "port 0": request(0, "127.0.0.1"),
            "255 bytes": request(port, b"a" * 255),
            "255 zeros": request(port, bytes(255)),
            "invalid UTF-8": request(port, b"\xff\xfe.example"),
            "white space": request(port, b" 127.0.0.1"),
        }
        streams = [{"chunks": hexed(head + b"data"), "fin": True} for head in bad.values()]
        profile = server.enrol()
        result = interop(profile, streams=streams, parallel=True)
        for name, got in zip(bad, result["streams"]):
            status = int(got["received"][:2] or "0", 16)
            assert got["end"] in ("fin", "reset"), (name, got)
            assert status != 0 or got["end"] == "reset", (name, got)
        assert target.accepted == 0
        good = one(profile, chunks=hexed(request(port, "127.0.0.1") + b"ok"), fin=True)
        assert good["received"] == "00" + b"ok".hex(), good


def test_early_fin():
    """FIN in the middle of a header: an error at once, not after the header's deadline."""
    with Server() as server:
        head = request(80, "127.0.0.1")
        streams = [{"chunks": hexed(head[:n]) if n else [], "fin": True, "timeout_ms": 5000 * SLOW}
                   for n in range(len(head))]
        result = interop(server.enrol(), streams=streams, parallel=True)
        for n, got in enumerate(result["streams"]):
            assert got["end"] in ("fin", "reset"), (n, got)
            assert not got["received"].startswith("00"), (n, got)


def test_unknown_type():
    """0x07 and FIN, without waiting for more bytes."""
    with Server() as server:
        streams = [{"chunks": hexed(bytes([kind])), "timeout_ms": 5000 * SLOW}
                   for kind in (0, 4, 0x7F, 0xFF)]
        result = interop(server.enrol(), streams=streams, parallel=True)
        for got in result["streams"]:
            assert (got["received"], got["end"]) == ("07", "fin"), got


def test_header_deadline():
    """A header that never ends: the stream is over after 10 s, and only that stream."""
    with Server() as server, TcpTarget(echo) as target:
        head = request(target.port, "127.0.0.1")
        result = interop(server.enrol(), parallel=True, streams=[
            {"chunks": hexed(head[:5]), "timeout_ms": 14000},
            {"chunks": hexed(head + b"x"), "timeout_ms": 14000, "fin": True}])
        slow, good = result["streams"]
        assert slow["end"] in ("fin", "reset") and not slow["received"].startswith("00"), slow
        assert good["received"] == "00" + b"x".hex(), good


def test_wrong_alpn():
    """No handshake for another protocol."""
    with Server() as server:
        got = interop(server.enrol(), alpn="h3", wait_close_ms=3000)
        failure = got.get("error") or got.get("close")
        assert failure and failure["code"] == 0x100 + 120, got


def test_refused_identities():
    """No identity and an unknown one: the handshake ends with an alert, counters show it, nothing
    reaches a target."""
    with Server() as server, TcpTarget(echo) as target, UdpTarget() as udp:
        profile = server.enrol()
        before = server.metrics()["mytunnel_connections_failed"]
        for identity in ("none", "random"):
            got = interop(profile, identity=identity, wait_close_ms=3000,
                          streams=[{"chunks": hexed(request(target.port, "127.0.0.1")),
                                    "timeout_ms": 2000}],
                          datagrams=hexed(datagram(udp.port, "127.0.0.1", b"x")), collect_ms=200)
            failure = got.get("error") or got.get("close")
            assert failure and failure["kind"] == "transport", got
            assert 0x100 <= failure["code"] <= 0x1FF, got
            assert all(not s["received"] for s in got["streams"]), got
        assert target.accepted == 0 and udp.received == []
        wait_until(lambda: server.metrics()["mytunnel_connections_failed"] >= before + 2,
                   what="two failed connections in the counters")


def test_open_tunnel():
    """With access.require_identity off a client without an identity gets through."""
    with Server({"access.require_identity": "off"}) as server, TcpTarget(echo) as target:
        got = interop(server.enrol(), identity="none",
                      streams=[{"chunks": hexed(request(target.port, "127.0.0.1") + b"open"),
                                "fin": True}])
        assert got["streams"][0]["received"] == "00" + b"open".hex(), got
