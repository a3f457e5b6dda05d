"""What the log and the tracepoints show of tunnels, and what they never show."""

import concurrent.futures
import contextlib
import glob
import json
import os
import re
import socket
import subprocess
import tempfile
import time

import socks
from harness import ROOT, Server, program, run, wait_until
from targets import TcpTarget, UdpTarget, echo, receive_exactly

MANUAL = os.path.join(ROOT, "daemon", "mytunneld.8")
TRACING = os.path.join(ROOT, "docs", "tracing.md")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def once(client, host, port, data=b"12345"):
    with socks.connect(client.port, host, port) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert receive_exactly(sock, len(data)) == data
        assert sock.recv(1) == b""


def fails(client, host, port):
    try:
        socks.connect(client.port, host, port).close()
    except socks.SocksError:
        return
    raise AssertionError(f"{host}:{port} was reached")


def records(process, event=None):
    """The lines of the log that are JSON, in their order."""
    lines = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
    return [line for line in lines if event is None or line["event"] == event]


def refused_port():
    """A port that is bound, so that nobody else gets it, and refuses."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def documented(section):
    """The words of the manual between a comment and the next, as field or event names."""
    text = read(MANUAL).split(f'.\\" {section}\n')[1].split('.\\" end')[0]
    bold = re.findall(r"^(\.B[R]? .*)", text, re.MULTILINE)
    return set(re.findall(r"[a-z][a-z_]+", " ".join(line[3:] for line in bold)))


def test_every_field_is_documented():
    """Every event and every field in the daemon's sources stands in the manual."""
    fields, events = {"time", "level", "event", "truncated"}, set()
    for path in glob.glob(os.path.join(ROOT, "daemon", "*.c")):
        text = read(path)
        fields |= set(re.findall(r'MT_LOG_(?:TEXT|NUMBER|MS)\(\s*"(\w+)"', text))
        events |= set(re.findall(
            r'(?:mt_log|mt_log_write|mt_log_record|tell_own)\(\s*(?:MT_LOG_\w+,\s*)?"(\w+)"', text))
    assert len(fields) > 30 and len(events) > 40
    assert not fields - documented("fields"), fields - documented("fields")
    assert not events - documented("events"), events - documented("events")


def test_access_lines():
    """With logging.access each tunnel leaves a line with its phases, and all of it is as the
    manual says."""
    with Server({"logging.access": "on"}) as server, TcpTarget(echo) as target, \
            refused_port() as closed:
        client = server.client()
        once(client, "localhost", target.port)
        once(client, "127.0.0.1", target.port)
        fails(client, "127.0.0.1", closed.getsockname()[1])
        fails(client, "does-not-exist.invalid", 80)
        fails(client, "169.254.1.1", 80)
        wait_until(lambda: len(records(server.process, "tunnel_failed")) == 3 and
                   len(records(server.process, "tunnel_closed")) == 2, what="five lines")
        named, literal = records(server.process, "tunnel_closed")
        assert named["target"] == f"localhost:{target.port}"
        assert named["address"] in (f"127.0.0.1:{target.port}", f"[::1]:{target.port}")
        assert literal["target"] == literal["address"] == f"127.0.0.1:{target.port}"
        for line in named, literal:
            assert line["client"] == "client0" and line["transport"] == "quic"
            assert line["bytes_received"] == line["bytes_sent"] == 5
            assert line["reason"] == "done"
            assert re.fullmatch(r"[0-9a-f]{16}-\d+", line["trace"])
            assert 0 < line["connect_ms"] <= line["first_byte_ms"] <= line["total_ms"] < 60000
        assert "name_ms" in named and "name_ms" not in literal
        assert named["trace"].split("-")[0] == literal["trace"].split("-")[0]
        assert named["trace"] != literal["trace"]
        failed = {line["reason"]: line for line in records(server.process, "tunnel_failed")}
        assert set(failed) == {"refused", "dns", "denied"}
        assert failed["dns"]["target"] == "does-not-exist.invalid:80"
        connected = records(server.process, "connected")
        assert connected[0]["trace"] == named["trace"].split("-")[0]
        # Fractions, not whole milliseconds.
        assert re.search(r'"total_ms":\d+\.\d{3}[,}]', server.process.text())
        client.stop()
        wait_until(lambda: records(server.process, "disconnected"), what="the last line")
        for line in records(server.process):
            assert list(line)[:3] == ["time", "level", "event"], line
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
            assert set(line) <= documented("fields"), line
            assert line["event"] in documented("events"), line


def test_failures_without_access():
    """A failed tunnel is found by its trace id, and where it went is not written down unasked."""
    with Server() as server, refused_port() as closed, TcpTarget(echo) as target:
        client = server.client()
        port = closed.getsockname()[1]
        fails(client, "127.0.0.1", port)
        once(client, "127.0.0.1", target.port)
        wait_until(lambda: records(server.process, "tunnel_failed"), what="the line")
        line = records(server.process, "tunnel_failed")[0]
        assert line["reason"] == "refused" and "target" not in line and "trace" in line
        server.ctl("set", "logging.level", "debug")
        fails(client, "127.0.0.1", port)
        wait_until(lambda: len(records(server.process, "tunnel_failed")) == 2, what="the line")
        assert records(server.process, "tunnel_failed")[1]["target"] == f"127.0.0.1:{port}"
        server.ctl("set", "logging.level", "warn")
        fails(client, "127.0.0.1", port)
        server.ctl("set", "logging.level", "info", "logging.format", "pretty")
        fails(client, "127.0.0.1", port)
        server.process.wait_line(r"^\S+Z info tunnel_failed trace=[0-9a-f]{16}-\d+ client=client0 ")
        assert len(records(server.process, "tunnel_failed")) == 2
        assert not records(server.process, "tunnel_closed")


def compare_traces(transport):
    with Server({"logging.access": "on"}) as server, TcpTarget(echo) as target, \
            refused_port() as closed:
        client = server.client(args=("--log-format", "json", "--transport", transport))
        once(client, "localhost", target.port)
        fails(client, "127.0.0.1", closed.getsockname()[1])
        fails(client, "does-not-exist.invalid", 80)
        code, sock = socks.http_connect(client.port, "169.254.1.1", 80)
        sock.close()
        assert code == 403
        for event, count in ("tunnel_failed", 3), ("tunnel_closed", 1):
            ends = [wait_until(lambda end=end: len(found := records(end, event)) == count and found,
                               what=event) for end in (server.process, client.process)]
            told = [{(line["trace"], line["target"]) for line in end} for end in ends]
            assert told[0] == told[1] and len(told[0]) == count, told
        line = records(client.process, "tunnel_closed")[0]
        assert line["bytes_sent"] == line["bytes_received"] == 5 and line["reason"] == "done"
        assert line["transport"] == transport and 0 < line["connect_ms"] <= line["total_ms"]
        for line in records(client.process):
            assert set(line) <= documented("fields"), line
        quiet = server.client(args=("--transport", transport))
        fails(quiet, "127.0.0.1", closed.getsockname()[1])
        assert "tunnel_failed" not in quiet.process.text()
        plain = server.client(args=("--verbose", "--transport", transport))
        fails(plain, "127.0.0.1", closed.getsockname()[1])
        plain.process.wait_line(
            r"^\S+Z warn tunnel_failed trace=[0-9a-f]{16}-\d+ target=127\.0\.0\.1:\d+ ")


def test_udp_is_told():
    """The client's log says what became of UDP, and what was dropped why."""
    with Server() as server, UdpTarget() as target:
        client = server.client(args=("--log-format", "json"))
        with socks.Association(client.port) as one:
            one.exchange(b"before", "127.0.0.1", target.port)
            one.socket.sendto(b"\0\0", one.relay)
            one.exchange(b"behind it", "127.0.0.1", target.port)
        client.stop()
        lines = records(client.process, "udp")
        assert len(lines) == 1, lines
        assert lines[0]["sent"] >= 2 and lines[0]["received"] >= 2, lines
        assert lines[0]["dropped_malformed"] == 1 and lines[0]["level"] == "warn", lines
        assert lines[0]["dropped_foreign"] == 0, lines
        quiet = server.client(args=("--verbose",))
        quiet.stop()
        assert " udp " not in quiet.process.text()


def test_same_trace_on_both_ends():
    """The client's log calls a tunnel as the server's does, whether it failed or has ended."""
    compare_traces("quic")


def test_same_trace_over_tls():
    """So it does without a word about it, where each tunnel is a connection of its own."""
    compare_traces("tls")


def test_flood_is_limited():
    """Of a kind of line at most 50 are written in a second, and how many were left out is told."""
    count = 400
    with Server() as server, refused_port() as closed:
        client = server.client()
        begin = time.monotonic()
        for _ in range(count):
            fails(client, "127.0.0.1", closed.getsockname()[1])
        seconds = time.monotonic() - begin
        # The line about the flood comes by itself.
        if seconds < count / 50 - 2:
            server.process.wait_line(r'"event":"log_suppressed","of":"tunnel_failed"')
        wait_until(lambda: len(records(server.process, "tunnel_failed")) + sum(
            line["lines"] for line in records(server.process, "log_suppressed")
            if line["of"] == "tunnel_failed") == count, what="all lines, told or written")
        assert len(records(server.process, "tunnel_failed")) <= 50 * (seconds + 2)


def test_reader_that_hangs():
    """Nobody reads the log: tunnels go on as if there were none, and it is told what was lost."""
    count = 3500  # lines: more than the pipe, the queue and the batch between them hold
    with tempfile.TemporaryDirectory(prefix="mytunnel-log-") as folder:
        path = os.path.join(folder, "log")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        text = b""

        def is_told():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                while part := os.read(reader, 1 << 16):
                    text += part
            return b'"event":"log_dropped","lines":' in text

        with Server({"logging.access": "on"},
                    prefix=["sh", "-c", f'exec "$@" 2>"{path}"', "sh"]) as server, \
                TcpTarget(echo) as target:
            client = server.client()
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                for done in [pool.submit(once, client, "127.0.0.1", target.port)
                             for _ in range(count)]:
                    done.result()
            assert server.status()["connections"]["active"] > 0
            wait_until(is_told, what="the line about those that were lost")
        os.close(reader)
    lines = [json.loads(line) for line in text.splitlines()[:-1]]
    assert sum(line["event"] == "tunnel_closed" for line in lines) > 100


def test_secrets_never():
    """Whatever is logged at the most talkative level holds no key, in neither form."""
    with Server({"logging.level": "debug", "logging.access": "on"}) as server, \
            TcpTarget(echo) as target:
        secrets = []
        for form in ("json", "pretty"):
            server.ctl("set", "logging.format", form)
            profile = server.enrol(f"canary-{form}")
            uri = read(profile).strip()
            secrets += [uri, re.match(r"mytunnel://([\w-]{43})@", uri).group(1)]
            client = server.client(profile)
            once(client, "localhost", target.port)
            server.ctl("client", "set", f"canary-{form}", "--rate", "10M")
            key = os.path.join(server.folder, f"{form}.key")
            cert = os.path.join(server.folder, f"{form}.pem")
            run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "3",
                 "-subj", "/CN=canary.example", "-addext", "subjectAltName=DNS:canary.example",
                 "-addext", "basicConstraints=critical,CA:FALSE"])
            server.ctl("cert", "import", cert, key)
            secrets += [line for line in read(key).splitlines() if len(line) > 20]
            server.ctl("backup", os.path.join(server.folder, f"{form}.backup"))
            server.ctl("--yes", "client", "revoke", f"canary-{form}")
            client.process.kill()
        server.process.wait_line("tunnel_closed")
        server.ctl("stats")
        text = server.process.text()
        for seen in ("canary-json", "canary-pretty", "certificate_imported", "backup_made"):
            assert seen in text, seen
        for secret in secrets:
            assert secret not in text, secret[:8]
            assert secret.encode().hex() not in text.lower(), secret[:8]
        assert "PRIVATE KEY" not in text


def notes(path):
    """Name to arguments of each tracepoint in a program."""
    text = run(["readelf", "-n", path]).stdout
    return dict(re.findall(
        r"Provider: mytunnel\n\s+Name: (\w+)\n.*\n\s+Arguments: (.*)", text))


def test_probes_are_listed():
    """The program has the tracepoints that the documentation lists, with as many arguments."""
    found = notes(program("mytunneld"))
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", read(TRACING), re.MULTILINE)
    assert len(rows) == 10
    assert set(found) == {name for name, _ in rows}, found
    for name, arguments in rows:
        assert len(found[name].split()) == arguments.count(",") + 1, (name, found[name])
    used = re.findall(r"mytunnel:(\w+)$", read(os.path.join(ROOT, "docs", "tunnels.bt")),
                      re.MULTILINE)
    assert used and set(used) <= set(found)
    try:
        listed = subprocess.run(["bpftrace", "-l", f"usdt:{program('mytunneld')}:*"], check=False,
                                capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return
    if listed.returncode == 0:  # some kernels do not even let it list
        assert {line.rsplit(":", 1)[1] for line in listed.stdout.split()} == set(found)
