"""What is compared: this project's programs, and what people would take instead of them.

Each contestant is a SOCKS5 proxy on 127.0.0.1 with one or more server and client processes, all of
them started here with files and ports of their own, on this machine's loopback. All tunnels seal with
AES-128-GCM.
"""
import collections
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from harness import Process, Server, free_port, program, run, wait_until

PIECE = bytes(1 << 20)
SHIM = program("bench/gro.so")

# Of the ends of the bulk beside round trips, and of the one of 101 machines that transfers it: the others
# have the cores first.
BULK_NICE = "19"


def pinned(cpus):
    """The words before a command that keep it on these CPUs."""
    return ["taskset", "-c", cpus] if cpus else []


def cpu_seconds(pid):
    """What a process has used, with its threads that are gone, in nanoseconds' resolution."""
    return time.clock_gettime((~pid << 3) | 2)


def descendants(pid):
    """A process and those below it."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="ascii",
                                                    errors="replace") as file:
                parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def answers(port):
    """Whether something accepts connections there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def find(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def make_certificate(folder):
    """A key and a self-signed certificate for localhost."""
    key, cert = f"{folder}/key.pem", f"{folder}/cert.pem"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", cert])
    return key, cert


class Contestant:
    """Use as a context: its programs run inside of it."""

    name = ""
    title = ""
    programs = ()
    works = ("bulk", "tunnels", "trips", "udp")

    def __init__(self, pins):
        self.pins = pins
        self.stack = contextlib.ExitStack()
        self.ports = []  # of its SOCKS5 proxies
        self.server_pids = []
        self.client_pids = []
        self.realtime = True  # what it has of the load's own ends runs at real-time priority

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def missing(self):
        return [name for name in self.programs if not find(name)]

    def start(self):
        """Starts programs; sets ports and pids."""

    def enter(self):
        """Starts what would be in the way of others before its own turn."""

    def folder(self):
        return self.stack.enter_context(tempfile.TemporaryDirectory(prefix="mytunnel-bench-"))

    def spawn(self, side, folder, args, env=()):
        prefix = [*(["env", *env] if env else []), *pinned(self.pins[side])]
        process = Process(args, folder, f"{self.name}-{side}", prefix=prefix)
        self.stack.callback(process.kill)
        return process

    def pair(self, folder, server, client, port):
        """A server, then a client whose SOCKS5 proxy is on `port`."""
        self.server_pids = [self.spawn("server", folder, server).pid]
        self.client_pids = [self.spawn("client", folder, client).pid]
        self.ports = [port]
        wait_until(lambda: answers(port), what=f"{self.name} on port {port}")


class Direct(Contestant):
    """No tunnel at all."""

    name = "direct"
    title = "no tunnel"
    works = (*Contestant.works, "streams", "handshakes", "interactive")


def worker_of_another(server, known):
    """The worker of a connection that is not among those; None without one."""
    return next((c["worker"] for c in server.connections() if c["id"] not in known), None)


class MyTunnel(Contestant):
    """This project. `clients` of them are spread evenly over the workers."""

    name = "mytunnel"
    title = "MyTunnel, QUIC"
    works = (*Contestant.works, "streams", "handshakes", "interactive")
    transport = "quic"
    workers = None
    clients = 1
    settings = {}

    def start(self):
        settings = {"logging.level": "error", **self.settings}
        settings["server.workers"] = str(self.workers or 0)
        server = self.stack.enter_context(Server(settings, prefix=pinned(self.pins["server"])))
        self.server = server
        self.server_pids = [server.process.pid]
        self.profile = server.enrol("handshakes")
        quota = -(-self.clients // (self.workers or 1))
        used = collections.Counter()
        for _ in range(64):
            if len(self.ports) == self.clients:
                return
            known = {c["id"] for c in server.connections()}
            client = server.client(args=["--transport", self.transport],
                                   prefix=pinned(self.pins["client"]))
            if self.clients > 1:
                # A connection that the server counts a moment later.
                wait_until(lambda: worker_of_another(server, known) is not None, what="the connection")
                worker = worker_of_another(server, known)
                if used[worker] >= quota:
                    client.stop()
                    continue
                used[worker] += 1
            self.client_pids.append(client.process.pid)
            self.ports.append(client.port)
        raise AssertionError("clients never met every worker")


class MyTunnelTls(MyTunnel):
    """This project where UDP is blocked."""

    name = "mytunnel-tls"
    title = "MyTunnel, TLS"
    works = Contestant.works
    transport = "tls"


class OneWorker(MyTunnel):
    """Two clients of one worker."""

    name = "workers-1"
    title = "one worker"
    workers = 1
    clients = 2
    works = ("workers",)


class TwoWorkers(OneWorker):
    """A client for each of two workers."""

    name = "workers-2"
    title = "two workers"
    workers = 2
    works = ("workers", "workers-each")


class OneClient(OneWorker):
    """The only client of one worker."""

    name = "workers-1-each"
    title = "one worker, one client"
    clients = 1
    works = ("workers-each",)


class TwoServers(MyTunnel):
    """Two servers of one worker each, with a client each: what two workers cost that share nothing
    but the machine."""

    name = "workers-apart"
    title = "two servers of one worker each"
    clients = 2
    works = TwoWorkers.works

    def start(self):
        for _ in range(self.clients):
            one = OneClient(self.pins)
            self.stack.enter_context(one)
            self.ports += one.ports
            self.server_pids += one.server_pids
            self.client_pids += one.client_pids


class Crowd(Contestant):
    """A hundred clients of one worker in one process, which plays a hundred machines, and one more
    machine's for the bulk, which gets what the server leaves of the cores; they start when they are
    needed, and would be in the way of others before."""

    name = "crowd"
    title = "MyTunnel, 100 connections"
    works = ("crowd",)
    clients = 100

    def enter(self):
        if self.ports:
            return
        try:
            self.start_all()
        except BaseException:
            self.stack.close()  # for another try
            raise

    def start_all(self):
        server = self.stack.enter_context(Server({"logging.level": "error", "server.workers": "1"},
                                                 prefix=pinned(self.pins["server"])))
        self.server_pids = [server.process.pid]
        bulk = server.client(wait=False,
                             prefix=["nice", "-n", BULK_NICE, *pinned(self.pins["client"])])
        profiles = [server.enrol(f"crowd{number}") for number in range(self.clients)]
        crowd = self.spawn("client", server.folder, [program("bench/clients"), *profiles])
        self.realtime = crowd.wait_line(r"(?m)^realtime (yes|no)$", 60).group(1) == "yes"
        ports = crowd.wait_line(r"(?m)^ports ([\d,]+)$", 60).group(1)
        bulk.wait_connected(60)
        self.client_pids = [bulk.process.pid]
        self.ports = [bulk.port, *map(int, ports.split(","))]


class Ssh(Contestant):
    """OpenSSH's `ssh -D`."""

    name = "ssh"
    title = "ssh -D"
    programs = ("ssh", "sshd", "ssh-keygen")
    works = ("bulk", "tunnels", "trips")
    cipher = "aes128-gcm@openssh.com"

    def start(self):
        folder, port, socks = self.folder(), free_port(), free_port()
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"])
        shutil.copy(f"{folder}/user.pub", f"{folder}/authorized")
        with open(f"{folder}/config", "w", encoding="ascii") as file:
            file.write(f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nStrictModes no\n"
                       f"AuthorizedKeysFile {folder}/authorized\nPidFile none\nUsePAM no\n"
                       "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
                       f"Ciphers {self.cipher}\n")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        server = self.spawn("server", folder, [find("sshd"), "-D", "-e", "-f", f"{folder}/config"])
        wait_until(lambda: answers(port), what="sshd")
        client = self.spawn("client", folder, [
            "ssh", "-F", os.devnull, "-N", "-D", f"127.0.0.1:{socks}", "-p", str(port), "-c",
            self.cipher, "-i", f"{folder}/user", "-o", "StrictHostKeyChecking=no", "-o",
            f"UserKnownHostsFile={folder}/known", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            "-o", "ExitOnForwardFailure=yes", "127.0.0.1"])
        wait_until(lambda: answers(socks), what="ssh -D")
        self.server_pids = descendants(server.pid)
        # Its listener goes first, the sessions after the client.
        self.client_pids = [client.pid]
        self.ports = [socks]


class Shadowsocks(Contestant):
    """shadowsocks-libev, TCP and UDP."""

    name = "shadowsocks"
    title = "shadowsocks-libev"
    programs = ("ss-server", "ss-local")

    def start(self):
        port, socks = str(free_port()), free_port()
        common = ["-s", "127.0.0.1", "-p", port, "-k", "bench", "-m", "aes-128-gcm", "-u", "-t", "60"]
        self.pair(self.folder(), ["ss-server", *common],
                  ["ss-local", *common, "-b", "127.0.0.1", "-l", str(socks)], socks)


class Trojan(Contestant):
    """trojan: TLS over TCP, datagrams within it."""

    name = "trojan"
    title = "trojan"
    programs = ("trojan", "openssl")

    def start(self):
        folder, port, socks = self.folder(), free_port(), free_port()
        key, cert = make_certificate(folder)
        tls = {"cipher": "ECDHE-ECDSA-AES128-GCM-SHA256", "cipher_tls13": "TLS_AES_128_GCM_SHA256",
               "alpn": ["http/1.1"], "reuse_session": True, "session_ticket": False}
        tcp = {"no_delay": True, "keep_alive": True, "reuse_port": False, "fast_open": False,
               "prefer_ipv4": True}
        common = {"password": ["bench"], "log_level": 4, "tcp": tcp}
        server = {**common, "run_type": "server", "local_addr": "127.0.0.1", "local_port": port,
                  "remote_addr": "127.0.0.1", "remote_port": 9,
                  "ssl": {**tls, "cert": cert, "key": key, "prefer_server_cipher": True}}
        client = {**common, "run_type": "client", "local_addr": "127.0.0.1", "local_port": socks,
                  "remote_addr": "127.0.0.1", "remote_port": port, "udp_timeout": 60,
                  "ssl": {**tls, "verify": False, "verify_hostname": False, "sni": "localhost"}}
        for name, config in (("server", server), ("client", client)):
            with open(f"{folder}/{name}.json", "w", encoding="ascii") as file:
                json.dump(config, file)
        self.pair(folder, ["trojan", f"{folder}/server.json"], ["trojan", f"{folder}/client.json"],
                  socks)


class V2ray(Contestant):
    """v2ray: VMess over QUIC."""

    name = "v2ray"
    title = "v2ray, QUIC"
    programs = ("v2ray", "openssl")

    def start(self):
        folder, port, socks = self.folder(), free_port(), free_port()
        key, cert = make_certificate(folder)
        user = {"id": "6a3d4c9e-1a57-4f0e-9d3b-2f6c8a1b7e55", "alterId": 0}
        quic = {"network": "quic", "security": "tls", "quicSettings": {"security": "none"}}
        log = {"loglevel": "error"}
        server = {"log": log, "outbounds": [{"protocol": "freedom"}], "inbounds": [
            {"listen": "127.0.0.1", "port": port, "protocol": "vmess", "settings": {"clients": [user]},
             "streamSettings": {**quic, "tlsSettings": {"certificates": [
                 {"certificateFile": cert, "keyFile": key}]}}}]}
        outbound = {"protocol": "vmess", "settings": {"vnext": [
            {"address": "127.0.0.1", "port": port, "users": [{**user, "security": "none"}]}]},
            "streamSettings": {**quic, "tlsSettings": {"allowInsecure": True,
                                                       "serverName": "localhost"}}}
        client = {"log": log, "outbounds": [outbound], "inbounds": [
            {"listen": "127.0.0.1", "port": socks, "protocol": "socks",
             "settings": {"auth": "noauth", "udp": True, "ip": "127.0.0.1"}}]}
        for name, config in (("server", server), ("client", client)):
            with open(f"{folder}/{name}.json", "w", encoding="ascii") as file:
                json.dump(config, file)
        self.pair(folder, ["v2ray", "-config", f"{folder}/server.json"],
                  ["v2ray", "-config", f"{folder}/client.json"], socks)


class Library(Contestant):
    """ngtcp2's example programs: a file over HTTP/3, without a tunnel behind it. Their server takes
    coalesced packets but does not ask its socket for them; a preloaded shim does (gro.c)."""

    name = "library"
    title = "ngtcp2's examples"
    programs = ("gtlsserver", "gtlsclient", "openssl")
    works = ("bulk-1",)

    def start(self):
        self.port = free_port()
        self.data = self.folder()
        key, cert = make_certificate(self.data)
        server = self.spawn("server", self.data, [
            find("gtlsserver"), "-q", "-d", self.data, "--max-data", "24M",
            "--max-stream-data-bidi-remote", "16M", "127.0.0.1", str(self.port), key, cert],
            env=[f"LD_PRELOAD={SHIM}"])
        self.server_pids = [server.pid]

    def transfer(self, work, size, timeout):
        """One file there or back: what `load` would print."""
        path = f"{self.data}/file"
        if not os.path.exists(path) or os.path.getsize(path) != size:
            with open(path, "wb") as file:
                for left in range(size, 0, -len(PIECE)):
                    file.write(PIECE[:left])
        args = ["-q", "--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump",
                *(["-d", path, "-m", "POST"] if work == "up" else []), "127.0.0.1", str(self.port),
                f"https://localhost/{'file' if work == 'down' else ''}"]
        before, begun = cpu_seconds(self.server_pids[0]), time.monotonic()
        with open(f"{self.data}/client.log", "wb") as log:
            client = subprocess.Popen(
                [*pinned(self.pins["client"]), find("gtlsclient"), *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        end, status, usage = begun + timeout, 0, None
        while usage is None:
            pid, status, used = os.wait4(client.pid, os.WNOHANG)
            usage = used if pid else None
            if usage is None:
                if time.monotonic() > end:
                    client.kill()
                    end += 10
                time.sleep(0.002)
        client.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begun
        if client.returncode != 0:
            raise AssertionError(f"gtlsclient: exit status {client.returncode}")
        return {"seconds": seconds, "units": size, "failed": 0, "rss_kib": {},
                "cpu_s": {"server": cpu_seconds(self.server_pids[0]) - before,
                          "client": usage.ru_utime + usage.ru_stime}}


PEERS = (Ssh, Shadowsocks, Trojan, V2ray, Library)
ALL = (Direct, MyTunnel, MyTunnelTls, *PEERS, OneWorker, TwoWorkers, TwoServers, OneClient, Crowd)


def versions():
    """Of the programs that are compared, as far as they are installed."""
    asked = {"mytunnel": [program("mytunneld"), "--version"],
             "ssh": ["ssh", "-V"], "shadowsocks": ["ss-server", "-h"],
             "trojan": ["trojan", "--version"], "v2ray": ["v2ray", "-version"]}
    found = {}
    for name, command in asked.items():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.STDOUT, timeout=10, check=False)
            lines = [line.strip() for line in done.stdout.splitlines() if re.search(r"\d\.\d", line)]
            found[name] = lines[0].removeprefix("Welcome to ") if lines else ""
    if shutil.which("dpkg-query"):
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", "libngtcp2-16",
                               "ngtcp2-server", "libgnutls30", "libgnutls30t64"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        found.update(line.split(" ", 1) for line in done.stdout.splitlines() if line.count(" ") == 1)
    return found
