"""What the daemon guards: its control socket, its keys, its database."""

import contextlib
import ctypes
import json
import os
import random
import re
import select
import shutil
import socket
import sqlite3
import struct
import subprocess
import time

from harness import SANITIZE, SLOW, TIMEOUT, Server, Skip, environment, program, run, wait_until

IN_ATTRIB, IN_CREATE = 0x4, 0x100


def test_peer_that_never_reads():
    """A peer that sends requests and reads no answer is cut, while others are served."""
    with Server() as server, socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(TIMEOUT)
        deaf.connect(server.socket)
        deaf.setblocking(False)
        begin = time.monotonic()
        request = b'{"verb":"describe"}\n'
        cut = False
        while not cut and time.monotonic() - begin < 20 * SLOW:
            try:
                deaf.send(request * 100)
            except BlockingIOError:
                assert server.status()["pid"] == server.process.pid
                time.sleep(0.1)
            except OSError:
                cut = True
        assert cut, "it is never cut"
        assert time.monotonic() - begin > 3, "cut at once, not after its time"
        server.process.wait_line("control_peer_cut")


def test_no_moment_between_bind_and_chmod():
    """The control socket has its permissions from its first moment: nobody changes them later."""
    server = Server()
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert watch >= 0
    try:
        assert libc.inotify_add_watch(
            watch, server.runtime.encode(), IN_ATTRIB | IN_CREATE) >= 0
        with server:
            events = []
            while select.select([watch], [], [], 0.2)[0]:
                data = os.read(watch, 65536)
                while data:
                    _, mask, _, length = struct.unpack_from("iIII", data)
                    events.append((mask & 0xfff, data[16:16 + length].rstrip(b"\0")))
                    data = data[16 + length:]
            created = [name for mask, name in events if mask & IN_CREATE]
            assert b"control.sock" in created, events
            changed = [name for mask, name in events if mask & IN_ATTRIB]
            assert b"control.sock" not in changed, events
    finally:
        os.close(watch)


def test_runtime_folder_of_others():
    """A socket path that somebody else has put a file at is not served, nor removed."""
    server = Server()
    try:
        with open(server.socket, "w", encoding="ascii") as file:
            file.write("mine\n")
        done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                    server.runtime, "--set", "server.bind_addr=127.0.0.1:0"], check=False)
        assert done.returncode != 0 and server.socket in done.stderr, done
        with open(server.socket, encoding="ascii") as file:
            assert file.read() == "mine\n"
    finally:
        shutil.rmtree(server.folder)


def start_refused(server):
    done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                server.runtime], check=False)
    assert done.returncode == 78 and "mytunnel.db" in done.stderr, done
    return done.stderr


def test_open_permissions_stop_the_start():
    """A database that others can read: the start is refused with the command that mends it."""
    with Server() as server:
        server.process.stop()
        path = os.path.join(server.state, "mytunnel.db")
        os.chmod(path, 0o640)
        assert f"chmod 600 {path}" in start_refused(server)
        os.chmod(path, 0o600)
        os.chmod(server.state, 0o777)
        done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                    server.runtime], check=False)
        assert done.returncode == 78 and "chmod go-w" in done.stderr, done
        os.chmod(server.state, 0o700)
        server.start()


def test_corrupt_database():
    """Random damage: the daemon starts or refuses with the file's name and what to do; it never
    crashes, and what it refuses it leaves as it was."""
    random.seed(os.environ.get("MYTUNNEL_SEED") or 11)
    with Server() as server:
        for i in range(30):
            server.ctl("client", "add", f"c{i}")
        server.ctl("set", "logging.level", "debug")
        server.process.stop()
        path = os.path.join(server.state, "mytunnel.db")
        with open(path, "rb") as file:
            good = file.read()
        refused = 0
        for _ in range(8 if SANITIZE else 25):
            bad = bytearray(good)
            for _ in range(random.choice((1, 3, 20))):
                at = random.randrange(len(bad))
                length = random.choice((1, 4, 100))
                bad[at:at + length] = random.randbytes(len(bad[at:at + length]))
            for name in os.listdir(server.state):
                if name.startswith("mytunnel.db"):
                    os.unlink(os.path.join(server.state, name))
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(bad)
            process = subprocess.Popen(
                [program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                 server.runtime], env=environment(), stderr=subprocess.PIPE, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                def decided():
                    return process.poll() is not None or server.ctl(
                        "status", check=False).returncode == 0
                wait_until(decided, what="a start or a refusal")
                if process.poll() is None:
                    process.terminate()
                    assert process.wait(TIMEOUT) == 0
                    process.stderr.close()
                    continue
                message = process.stderr.read()
                process.stderr.close()
                assert process.returncode in (1, 78), (process.returncode, message)
                assert path in message or "certificate" in message, message
                with open(path, "rb") as file:
                    assert file.read() == bad, "a refused database was changed"
                refused += 1
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        assert refused > 0, "no damage was noticed"
        for name in os.listdir(server.state):
            if name.startswith("mytunnel.db-"):
                os.unlink(os.path.join(server.state, name))
        with open(path, "wb") as file:
            file.write(good)
        server.start()
        assert len(server.json("client", "list")["clients"]) == 30


def test_canaries():
    """Keys of the authority, of the server and of clients show up in no log, no answer, no list of
    processes; the audit trail and the events know of them nothing either."""
    with Server({"logging.level": "debug", "logging.access": "on"}) as server:
        profile = server.enrol()
        client = server.client(profile)
        server.ctl("backup", os.path.join(server.folder, "b"))
        server.ctl("--yes", "restore", os.path.join(server.folder, "b"))
        server.ctl("set", "logging.level", "info", "logging.format", "pretty")
        server.ctl("client", "set", "laptop", "--rate", "50M")
        places = {"daemon's log": server.process.text(), "client's log": client.process.text(),
                  "metrics": server.http("/metrics"), "http": server.http("/status")}
        for verb in (("status",), ("stats",), ("connections",), ("get",), ("describe",),
                     ("client", "list"), ("cert", "show"), ("audit",), ("doctor",), ("events",),
                     ("access", "list"), ("version",)):
            done = server.ctl("--json", *verb, check=False)
            places[" ".join(verb)] = done.stdout + done.stderr
        for pid in (server.process.pid, client.process.pid):
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                    places[f"{name} of {pid}"] = file.read()
        with open(profile, encoding="ascii") as file:
            canaries = [re.search(r"//([^@]+)@", file.read()).group(1)]
        server.process.stop()
        with contextlib.closing(
                sqlite3.connect(os.path.join(server.state, "mytunnel.db"))) as database:
            for (key,) in database.execute("SELECT key FROM certificate"):
                canaries += [line for line in key.splitlines() if len(line) > 40]
        assert len(canaries) >= 5, len(canaries)
        for place, text in places.items():
            for canary in canaries:
                assert canary not in text, f"a key shows up in: {place}"


def test_no_core_dumps():
    """The process cannot be dumped, nor read by others of its own user."""
    if os.getuid() != 0:
        raise Skip("only root can start it as another user")
    if SANITIZE:
        raise Skip("sanitized programs look at themselves")
    server = Server(prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    os.chmod(server.folder, 0o755)
    for folder in (server.state, server.runtime):
        os.chown(folder, 65534, 65534)
    with server:
        wait_until(lambda: server.json("status")["state"] == "running", what="the start")
        # The kernel gives the files of a process that may not be dumped to root.
        assert os.stat(f"/proc/{server.process.pid}/environ").st_uid == 0
        profile = json.loads(server.ctl("--json", "client", "add", "laptop").stdout)
        assert profile["uri"].startswith("mytunnel://")
        client = server.client(server.write_profile("laptop", profile["uri"]))
        with open(f"/proc/{client.process.pid}/limits", encoding="ascii") as file:
            assert re.search(r"(?m)^Max core file size +0 +0 ", file.read())
