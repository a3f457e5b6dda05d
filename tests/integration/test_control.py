"""mytunnelctl and the control socket, the HTTP endpoint, the programs' manners."""

import json
import os
import re
import socket
import stat
import time

import socks
from harness import SLOW, TIMEOUT, Server, program, run, wait_until
from targets import TcpTarget, echo, receive_exactly


def test_versions_and_help():
    """--version and --help of all three programs; usage errors are 2."""
    for name in ("mytunneld", "mytunnelctl", "mytunnel"):
        assert re.search(r"\d+\.\d+\.\d+", run([program(name), "--version"]).stdout), name
        assert name in run([program(name), "--help"]).stdout, name
        assert run([program(name), "--no-such-option"], check=False).returncode == 2, name
    assert "revoke" in run([program("mytunnelctl"), "client", "--help"]).stdout
    done = run([program("mytunnel"), "ping", "--no-such-option"], check=False)
    assert done.returncode == 2 and "mytunnel: " in done.stderr.splitlines()[0], done


def test_errors_as_json():
    """With --json whatever fails is an object with an error, on standard output, too."""
    def error(done, status, code):
        assert done.returncode == status, done
        answer = json.loads(done.stdout)
        assert answer["schema"] == 1 and answer["ok"] is False, answer
        assert answer["error"]["code"] == code and answer["error"]["message"], answer
        assert answer["error"]["message"] in done.stderr, done
        return answer["error"]["next"]

    ctl = program("mytunnelctl")
    for words in (["frobnicate"], ["set", "quic.max_connections"], ["--no-such-option"],
                  ["client", "set", "x", "--speed", "1"], ["audit", "--limit", "0"]):
        error(run([ctl, "--json", *words], check=False), 2, "usage")
    error(run([ctl, "--json", "--socket", "/nonexistent/s", "status"], check=False), 3,
          "unreachable")
    with Server() as server:
        def refused(*words):
            return server.ctl("--json", *words, check=False)

        server.enrol("ann")
        assert error(refused("client", "add", "ann"), 1, "exists") == "mytunnelctl client show ann"
        server.ctl("--yes", "client", "revoke", "ann")
        assert error(refused("client", "add", "ann"), 1, "exists") == \
            "mytunnelctl client remove ann"
        assert error(refused("set", "logging.level", "loud"), 1, "invalid") == \
            "mytunnelctl describe logging.level"
        assert error(refused("set", "loging.level", "info"), 1, "not_found") == \
            "mytunnelctl describe logging.level"
        assert error(refused("client", "remove", "ann"), 1, "failed") == "", "it asks first"


def test_status():
    """The fields that scripts rely on."""
    with Server() as server:
        status = server.status()
        assert status["schema"] == 1, status
        assert status["pid"] == server.process.pid, status
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", status["version"]), status
        assert status["uptime_seconds"] >= 0
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", server.address), status
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", status["http"]["address"]), status
        assert status["connections"]["active"] == 0, status
        client = server.client()
        wait_until(lambda: server.status()["connections"]["active"] == 1, what="the connection")
        connection = server.connections()[0]
        for key in ("id", "client", "peer", "transport", "worker", "connected_at", "rtt_ms",
                    "bytes_received", "bytes_sent", "streams", "udp_flows"):
            assert key in connection, (key, connection)
        assert connection["client"] == "client0" and connection["transport"] == "quic"
        for text in (server.ctl().stdout, server.ctl("status").stdout):
            assert server.address in text, text
        client.stop()
        wait_until(lambda: server.status()["connections"]["active"] == 0, what="its end")


def test_settings():
    """get, set (all or none), reset, describe; mistakes are named, and change nothing."""
    with Server() as server:
        key = "quic.max_streams_per_conn"
        assert server.ctl("get", key).stdout == "100\n"
        server.ctl("set", key, "50", "logging.level", "debug")
        assert server.ctl("get", key).stdout == "50\n"
        bad = server.ctl("set", key, "60", "logging.level", "loud", check=False)
        assert bad.returncode == 1 and "logging.level" in bad.stderr, bad
        assert server.ctl("get", key).stdout == "50\n", "all or none"
        server.ctl("reset", key)
        assert server.ctl("get", key).stdout == "100\n"
        near = server.ctl("get", "quic.max_stream_per_conn", check=False)
        assert near.returncode == 1 and key in near.stderr, near
        near = server.ctl("statsu", check=False)
        assert near.returncode == 2 and "status" in near.stderr, near
        assert key in server.ctl("describe").stdout
        assert "100" in server.ctl("describe", key).stdout
        assert "commas" in server.ctl("describe", "server.bind_addr").stdout
        assert "commas" not in server.ctl("describe", "metrics.bind_addr").stdout
        assert "empty" in server.ctl("reset", "server.public_addr").stdout
        everything = server.ctl("get").stdout
        assert key in everything and "access.allow_private" in everything


def test_open_server_says_so():
    """Without required identity the log, status and the answer of set warn."""
    with Server({"access.require_identity": "off"}) as server:
        server.process.wait_line("open_to_everybody")
        assert "anybody" in server.ctl("status").stderr
        server.ctl("set", "access.require_identity", "on")
        assert "anybody" not in server.ctl("status").stderr
        assert "anybody" in server.ctl("set", "access.require_identity", "off").stderr


def test_daemon_unreachable():
    """mytunnelctl says so with exit status 3."""
    done = run([program("mytunnelctl"), "--socket", "/nonexistent/control.sock", "status"],
               check=False)
    assert done.returncode == 3 and done.stderr.strip(), done


def test_second_daemon_is_refused():
    """A second daemon on the same folders leaves the first one alone."""
    with Server() as server:
        done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                    server.runtime], check=False)
        assert done.returncode != 0 and done.stderr.strip(), done
        assert server.status()["pid"] == server.process.pid


def test_unusable_state():
    """A corrupt database: exit status 78, the file is named and untouched."""
    with Server() as server:
        server.process.stop()
        path = os.path.join(server.state, "mytunnel.db")
        for name in os.listdir(server.state):
            if name.startswith("mytunnel.db-"):
                os.unlink(os.path.join(server.state, name))
        broken = b"this is no database, " * 1000
        with open(path, "wb") as file:
            file.write(broken)
        done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                    server.runtime], check=False)
        assert done.returncode == 78 and "mytunnel.db" in done.stderr, done
        with open(path, "rb") as file:
            assert file.read() == broken


def test_kick():
    """A kicked client is told, and comes back."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()
        first = server.connections()[0]["id"]
        mark = client.process.mark()
        server.ctl("--yes", "kick", str(first))
        client.wait_connected(start=mark)
        assert all(c["id"] != first for c in server.connections())
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x")
            receive_exactly(sock, 1)
        assert server.ctl("--yes", "kick", "999999999", check=False).returncode == 1


def test_destructive_verbs_ask():
    """Off a terminal they refuse without --yes."""
    with Server() as server:
        server.enrol("keep")
        assert server.ctl("client", "revoke", "keep", check=False).returncode == 1
        assert "keep" in server.ctl("client", "list").stdout
        assert server.json("client", "list")["schema"] == 1


def test_certificate():
    """cert show names the certificate, and no key."""
    with Server() as server:
        text = server.ctl("cert", "show").stdout
        assert re.search(r"(?i)expires|not after|valid", text), text
        assert "PRIVATE" not in text


def test_socket_permissions():
    """The control socket is 0666 in a 0755 folder; the database is private."""
    with Server() as server:
        assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o666
        assert stat.S_IMODE(os.stat(server.runtime).st_mode) == 0o755
        for name in os.listdir(server.state):
            mode = stat.S_IMODE(os.stat(os.path.join(server.state, name)).st_mode)
            assert mode & 0o077 == 0, (name, oct(mode))


def raw(server):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT)
    sock.connect(server.socket)
    return sock


def ends(sock, seconds):
    """The peer closes within some seconds; what it said."""
    sock.settimeout(seconds)
    said = b""
    try:
        while True:
            data = sock.recv(65536)
            if not data:
                return said
            said += data
    except (ConnectionResetError, BrokenPipeError):
        return said


def test_bad_control_input():
    """A line of 1 MB, no JSON, invalid UTF-8, a slow peer, a mute peer, 1,000 connections: each is
    cut, and the daemon answers others all the time."""
    with Server() as server:
        for junk in (b"x" * (1 << 20) + b"\n", b"\xff\xfe\xfd\n", b"{}\n", b"[]\n", b"null\n",
                     b'{"verb":1}\n', b'{"verb":"\\u0000"}\n', b"{" * 100_000 + b"\n", b"\0" * 100):
            with raw(server) as sock:
                try:
                    sock.sendall(junk)
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                ends(sock, 10 * SLOW)
            assert server.status()["pid"] == server.process.pid
        with raw(server) as mute, raw(server) as slow:
            begin = time.monotonic()
            slow.settimeout(0.2)
            cut = False
            while not cut and time.monotonic() - begin < 15 * SLOW:
                try:
                    slow.sendall(b"{")
                    cut = slow.recv(100) == b""
                except TimeoutError:
                    pass
                except OSError:
                    cut = True
            assert cut, "a slow peer is never cut"
            ends(mute, 15 * SLOW)
        crowd = []
        try:
            for _ in range(1000):
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(1)
                crowd.append(sock)
                try:
                    sock.connect(server.socket)
                except OSError:
                    break
        finally:
            for sock in crowd:
                sock.close()
        wait_until(lambda: server.ctl("status", check=False).returncode == 0, what="the daemon")


def test_http_endpoint():
    """The promised names of metrics, JSON, health; hosts that are not the endpoint's are refused."""
    with Server() as server:
        client = server.client()
        metrics = server.metrics()
        for name in ("connections_total", "connections_active", "bytes_received", "bytes_sent",
                     "streams_opened", "datagrams_received", "connections_failed",
                     "packets_received", "packets_sent", "streams_closed", "datagrams_sent",
                     "errors_total", "timeouts_total"):
            assert f"mytunnel_{name}" in metrics, name
        assert metrics["mytunnel_connections_active"] == 1, metrics
        assert client.process.alive()


def test_secrets_stay_secret():
    """No key of a client in logs, status or the list of processes."""
    with Server({"logging.level": "debug"}) as server:
        profile = server.enrol()
        client = server.client(profile)
        with open(profile, encoding="ascii") as file:
            key = re.search(r"//([^@]+)@", file.read()).group(1)
        places = [server.process.text(), client.process.text(), json.dumps(server.status()),
                  json.dumps(server.connections()), server.http("/metrics")]
        for pid in (server.process.pid, client.process.pid):
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                places.append(file.read())
        assert all(key not in place for place in places)
