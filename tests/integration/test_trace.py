"""`mytunnelctl trace`: the qlog of one client's connections, where the library's is safe."""

import json
import os
import signal
import stat

from harness import Process, Server, Skip, program, wait_until
from load import Trickle

SAFE = (1, 22, 1)


def answer(server, *words, status=0):
    done = server.ctl(*words, check=False)
    assert done.returncode == status, done
    return done


def refused(server, folder):
    """The library's version, when the daemon refuses for it; None where qlog is safe."""
    done = server.ctl("--json", "trace", "start", "nobody", "--qlog", folder, check=False)
    assert done.returncode == 1, done
    error = json.loads(done.stdout)["error"]
    if error["code"] == "not_found":
        return None
    assert error["code"] == "unsupported", error
    return error


def folder_for(server):
    folder = os.path.join(server.folder, "qlog")
    os.mkdir(folder)
    return folder


def test_gate():
    """An unsafe library's qlog is refused with the reason and what to do, and nothing is left."""
    with Server() as server:
        folder = folder_for(server)
        server.client()
        error = refused(server, folder)
        if error is not None:
            version = tuple(int(n) for n in error["message"].split("ngtcp2 ")[1]
                            .split(",")[0].split("."))
            assert version < SAFE, error
            assert "CVE-2026-40170" in error["message"], error
            assert "1.22.1" in error["next"], error
            done = answer(server, "trace", "start", "client0", "--qlog", folder, status=1)
            assert "CVE-2026-40170" in done.stderr and "next: install ngtcp2" in done.stderr
        assert os.listdir(folder) == []
        assert server.json("trace", "list")["traces"] == []
        assert "no client is traced" in answer(server, "trace", "stop", status=1).stderr
        assert "not traced" in answer(server, "trace", "stop", "client0", status=1).stderr


def test_usage():
    with Server() as server:
        folder = folder_for(server)
        for words in (["client0"], ["--qlog", folder], ["client0", "--qlog"],
                      ["client0", "--qlog", folder, "--for", "never"],
                      ["client0", "--qlog", folder, "--max-size", "0"],
                      ["client0", "more", "--qlog", folder],
                      ["client0", "--quic", folder]):
            answer(server, "trace", "start", *words, status=2)
        done = answer(server, "trace", "start", "client0", "--qlog", folder + "/none", status=1)
        assert "nothing is traced" in done.stderr, done


class Tracer:
    """`mytunnelctl --json trace start`, in the foreground as it is meant to be."""

    def __init__(self, server, folder, *options, client="client0"):
        self.process = Process(
            [program("mytunnelctl"), "--json", "--socket", server.socket, "trace", "start",
             client, "--qlog", folder, *options], server.folder, f"trace-{len(options)}")
        self.process.wait_line("tracing new connections of " + client)

    def result(self):
        assert self.process.wait() == 0, self.process.text()  # with all that it has printed
        text = self.process.text()
        return json.loads(text[text.index("{"):text.rindex("}") + 1])


def reconnect(server, *clients):
    """Their new connections, once all are back."""
    before = {c["trace"] for c in server.connections()}
    for client in clients:
        server.ctl("--yes", "client", "kick", client)

    def again():
        new = [c for c in server.connections() if c["trace"] not in before]
        return new if len(new) == len(clients) else None

    return wait_until(again, what="the clients again")


def check_file(path):
    """JSON text sequences, from the first packet on; returns the names of the events."""
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path, encoding="utf-8") as file:
        records = [json.loads(part) for part in file.read().split("\x1e") if part]
    assert "qlog_format" in records[0], records[0]
    return [record["name"] for record in records[1:]]


def test_trace():
    """One client's connections, from their first packet to their end, and nobody else's."""
    with Server() as server:
        folder = folder_for(server)
        if refused(server, folder) is not None:
            raise Skip("the qlog of this ngtcp2 is not safe")
        clients = [server.client(), server.client()]
        wait_until(lambda: len(server.connections()) == 2, what="both clients")
        trace = Tracer(server, folder)
        trace.process.wait_line("1 of its connections are open already")
        assert [t["client"] for t in server.json("trace", "list")["traces"]] == ["client0"]
        done = answer(server, "trace", "start", "client0", "--qlog", folder, status=1)
        assert "traced already" in done.stderr
        back = reconnect(server, "client0", "client1")
        traced = next(c["trace"] for c in back if c["client"] == "client0")
        with Trickle(clients, 4):
            path = os.path.join(folder, traced + ".sqlog")
            wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 20000,
                       what="a file")
        server.ctl("--yes", "client", "kick", "client0")
        wait_until(lambda: len(os.listdir(folder)) == 2, what="the next connection's file")
        answer(server, "trace", "stop", "client0")
        result = trace.result()
        assert result["reason"] == "it was stopped" and result["lost"] == 0, result
        assert sorted(result["files"]) == sorted(os.listdir(folder)), result
        assert result["bytes"] == sum(
            os.path.getsize(os.path.join(folder, name)) for name in result["files"])
        names = check_file(path)
        assert "transport:packet_received" in names and "transport:packet_sent" in names, names
        # What goes on is not written any more, and costs nothing.
        assert server.json("trace", "list")["traces"] == []
        with Trickle(clients, 2):
            pass
        assert len(server.connections()) == 2


def test_ends():
    """By a signal, by time, by size."""
    with Server() as server:
        folder = folder_for(server)
        if refused(server, folder) is not None:
            raise Skip("the qlog of this ngtcp2 is not safe")
        client = server.client()
        trace = Tracer(server, folder)
        trace.process.signal(signal.SIGINT)
        result = trace.result()
        assert result["reason"] == "interrupted" and result["files"] == [], result
        assert "time is over" in Tracer(server, folder, "--for", "1s").result()["reason"]
        trace = Tracer(server, folder, "--max-size", "16Ki")
        reconnect(server, "client0")
        with Trickle([client], 4):
            result = trace.result()
        assert "--max-size" in result["reason"], result
        assert 8192 < result["bytes"] <= 16384 and len(result["files"]) == 1, result
        check_file(os.path.join(folder, result["files"][0]))
        assert server.json("trace", "list")["traces"] == []
