"""TLS over TCP: its ends, limits, settings and control verbs, by a client of OpenSSL's."""

import concurrent.futures
import contextlib
import hashlib
import os
import re
import socket
import time

import gnutls_client
import tls_client
from harness import SLOW, TIMEOUT, Server, Skip, free_port, need, run, wait_until
from load import change
from targets import TcpTarget, echo, receive_all, reset, send_blocks, watch
from test_protocol import hexed, request

MIB = 1 << 20


def records(server):
    """How many TCP connections had their records made by the kernel, and by GnuTLS."""
    found = dict(re.findall(
        r'mytunnel_tls_records_connections_total\{records="(\w+)"\} (\d+)',
        server.http("/metrics")))
    return int(found["kernel"]), int(found["gnutls"])


def bulk(server, profile, size):
    """`size` bytes each way, one direction after the other; counts and digests of both ends."""

    def handler(sock, _):
        with sock:
            received = receive_all(sock)
            return received, send_blocks(sock, size, 7)

    with TcpTarget(handler) as target:
        got = tls_client.run_job(profile, timeout=600, streams=[
            {"chunks": hexed(request(target.port, "127.0.0.1")), "status_first": True,
             "send_bytes": size, "fin": True}])
        got = got["streams"][0]
        target.wait_ended()
        (count, digest), sent = target.results[0]
        assert (count, digest) == (size, got["sent_sha256"])
        assert (got["end"], got["bytes"], got["sha256"]) == ("fin", size + 1, sent), got


def side_by_side(function, count, width=8):
    """function(0..count-1) in threads, `width` at a time; the results in order."""
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        return list(pool.map(function, range(count)))


def test_many_tunnels():
    """200 tunnels at once, each with data of its own, both ways."""
    count = 200
    data = [hashlib.sha256(bytes([n])).digest() * 2000 for n in range(count)]
    with Server({"quic.max_streams_per_conn": str(count)}) as server, TcpTarget(echo) as target:
        profile = server.enrol()
        # As many handshakes at a time as a slow machine finishes within their deadline.
        streams = side_by_side(lambda _: open_stream(server, profile, target, limit=400), count)
        assert server.status()["tunnels"]["active"] == count

        def exchange(n):
            with streams[n] as stream:
                stream.send(data[n])
                stream.fin()
                got = b""
                while len(got) <= len(data[n]):
                    part = stream.receive()
                    if not part:
                        break
                    got += part
                return got == data[n]

        assert all(side_by_side(exchange, count, count))
        assert sum(records(server)) == count
        wait_until(lambda: server.status()["tunnels"]["active"] == 0, what="the tunnels' end")
        assert server.metrics()["mytunnel_tunnels_reset_total"] == 0


def open_stream(server, profile, target, data=b"", limit=30 * SLOW):
    scalar, host, port = tls_client.read_profile(profile)
    stream = tls_client.TlsStream((host, port), tls_client.make_context(scalar), limit)
    stream.handshake()
    stream.send(request(target.port, "127.0.0.1") + data)
    assert stream.receive(1) == b"\0"
    return stream


def test_truncation_is_a_reset():
    """A FIN without close_notify, in mid-transfer, reaches the target as a reset."""
    with Server() as server, TcpTarget(watch) as target:
        with open_stream(server, server.enrol(), target, b"x" * 100000) as stream:
            stream.truncate()
            target.wait_ended()
        assert target.results == ["reset"], target.results


def test_half_close_in_all_orders():
    """Target first, client first, both at once: all bytes arrive, both ends are clean."""
    with Server() as server:
        profile = server.enrol()

        def target_first(sock, _):
            with sock:
                sock.sendall(b"a" * 200000)
                sock.shutdown(socket.SHUT_WR)
                return receive_all(sock)[0]

        with TcpTarget(target_first) as target:
            with open_stream(server, profile, target) as stream:
                size = 0
                while True:
                    part = stream.receive()
                    if not part:
                        break
                    size += len(part)
                assert size == 200000
                stream.send(b"b" * 300000)
                stream.fin()
                target.wait_ended()
            assert target.results == [300000], target.results
        with TcpTarget(target_first) as target:
            with open_stream(server, profile, target) as stream:
                stream.send(b"b" * 300000)
                stream.fin()
                size = 0
                while True:
                    part = stream.receive()
                    if not part:
                        break
                    size += len(part)
                assert size == 200000
                target.wait_ended()
            assert target.results == [300000], target.results
        assert server.metrics()["mytunnel_tunnels_reset_total"] == 0


def test_target_reset():
    """A target's RST in the midst of data is never a clean end."""
    with Server() as server, TcpTarget(lambda sock, _: (sock.sendall(b"y" * 5000), reset(sock))) \
            as target:
        profile = server.enrol()
        for _ in range(20):
            got = tls_client.run_job(profile, streams=[
                {"chunks": hexed(request(target.port, "127.0.0.1"))}])["streams"][0]
            assert got["end"] == "reset", got


def test_alert_in_a_transfer():
    """A fatal alert of the client ends the tunnel by a reset, at once, and is counted."""
    with Server() as server, TcpTarget(watch) as target:
        with open_stream(server, server.enrol(), target, b"x" * 50000) as stream:
            # OpenSSL sends bad_record_mac for a record that it cannot open.
            stream.incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            try:
                stream.receive()
            except tls_client.Failure:
                pass
            stream._flush()
            target.wait_ended()
        assert target.results == ["reset"], target.results
        wait_until(lambda: resets(server, "alert"), what="the alert in the counters")


def resets(server, reason):
    return f'mytunnel_tls_resets_total{{reason="{reason}"}} 1' in server.http("/metrics")


def test_garbage_in_a_transfer():
    """A record that does not open ends the tunnel by a reset, and only that tunnel; the client is told
    why, and it is counted."""
    with Server() as server, TcpTarget(watch) as target, TcpTarget(echo) as other:
        profile = server.enrol()
        with open_stream(server, profile, other) as good:
            with open_stream(server, profile, target, b"x" * 50000) as stream:
                stream.sock.setblocking(True)
                stream.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                target.wait_ended()
                stream.sock.setblocking(False)
                try:
                    while True:
                        assert stream.receive() != b"", "a clean end"
                except tls_client.Failure as failure:
                    assert (failure.kind, failure.code) == ("alert", 20), failure
            assert target.results == ["reset"], target.results
            wait_until(lambda: server.json("stats")["counters"]["protocol_errors"] == 1,
                       what="the counter")
            good.send(b"on")
            assert good.receive() == b"on"


def test_plain_udp_of_two_programs():
    """Two programs of one identity, behind one address, each with UDP of the plain form: each has a
    socket of its own at the server, and gets what is sent there."""
    def udp_stream(profile):
        scalar, host, port = tls_client.read_profile(profile)
        stream = tls_client.TlsStream((host, port), tls_client.make_context(scalar), 30 * SLOW)
        stream.handshake()
        stream.send(b"\3")
        assert stream.receive(1) == b"\0"
        return stream

    def framed(payload, port):
        data = port.to_bytes(2, "big") + bytes([9]) + b"127.0.0.1" + payload
        return len(data).to_bytes(2, "big") + data

    with Server() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        target.settimeout(30 * SLOW)
        port = target.getsockname()[1]
        profile = server.enrol()
        with udp_stream(profile) as first, udp_stream(profile) as second:
            sources = []
            for stream, payload in (first, b"first"), (second, b"second"):
                stream.send(framed(payload, port))
                data, source = target.recvfrom(100)
                assert data == payload
                sources.append(source)
            assert len(server.connections()) == 1, server.connections()
            assert len(set(sources)) == 2, sources
            for payload, source in zip((b"for the first", b"for the second"), sources):
                target.sendto(payload, source)
            assert first.receive() == framed(b"for the first", port)
            assert second.receive() == framed(b"for the second", port)
            # What is a stream's own ends with it, and nothing else does.
            first.fin()
            wait_until(lambda: server.json("stats")["counters"]["udp_sessions_active"] == 1,
                       what="the end of its sockets")
            target.sendto(b"once more", sources[1])
            assert second.receive() == framed(b"once more", port)


def test_key_update():
    """A client that changes its keys: GnuTLS goes along. A kernel that has them cannot: the tunnel is
    reset, and the reason is counted."""

    def handler(sock, _):
        with sock:
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
                return "fin"
            except ConnectionResetError:
                return "reset"

    with Server() as server, TcpTarget(handler) as target:
        profile = server.enrol()
        for ask_peer in (False, True):
            with gnutls_client.GnutlsStream(profile) as stream:
                stream.send(request(target.port, "127.0.0.1") + b"x" * 20000)
                assert stream.receive_all(20001) == b"\0" + b"x" * 20000
                stream.update_keys(ask_peer)
                with contextlib.suppress(tls_client.Failure):
                    stream.send(b"y" * 20000)
                if records(server)[0] == 0:
                    assert stream.receive_all(20000) == b"y" * 20000
                    continue
                try:
                    while True:
                        assert stream.receive() != b"", "a clean end"
                except tls_client.Failure:
                    pass
                wait_until(lambda: len(target.results) == ask_peer + 1, what="the target's end")
                assert set(target.results) == {"reset"}, target.results
        if records(server)[0]:
            count = 'mytunnel_tls_resets_total{reason="key_update"} 2'
            wait_until(lambda: count in server.http("/metrics"), what="the counter")


def test_rates_hold():
    """A client's rate holds for what is spliced, in both directions."""
    size = 3 * MIB
    with Server() as server:
        profile = server.enrol("slow")
        server.ctl("client", "set", "slow", "--rate", "8M")
        begin = time.monotonic()
        bulk(server, profile, size)
        took = time.monotonic() - begin
        # 3 MiB one way, then 3 MiB the other, at 1 MB/s each.
        assert took > 2 * size / 1e6 * 0.85, took


def test_quota_and_revocation():
    """A quota ends the tunnel within its tick; a revoked client is out within a second."""
    with Server() as server, TcpTarget(watch) as target:
        profile = server.enrol("small")
        server.ctl("client", "set", "small", "--quota", "1M")
        stream = open_stream(server, profile, target)
        with stream:
            try:
                for _ in range(400):
                    stream.send(b"x" * 65536)
                    time.sleep(0.01)
            except (tls_client.Failure, OSError):
                pass
            target.wait_ended()
        assert target.results == ["reset"], target.results
        other = server.enrol("gone")
        with open_stream(server, other, target, b"x") as stream:
            server.ctl("--yes", "client", "revoke", "gone")
            begin = time.monotonic()
            wait_until(lambda: len(target.results) == 2, what="the end of the tunnel")
            assert time.monotonic() - begin < SLOW


def works(profile, target, address=None):
    """Whether a tunnel over TLS carries a byte; False when nobody accepts or says no."""
    scalar, host, port = tls_client.read_profile(profile)
    if address:
        host, port = address.rsplit(":", 1)
        host, port = host.strip("[]"), int(port)
    got = {}
    try:
        got = tls_client.run_stream((host, port), tls_client.make_context(scalar), {
            "chunks": hexed(request(target.port, "127.0.0.1") + b"x"), "fin": True,
            "timeout_ms": 10000}, TIMEOUT)
    except OSError:
        pass
    return got.get("received") == "0078"


def tls_addresses(server):
    return [l["address"] for l in server.status()["listeners"] if l["protocol"] == "tls"]


def test_enabled():
    """tcp.enabled switches the listeners while a tunnel goes on, and is kept after kill -9."""
    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, TcpTarget(echo) as target:
        profile = server.enrol()
        assert works(profile, target)
        assert tls_addresses(server) == [server.address]
        with open_stream(server, profile, target) as stream:
            change(server, "tcp.enabled", "off")
            assert tls_addresses(server) == []
            assert not works(profile, target)
            stream.send(b"on")
            assert stream.receive() == b"on"
        server.process.kill()
        server.start()
        assert server.ctl("get", "tcp.enabled").stdout.strip() == "off"
        assert tls_addresses(server) == []
        change(server, "tcp.enabled", "on")
        assert tls_addresses(server) == [server.address]
        server.ctl("set", "server.public_addr", server.address)
        assert works(server.enrol("again"), target)


def test_bind_addr():
    """tcp.bind_addr moves TLS alone; empty it follows QUIC; what is taken changes nothing."""
    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, TcpTarget(echo) as target:
        profile = server.enrol()
        quic = server.address
        with open_stream(server, profile, target) as stream:
            change(server, "tcp.bind_addr", "127.0.0.1:0")
            moved = tls_addresses(server)
            assert server.address == quic and moved and moved != [quic], moved
            assert works(profile, target, moved[0]) and not works(profile, target)
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                other.listen(1)
                taken = f"127.0.0.1:{other.getsockname()[1]}"
                done = server.ctl("set", "tcp.bind_addr", taken, check=False)
                assert done.returncode == 1 and taken in done.stderr, done
                assert "nothing was changed" in done.stderr, done
                assert tls_addresses(server) == moved
            change(server, "tcp.bind_addr", "")
            assert tls_addresses(server) == [quic]
            assert works(profile, target)
            stream.send(b"on")
            assert stream.receive() == b"on"


def test_port_is_taken():
    """Another program has the TCP port: QUIC is served all the same, status and doctor say why, and
    TLS comes by itself when the port is free."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with Server({"server.bind_addr": taken}) as server, TcpTarget(echo) as target:
            status = server.status()
            assert status["state"] == "running" and taken in status["tls"]["problem"], status
            assert "tcp.bind_addr" in server.ctl("doctor").stdout
            other.close()
            wait_until(lambda: tls_addresses(server) == [taken], what="TLS on the free port")
            assert works(server.enrol(), target)


def test_one_connection_of_many():
    """All TCP connections of one identity from one address are one connection, each a stream."""
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol("one")
        server.ctl("client", "set", "one", "--max-connections", "1")
        streams = [open_stream(server, profile, target) for _ in range(8)]
        rows = server.connections()
        assert len(rows) == 1, rows
        assert (rows[0]["transport"], rows[0]["streams"], rows[0]["client"]) == ("tls", 8, "one")
        assert server.status()["connections"]["active"] == 1
        # More streams than one connection may have need another one, which the client has not.
        server.ctl("set", "quic.max_streams_per_conn", "8")
        got = tls_client.run_job(profile, streams=[
            {"chunks": hexed(request(target.port, "127.0.0.1"))}])["streams"][0]
        assert (got["received"], got["end"]) == ("01", "fin"), got
        server.ctl("--yes", "kick", rows[0]["id"])
        for stream in streams:
            with stream:
                try:
                    assert stream.receive() != b"", "a clean end"
                except tls_client.Failure as failure:
                    assert failure.kind == "reset"


def test_versions():
    """sslscan finds TLS 1.3 and nothing else."""
    need("sslscan")
    with Server() as server:
        scan = run(["sslscan", "--no-colour", server.address], timeout=TIMEOUT * 3).stdout
        enabled = re.findall(r"^((?:SSL|TLS)v[\d.]+) +enabled", scan, flags=re.M)
        assert enabled in (["TLSv1.3"], []), scan
        ciphers = re.findall(r"(?:Preferred|Accepted) +(\S+)", scan)
        assert set(ciphers) <= {"TLSv1.3"}, scan
