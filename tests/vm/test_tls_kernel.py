"""TLS over TCP on a kernel that has TLS: records by the kernel, payload by splice."""

import contextlib
import fcntl
import functools
import os
import re
import subprocess
import sys
import termios
import threading
import time
from unittest import mock

import gnutls_client
import test_protocol
import test_tls
import tls_client
from harness import Server, need, run, wait_until
from targets import TcpTarget, echo
from test_protocol import hexed, request
from test_protocol_tls import SHARED, over_tls
from test_tls import MIB, bulk, records
from test_tls_hostile import cpu_seconds

NEEDS = ("tls", "ctr", "gcm", "ghash_generic", "aesni_intel")
# Refused in the handshake; or with a FIN that may be there before it is done at the server.
NO_RECORDS = ("wrong_alpn", "refused_identities", "early_fin", "malformed_headers", "unknown_type")
BULK = int(os.environ.get("MYTUNNEL_TLS_MIB") or 256) * MIB


def here(function):
    """The same test, of this module."""
    @functools.wraps(function)
    def test():
        function()

    test.__module__ = __name__
    return test


def by_the_kernel(function):
    """The same test, at whose end every connection that had records had them of the kernel."""
    @functools.wraps(function)
    def test():
        leave = Server.__exit__
        counts = []

        def count(server, kind, *rest):
            if kind is None:
                counts.append(records(server))
            leave(server, kind, *rest)

        with (mock.patch.object(Server, "__exit__", count),
              mock.patch.object(tls_client, "fin_waits", True)):
            function()
        kernel, gnutls = (sum(column) for column in zip(*counts))
        assert kernel > 0 and gnutls == 0, counts

    return test


for _name in SHARED:
    _test = over_tls(getattr(test_protocol, f"test_{_name}"))
    globals()[f"test_{_name}"] = here(_test if _name in NO_RECORDS else by_the_kernel(_test))
for _name in ("half_close_in_all_orders", "target_reset", "truncation_is_a_reset",
              "alert_in_a_transfer", "garbage_in_a_transfer", "key_update", "many_tunnels",
              "rates_hold", "quota_and_revocation"):
    globals()[f"test_{_name}"] = here(by_the_kernel(getattr(test_tls, f"test_{_name}")))


def test_says_so():
    """status and doctor name the kernel as who makes the records, and the counter counts."""
    with Server() as server, TcpTarget(echo) as target:
        status = server.status()["tls"]
        assert status["records"] == "kernel", status
        doctor = {c["check"]: c for c in server.json("doctor")["checks"]}["tls records"]
        assert doctor["verdict"] == "ok" and "kernel" in doctor["text"], doctor
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
            calls = re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?: resumed>|\().*= (\d+)(?: |$)",
                               file.read(), flags=re.M)
        moved = {}
        for call, result in calls:
            moved[call] = moved.get(call, 0) + int(result)
        print(f"      bytes by call: {moved}")
        # Twice each way.
        assert moved["splice"] == 4 * size, moved
        others = sum(value for call, value in moved.items() if call != "splice")
        assert others < 32768, moved


@contextlib.contextmanager
def no_kernel_tls():
    """A kernel without TLS, which it does not load by itself either."""
    path = "/proc/sys/kernel/modprobe"
    with open(path, encoding="ascii") as file:
        before = file.read()

    def set_loader(text):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    set_loader("/bin/false")
    try:
        # Its last sockets may still be on their way out.
        wait_until(lambda: run(["rmmod", "tls"], check=False).returncode == 0,
                   what="the module's end")
        yield
    finally:
        set_loader(before)
        run(["modprobe", "tls"])


def test_cost_of_both():
    """CPU per GiB of the kernel's records with splice and of GnuTLS' records, side by side."""
    size = min(BULK, 64 * MIB)
    taken = {"kernel": [], "gnutls": []}
    for _ in range(3):
        for who, around in (("kernel", contextlib.nullcontext), ("gnutls", no_kernel_tls)):
            with around(), Server({"server.workers": "1"}) as server:
                profile = server.enrol()
                before = cpu_seconds(server)
                bulk(server, profile, size)
                taken[who].append((cpu_seconds(server) - before) * 2**30 / (2 * size))
                assert records(server) == ((1, 0) if who == "kernel" else (0, 1))
    for who, figures in taken.items():
        print(f"      {who}: {sorted(figures)[1]:.2f} CPU seconds per GiB, of "
              f"{', '.join(f'{figure:.2f}' for figure in figures)}")


def test_cipher_that_the_kernel_has_not():
    """A client that offers ChaCha20 alone is served by GnuTLS, beside those of the kernel."""
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol()
        priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"
        for stream in (gnutls_client.GnutlsStream(profile, priority),
                       gnutls_client.GnutlsStream(profile)):
            with stream:
                stream.send(request(target.port, "127.0.0.1") + b"x" * 1000)
                assert stream.receive_all(1001) == b"\0" + b"x" * 1000
        assert records(server) == (1, 1)


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def pipes(server):
    """How many pipes for splice() the server has, known by their size, and the bytes in them."""
    folder = f"/proc/{server.process.pid}/fd"
    ends, held = 0, 0
    for end in [os.path.join(folder, name) for name in os.listdir(folder)]:
        if os.readlink(end).startswith("pipe:"):
            fd = os.open(end, os.O_RDONLY | os.O_NONBLOCK)
            if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == MIB:
                ends += 1
                held += int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
            os.close(fd)
    return ends // 2, held


def test_nothing_leaks():
    """After 2,000 tunnels, of which some were cut, the server has its descriptors back; no pipe is
    left with bytes in it."""
    count = int(os.environ.get("MYTUNNEL_TLS_TUNNELS") or 2000)
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
                    if number % 8 == 4:
                        stream.reset()
                        continue
                    got = stream.receive(1)
                    if number % 8 == 0:
                        stream.send(b"x" * 30000)
                        stream.reset()
                        continue
                    stream.fin()
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
        wait_until(lambda: descriptors(server) - 2 * pipes(server)[0] <= before,
                   what="descriptors back at the baseline")
        idle, held = pipes(server)
        assert idle <= 2 * 64 and held == 0, (idle, held)
        # Some were cut before the server was done with the handshake: those had no keys to give.
        kernel, gnutls = records(server)
        assert kernel >= count * 7 // 8 and gnutls <= count // 8, (kernel, gnutls)
