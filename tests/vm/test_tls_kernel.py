"""TLS over TCP on a kernel that has TLS: records by the kernel, payload by splice."""

import functools
import os
import re
import subprocess
import threading
import time

import test_protocol
import test_tls
import tls_client
from harness import Server, need, wait_until
from targets import TcpTarget, echo
from test_protocol import hexed, request
from test_protocol_tls import SHARED, over_tls
from test_tls import MIB, bulk, records

NEEDS = ("tls", "ctr", "gcm", "ghash_generic", "aesni_intel")
BULK = int(os.environ.get("MYTUNNEL_TLS_MIB") or 256) * MIB


def here(function):
    """The same test, of this module."""
    @functools.wraps(function)
    def test():
        function()

    test.__module__ = __name__
    return test


for _name in SHARED:
    globals()[f"test_{_name}"] = here(over_tls(getattr(test_protocol, f"test_{_name}")))
for _name in ("half_close_in_all_orders", "target_reset", "truncation_is_a_reset",
              "alert_in_a_transfer", "many_tunnels", "rates_hold", "quota_and_revocation"):
    globals()[f"test_{_name}"] = here(getattr(test_tls, f"test_{_name}"))


def test_says_so():
    """status and doctor name the kernel as who makes the records, and the counter counts."""
    with Server() as server, TcpTarget(echo) as target:
        status = server.status()["tls"]
        assert status["records"] == "kernel", status
        doctor = {c["check"]: c for c in server.json("doctor")["checks"]}["tls records"]
        assert doctor["verdict"] == "ok" and "kernel" in doctor["text"], doctor
        # Not for a client whose FIN is there before its handshake is done: the kernel takes no keys
        # of a connection that is half closed.
        with test_tls.open_stream(server, server.enrol(), target, b"x") as stream:
            assert stream.receive() == b"x"
        assert records(server) == (1, 0)


def test_bulk():
    """256 MiB each way, equal at both ends, counted exactly, all of it spliced."""
    with Server() as server:
        bulk(server, server.enrol(), BULK)
        metrics = server.metrics()
        assert metrics["mytunnel_bytes_received"] == BULK, metrics
        assert metrics["mytunnel_bytes_sent"] == BULK, metrics
        assert metrics["mytunnel_tls_spliced_bytes_total"] == 2 * BULK, metrics
        assert records(server)[1] == 0


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
        assert records(server)[0] >= count // 2
