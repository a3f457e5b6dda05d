"""Starts the real programs for the tests, and stops them whatever happens.

MYTUNNEL_BUILD names the folder with the programs (default: build), MYTUNNEL_SANITIZE what they were
built with, MYTUNNEL_FULL=1 asks for the full sizes. Every process listens on a port that the kernel
chose, lives in a temporary folder, and is ended by its own process id.
"""

import contextlib
import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("MYTUNNEL_BUILD") or "build")
INTEROP = os.path.join(ROOT, "build", "interop")
SANITIZE = os.environ.get("MYTUNNEL_SANITIZE", "")
FULL = os.environ.get("MYTUNNEL_FULL") == "1"
# Sanitized programs are several times slower, as are emulated machines (MYTUNNEL_SLOW); a limit that
# is generous either way.
SLOW = int(os.environ.get("MYTUNNEL_SLOW") or (5 if SANITIZE else 1))
TIMEOUT = 20 * SLOW

SANITIZER_REPORT = re.compile(
    r"(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed)"
)


# How clients reach the server, unless their test says so itself.
transport = "quic"


class Skip(Exception):
    """This machine cannot run the test; the reason is printed and counted."""


def alone(function):
    """Marks a test that measures time or needs the machine for itself: nothing runs beside it."""
    function.alone = True
    return function


def lengthy(function):
    """Marks a test that takes half a minute, mostly waiting: it begins before others."""
    function.lengthy = True
    return function


def load_module(name):
    """Loads a kernel module; outside of the tests' virtual machine its absence skips the test."""
    if os.path.exists(f"/sys/module/{name}"):
        return
    done = run(["modprobe", name], check=False) if shutil.which("modprobe") else None
    if done is None or done.returncode != 0:
        reason = f"the kernel has no module {name}: {done.stderr.strip() if done else 'no modprobe'}"
        if os.environ.get("MYTUNNEL_VM"):
            raise AssertionError(reason)
        raise Skip(reason)


def free_port():
    """A port on 127.0.0.1 for a server that needs the same one again: free for UDP and TCP, and not
    among those that the system gives to outgoing connections."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    for _ in range(1000):
        port = random.randrange(min(10000, first // 2), first)
        with contextlib.suppress(OSError), \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, \
                socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class Leftovers:
    """Output of programs, printed when a test fails."""

    def __init__(self):
        self.logs = []

    def add(self, title, path):
        self.logs.append((title, path))

    def print(self, out, lines=60):
        for title, path in self.logs:
            with contextlib.suppress(OSError):
                with open(path, encoding="utf-8", errors="replace") as file:
                    tail = file.read().splitlines()[-lines:]
                out.write(f"      --- {title}\n")
                out.writelines(f"      | {line}\n" for line in tail)


leftovers = Leftovers()


def program(name):
    return os.path.join(BUILD, name)


def environment():
    env = dict(os.environ)
    env["ASAN_OPTIONS"] = "detect_leaks=1:exitcode=99"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1:exitcode=99"
    env["TSAN_OPTIONS"] = "halt_on_error=0:exitcode=99:second_deadlock_stack=1"
    for name in ("MYTUNNEL_SOCKET", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET"):
        env.pop(name, None)
    for name in list(env):
        if name.lower().endswith("_proxy"):
            del env[name]
    return env


def wait_until(condition, timeout=TIMEOUT, what="the condition"):
    """Polls until `condition()` is true; returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.02)


def run(args, timeout=TIMEOUT, check=True, **kwargs):
    """A program to its end, with text output."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        args, timeout=timeout, check=False, env=kwargs.pop("env", environment()), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(args)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Process:
    """A program in the background, whose output is kept and can be waited for."""

    def __init__(self, args, folder, title, stdin=None, prefix=()):
        self.title = title
        self.log = os.path.join(folder, f"{title}.log")
        leftovers.add(title, self.log)
        self.lines = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [*prefix, *args], stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=environment())
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with open(self.log, "ab", buffering=0) as log:
            for raw in self.process.stdout:
                log.write(raw)
                with self.changed:
                    self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def text(self):
        with self.changed:
            return "\n".join(self.lines)

    def wait_line(self, pattern, timeout=TIMEOUT, start=0):
        """The first match of a regular expression in a line from number `start` on."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                for line in self.lines[start:]:
                    match = re.search(pattern, line)
                    if match:
                        return match
                left = deadline - time.monotonic()
                if left <= 0 or not self.reader.is_alive():
                    raise AssertionError(f"{self.title} never printed /{pattern}/")
                self.changed.wait(min(left, 0.2))

    def mark(self):
        """The number of lines so far, for wait_line(start=)."""
        with self.changed:
            return len(self.lines)

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def wait(self, timeout=TIMEOUT):
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.title} still runs after {timeout} s") from None
        self.reader.join(5)
        return status

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(10)
        self.reader.join(5)

    def check_sanitizers(self):
        match = SANITIZER_REPORT.search(self.text())
        if match:
            raise AssertionError(f"{self.title}: {match.group(0)} (see its log)")

    def stop(self, expected=0):
        """SIGTERM, the end within a bounded time, and a clean exit."""
        if self.alive():
            self.signal(signal.SIGTERM)
        try:
            status = self.wait(30 * SLOW)
        except AssertionError:
            self.kill()
            raise
        self.check_sanitizers()
        if expected is not None and status != expected:
            raise AssertionError(f"{self.title}: exit status {status} at its end")


class Server:
    """mytunneld in a folder of its own."""

    DEFAULTS = {
        "server.bind_addr": "127.0.0.1:0",
        "metrics.bind_addr": "127.0.0.1:0",
        "access.allow_private": "on",
        "server.workers": "2",
    }

    def __init__(self, settings=None, prefix=()):
        self.folder = tempfile.mkdtemp(prefix="mytunnel-test-")
        self.state = os.path.join(self.folder, "state")
        self.runtime = os.path.join(self.folder, "run")
        os.mkdir(self.state, 0o700)
        os.mkdir(self.runtime, 0o755)
        self.socket = os.path.join(self.runtime, "control.sock")
        self.settings = {**self.DEFAULTS, **(settings or {})}
        self.prefix = prefix
        self.process = None
        self.clients = []
        self.starts = 0

    def __enter__(self):
        try:
            self.start(self.settings)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            for client in self.clients:
                if client.process.alive():
                    if kind is None:
                        client.stop()
                    else:
                        client.process.kill()
            if self.process and self.process.alive():
                if kind is None:
                    self.process.stop()
                else:
                    with contextlib.suppress(AssertionError):
                        self.process.stop(expected=None)
        finally:
            for process in [client.process for client in self.clients] + [self.process]:
                if process and process.alive():
                    process.kill()
            if kind is None:
                shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, settings=None):
        """Starts the daemon; after a first start its settings are in its database."""
        args = [program("mytunneld"), "--state-dir", self.state, "--runtime-dir", self.runtime]
        for key, value in (settings or {}).items():
            args += ["--set", f"{key}={value}"]
        self.starts += 1
        self.process = Process(args, self.folder, f"mytunneld-{self.starts}", prefix=self.prefix)
        wait_until(self._ready, what="the control socket of mytunneld")

    def _ready(self):
        if not self.process.alive():
            raise AssertionError(f"mytunneld ended with {self.process.process.returncode}")
        return self.ctl("--json", "status", check=False).returncode == 0

    def ctl(self, *args, check=True, **kwargs):
        return run([program("mytunnelctl"), "--socket", self.socket, *args], check=check, **kwargs)

    def json(self, *args):
        return json.loads(self.ctl("--json", *args).stdout)

    def status(self):
        return self.json("status")

    def connections(self):
        return self.json("connections")["connections"]

    @property
    def address(self):
        return next(l["address"] for l in self.status()["listeners"] if l["protocol"] == "quic")

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def http(self, path, timeout=10):
        url = f"http://{self.status()['http']['address']}{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=timeout) as answer:
            return answer.read().decode()

    def metrics(self):
        """Name to value, labels summed up."""
        values = {}
        for line in self.http("/metrics").splitlines():
            match = re.match(r"([a-zA-Z_:][\w:]*)(\{.*\})? ([0-9.eE+-]+)$", line)
            if match:
                values[match.group(1)] = values.get(match.group(1), 0) + float(match.group(3))
        return values

    def enrol(self, name="laptop"):
        """A new client; returns the file with its profile."""
        done = self.ctl("client", "add", name)
        uri = done.stdout.strip()
        if not re.fullmatch(r"mytunnel://[\w-]{43}@\S+\?pin=[\w-]{43}#\S+", uri):
            raise AssertionError(f"client add printed {done.stdout!r}")
        return self.write_profile(name, uri)

    def write_profile(self, name, uri):
        path = os.path.join(self.folder, f"{name}.uri")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(uri + "\n")
        return path

    def client(self, profile=None, args=(), wait=True, prefix=(), socks="127.0.0.1:0"):
        """`mytunnel connect`, connected when this returns (unless wait is False)."""
        if profile is None:
            profile = self.enrol(f"client{len(self.clients)}")
        client = Client(self, profile, args, prefix, socks)
        self.clients.append(client)
        if wait:
            client.wait_connected()
        return client


class Client:
    """`mytunnel connect` with a SOCKS5 and HTTP proxy on a free port."""

    def __init__(self, server, profile, args=(), prefix=(), socks="127.0.0.1:0"):
        number = len(server.clients) + 1
        listen = ["--socks", socks] if socks else []
        if "--transport" not in args:
            listen += ["--transport", transport]
        self.server = server
        self.process = Process(
            [program("mytunnel"), "connect", profile, *listen, *args], server.folder,
            f"mytunnel-{number}", prefix=prefix)
        self._port = None

    @property
    def port(self):
        """Of the SOCKS5 and HTTP proxy."""
        if self._port is None:
            match = self.process.wait_line(r"(?i)(?:socks|proxy|listening).*127\.0\.0\.1:(\d+)")
            self._port = int(match.group(1))
        return self._port

    def wait_connected(self, timeout=TIMEOUT, start=0):
        return self.process.wait_line(r"(?i)(?<!dis)(?<!not )\bconnected\b", timeout, start)

    def stop(self):
        self.process.stop(expected=None)
        status = self.process.process.returncode
        if status not in (0, -signal.SIGTERM):
            raise AssertionError(f"{self.process.title}: exit status {status} at its end")


def over_tls(function):
    """Marks a test that is made a second time, with clients that reach the server by TLS."""

    @functools.wraps(function)
    def again():
        global transport
        transport = "tls"
        return function()

    function.over_tls = again
    return function


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def need(*names):
    """Skips a test when a program that it sends through the tunnel is not installed."""
    for name in names:
        if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise Skip(f"{name} is not installed (make deps)")
