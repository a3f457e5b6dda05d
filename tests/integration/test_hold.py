"""Ten thousand connections at once: the memory that each needs, one client too many, and what is left
when all have gone. What it costs in time is printed, and limited generously: see tests/bench/hold.py."""

import os
import sys
import time

import harness
from harness import SANITIZE, Server, wait_until

sys.path.insert(0, os.path.join(harness.ROOT, "tests", "bench"))

import hold  # noqa: E402

COUNT = 500 if SANITIZE else 10000
IDLE_BYTES = 32 * 1024
USED_BYTES = 40 * 1024


def test_lines():
    """Those that come together are told one by one; who says nothing, or half a line, is not waited for
    for ever; what is cut off by the end is no line."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as pipe:
        lines = hold.Lines(pipe, "the other end")
        with open(writer, "wb", buffering=0) as other:
            other.write(b"1\n22\n3")
            assert [lines.next(5), lines.next(5)] == ["1", "22"]
            try:
                raise AssertionError(f"got {lines.next(0.05)}")
            except AssertionError as error:
                assert "the other end said nothing" in str(error), error
            other.write(b"3\n4")
            assert lines.next(5) == "33"
        assert lines.next(5) is None


@harness.alone
def test_ten_thousand_connections():
    settings = {"quic.idle_timeout_secs": "120", "quic.max_connections": str(COUNT + 1)}
    with Server(settings) as server, hold.echo() as target:
        holder = hold.Holder(
            server, server.enrol("holder"), "--target", target, "--count", str(COUNT), "--settle", "1",
            "--keep-alive", "3", "--hold", "4", "--tunnels", "--wait", "--limit",
            str(300 * harness.SLOW), quiet=True)
        try:
            holder.until("wait")
            beside = hold.probe(server, server.enrol("probe"), target, 1, COUNT)
            assert beside["tunnels"] > 0, beside
            holder.go_on()
            holder.until("wait")
            client, full = hold.one_too_many(server, COUNT)
            assert len(server.connections()) == COUNT  # gathered in many pieces
            steps = holder.leave()
            client.wait_connected(60)
        finally:
            holder.kill()
        check(server, {step["step"]: step for step in steps + [beside]}, full)


def check(server, steps, full):
    assert steps["connect"]["connections"] == COUNT, steps["connect"]
    assert steps["leave"]["left"] == COUNT, steps["leave"]
    assert full["limit_hits"] > 0 and full["status"]["refused"] > 0, full
    hold_step = steps.get("hold")
    print(f"      {full['said']}")
    for name in ("connect", "hold", "tunnels", "probe", "leave"):
        print(f"      {steps.get(name)}")
    if SANITIZE:
        return  # memory is another matter there
    assert hold_step["cpu_us_per_keep_alive"] < 1000, hold_step
    assert steps["connect"]["rss_per_connection_bytes"] <= IDLE_BYTES, steps["connect"]
    assert steps["tunnels"]["rss_per_connection_bytes"] <= USED_BYTES, steps["tunnels"]
    start = steps["start"]["server_rss_kib"]
    most = start + (steps["tunnels"]["server_rss_kib"] - start) / 10
    begun = time.monotonic()
    wait_until(lambda: hold.resident_kib(server.process.pid) <= most, 60,
               what=f"at most {most:.0f} KiB in place of "
                    f"{hold.resident_kib(server.process.pid)} KiB when all have gone")
    print(f"      {hold.resident_kib(server.process.pid)} KiB after {time.monotonic() - begun:.0f} s,"
          f" {most:.0f} KiB allowed, {start} KiB at the start")


@harness.alone
def test_storm_and_walks():
    """Fifteen hundred clients at once all get in; lists give what is wanted of them; and one, those of
    a client and all of them are ended, in pieces."""
    count = 200 if SANITIZE else 1500
    settings = {"quic.idle_timeout_secs": "300", "server.workers": "2"}
    with Server(settings) as server:
        client = server.client()
        holder = hold.Holder(
            server, server.enrol("holder"), "--count", str(count), "--at-once", str(count), "--settle",
            "0", "--hold", "0", "--wait", "--limit", str(120 * harness.SLOW), quiet=True)
        try:
            holder.until("wait")
            assert holder.steps[-2]["connections"] == count, holder.steps
            some = server.json("connections", "--limit", "20")
            assert len(some["connections"]) == 20 and some["total"] == count + 1, some
            first = server.json("connections", "--sort", "connected_at", "--limit", "1")
            newest = max(c["connected_at"] for c in server.connections())
            assert [c["connected_at"] for c in first["connections"]] == [newest], first
            named = server.json("connections", "--client", "client0", "--limit", "5")["connections"]
            assert [c["client"] for c in named] == ["client0"], named
        finally:
            holder.kill()
        one = next(c["id"] for c in server.connections() if c["client"] == "holder")
        server.ctl("kick", one, "--yes")
        wait_until(lambda: one not in (c["id"] for c in server.connections()), what="its end")
        answer = server.json("client", "kick", "holder", "--yes")
        assert answer["connections"] == count - 1, answer
        wait_until(lambda: len(server.connections()) == 1, what="the end of all but one")
        assert client.process.alive()
