"""The worked example of docs/operations.md: a failed connect, from the metric to the log line, by its
trace id, on both ends. The replacements stand in the document itself."""

import json
import os
import re
import socket

import socks
from harness import ROOT, Process, Server, need, program, run, wait_until
from test_howto import blocks, read, replacements, statements

DOCUMENT = os.path.join(ROOT, "docs", "operations.md")
FAILURES = r'mytunnel_connect_failures_total\{reason="refused"\} (\d+)'


class Machine:
    """Where the commands run, with what the table replaces."""

    def __init__(self, server, values):
        self.server = server
        self.values = values
        self.rows = dict(replacements(read(DOCUMENT)))
        self.used = set()
        self.bin = os.path.join(server.folder, "bin")
        os.mkdir(self.bin)
        for name, command in (("mytunnelctl", f'exec "{program("mytunnelctl")}" "$@"'),
                              ("mytunnel", f'exec "{program("mytunnel")}" "$@"'),
                              ("sudo", 'exec env "$@"')):
            path = os.path.join(self.bin, name)
            with open(path, "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\n{command}\n")
            os.chmod(path, 0o755)

    def shell(self, command):
        pattern = "|".join(re.escape(old) for old, _ in replacements(read(DOCUMENT)))

        def put(match):
            self.used.add(match.group(0))
            return self.rows[match.group(0)].format(**self.values)

        return ["env", f"PATH={self.bin}:{os.environ['PATH']}",
                f"MYTUNNEL_SOCKET={self.server.socket}", "bash", "-euo", "pipefail", "-c",
                re.sub(pattern, put, command)]

    def run(self, command):
        done = run(self.shell(command), check=False)
        assert done.returncode == 0, f"{command}{done.stdout}{done.stderr}"
        return done.stdout


def follow(machine, count):
    """Runs the document; returns what the client, the metric and the server have said."""
    told, client = {"lines": []}, None
    for _, place, commands in blocks(read(DOCUMENT)):
        if place == "sh laptop background":
            client = Process(machine.shell("exec " + commands), machine.server.folder, "laptop")
            client.wait_line(r"(?<!dis)(?<!not )\bconnected\b")
            port = client.wait_line(r"socks 127\.0\.0\.1:(\d+)").group(1)
            machine.values["proxy"] = f"127.0.0.1:{port}"
            told["client"] = client
            continue
        for command in statements(commands):
            output = machine.run(command)
            if "metrics" in command:
                assert int(re.search(FAILURES, output).group(1)) == count, output
            elif "wiki" in command:
                assert "failed" in output
                line = client.wait_line(r"tunnel_failed trace=(([0-9a-f]{16})-\d+) .*reason=(.*)$")
                machine.values["trace"], machine.values["connection"], told["reason"] = \
                    line.groups()
                # The server's line may come a moment later.
                wait_until(lambda: machine.values["trace"] in machine.server.process.text(),
                           what="the server's line")
            elif "8f2c51d00b7e93a4" in command:
                told["lines"].append([json.loads(line) for line in output.splitlines()])
    return told


def test_operations():
    """Every command of docs/operations.md does what the text says."""
    need("curl")
    with socket.socket() as closed, Server() as server:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        first = server.client()
        for _ in range(3):
            try:
                socks.connect(first.port, "127.0.0.1", port).close()
            except socks.SocksError:
                continue
            raise AssertionError("the port does not refuse")
        machine = Machine(server, {
            "profile": server.enrol("laptop"), "metrics": server.status()["http"]["address"],
            "closed": f"127.0.0.1:{port}", "log": server.process.log})
        told = follow(machine, 3)
        try:
            tunnel, connection = told["lines"]
            assert len(tunnel) == 1 and tunnel[0]["event"] == "tunnel_failed", tunnel
            assert tunnel[0]["reason"] == "refused" and "connection refused" in told["reason"]
            assert tunnel[0]["client"] == "laptop"
            assert tunnel[0]["target"] == f"127.0.0.1:{port}"
            assert {line["event"] for line in connection} == {"connected", "tunnel_failed"}
            assert next(l for l in connection if l["event"] == "connected")["peer"]
            assert re.search(FAILURES, server.http("/metrics")).group(1) == "4"
        finally:
            told["client"].stop(expected=None)
        assert machine.used == set(machine.rows), set(machine.rows) - machine.used
