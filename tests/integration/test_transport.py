"""The client finds out how the server is reached: QUIC, TLS where UDP is blocked, and back."""

import contextlib
import re
import socket
import threading
import time
from pathlib import Path

import socks
from harness import SLOW, TIMEOUT, Server, Skip, alone, lengthy, need, program, run, wait_until
from netns import Networks, inside
from targets import TcpTarget, echo, receive_all, receive_exactly, send_blocks

FIRST_SECONDS = 1.0 * SLOW  # the first tunnel on a network without UDP
SWITCH_SECONDS = 5.0 * SLOW  # a new tunnel after UDP has gone
RETURN_SECONDS = 30.0  # back on QUIC


class Filter:
    """Drops UDP between two namespaces, both ways, without telling anybody."""

    def __init__(self, nets, port):
        self.port = port

        self.sides = ((nets.server, "dport"), (nets.client, "sport"))
        for name, _ in self.sides:
            done = self._nft(name, "add", "table", "inet", "block", check=False)
            if done.returncode:
                raise Skip(f"no packet filter here: {done.stderr.strip()}")
            self._nft(name, "add", "chain", "inet", "block", "in",
                      "{ type filter hook prerouting priority -300; }")

    @staticmethod
    def _nft(namespace, *args, check=True):
        return run(["ip", "netns", "exec", namespace, "nft", *args], check=check)

    def drop(self, protocol="udp"):
        for name, what in self.sides:
            self._nft(name, "add", "rule", "inet", "block", "in", protocol, what,
                      str(self.port), "drop")

    def let_through(self):
        for name, _ in self.sides:
            self._nft(name, "flush", "chain", "inet", "block", "in")


class World:
    """A server and a target in one namespace, clients in another, a filter between them."""

    def __init__(self, settings=None):
        self.settings = settings or {}
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        need("ip", "nft")
        with contextlib.ExitStack() as stack:
            self.nets = stack.enter_context(Networks())
            self.server = stack.enter_context(Server(
                {"server.bind_addr": "0.0.0.0:0", "server.public_addr": self.nets.SERVER,
                 **self.settings}, prefix=self.nets.enter(self.nets.server)))
            self.target = stack.enter_context(
                inside(self.nets.server, lambda: TcpTarget(echo)))
            self.filter = Filter(self.nets, self.server.port)
            with open(self.server.enrol(), encoding="ascii") as file:
                uri = re.sub(r"@[^?]+\?", f"@{self.nets.SERVER}:{self.server.port}?", file.read())
            self.profile = self.server.write_profile("far", uri.strip())
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    def client(self, *args, wait=True):
        client = self.server.client(
            self.profile, args=("--transport", "auto", *args), wait=wait,
            prefix=self.nets.enter(self.nets.client))
        # The port, before the clock of a test runs.
        self.port = client.port
        return client

    def connect(self, timeout=TIMEOUT):
        """A new tunnel that has carried bytes both ways."""
        def make(address):
            return socket.create_connection(address, timeout)

        sock = inside(self.nets.client, lambda: socks.connect(
            self.port, "127.0.0.1", self.target.port, timeout=timeout, make=make))
        sock.sendall(b"hello")
        assert receive_exactly(sock, 5) == b"hello"
        return sock

    def mytunnel(self, *args, check=True):
        return run([*self.nets.enter(self.nets.client), program("mytunnel"), *args, self.profile],
                   check=check, timeout=60 * SLOW)

    def streams(self, transport):
        return sum(c["streams"] for c in self.server.connections() if c["transport"] == transport)


def seconds_since(begin):
    return time.monotonic() - begin


class Transfer:
    """Bytes up and down one tunnel all the time, until it breaks or is told to stop."""

    def __init__(self, sock):
        self.sock = sock
        self.count = 0
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        block = bytes(1 << 16)
        sender = threading.Thread(target=self._send, args=(block,), daemon=True)
        sender.start()
        with contextlib.suppress(OSError):
            while self.running:
                self.count += len(self.sock.recv(1 << 16))

    def _send(self, block):
        with contextlib.suppress(OSError):
            while self.running:
                self.sock.sendall(block)

    def stop(self):
        self.running = False
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(TIMEOUT)
        self.sock.close()


@alone
def test_udp_blocked_from_the_start_and_back():
    """No UDP from the start: the first tunnel works within 1 s of the client's start, over TLS. UDP
    is let through: new tunnels are back on QUIC within 30 s, open ones go on where they are."""
    with World() as world:
        world.filter.drop()
        begin = time.monotonic()
        client = world.client(wait=False)
        first = world.connect()
        took = seconds_since(begin)
        print(f"      the first tunnel after {took:.2f} s")
        assert took <= FIRST_SECONDS, f"the first tunnel took {took:.2f} s"
        client.process.wait_line(r"^transport tls: .*UDP")
        client.wait_connected()
        assert world.streams("quic") == 0 and world.streams("tls") >= 1, world.server.connections()

        mark = client.process.mark()
        world.filter.let_through()
        begin = time.monotonic()
        client.process.wait_line(r"^transport quic: ", RETURN_SECONDS * SLOW, mark)
        took = seconds_since(begin)
        print(f"      back on QUIC after {took:.2f} s")
        assert took <= RETURN_SECONDS, f"back on QUIC after {took:.2f} s"
        with world.connect():
            assert world.streams("quic") == 2, world.server.connections()  # and the channel
        first.sendall(b"still")
        assert receive_exactly(first, 5) == b"still"
        first.close()
        assert not re.search(r"(?m)^state (?!connect)", client.process.text())


@alone
def test_back_within_a_limit_of_one():
    """A client that may have one connection returns to QUIC too, once no tunnel is left on TLS."""
    with World() as world:
        world.server.ctl("client", "set", "laptop", "--max-connections", "1")
        world.filter.drop()
        client = world.client(wait=False)
        with world.connect() as sock:
            client.process.wait_line(r"^transport tls: .*UDP")
            mark = client.process.mark()
            world.filter.let_through()
            # The tunnel's connection is the one that it may have.
            wait_until(lambda: world.server.json("stats")["counters"]
                       ["limit_client_connections"],
                       RETURN_SECONDS * SLOW, what="a try of QUIC at the limit")
            sock.sendall(b"still")
            assert receive_exactly(sock, 5) == b"still"
            assert "transport quic" not in client.process.text()
        client.process.wait_line(r"^transport quic: ", RETURN_SECONDS * SLOW, mark)
        with world.connect():
            assert world.streams("tls") == 0, world.server.connections()


@alone
def test_over_to_tls_within_a_limit_of_one():
    """The same the other way round: the QUIC connection that nobody reaches any more holds the one
    place until the server gives it up, and then the client gets in over TLS; and returns."""
    with World({"quic.idle_timeout_secs": "5"}) as world:
        world.server.ctl("client", "set", "laptop", "--max-connections", "1")
        client = world.client()
        for _ in range(2):
            client.process.wait_line(r"^transport quic")
            with world.connect():
                assert world.streams("tls") == 0, world.server.connections()
            mark = client.process.mark()
            world.filter.drop()
            begin = time.monotonic()
            client.process.wait_line(r"^transport tls: .*UDP", RETURN_SECONDS * SLOW, mark)
            print(f"      on TLS after {seconds_since(begin):.2f} s")
            with world.connect():
                assert world.streams("quic") == 0, world.server.connections()
            mark = client.process.mark()
            world.filter.let_through()
            client.process.wait_line(r"^transport quic: ", 2 * RETURN_SECONDS * SLOW, mark)


@alone
def test_udp_blocked_in_mid_transfer_and_back():
    """UDP is dropped in the midst of a transfer: new tunnels work within 5 s, also one that was
    asked for before anybody could know; then UDP is let through, and dropped again."""
    with World() as world:
        client = world.client()
        client.process.wait_line(r"^transport quic$")
        for _ in range(2):
            transfer = Transfer(world.connect())
            wait_until(lambda: transfer.count > 1 << 20, what="a transfer")
            mark = client.process.mark()
            world.filter.drop()
            begin = time.monotonic()
            with world.connect(SWITCH_SECONDS):
                took = seconds_since(begin)
            print(f"      a new tunnel after {took:.2f} s")
            assert took <= SWITCH_SECONDS, f"a new tunnel took {took:.2f} s"
            client.process.wait_line(r"^transport tls: .*UDP", start=mark)
            begin = time.monotonic()
            with world.connect():
                took = seconds_since(begin)
            assert took <= FIRST_SECONDS, f"the next tunnel took {took:.2f} s"
            mark = client.process.mark()
            world.filter.let_through()
            begin = time.monotonic()
            client.process.wait_line(r"^transport quic: ", RETURN_SECONDS * SLOW, mark)
            took = seconds_since(begin)
            print(f"      back on QUIC after {took:.2f} s")
            with world.connect():
                assert world.streams("quic") >= 2, world.server.connections()
            transfer.stop()


@alone
def test_udp_blocked_for_long_and_back():
    """The QUIC connection has timed out long ago when UDP is let through."""
    with World({"quic.idle_timeout_secs": "5"}) as world:
        client = world.client()
        with world.connect():
            pass
        world.filter.drop()
        with world.connect(SWITCH_SECONDS):
            pass
        wait_until(lambda: not any(c["transport"] == "quic" for c in world.server.connections()),
                   60 * SLOW, what="the end of the QUIC connection at the server")
        mark = client.process.mark()
        world.filter.let_through()
        begin = time.monotonic()
        client.process.wait_line(r"^transport quic: ", RETURN_SECONDS * SLOW, mark)
        print(f"      back on QUIC after {seconds_since(begin):.2f} s")
        assert seconds_since(begin) <= RETURN_SECONDS
        with world.connect():
            assert world.streams("quic") >= 2, world.server.connections()


@alone
def test_tcp_blocked_makes_no_difference():
    """Nothing listens for TLS: QUIC works as ever, and comes back by itself after a gap."""
    with World({"tcp.enabled": "off"}) as world:
        client = world.client()
        with world.connect():
            pass
        mark = client.process.mark()
        world.filter.drop()
        client.process.wait_line(r"^state reconnecting: .*over TCP: ", 30 * SLOW, mark)
        world.filter.let_through()
        client.wait_connected(30 * SLOW, mark)
        with world.connect():
            assert world.streams("quic") >= 2, world.server.connections()
        assert "transport tls" not in client.process.text()


def test_chosen_transports():
    """--transport: quic never uses TLS, tls never QUIC; anything else is refused."""
    with World() as world:
        done = world.mytunnel("ping", "-c", "2", "--transport", "tls")
        assert re.search(r"(?m)^connected transport=tls time=", done.stdout), done.stdout
        assert "2 sent, 2 received" in done.stdout, done.stdout
        done = world.mytunnel("ping", "-c", "1")
        assert re.search(r"(?m)^connected transport=quic ", done.stdout), done.stdout
        client = world.client("--transport", "tls")
        with world.connect():
            assert world.streams("quic") == 0 and world.streams("tls") >= 2
        assert re.search(r"(?m)^transport tls$", client.process.text())
        world.filter.drop()
        done = world.mytunnel("ping", "-c", "1")
        assert re.search(r"(?m)^connected transport=tls ", done.stdout), done.stdout
        done = world.mytunnel("ping", "--transport", "quic", check=False)
        assert done.returncode == 1 and "does not answer" in done.stderr, done
        for verb in ("ping", "connect", "doctor"):
            done = world.mytunnel(verb, "--transport", "tcp", check=False)
            assert done.returncode == 2 and "auto, quic or tls" in done.stderr, done


def test_idle_connections_keep_nobody_out():
    """More TCP connections that say nothing than handshakes may be under way: clients get in."""
    with Server({"server.workers": "1"}) as server, contextlib.ExitStack() as stack:
        profile = server.enrol()
        address = next(x["address"] for x in server.status()["listeners"] if x["protocol"] == "tls")
        host, port = address.rsplit(":", 1)
        begin = time.monotonic()
        for _ in range(600):
            stack.enter_context(socket.create_connection((host, int(port)), TIMEOUT))
        done = run([program("mytunnel"), "ping", "-c", "1", "--transport", "tls", profile])
        assert "1 sent, 1 received" in done.stdout, done
        # Before their own time is over.
        if seconds_since(begin) < 4:
            assert server.json("stats")["counters"]["limit_half_open"] >= 88


@lengthy
def test_hosts_that_went_silent_are_given_up():
    """The server keeps no TLS connection of a host that has gone, idle or busy."""
    with World() as world:
        world.filter.drop()
        world.client("--transport", "tls")
        with world.connect() as idle, world.connect() as busy:
            transfer = Transfer(busy)
            wait_until(lambda: transfer.count > 1 << 20, what="the transfer to run")
            world.filter.drop("tcp")
            wait_until(lambda: not world.server.connections(), 75 * SLOW,
                       what="the server to have given up")
            # The client has too, by its own clock.
            idle.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionResetError):
                assert idle.recv(1) == b""
            transfer.stop()


def tcp_buffers():
    """Bytes that one TCP connection may hold in the kernel, on both ends."""
    folder = Path("/proc/sys/net/ipv4")
    return sum(int((folder / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem"))


@lengthy
def test_pauses_are_no_silence():
    """A target, or an application, that does not read for longer than a dead path lives."""
    size = tcp_buffers() * 3 + (8 << 20)  # more than the sockets on the way may hold
    go = threading.Event()

    def slow(sock, _):
        go.wait(120)
        return receive_all(sock)

    def fast(sock, _):
        send_blocks(sock, size)
        sock.shutdown(socket.SHUT_WR)

    def send(sock):
        send_blocks(sock, size)
        sock.shutdown(socket.SHUT_WR)

    with Server() as server, TcpTarget(slow) as up, TcpTarget(fast) as down:
        port = server.client(args=("--transport", "tls")).port
        with socks.connect(port, "127.0.0.1", up.port, timeout=120) as first, \
                socks.connect(port, "127.0.0.1", down.port, timeout=120) as second:
            sender = threading.Thread(target=send, args=(first,))
            sender.start()
            sender.join(42)  # the pause is what is tested
            assert sender.is_alive()
            go.set()
            assert receive_all(second)[0] == size
            sender.join(TIMEOUT)
            up.wait_ended()
            assert [r[0] for r in up.results] == [size], (up.results, up.errors)


def test_doctor_says_what_is_blocked():
    """Both ways are checked, and one that works is enough."""
    with World() as world:
        done = world.mytunnel("doctor")
        assert re.search(r"(?m)^ok +handshake +QUIC over UDP", done.stdout), done.stdout
        assert re.search(r"(?m)^ok +handshake +TLS over TCP", done.stdout), done.stdout
        world.filter.drop()
        done = world.mytunnel("doctor")
        assert re.search(r"(?m)^warn +UDP +UDP port \d+ is blocked .*TLS instead", done.stdout), done
        assert re.search(r"(?m)^ok +handshake +TLS over TCP", done.stdout), done.stdout
        world.server.ctl("set", "tcp.enabled", "off")
        done = world.mytunnel("doctor", check=False)
        assert done.returncode == 1, done
        assert re.search(r"(?m)^fail +handshake +nothing comes back from UDP", done.stdout), done
        assert re.search(r"(?m)^fail +handshake +.*over TCP", done.stdout), done
        world.filter.let_through()
        done = world.mytunnel("doctor")
        assert re.search(r"(?m)^warn +TLS over TCP .*\n +next: ", done.stdout), done.stdout


def test_refusals_are_told():
    """Why the server does not let the client in, or throws it out, is said as on QUIC."""
    with World() as world:
        world.filter.drop()
        client = world.client()
        client.process.wait_line(r"^transport tls")
        world.server.ctl("--yes", "client", "revoke", "laptop")
        assert client.process.wait() == 1
        assert re.search(r"state failed: .*revoked", client.process.text()), client.process.text()
        done = world.mytunnel("ping", "--transport", "tls", check=False)
        assert done.returncode == 1 and "revoked" in done.stderr, done
        done = world.mytunnel("doctor", "--transport", "tls", check=False)
        assert re.search(r"(?m)^fail +identity .*revoked", done.stdout), done.stdout
        client.process.process.returncode = 0  # its end was meant


def test_drain_over_tls():
    """A server that stops tells its clients over TLS too, and they are back when it is."""
    with World() as world:
        world.filter.drop()
        client = world.client()
        with world.connect() as sock:
            mark = client.process.mark()
            world.server.process.signal(15)
            client.process.wait_line(r"^state draining", start=mark)
            sock.sendall(b"still")
            assert receive_exactly(sock, 5) == b"still"
        assert world.server.process.wait(30 * SLOW) == 0
        mark = client.process.mark()
        world.server.start({"server.bind_addr": f"0.0.0.0:{world.filter.port}"})
        client.wait_connected(start=mark)
        with world.connect():
            pass


def test_many_at_once():
    """Requests that come all together on a network without UDP."""
    with World() as world:
        world.filter.drop()
        world.client()
        results = []

        def one():
            with world.connect():
                results.append(1)

        threads = [threading.Thread(target=one) for _ in range(80)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert len(results) == 80, len(results)
