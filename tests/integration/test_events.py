"""Watching a running server: events, and connections by client, order and number."""

import json
import socket

from harness import Process, Server, program, wait_until
from load import Trickle, events
from targets import TcpTarget
from test_protocol import interop


class Follower:
    """`mytunnelctl events -f`."""

    def __init__(self, server, *options):
        self.process = Process(
            [program("mytunnelctl"), "--socket", server.socket, *options, "events", "-f"],
            server.folder, f"events-{len(options)}")

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()


def test_follow():
    """Who comes and goes and why, and who changes what, as it happens."""
    with Server() as server, Follower(server, "--json") as lines, Follower(server) as text:
        server.client()
        connected = json.loads(lines.wait_line('"connected"').string)
        assert connected["client"] == "client0" and connected["peer"].startswith("127.0.0.1:")
        assert connected["id"] == server.connections()[0]["id"]
        server.ctl("set", "quic.idle_timeout_secs", "31")
        setting = json.loads(lines.wait_line('"setting_changed"').string)
        assert (setting["key"], setting["value"], setting["previous"]) == (
            "quic.idle_timeout_secs", "31", "30"), setting
        assert setting["by"] and "uid" in setting
        server.ctl("--yes", "kick", connected["id"])
        gone = json.loads(lines.wait_line('"disconnected"').string)
        assert gone["id"] == connected["id"] and "administrator" in gone["reason"], gone
        mark = lines.mark()
        lines.wait_line('"connected"', start=mark)
        server.ctl("--yes", "client", "revoke", "client0")
        change = json.loads(lines.wait_line('"client_revoke"').string)
        assert change["client"] == "client0" and change["by"], change
        revoked = json.loads(lines.wait_line('"disconnected".*revoked', start=mark).string)
        assert revoked["client"] == "client0", revoked
        interop(server.enrol("known"), identity="random", streams=[], wait_close_ms=1000)
        refused = json.loads(lines.wait_line('"refused".*unknown').string)
        assert refused["peer"].startswith("127.0.0.1:"), refused
        text.wait_line(r"setting_changed\s+key=quic.idle_timeout_secs value=31 previous=30")
        numbers = [json.loads(line)["number"] for line in lines.text().splitlines()]
        assert numbers == sorted(set(numbers)), numbers
        server.ctl("--yes", "drain")
        lines.wait_line('"draining"')
    assert not lines.alive()


def ask(server, **args):
    """A request on a connection of its own, which stays open."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(server.socket)
    sock.sendall(json.dumps({"verb": "events", "args": args}).encode() + b"\n")
    return sock


def test_bounds():
    """The ring keeps the last thousand, says what it has lost, and so many may wait."""
    with Server() as server:
        for number in range(1, 1100, 100):
            words = []
            for step in range(100):
                words = ["quic.max_connections", str(1000 + number + step)]
                with ask_set(server, *words) as sock:
                    read_line(sock)
        with ask(server, after=1) as sock:
            answer = json.loads(read_line(sock))["result"]
        assert len(answer["events"]) == 1000 and answer["missed"] > 90, answer["missed"]
        assert answer["events"][-1]["number"] == answer["last"]
        waiting = [ask(server, after=answer["last"], wait=True) for _ in range(16)]
        with ask(server, after=answer["last"], wait=True) as one_more:
            assert "busy" in read_line(one_more)
        server.ctl("set", "logging.level", "debug")
        for sock in waiting:
            got = json.loads(read_line(sock))["result"]["events"]
            assert [row["key"] for row in got] == ["logging.level"], got
            sock.close()


def test_departed_readers():
    """Whoever leaves gives its place back at once; who shut down its own side still hears."""
    with Server() as server:
        with ask(server, after=0) as sock:
            last = json.loads(read_line(sock))["result"]["last"]
        for _ in range(3):
            waiting = [ask(server, after=last, wait=True) for _ in range(16)]
            with ask(server, after=last, wait=True) as one_more:
                assert "busy" in read_line(one_more)
            for sock in waiting:
                sock.close()

            def place():
                sock = ask(server, after=last, wait=True)
                sock.settimeout(0.3)
                try:
                    return None if sock.recv(1 << 16) else sock
                except TimeoutError:
                    return sock
            wait_until(place, timeout=3, what="a place").close()
        with ask(server, after=last, wait=True) as half, ask(server, after=last, wait=True) as more:
            half.shutdown(socket.SHUT_WR)
            more.sendall(b'{"verb": "version"}\n')  # before its answer
            server.ctl("set", "logging.level", "debug")
            assert "logging.level" in read_line(half)
            lines = read_line(more)
            while lines.count("\n") < 2:
                lines += read_line(more)
            assert "logging.level" in lines and "version" in lines.splitlines()[1], lines


def ask_set(server, key, value):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(server.socket)
    sock.sendall(json.dumps({"verb": "set", "args": {"values": {key: value}}}).encode() + b"\n")
    return sock


def read_line(sock):
    data = b""
    while not data.endswith(b"\n"):
        part = sock.recv(1 << 16)
        assert part, "the daemon closed the connection"
        data += part
    return data.decode()


def test_connections():
    """By client, in an order, and so many."""
    with Server() as server:
        clients = [server.client() for _ in range(3)]
        with Trickle([clients[1]], 6), TcpTarget(lambda sock, _: None):
            wait_until(lambda: len(server.connections()) == 3, what="three connections")

            def listed(*options):
                return [c["client"] for c in server.json("connections", *options)["connections"]]

            assert listed("--client", "client2") == ["client2"]
            assert listed("--client", "nobody") == []
            assert listed("--sort", "client") == ["client0", "client1", "client2"]
            assert listed("--sort", "bytes_sent", "--limit", "1") == ["client1"]
            assert listed("--sort", "streams")[0] == "client1"
            assert server.json("connections", "--limit", "1")["total"] == 3
            done = server.ctl("connections", "--sort", "colour", check=False)
            assert done.returncode == 1 and "bytes_sent" in done.stderr, done
            assert server.ctl("connections", "--limit", "0", check=False).returncode == 2
        assert len(events(server, "connected")) == 3
