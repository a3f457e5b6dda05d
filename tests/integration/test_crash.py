"""Nothing that was acknowledged is lost: kill -9 at random instants, a full disk, a database that
cannot be written. MYTUNNEL_CRASH_ROUNDS says how often the daemon is killed (make test-crash)."""

import contextlib
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, Skip, environment, free_port, program, run
from targets import TcpTarget, echo, receive_exactly

ROUNDS = int(os.environ.get("MYTUNNEL_CRASH_ROUNDS") or (10 if SANITIZE else 40))
KEY = "quic.max_streams_per_conn"


def call(path, verb, args, timeout=TIMEOUT):
    """One request over the control socket; the result, or None when it was not acknowledged."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(path)
            sock.sendall(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = sock.recv(65536)
                if not data:
                    return None
                answer += data
    except OSError:
        return None
    answer = json.loads(answer)
    return answer["result"] if answer["ok"] else None


class Changes:
    """Changes without a pause until the daemon is gone; remembers what was acknowledged."""

    def __init__(self, server, names):
        self.server = server
        self.names = names  # of clients, acknowledged
        self.value = None
        self.maybe = None  # asked for when the end came
        self.count = 0
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self):
        while True:
            value = str(random.randint(20, 60000))
            self.maybe = value
            if call(self.server.socket, "set", {"values": {KEY: value}}) is None:
                return
            self.value, self.maybe = value, None
            name = f"c{len(self.names)}-{random.getrandbits(32):x}"
            if call(self.server.socket, "client.add", {"name": name}) is None:
                return
            self.names.append(name)
            self.count += 1


def integrity(server):
    """Of copies of the files, so that the daemon's own recovery is still to come."""
    with tempfile.TemporaryDirectory() as folder:
        for name in os.listdir(server.state):
            if name.startswith("mytunnel.db"):
                shutil.copy(os.path.join(server.state, name), folder)
        with contextlib.closing(
                sqlite3.connect(os.path.join(folder, "mytunnel.db"))) as database:
            rows = database.execute("PRAGMA integrity_check").fetchall()
            assert rows == [("ok",)], rows
            used = database.execute(
                "SELECT coalesce(sum(bytes_received + bytes_sent), 0) FROM client_usage"
            ).fetchone()[0]
            return used


def test_killed_at_random():
    """kill -9 during settings, enrolments and accounting, again and again: every acknowledged change
    is there, traffic is never counted twice, the database is intact."""
    random.seed(os.environ.get("MYTUNNEL_SEED") or time.time_ns())
    names = []
    acknowledged = 0
    poured = [0]
    stop = threading.Event()

    def pour(sock, _):
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sock.sendall(bytes(1 << 14))
                poured[0] += 1 << 14
                time.sleep(0.005)  # so that the two cores are left to others

    def draw(client, port):
        while not stop.is_set():
            with contextlib.suppress(OSError, socks.SocksError, AssertionError):
                with socks.connect(client.port, "127.0.0.1", port, timeout=1) as sock:
                    sock.settimeout(1)
                    while not stop.is_set() and sock.recv(1 << 16):
                        pass
            stop.wait(0.05)

    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, \
            TcpTarget(pour) as source:
        client = server.client()
        names.append("client0")
        traffic = threading.Thread(target=draw, args=(client, source.port), daemon=True)
        traffic.start()
        used = 0
        for number in range(ROUNDS):
            changes = Changes(server, names)
            changes.thread.start()
            time.sleep(random.uniform(0, 0.25) * SLOW)  # the random instant
            server.process.kill()
            changes.thread.join(TIMEOUT)
            assert not changes.thread.is_alive()
            acknowledged += changes.count
            before, used = used, integrity(server)
            assert before <= used <= poured[0] + (1 << 20), (number, before, used, poured[0])
            server.start()
            value = server.ctl("get", KEY).stdout.strip()
            allowed = {changes.value, changes.maybe} if changes.value else {value}
            assert value in allowed, (number, value, allowed)
            there = {c["name"] for c in server.json("client", "list")["clients"]}
            lost = [name for name in names if name not in there]
            assert not lost, (number, lost)
        assert acknowledged > ROUNDS / 2, f"only {acknowledged} changes were acknowledged"
        stop.set()
        traffic.join(10)


def test_killed_during_restore():
    """kill -9 in the midst of a restore: all of the old data or all of the backup's, never a mix."""
    random.seed(os.environ.get("MYTUNNEL_SEED") or time.time_ns())
    with Server() as server:
        for i in range(20):
            call(server.socket, "client.add", {"name": f"old{i}"})
        call(server.socket, "set", {"values": {KEY: "50"}})
        file = os.path.join(server.folder, "backup")
        server.ctl("backup", file)
        for number in range(5 if SANITIZE else 15):
            if server.ctl("get", KEY).stdout == "50\n":
                call(server.socket, "set", {"values": {KEY: "60"}})
                call(server.socket, "client.add", {"name": "new"})
            with open(os.devnull, "w", encoding="ascii") as null:
                restore = subprocess.Popen(
                    [program("mytunnelctl"), "--socket", server.socket, "--yes", "restore", file],
                    stdin=subprocess.DEVNULL, stdout=null, stderr=null, env=environment())
            time.sleep(random.uniform(0, 0.06) * SLOW)  # the random instant
            server.process.kill()
            acknowledged = restore.wait(TIMEOUT) == 0
            integrity(server)
            server.start()
            value = server.ctl("get", KEY).stdout.strip()
            there = {c["name"] for c in server.json("client", "list")["clients"]}
            assert value in ("50", "60"), (number, value)
            assert ("new" in there) == (value == "60"), (number, value, there)
            assert len(there - {"new"}) == 20, (number, there)
            assert value == "50" or not acknowledged, number
            assert not os.path.exists(os.path.join(server.state, "restore")), number


@contextlib.contextmanager
def small_file_system(size):
    """A folder with a file system of its own."""
    folder = tempfile.mkdtemp(prefix="mytunnel-small-")
    if run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder],
           check=False).returncode != 0:
        os.rmdir(folder)
        raise Skip("this user cannot mount a small file system")
    try:
        yield folder
    finally:
        run(["umount", "-l", folder], check=False)
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def test_full_disk():
    """The state folder's file system is full: the change is refused with the reason, tunnels go on,
    and with room again everything works."""
    with small_file_system("2m") as folder:
        server = Server()
        server.state = folder
        with server, TcpTarget(echo) as target:
            client = server.client()
            with socks.connect(client.port, "127.0.0.1", target.port) as sock:
                ballast = os.path.join(folder, "ballast")
                descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
                with contextlib.suppress(OSError):
                    while os.write(descriptor, bytes(4096)) == 4096:
                        pass
                os.close(descriptor)
                refused = None
                for i in range(200):
                    done = server.ctl("client", "add", f"x{i}", check=False)
                    if done.returncode != 0:
                        refused = done
                        break
                assert refused is not None, "a full disk takes every client"
                assert refused.returncode == 1, refused
                assert "room" in refused.stderr or "full" in refused.stderr, refused.stderr
                bad = server.ctl("set", KEY, "77", check=False)
                assert bad.returncode == 1 and "room" in bad.stderr, bad
                assert server.ctl("get", KEY).stdout == "100\n"
                assert "fail" in server.ctl("doctor", check=False).stdout
                sock.sendall(b"still")
                assert receive_exactly(sock, 5) == b"still"
                os.unlink(ballast)
                server.ctl("set", KEY, "78")
                assert server.ctl("get", KEY).stdout == "78\n"
            server.process.kill()
            server.start()
            assert server.ctl("get", KEY).stdout == "78\n"
            names = {c["name"] for c in server.json("client", "list")["clients"]}
            assert f"x{i}" not in names and "client0" in names, names


def test_read_only_database():
    """A file system that turns read-only: changes are refused with the reason, tunnels go on."""
    with small_file_system("8m") as folder:
        server = Server()
        server.state = folder
        with server, TcpTarget(echo) as target:
            client = server.client()
            with socks.connect(client.port, "127.0.0.1", target.port) as sock:
                # Open files stay writable, so the limit on a file's size stands in for it.
                done = run(["prlimit", "--pid", str(server.process.pid), "--fsize=0:unlimited"], check=False)
                if done.returncode != 0:
                    raise Skip("prlimit is not allowed")
                bad = server.ctl("set", KEY, "77", check=False)
                assert bad.returncode == 1 and "mytunnel.db" in bad.stderr, bad
                assert "nothing was changed" in bad.stderr, bad
                assert server.ctl("get", KEY).stdout == "100\n"
                add = server.ctl("client", "add", "late", check=False)
                assert add.returncode == 1 and add.stdout == "", add
                sock.sendall(b"still")
                assert receive_exactly(sock, 5) == b"still"
                run(["prlimit", "--pid", str(server.process.pid), "--fsize=unlimited:unlimited"])
                server.ctl("set", KEY, "79")
            server.process.kill()
            server.start()
            assert server.ctl("get", KEY).stdout == "79\n"
            server.process.stop()
            run(["mount", "-o", "remount,ro", folder])
            done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                        server.runtime], check=False)
            assert done.returncode in (1, 78) and folder in done.stderr, done
            run(["mount", "-o", "remount,rw", folder])
            server.start()
            assert server.ctl("get", KEY).stdout == "79\n"
