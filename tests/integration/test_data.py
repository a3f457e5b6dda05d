"""The appliance's data and those who look after it: backup, restore, audit trail, rights, doctor,
top, completion."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import subprocess
import termios
import time

import socks
from harness import (ROOT, SLOW, TIMEOUT, Server, Skip, environment, free_port, need, program, run,
                     wait_until)
from targets import TcpTarget, echo, receive_exactly

KEY = "quic.max_streams_per_conn"


def names(server):
    return {c["name"] for c in server.json("client", "list")["clients"]}


def test_backup_and_restore():
    """A backup of the running server comes back in force at once; live tunnels of clients that are
    in both go on, those of others end."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()
        server.ctl("set", KEY, "50")
        file = os.path.join(server.folder, "one.backup")
        server.ctl("backup", file)
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        again = server.ctl("backup", file, check=False)
        assert again.returncode == 1 and "exists" in again.stderr, again
        server.ctl("set", KEY, "60")
        later = server.client(server.enrol("later"))
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            refused = server.ctl("restore", file, check=False)
            assert refused.returncode == 1 and "--yes" in refused.stderr, refused
            done = server.ctl("--yes", "restore", file)
            assert KEY in done.stdout, done.stdout
            assert server.ctl("get", KEY).stdout == "50\n"
            assert names(server) == {"client0"}
            sock.sendall(b"still")
            assert receive_exactly(sock, 5) == b"still"
        assert later.process.wait() != 0, "a client that is not in the backup ends"
        server.process.kill()
        server.start()
        assert server.ctl("get", KEY).stdout == "50\n"
        assert names(server) == {"client0"}


def test_restore_moves_addresses():
    """Addresses, limits and rules of the backup are in force when restore answers."""
    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}"}) as server, \
            TcpTarget(echo) as target:
        first = server.address
        server.ctl("client", "add", "slow", "--max-connections", "3")
        file = os.path.join(server.folder, "b")
        server.ctl("backup", file)
        server.ctl("set", "server.bind_addr", f"127.0.0.1:{free_port()}",
                   "access.allow_private", "off")
        server.ctl("client", "set", "slow", "--max-connections", "5")
        assert server.address != first
        server.ctl("--yes", "restore", file)
        assert server.address == first, server.status()["listeners"]
        assert server.json("client", "show", "slow")["client"]["max_connections"] == 3
        client = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x")
            assert receive_exactly(sock, 1) == b"x"


def test_restore_fails_late():
    """A restore that fails when nearly all is done has changed nothing: traffic of live tunnels
    counts as before, a quota goes on where it was."""
    with socket.socket() as taken, Server() as server, TcpTarget(echo) as target:
        busy = server.status()["http"]["address"]
        server.ctl("set", "metrics.bind_addr", busy)
        file = os.path.join(server.folder, "b")
        server.ctl("backup", file)
        server.ctl("set", "metrics.bind_addr", "127.0.0.1:0")
        client = server.client(server.enrol("ann"))
        server.ctl("client", "set", "ann", "--quota", "100K")

        def used():
            row = server.json("client", "show", "ann")["client"]
            assert row["connections"] == 1, row
            return row["bytes_received"], row["period_bytes"]

        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x" * 10000)
            assert receive_exactly(sock, 10000) == b"x" * 10000
            wait_until(lambda: used() == (10000, 20000), what="the count")
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", int(busy.rsplit(":", 1)[1])))
            taken.listen()  # the backup's address cannot be had any more
            done = server.ctl("--yes", "restore", file, check=False)
            assert done.returncode == 1 and busy in done.stderr, done
            assert "nothing was changed" in done.stderr, done
            assert used() == (10000, 20000), used()
            sock.sendall(b"y" * 10000)
            assert receive_exactly(sock, 10000) == b"y" * 10000
            wait_until(lambda: used() == (20000, 40000), what="the traffic after it")


def test_restore_keeps_totals():
    """What was counted since the backup stays counted, also when the daemon dies right after."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client(server.enrol("ann"))
        file = os.path.join(server.folder, "b")
        server.ctl("backup", file)
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x" * 50000)
            assert receive_exactly(sock, 50000) == b"x" * 50000
        wait_until(lambda: server.json("client", "show", "ann")["client"]["bytes_sent"] == 50000,
                   what="the count")
        server.ctl("--yes", "restore", file)
        server.process.kill()
        server.start()
        row = server.json("client", "show", "ann")["client"]
        assert (row["bytes_received"], row["bytes_sent"]) == (50000, 50000), row


def test_restore_refuses():
    """What is no sound backup is refused with the reason, and nothing has changed."""
    with Server() as server:
        server.enrol("keep")
        server.ctl("set", KEY, "60")
        good = os.path.join(server.folder, "good.backup")
        server.ctl("backup", good)
        with open(good, "rb") as file:
            image = file.read()
        newer = bytearray(image)
        newer[63] = 200
        foreign = bytearray(image)
        foreign[68] ^= 0xff
        torn = bytearray(image)
        torn[4096:4096 + 512] = b"\xa5" * 512
        blank = os.path.join(server.folder, "blank.db")
        with contextlib.closing(sqlite3.connect(blank)) as database:
            database.execute("VACUUM")
        pinless = os.path.join(server.folder, "pinless.db")
        shutil.copy(good, pinless)
        with contextlib.closing(sqlite3.connect(pinless)) as database:
            database.execute("DELETE FROM certificate WHERE kind = 'ca'")
            database.commit()
        limitless = os.path.join(server.folder, "limitless.db")
        shutil.copy(good, limitless)
        with contextlib.closing(sqlite3.connect(limitless)) as database:
            database.execute("UPDATE client SET rate_bits = 'fast'")
            database.commit()
        bad = {"blank": open(blank, "rb").read(), "pinless": open(pinless, "rb").read(),
               "limitless": open(limitless, "rb").read(),
               "empty": b"", "text": b"hello\n" * 1000, "cut": image[:len(image) // 2],
               "newer": newer, "foreign": foreign, "torn": torn}
        for name, data in bad.items():
            path = os.path.join(server.folder, name)
            with open(path, "wb") as file:
                file.write(data)
            done = server.ctl("--yes", "restore", path, check=False)
            assert done.returncode == 1, (name, done)
            assert "nothing was changed" in done.stderr, (name, done.stderr)
            assert server.ctl("get", KEY).stdout == "60\n", name
            assert names(server) == {"keep"}, name
        done = server.ctl("--yes", "restore", os.path.join(server.folder, "none"), check=False)
        assert done.returncode == 1 and "none" in done.stderr, done
        assert not os.path.exists(os.path.join(server.state, "restore"))


def test_damaged_limit():
    """A client's limit that cannot be read stops the start: it is not taken for none."""
    server = Server()
    with server:
        server.enrol("ann")
        server.ctl("client", "set", "ann", "--rate", "1M")
        server.process.stop()
        path = os.path.join(server.state, "mytunnel.db")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE client SET rate_bits = -1000000")
            database.commit()
        done = run([program("mytunneld"), "--state-dir", server.state, "--runtime-dir",
                    server.runtime], check=False)
        assert done.returncode == 78, done
        for word in (path, "ann", "rate_bits", "put a backup in its place"):
            assert word in done.stderr, (word, done.stderr)


def test_audit_trail():
    """Who changed what, with old and new values, and no secrets; refusals and reading leave no
    trace, a restore does not rewrite it."""
    with Server() as server:
        profile = server.enrol("ann")
        server.ctl("set", KEY, "50", "logging.level", "debug")
        server.ctl("set", KEY, "999999999", check=False)
        server.ctl("get")
        file = os.path.join(server.folder, "b")
        server.ctl("backup", file)
        server.ctl("client", "disable", "ann")
        server.ctl("--yes", "restore", file)
        first, *entries = server.json("audit")["entries"]
        assert first["verb"] == "mytunneld --set", first
        assert first["detail"]["changes"]["access.allow_private"] == ["off", "on"], first
        verbs = [e["verb"] for e in entries]
        assert verbs == ["client.add", "set", "backup", "client.disable", "restore"], verbs
        change = entries[1]
        assert change["uid"] == os.getuid() and change["pid"] > 0, change
        assert abs(change["at"] - time.time()) < 60 * SLOW, change
        assert change["detail"]["changes"] == {KEY: ["100", "50"],
                                               "logging.level": ["info", "debug"]}, change
        assert entries[3]["detail"]["changes"]["disabled"] == [False, True], entries[3]
        text = server.ctl("audit").stdout
        assert f"{KEY}: 100 -> 50" in text, text
        with open(profile, encoding="ascii") as uri:
            secret = re.search(r"//([^@]+)@", uri.read()).group(1)
        assert secret not in json.dumps(entries)
        assert len(server.json("audit", "--limit", "2")["entries"]) == 2
        assert server.ctl("audit", "--limit", "0", check=False).returncode == 2


def ask_as(uid, gids, path, verb, args=None):
    """One request over the control socket by a process of another user."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = b""
        with contextlib.suppress(BaseException):
            os.setgroups(gids[1:])
            os.setgid(gids[0])
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(path)
                with contextlib.suppress(OSError):  # turned away already, with an answer
                    sock.sendall(json.dumps({"verb": verb, "args": args or {}}).encode() + b"\n")
                while not answer.endswith(b"\n"):
                    data = sock.recv(65536)
                    if not data:
                        break
                    answer += data
        os.write(write_end, answer or b"{}")
        os._exit(0)
    os.close(write_end)
    text = b""
    while data := os.read(read_end, 65536):
        text += data
    os.close(read_end)
    os.waitpid(pid, 0)
    return json.loads(text)


def test_rights():
    """A user outside of both groups is refused everything, a reader every verb that changes
    something, a member of the group mytunnel nothing. With real users."""
    if os.getuid() != 0:
        raise Skip("only root can become other users")
    stranger, reader, admin = 65534, 64001, 64002
    read_group, admin_group = 64011, 64012
    # The daemon sees groups of its own, wherever this runs.
    script = ("mount --make-rprivate / && mount --bind \"$0\" /etc/group && shift 0 && "
              "exec \"$@\"")
    server = Server()
    groups = os.path.join(server.folder, "group")
    with open("/etc/group", encoding="utf-8") as file:
        lines = [l for l in file if not l.startswith(("mytunnel:", "mytunnel-read:"))]
    with open(groups, "w", encoding="utf-8") as file:
        file.writelines(lines)
        file.write(f"mytunnel:x:{admin_group}:\nmytunnel-read:x:{read_group}:\n")
    os.chmod(groups, 0o644)
    os.chmod(server.folder, 0o755)
    prefix = ["unshare", "--mount", "sh", "-c", script, groups]
    if run([*prefix, "true"], check=False).returncode != 0:
        shutil.rmtree(server.folder)
        raise Skip("no mount namespace for the daemon's groups")
    server.prefix = prefix
    changing = {"set": {"values": {KEY: "50"}}, "reset": {"keys": [KEY]},
                "client.add": {"name": "evil"}, "client.revoke": {"name": "keep"},
                "client.remove": {"name": "keep"}, "kick": {"id": "0-1"}, "drain": {},
                "backup": {}, "restore.begin": {"bytes": 10}, "cert.import": {}}
    reading = ("status", "stats", "version", "connections", "get", "describe", "client.list",
               "cert.show", "audit", "doctor")
    with server:
        server.enrol("keep")
        for verb in (*reading, *changing):
            answer = ask_as(stranger, [65534], server.socket, verb, changing.get(verb))
            assert answer.get("ok") is False and answer["error"]["code"] == "denied", (verb, answer)
        for verb in reading:
            assert ask_as(reader, [64001, read_group], server.socket, verb)["ok"], verb
        for verb, args in changing.items():
            answer = ask_as(reader, [64001, read_group], server.socket, verb, args)
            assert answer.get("ok") is False and answer["error"]["code"] == "denied", (verb, answer)
            assert "nothing was changed" in answer["error"]["message"], answer
        assert server.ctl("get", KEY).stdout == "100\n"
        assert names(server) == {"keep"}
        assert server.status()["state"] == "running"
        answer = ask_as(admin, [64002, admin_group], server.socket, "set", changing["set"])
        assert answer["ok"], answer
        assert server.json("audit")["entries"][-1]["uid"] == admin
        server.prefix = ()


def test_doctor():
    """A verdict a line, the command for what is to be mended; useful without a daemon."""
    with Server() as server:
        server.enrol()
        checks = server.json("doctor")["checks"]
        found = {c["check"]: c for c in checks}
        for name in ("daemon", "listening", "http", "certificate", "database", "open files",
                     "udp buffers", "offload", "cpu", "memory", "kernel buffers", "kernel files",
                     "kernel pipes", "queueing", "kernel TLS"):
            assert name in found, (name, sorted(found))
        assert found["database"]["verdict"] == "ok", found
        assert server.address in found["listening"]["text"], found
        assert "server.bind_addr" in found["listening"]["text"], found
        for check in checks:
            assert check["verdict"] in ("ok", "info", "warn", "fail"), check
            assert check["next"] or check["verdict"] in ("ok", "info"), check
        server.ctl("set", "access.require_identity", "off")
        text = server.ctl("doctor").stdout
        assert "run: mytunnelctl set access.require_identity on" in text, text
    alone = run([program("mytunnelctl"), "--socket", "/nonexistent/control.sock", "doctor"],
                check=False)
    assert alone.returncode == 3, alone
    assert re.search(r"(?m)^fail +daemon .*\n +run: ", alone.stdout), alone.stdout
    assert "kernel buffers" in alone.stdout


def test_doctor_reports_what_is_too_small():
    """A daemon with few open files and a memory limit beyond the machine's: what it costs, and what
    mends it."""
    need("prlimit")
    with Server({"limits.max_memory_mb": "16777216"},
                prefix=["prlimit", "--nofile=300:300"]) as server:
        found = {c["check"]: c for c in server.json("doctor")["checks"]}
        assert found["open files"]["verdict"] == "warn", found["open files"]
        assert "at most 300 open files" in found["open files"]["text"], found["open files"]
        assert "LimitNOFILE=1048576" in found["open files"]["next"], found["open files"]
        memory = found["memory"]
        assert memory["verdict"] == "warn" and "16777216" in memory["text"], memory
        # Its advice helps.
        assert memory["next"].startswith("mytunnelctl set limits.max_memory_mb "), memory
        server.ctl(*memory["next"].split()[1:])
        found = {c["check"]: c for c in server.json("doctor")["checks"]}
        assert found["memory"]["verdict"] == "ok", found["memory"]


def test_doctor_reports_taken_port():
    """A port that another program has: named with its setting and the command."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Server({"server.bind_addr": address}) as server:
            done = server.ctl("doctor", check=False)
            assert done.returncode == 1, done
            assert re.search(rf"(?m)^fail +listening .*{address}.*\n +run: .*server\.bind_addr",
                             done.stdout), done.stdout


def test_client_doctor():
    """Each step of the way to the server, and what to do about the one that fails."""
    with Server() as server:
        profile = server.enrol()
        done = run([program("mytunnel"), "doctor", profile])
        for step in ("profile", "name", "handshake", "server", "identity", "round trip",
                     "datagrams", "path MTU"):
            assert re.search(rf"(?m)^ok +{step} ", done.stdout), (step, done.stdout)
        with open(profile, encoding="ascii") as file:
            uri = file.read()
        nowhere = server.write_profile("nowhere", re.sub(r"@[^?]*\?", "@no.invalid:443?", uri))
        done = run([program("mytunnel"), "doctor", nowhere], check=False)
        assert done.returncode == 1 and re.search(r"(?m)^fail +name .*\n +next: ", done.stdout)
        other = server.write_profile(
            "other", re.sub(r"pin=[\w-]{43}", "pin=" + "A" * 43, uri))
        done = run([program("mytunnel"), "doctor", other], check=False)
        assert done.returncode == 1 and re.search(r"(?m)^fail +server .*pin", done.stdout), done
        server.ctl("--yes", "client", "revoke", "laptop")
        done = run([program("mytunnel"), "doctor", profile], check=False)
        assert done.returncode == 1 and re.search(r"(?m)^fail +identity .*revoked", done.stdout)


class Terminal:
    """A program in a terminal of its own, of some size."""

    def __init__(self, args, lines, columns):
        try:
            self.master, slave = pty.openpty()
        except OSError as error:
            raise Skip(f"no terminals here: {error}") from None
        self.resize(lines, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            args, stdin=slave, stdout=slave, stderr=slave, env=environment(),
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.text = b""

    def resize(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds=0.1):
        while select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 65536)
            if not data:
                break
            self.text += data
        return self.text

    def wait(self, pattern, start=0):
        wait_until(lambda: re.search(pattern, self.read()[start:]), what=f"{pattern!r} on the screen")

    def send(self, keys):
        os.write(self.master, keys)

    def end(self):
        status = self.process.wait(TIMEOUT)
        self.read()
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def last_frame(text):
    """The lines of the last complete picture, without its styles."""
    frame = text.split(b"\x1b[H")[-2]
    return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", frame).decode().split("\r\n")


def test_doctor_in_a_terminal():
    """Words are not cut at the end of a line."""
    with Server({"server.public_addr": "a" * 60 + ".example.org:443"}) as server:
        shown = Terminal([program("mytunnelctl"), "--socket", server.socket, "doctor"], 24, 64)
        shown.wait(rb"checks, \d+ to mend")
        shown.close()
        lines = re.sub(r"\x1b\[\d*m", "", shown.text.decode()).splitlines()
        for check in server.json("doctor")["checks"]:
            for word in check["text"].split():
                if len(word) <= 64 - 22 and not any(c.isdigit() for c in word):
                    assert any(word in line for line in lines), (word, lines)
        assert all(len(line) <= 64 for line in lines
                   if "run: " not in line and max(map(len, line.split() or [""])) < 42), lines


def test_top():
    """Fits 80 by 24, follows a new size, sorts, and puts the terminal back however it ends."""
    with Server() as server:
        server.client()
        for ending in ("key", "SIGTERM", "SIGINT"):
            args = [program("mytunnelctl"), "--socket", server.socket, "top"]
            with contextlib.closing(Terminal(args, 24, 80)) as screen:
                screen.wait(rb"client0")
                screen.send(b"rr")  # drawn again for each key
                screen.wait(rb"(?s)\x1b\[H.*\x1b\[H.*\x1b\[H")
                lines = last_frame(screen.text)
                assert len(lines) == 24 and max(map(len, lines)) <= 80, lines
                assert any("client0" in line for line in lines), lines
                screen.send(b"c")
                screen.wait(rb"PEER")
                if ending == "key":
                    mark = len(screen.text)
                    screen.resize(10, 60)
                    screen.wait(rb"(?s)\x1b\[H.*\x1b\[H.*\x1b\[H", mark)
                    lines = last_frame(screen.text)
                    assert len(lines) == 10 and max(map(len, lines)) <= 60, lines
                assert termios.tcgetattr(screen.slave)[3] & termios.ECHO == 0
                if ending == "key":
                    screen.send(b"q")
                else:
                    screen.process.send_signal(getattr(signal, ending))
                assert screen.end() == 0
                assert screen.text.endswith(b"\x1b[?7h\x1b[?25h\x1b[?1049l"), screen.text[-80:]
                assert termios.tcgetattr(screen.slave) == screen.before
        assert server.ctl("top", check=False).returncode == 2, "no terminal, no top"


def test_top_survives_a_restart():
    """While the daemon is away the picture says so; it goes on when it is back."""
    with Server() as server:
        args = [program("mytunnelctl"), "--socket", server.socket, "top"]
        with contextlib.closing(Terminal(args, 24, 80)) as screen:
            screen.wait(rb"q quit")
            server.process.stop()
            screen.wait(rb"cannot reach the daemon")
            server.start()
            mark = len(screen.read())
            screen.wait(rb"q quit", mark)
            screen.send(b"q")
            assert screen.end() == 0


def complete(server, line):
    """What bash offers behind a line."""
    script = os.path.join(ROOT, "completions", "mytunnelctl")
    words = line.split(" ")
    quoted = " ".join(f"'{w}'" for w in words)
    done = run(["bash", "-c", f"source {script}; COMP_WORDS=({quoted}); "
                f"COMP_CWORD={len(words) - 1}; _mytunnelctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""],
               env={**environment(), "MYTUNNEL_SOCKET": server.socket,
                    "PATH": os.path.dirname(program("mytunnelctl")) + ":" + os.environ["PATH"]})
    return set(done.stdout.split())


def test_completion():
    """Verbs, live keys, values, names and ids."""
    with Server() as server:
        server.client()
        assert {"status", "doctor", "client", "backup"} <= complete(server, "mytunnelctl ")
        assert complete(server, "mytunnelctl doc") == {"doctor"}
        assert {"add", "list", "revoke"} <= complete(server, "mytunnelctl client ")
        assert complete(server, "mytunnelctl client revoke ") == {"client0"}
        assert KEY in complete(server, "mytunnelctl set quic.")
        assert {"bbr", "cubic"} <= complete(server, "mytunnelctl set quic.congestion_control ")
        assert complete(server, "mytunnelctl --json kick ") == {server.connections()[0]["id"]}


def test_manual_names_every_verb():
    """The manual page of mytunnelctl has each verb of its --help, that of mytunneld each setting."""
    with open(os.path.join(ROOT, "ctl", "mytunnelctl.8"), encoding="utf-8") as file:
        page = file.read().replace("\\-", "-")
    summary = run([program("mytunnelctl"), "--help"]).stdout
    summary = summary[:summary.index("\n  --socket")]
    verbs = re.findall(r"(?m)^  ([a-z]+(?: [a-z]+(?= |$))?)", summary)
    assert len(verbs) > 20, verbs
    missing = [verb for verb in verbs if not re.search(
        rf'(?m)^\.BR? "?{re.escape(verb)}("| |$)', page)]
    assert not missing, missing
