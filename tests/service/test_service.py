"""The unit under systemd, with its sandbox on and its filter of system calls killing."""

import contextlib
import os
import re
import signal
import socket
import time

import socks
from harness import TIMEOUT, Skip, run, wait_until
from installed import (DATABASE, UNIT, Installed, now, offers, package_version, reads, said, show,
                       systemctl, violations)
from targets import (DnsTarget, HttpTarget, TcpTarget, dns_answer, dns_query, receive_all,
                     send_blocks, sum_of)

PACKAGES = "/packages"
TRANSFER_BYTES = 24 << 20
WATCHDOG_SECONDS = 30


def fetch(client, page):
    done = run(["curl", "--silent", "--fail", "--max-time", "10", "--socks5-hostname",
                f"127.0.0.1:{client.port}", f"http://localhost:{page.port}/page"], check=False)
    return done.returncode == 0 and done.stdout == "through the tunnel\n"


@contextlib.contextmanager
def page_in(server):
    with open(os.path.join(server.folder, "page"), "w", encoding="ascii") as file:
        file.write("through the tunnel\n")
    with HttpTarget(server.folder) as target:
        yield target


def both_ways(sock, _):
    received = receive_all(sock)
    send_blocks(sock, TRANSFER_BYTES, 2)
    sock.shutdown(socket.SHUT_WR)
    return received


def full_test(server, client):
    """A large transfer each way with checksums, names, UDP, and a page."""
    with TcpTarget(both_ways) as target:
        with socks.connect(client.port, "localhost", target.port) as sock:
            send_blocks(sock, TRANSFER_BYTES, 1)
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == (TRANSFER_BYTES, sum_of(TRANSFER_BYTES, 2))
        target.wait_ended()
        assert target.results[0] == (TRANSFER_BYTES, sum_of(TRANSFER_BYTES, 1)), target.results
    query = dns_query("www.example.org")
    with DnsTarget() as dns, socks.Association(client.port) as association:
        assert association.exchange(query, "127.0.0.1", dns.port)[0] == dns_answer(query)
    with page_in(server) as page:
        assert fetch(client, page)


def test_first_contact():
    """Installed, the daemon runs: on port 443 of both families, as a user of its own, with one
    capability and the filter in force; the installation says two lines."""
    with open(f"{PACKAGES}/install.log", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("MyTunnel:")]
    reads("".join(lines), "mytunnelctl client add", "http://127.0.0.1:9090")
    assert len(lines) == 2
    with Installed() as server:
        assert systemctl("is-enabled", UNIT).stdout == "enabled\n"
        pid = server.pid()
        assert os.stat(f"/proc/{pid}").st_uid not in (0, 65534)
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 10, status
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
        addresses = {l["address"] for l in server.status()["listeners"]
                     if l["protocol"] == "quic"}
        assert addresses == {"0.0.0.0:443", "[::]:443"}, addresses
        reads(server.ctl("status").stdout, "running", "443")
        text = systemctl("status", "--no-pager", UNIT).stdout
        reads("\n".join(text.splitlines()[:8]), r"Status: \"Serving tunnels")
        doctor = server.ctl("doctor", check=False).stdout
        reads(doctor)
        assert not re.search(r"(?m)^fail ", doctor)


def test_unit_is_tight():
    """systemd-analyze verify is silent, the exposure at most 1.5."""
    done = run(["systemd-analyze", "verify", UNIT], check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), done
    text = run(["systemd-analyze", "security", "--no-pager", UNIT]).stdout
    exposure = re.search(r"exposure level for \S+ ([\d.]+)", text.replace("service:", "service"))
    print(f"      exposure {exposure.group(1)}")
    assert float(exposure.group(1)) <= 1.5


def test_filter_kills():
    """A call that is not allowed ends the process, and these tests would see it."""
    with Installed() as server:
        server.drop_in("ExecStartPre=/usr/sbin/chroot / /bin/true\nRestart=no")
        before = now()
        systemctl("restart", UNIT, check=False)
        assert violations(), "nothing was seen"
        reads(said(before), "status=31/SYS")
        server.violations = len(violations())
        systemctl("reset-failed", UNIT)


def test_traffic():
    """TCP both ways, names, UDP and a page over QUIC; HTTP endpoint."""
    with Installed() as server:
        full_test(server, server.client())
        assert "mytunnel_connections_total" in server.http("/metrics")
        for path in ("/", "/healthz", "/readyz", "/status"):
            url = f"http://127.0.0.1:9090{path}"
            assert run(["curl", "--silent", "--fail", url], check=False).stdout, path


def test_traffic_over_tls():
    """The same over TLS, and the kernel does it."""
    if not offers("--transport"):
        raise Skip("this client knows QUIC only")
    with Installed() as server:
        full_test(server, server.client(args=("--transport", "tls")))
        facts = server.status()["tls"]
        print(f"      {facts}")
        assert facts["records"] == "kernel", facts
        assert server.metrics()["mytunnel_tls_records_connections_total"] > 0
        wait_until(lambda: server.status()["tls"]["kernel_active"] > 0, what="kernel TLS")
        doctor = server.ctl("doctor", check=False).stdout
        reads("\n".join(line for line in doctor.splitlines() if "kernel TLS" in line),
              "the kernel makes them")


def test_every_part_under_the_filter():
    """What the control plane does beside traffic: settings that move addresses and threads, rules,
    certificates, backup and restore, logs, events."""
    with Installed() as server:
        client = server.client()
        for words in (("set", "server.workers", "2"),
                      ("set", "server.bind_addr", "0.0.0.0:443", "--yes"),
                      ("reset", "server.bind_addr"),
                      ("set", "metrics.bind_addr", "127.0.0.1:9091"), ("reset", "metrics.bind_addr"),
                      ("set", "limits.max_memory_mb", "512"), ("reset", "limits.max_memory_mb"),
                      ("set", "logging.level", "debug"), ("reset", "logging.level"),
                      ("access", "test", "client0", "tcp", "192.0.2.1:443"), ("cert", "renew"), ("cert", "show"),
                      ("audit",), ("connections",), ("stats",), ("client", "list"),
                      ("backup", os.path.join(server.folder, "backup.db"))):
            done = server.ctl(*words, check=False)
            print(f"      mytunnelctl {' '.join(words)}: {done.returncode} {done.stderr.strip()[:90]}")
            assert done.returncode == 0, (words, done.stderr)
        server.ctl("restore", os.path.join(server.folder, "backup.db"), "--yes")
        server.wait_running()
        with page_in(server) as page:
            wait_until(lambda: fetch(client, page), what="a page after the restore")
        assert server.pid() > 0


def test_restart_drains():
    """systemctl restart: the old daemon ends well, the client comes back by itself."""
    with Installed() as server, page_in(server) as page:
        client = server.client()
        assert fetch(client, page)
        old, before = server.pid(), now()
        systemctl("restart", UNIT)
        wait_until(lambda: fetch(client, page), what="the client at the new daemon")
        assert server.pid() != old and show("NRestarts") == "0"
        assert "Failed with result" not in said(before)


def test_upgrade():
    """A newer package while clients are connected: settings, clients, certificate stay, and the
    clients come back by themselves."""
    with Installed() as server, page_in(server) as page:
        server.ctl("set", "quic.idle_timeout_secs", "77")
        client = server.client()
        pin = server.ctl("cert", "show").stdout
        old, version = server.pid(), package_version()
        run(["sh", "-c", f"dpkg -i {PACKAGES}/newer/*.deb"], timeout=5 * TIMEOUT)
        assert package_version() != version
        wait_until(lambda: fetch(client, page), what="the client after the upgrade")
        assert server.pid() != old and show("NRestarts") == "0"
        assert server.ctl("get", "quic.idle_timeout_secs").stdout == "77\n"
        assert server.ctl("cert", "show").stdout == pin
        server.ctl("reset", "quic.idle_timeout_secs")


def test_killed():
    """kill -9: systemd starts it again, the client is back."""
    with Installed() as server, page_in(server) as page:
        client = server.client()
        os.kill(server.pid(), signal.SIGKILL)
        wait_until(lambda: fetch(client, page), what="the client after kill -9")


def test_watchdog():
    """A daemon that hangs is ended by the watchdog and started again."""
    with Installed() as server, page_in(server) as page:
        client = server.client()
        old, before = server.pid(), now()
        os.kill(old, signal.SIGSTOP)
        begin = time.monotonic()
        wait_until(lambda: server.pid() not in (0, old), WATCHDOG_SECONDS * 3, "a new process")
        print(f"      after {time.monotonic() - begin:.0f} s")
        assert "Watchdog timeout" in said(before)
        wait_until(lambda: fetch(client, page), what="the client after the watchdog")


def test_port_taken():
    """Another program has port 443: the daemon runs, says what is wrong and what to do, and takes
    the port when it is free."""
    with Installed() as server:
        systemctl("stop", UNIT)
        with contextlib.ExitStack() as others:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    other = others.enter_context(socket.socket(family, kind))
                    if family == socket.AF_INET6:
                        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    other.bind((host, 443))
                    if kind == socket.SOCK_STREAM:
                        other.listen()
            systemctl("start", UNIT)
            reads(server.ctl("status", check=False).stdout, "degraded", "0.0.0.0:443", "in use",
                  "mytunnelctl set server.bind_addr")
            reads(server.ctl("doctor", check=False).stdout, "(?m)^fail ", "in use")
            reads(systemctl("status", "--no-pager", "-n", "0", UNIT).stdout, "Status: .*Degraded")
            assert show("ActiveState") == "active" and show("NRestarts") == "0"
        server.wait_running()


def refuses_to_start(server, status, *patterns):
    """Ends with this status, is not started again, and the journal tells why."""
    before = now()
    systemctl("start", UNIT, check=False)
    wait_until(lambda: show("ActiveState") == "failed", what="the state failed")
    assert show("ExecMainStatus") == str(status) and show("NRestarts") == "0"
    reads("\n".join(l for l in said(before).splitlines() if '"event":"starting"' not in l),
          *patterns)
    done = server.ctl("status", check=False)
    assert done.returncode == 3, done
    reads(done.stderr, "cannot reach", "systemctl status mytunnel")
    reads(server.ctl("doctor", check=False).stdout, r"(?m)^fail +daemon .*\n +run: .*journalctl")


def test_read_only_state():
    """A state folder that cannot be written: one message, no crash loop; neither when systemd
    itself fails at it, because it would have to change its owner."""
    with Installed() as server:
        owner = os.stat("/var/lib/mytunnel")
        systemctl("stop", UNIT)
        run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", "/var/lib/mytunnel"])
        try:
            run(["mount", "-o", "remount,ro", "/var/lib/mytunnel"])
            refuses_to_start(server, 238, "STATE_DIRECTORY", "Read-only")
            run(["mount", "-o", "remount,rw", "/var/lib/mytunnel"])
            os.chown("/var/lib/mytunnel", owner.st_uid, owner.st_gid)
            run(["mount", "-o", "remount,ro", "/var/lib/mytunnel"])
            refuses_to_start(server, 78, "/var/lib/mytunnel", "[Rr]ead-only")
        finally:
            run(["umount", "/var/lib/mytunnel"])


def test_corrupt_database():
    """A corrupt database: one message that names it, no crash loop, the file untouched."""
    with Installed() as server:
        systemctl("stop", UNIT)
        with open(DATABASE, "rb") as file:
            good = file.read()
        bad = bytes(64) + good[64:]
        try:
            with open(DATABASE, "r+b") as file:
                file.write(bad)
            refuses_to_start(server, 78, DATABASE)
            with open(DATABASE, "rb") as file:
                assert file.read() == bad
        finally:
            with open(DATABASE, "r+b") as file:
                file.write(good)


def test_user_unit():
    """The client's unit of a user: connects with an imported profile, and ends cleanly."""
    user = "traveller"
    with Installed() as server:
        profile = server.enrol("traveller")
        run(["useradd", "--create-home", user], check=False)
        with open(profile, encoding="ascii") as uri:
            run(["su", user, "-c", "mytunnel import home"], stdin=uri)
        run(["loginctl", "enable-linger", user])
        at = ["systemctl", "--user", "-M", f"{user}@.host"]
        wait_until(lambda: run([*at, "is-system-running"], check=False).stdout.strip() in
                   ("running", "degraded"), what="the user's systemd")
        run([*at, "start", "mytunnel@home"])
        wait_until(lambda: any(c["client"] == "traveller" for c in server.connections()),
                   what="the user's client")
        run([*at, "stop", "mytunnel@home"])
        assert run([*at, "show", "-P", "Result", "mytunnel@home"]).stdout == "success\n"
        run(["loginctl", "disable-linger", user])
