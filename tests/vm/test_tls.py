"""TLS over TCP on a kernel that has TLS: records by the kernel, payload by splice."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import test_protocol
import tls_client
from harness import SLOW, Server, need, wait_until
from targets import TcpTarget, echo, receive_all, reset, send_blocks
from test_protocol import hexed, request
from test_protocol_tls import SHARED, over_tls

NEEDS = ("tls",)
MIB = 1 << 20
BULK = int(os.environ.get("MYTUNNEL_TLS_MIB") or 256) * MIB


def records(server):
    """How many TCP connections had their records made by the kernel, and by GnuTLS."""
    totals = server.json("stats")["totals"] if "totals" in server.json("stats") else None
    values = server.http("/metrics")
    found = dict(re.findall(
        r'mytunnel_tls_records_connections_total\{records="(\w+)"\} (\d+)', values))
    assert found, (totals, values)
    return int(found["kernel"]), int(found["gnutls"])


for _name in SHARED:
    globals()[f"test_{_name}"] = over_tls(getattr(test_protocol, f"test_{_name}"))
    globals()[f"test_{_name}"].__module__ = __name__


def test_says_so():
    """status and doctor name the kernel as who makes the records, and the counter counts."""
    with Server() as server, TcpTarget(echo) as target:
        status = server.status()["tls"]
        assert status["records"] == "kernel", status
        doctor = {c["check"]: c for c in server.json("doctor")["checks"]}["tls records"]
        assert doctor["verdict"] == "ok" and "kernel" in doctor["text"], doctor
        tls_client.run_job(server.enrol(), streams=[
            {"chunks": hexed(request(target.port, "127.0.0.1") + b"x"), "fin": True}])
        assert records(server) == (1, 0)


def counted(server):
    return {key: value for key, value in server.metrics().items() if "bytes" in key}


def bulk(server, profile, size):
    """`size` bytes each way, one direction after the other; counts and digests of both ends."""

    def handler(sock, _):
        with sock:
            received = receive_all(sock)
            return received, send_blocks(sock, size, 7)

    with TcpTarget(handler) as target:
        got = tls_client.run_job(profile, timeout=600, streams=[
            {"chunks": hexed(request(target.port, "127.0.0.1")), "send_bytes": size, "fin": True}])
        got = got["streams"][0]
        target.wait_ended(600)
        (count, digest), sent = target.results[0]
        assert (count, digest) == (size, got["sent_sha256"])
        assert (got["end"], got["bytes"], got["sha256"]) == ("fin", size + 1, sent), got


def test_bulk():
    """256 MiB each way, equal at both ends, counted exactly, all of it spliced."""
    with Server() as server:
        bulk(server, server.enrol(), BULK)
        metrics = server.metrics()
        assert metrics["mytunnel_bytes_received"] == BULK, metrics
        assert metrics["mytunnel_bytes_sent"] == BULK, metrics
        assert metrics["mytunnel_tls_spliced_bytes_total"] == 2 * BULK, metrics
        assert records(server)[1] == 0


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_strace_shows_splice():
    """During a bulk transfer the server splices, and reads or writes no payload itself."""
    need("strace")
    size = 32 * MIB
    with Server({"server.workers": "1"}) as server:
        profile = server.enrol()
        log = os.path.join(server.folder, "strace.log")
        with subprocess.Popen(
                ["strace", "-f", "-o", log, "-e",
                 "trace=splice,read,write,readv,writev,recvmsg,sendmsg,recvfrom,sendto", "-p",
                 str(server.process.pid)], stderr=subprocess.DEVNULL) as strace:
            wait_until(lambda: os.path.exists(log), what="strace")
            time.sleep(1)
            bulk(server, profile, size)
            strace.terminate()
        with open(log, encoding="ascii", errors="replace") as file:
            calls = re.findall(r"\d+ +(\w+)\(.*= (\d+)(?: |$)", file.read(), flags=re.M)
        moved = {}
        for call, result in calls:
            moved[call] = moved.get(call, 0) + int(result)
        print(f"      bytes by call: {moved}")
        assert moved["splice"] >= 4 * size, moved
        others = sum(value for call, value in moved.items() if call != "splice")
        assert others < MIB // 2, moved


def test_many_tunnels():
    """200 tunnels at once, each with data of its own, both ways."""
    with Server() as server, TcpTarget(echo) as target:
        head = request(target.port, "127.0.0.1")
        data = [hashlib.sha256(bytes([n])).digest() * 2000 for n in range(200)]
        result = tls_client.run_job(server.enrol(), timeout=400, parallel=True, streams=[
            {"chunks": hexed(head + data[n]), "fin": True} for n in range(200)])
        for n, got in enumerate(result["streams"]):
            assert got["end"] == "fin" and got["bytes"] == 1 + len(data[n]), (n, got)
            assert got["sha256"] == hashlib.sha256(data[n]).hexdigest(), n
        assert records(server) == (200, 0)


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def pipes(server):
    """Bytes in the server's pipes, and how many pipes there are."""
    folder = f"/proc/{server.process.pid}/fd"
    ends = [name for name in os.listdir(folder)
            if os.readlink(os.path.join(folder, name)).startswith("pipe:")]
    return len(ends) // 2


def test_nothing_leaks():
    """After 2,000 tunnels, of which some were cut, the server has its descriptors back; no pipe is
    left with bytes in it."""
    count = 2000
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        scalar, host, port = tls_client.read_profile(profile)
        context = tls_client.make_context(scalar)
        head = request(target.port, "127.0.0.1")
        before = descriptors(server)
        errors = []

        def work(numbers):
            for number in numbers:
                stream = tls_client.TlsStream((host, port), context, 120)
                with stream:
                    stream.handshake()
                    stream.send(head + b"x" * 3000)
                    if number % 4 == 0:
                        stream.reset()
                        continue
                    stream.fin()
                    got = b""
                    while True:
                        part = stream.receive()
                        if not part:
                            break
                        got += part
                    if got != b"\0" + b"x" * 3000:
                        errors.append((number, len(got)))

        threads = [threading.Thread(target=work, args=(range(n, count, 8),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors[:5]
        wait_until(lambda: server.status()["tunnels"]["active"] == 0, what="the last tunnel's end")
        # What stays are idle pipes of the pools, two descriptors each.
        wait_until(lambda: descriptors(server) - 2 * pipes(server) <= before,
                   what="descriptors back at the baseline")
        assert pipes(server) <= 2 * 64 + 4, pipes(server)
        assert records(server)[0] >= count - 10


def watch(sock, _):
    try:
        receive_all(sock)
        return "fin"
    except ConnectionResetError:
        return "reset"


def open_stream(server, profile, target, data=b""):
    scalar, host, port = tls_client.read_profile(profile)
    stream = tls_client.TlsStream((host, port), tls_client.make_context(scalar), 30 * SLOW)
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
        tool = shutil.which("gnutls-cli")
        with open_stream(server, server.enrol(), target, b"x" * 50000) as stream:
            # OpenSSL sends bad_record_mac for a record that it cannot open.
            stream.incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            try:
                stream.receive()
            except tls_client.Failure:
                pass
            stream._flush()
            target.wait_ended()
        assert target.results == ["reset"], (target.results, tool)
        wait_until(lambda: 'mytunnel_tls_resets_total{reason="alert"} 1' in server.http("/metrics"),
                   what="the alert in the counters")


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
        assert server.metrics()["mytunnel_tls_spliced_bytes_total"] >= 2 * size - 300000


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
