"""Access rules: what each selector does for TCP and UDP, their order, changes, and many of them."""

import contextlib
import os
import socket
import sqlite3
import time

import socks
from harness import SLOW, Server, Skip, alone, run, wait_until
from targets import TcpTarget, UdpTarget, echo, receive_exactly

HOSTS = """127.0.0.1 localhost www.example.test mail.example.test a.b.example.test example.test
127.0.0.1 other.test
127.0.0.2 second.test
"""


@contextlib.contextmanager
def named_server(settings=None):
    """A server that knows the names above, by a file of hosts that it alone sees."""
    probe = run(["unshare", "-m", "true"], check=False)
    user = [] if probe.returncode == 0 else ["-r"]
    if user and run(["unshare", "-r", "-m", "true"], check=False).returncode != 0:
        raise Skip("no mount namespace of its own for the server")
    server = Server(settings)
    hosts = os.path.join(server.folder, "hosts")
    with open(hosts, "w", encoding="ascii") as file:
        file.write(HOSTS)
    server.prefix = ["unshare", *user, "-m", "sh", "-c",
                     'mount --bind "$0" /etc/hosts && exec "$@"', hosts]
    with server:
        yield server


def add(server, *rule):
    return server.json("access", "add", *rule)["number"]


def rules(server):
    return [row["rule"] for row in server.json("access", "list")["rules"]]


def clear(server):
    for number in range(len(rules(server)), 0, -1):
        server.ctl("access", "remove", str(number))


def reaches(client, host, port):
    """Whether a tunnel is opened; a refusal must be the rules' own."""
    try:
        with socks.connect(client.port, host, port) as sock:
            sock.sendall(b"z")
            return receive_exactly(sock, 1) == b"z"
    except socks.SocksError as error:
        assert error.reply == socks.NOT_ALLOWED, (host, error.reply)
        return False


def denied(server):
    return server.json("stats")["counters"]["udp_dropped_denied"]


def udp_reaches(server, client, host, port):
    """Whether an answer comes; a datagram that is refused must be counted."""
    before = denied(server)
    with socks.Association(client.port) as association:
        association.send(b"ping", host, port)
        association.socket.settimeout(0.05)
        deadline = time.monotonic() + 10 * SLOW
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return association.receive()[0] == b"ping"
            if denied(server) > before:
                return False
    raise AssertionError(f"neither answered nor refused: {host}")


# A rule, and (client, protocol, host) that it meets, and that it does not meet.
SELECTORS = (
    ("deny", [("guest", "tcp", "127.0.0.1"), ("admin", "udp", "www.example.test")], []),
    ("deny client guest", [("guest", "tcp", "127.0.0.1"), ("guest", "udp", "localhost")],
     [("admin", "tcp", "127.0.0.1"), ("admin", "udp", "localhost")]),
    ("deny tcp", [("guest", "tcp", "127.0.0.1")], [("guest", "udp", "127.0.0.1")]),
    ("deny udp", [("guest", "udp", "127.0.0.1")], [("guest", "tcp", "127.0.0.1")]),
    ("deny www.example.test",
     [("guest", "tcp", "www.example.test"), ("guest", "tcp", "WWW.Example.TEST"),
      ("guest", "udp", "www.example.test")],
     [("guest", "tcp", "mail.example.test"), ("guest", "udp", "example.test"),
      ("guest", "tcp", "127.0.0.1")]),
    ("deny *.example.test",
     [("guest", "tcp", "mail.example.test"), ("guest", "udp", "a.B.example.test")],
     [("guest", "tcp", "example.test"), ("guest", "udp", "other.test"),
      ("guest", "tcp", "127.0.0.1")]),
    ("deny *", [("guest", "tcp", "other.test"), ("guest", "udp", "localhost")],
     [("guest", "tcp", "127.0.0.1"), ("guest", "udp", "127.0.0.1")]),
    ("deny net 127.0.0.0/8", [("guest", "tcp", "other.test"), ("guest", "udp", "127.0.0.1")],
     [("guest", "tcp", "::1"), ("guest", "udp", "::1")]),
    ("deny net ::1", [("guest", "tcp", "::1"), ("guest", "udp", "::1")],
     [("guest", "tcp", "127.0.0.1"), ("guest", "udp", "www.example.test")]),
    ("deny port {port}", [("guest", "tcp", "127.0.0.1"), ("guest", "udp", "other.test")], []),
    ("deny port {below}-{above}",
     [("guest", "tcp", "127.0.0.1"), ("guest", "udp", "other.test")], []),
    ("deny port {above}-65535", [], [("guest", "tcp", "127.0.0.1"), ("guest", "udp", "localhost")]),
    ("deny client guest tcp *.example.test net 127.0.0.0/8 port {port}",
     [("guest", "tcp", "www.example.test")],
     [("admin", "tcp", "www.example.test"), ("guest", "udp", "www.example.test"),
      ("guest", "tcp", "example.test"), ("guest", "tcp", "127.0.0.1")]),
)


class Echoes:
    """TCP and UDP on one port number, on 127.0.0.1 and ::1."""

    def __init__(self, stack):
        while True:
            with contextlib.ExitStack() as trial:
                try:
                    first = trial.enter_context(TcpTarget(echo))
                    self.port = first.port

                    def make(family, kind=socket.SOCK_STREAM):
                        return Fixed(self.port, family, kind)

                    trial.enter_context(TcpTarget(echo, "::1", make))
                    trial.enter_context(UdpTarget(make_socket=make))
                    trial.enter_context(UdpTarget(address="::1", make_socket=make))
                except OSError:
                    continue
                stack.push(trial.pop_all())
                return


class Fixed(socket.socket):
    """Binds to a port of its own choice."""

    def __init__(self, port, family, kind):
        super().__init__(family, kind)
        self.wanted = port

    def bind(self, address):
        super().bind((address[0], self.wanted))


def test_selectors():
    """Every selector, alone and together, for TCP and UDP: what it meets and what it does not."""
    with named_server() as server, contextlib.ExitStack() as stack:
        port = Echoes(stack).port
        clients = {name: server.client(server.enrol(name)) for name in ("guest", "admin")}

        def reached(name, protocol, host):
            if protocol == "tcp":
                return reaches(clients[name], host, port)
            return udp_reaches(server, clients[name], host, port)

        for text, met, others in SELECTORS:
            rule = text.format(port=port, below=port - 1, above=port + 1)
            assert all(reached(*target) for target in met + others), rule
            add(server, rule)
            for target in met:
                assert not reached(*target), (rule, target)
            for target in others:
                assert reached(*target), (rule, target)
            # The same selectors, allowing, before a rule that denies all.
            add(server, "deny")
            server.ctl("access", "remove", "1")
            add(server, "--at", "1", rule.replace("deny", "allow", 1))
            for target in met:
                assert reached(*target), (rule, target)
            for target in others:
                assert not reached(*target), (rule, target)
            clear(server)


def test_order_and_restart():
    """The first rule that matches decides; the order is kept through kill -9."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()
        port = target.port
        assert add(server, "deny", "tcp", "net", "127.0.0.0/8") == 1
        assert not reaches(client, "127.0.0.1", port)
        assert add(server, f"allow port {port}") == 2
        assert not reaches(client, "127.0.0.1", port)
        assert add(server, "--at", "1", f"allow tcp port {port}") == 1
        assert reaches(client, "127.0.0.1", port)
        expected = [f"allow tcp port {port}", "deny tcp net 127.0.0.0/8", f"allow port {port}"]
        assert rules(server) == expected
        server.process.kill()
        server.start()
        assert rules(server) == expected
        client = server.client()  # the port is another one
        server.ctl("access", "remove", "1")
        assert not reaches(client, "127.0.0.1", port)
        assert rules(server) == expected[1:]


def test_closed_ranges_need_a_network():
    """With private targets closed: a network opens them, a name or a wide network does not."""
    with named_server({"access.allow_private": "off"}) as server, TcpTarget(echo) as target, \
            UdpTarget() as udp:
        client = server.client()
        for number, rule in enumerate((
                "allow www.example.test", "allow *", f"allow port {target.port}",
                "allow net 0.0.0.0/0", "allow client client0"), 1):
            assert add(server, rule) == number
            assert not reaches(client, "www.example.test", target.port), rule
            assert not reaches(client, "127.0.0.1", target.port), rule
            assert not udp_reaches(server, client, "127.0.0.1", udp.port), rule
        add(server, f"allow *.example.test net 127.0.0.0/8 port {target.port}")
        assert reaches(client, "www.example.test", target.port)
        assert not reaches(client, "127.0.0.1", target.port)
        assert not reaches(client, "other.test", target.port)
        add(server, "allow udp net 127.0.0.1")
        assert udp_reaches(server, client, "127.0.0.1", udp.port)
        assert not reaches(client, "127.0.0.1", target.port)
        answer = server.json("access", "test", "client0", "tcp", f"localhost:{target.port}")
        assert not answer["allowed"]
        row = next(r for r in answer["addresses"] if r["address"] == "127.0.0.1")
        assert row["rule"] is None and row["passed_over"] == 2, row
        assert "127.0.0.0/8" in row["why"] and "rule 2" in row["why"], row


def test_denied_name_is_not_looked_up():
    """A name that a rule refuses costs no query."""
    with named_server() as server, TcpTarget(echo) as target:
        client = server.client()
        add(server, "deny *.example.test")
        before = server.json("stats")["counters"]["dns_queries"]
        assert not reaches(client, "www.example.test", target.port)
        assert not udp_reaches(server, client, "mail.example.test", 9)
        assert server.json("stats")["counters"]["dns_queries"] == before
        assert reaches(client, "other.test", target.port)
        assert server.json("stats")["counters"]["dns_queries"] == before + 1


def open_tunnel(client, host, port):
    sock = socks.connect(client.port, host, port)
    sock.sendall(b"a")
    assert receive_exactly(sock, 1) == b"a"
    return sock


def still_there(sock):
    sock.sendall(b"b")
    return receive_exactly(sock, 1) == b"b"


def wait_cut(sock, begin):
    """The tunnel has been reset within a second of the command's start."""
    sock.settimeout(5 * SLOW)
    try:
        data = sock.recv(1)
    except ConnectionResetError:
        data = b""
    assert data == b"" and time.monotonic() - begin < 1.0 * SLOW, time.monotonic() - begin


def test_change_ends_tunnels():
    """Tunnels that a change refuses end within a second; others, and with --keep all, stay."""
    with named_server() as server, TcpTarget(echo) as target, TcpTarget(echo) as other:
        guest = server.client(server.enrol("guest"))
        admin = server.client(server.enrol("admin"))
        by_name = open_tunnel(guest, "www.example.test", target.port)
        by_address = open_tunnel(guest, "127.0.0.1", target.port)
        elsewhere = open_tunnel(guest, "127.0.0.1", other.port)
        of_admin = open_tunnel(admin, "www.example.test", target.port)

        begin = time.monotonic()
        server.ctl("access", "add", "deny", "client", "guest", "*.example.test")
        wait_cut(by_name, begin)
        guest.process.wait_line("access rules have changed")
        assert still_there(by_address) and still_there(elsewhere) and still_there(of_admin)

        # Kept ones stay, also through changes of other things, until the rules change again.
        server.ctl("access", "add", "--keep", "deny", "net", "127.0.0.0/8", "port",
                   str(target.port))
        assert not reaches(admin, "127.0.0.1", target.port)
        server.ctl("set", "quic.idle_timeout_secs", "40")
        server.enrol("late")
        server.ctl("access", "add", "--keep", "deny", "port", "9")
        assert still_there(by_address) and still_there(of_admin) and still_there(elsewhere)
        begin = time.monotonic()
        server.ctl("access", "remove", "3")
        wait_cut(by_address, begin)
        wait_cut(of_admin, begin)
        assert still_there(elsewhere)
        # Removing the rule that allowed it ends a tunnel as well.
        server.ctl("access", "add", "--at", "1", "allow", "port", str(other.port))
        server.ctl("access", "add", "deny")
        assert still_there(elsewhere)
        begin = time.monotonic()
        server.ctl("access", "remove", "1")
        wait_cut(elsewhere, begin)


def test_change_ends_udp():
    """Targets and answers of running associations follow the rules; with --keep they go on."""
    with Server() as server, UdpTarget() as target:
        client = server.client()
        with socks.Association(client.port) as association:
            assert association.exchange(b"1", "127.0.0.1", target.port)[0] == b"1"
            server.ctl("access", "add", "--keep", "deny", "udp", "net", "127.0.0.1")
            assert association.exchange(b"2", "127.0.0.1", target.port)[0] == b"2"
            before = denied(server)
            server.ctl("access", "add", "deny", "udp", "port", "9")
            association.send(b"3", "127.0.0.1", target.port)
            wait_until(lambda: denied(server) > before, what="the refused datagram")
            # Nor does the target's own word come through.
            before = denied(server)
            target.socket.sendto(b"4", target.sources[-1])
            wait_until(lambda: denied(server) > before, what="the refused answer")
            assert b"3" not in target.received
            server.ctl("access", "remove", "1")
            assert association.exchange(b"5", "127.0.0.1", target.port)[0] == b"5"


def test_strangers_answers():
    """Packets from sources that were not written to arrive, unless a rule refuses them."""
    with Server() as server, UdpTarget() as target, UdpTarget(address="127.0.0.2") as stranger:
        client = server.client()
        with socks.Association(client.port) as association:
            assert association.exchange(b"1", "127.0.0.1", target.port)[0] == b"1"
            relay = target.sources[-1]
            stranger.socket.sendto(b"hello", relay)
            assert association.receive() == (b"hello", "127.0.0.2", stranger.port)
            add(server, f"deny udp net 127.0.0.2 port {stranger.port}")
            before = denied(server)
            stranger.socket.sendto(b"again", relay)
            wait_until(lambda: denied(server) > before, what="the refused packet")
            assert association.exchange(b"2", "127.0.0.1", target.port)[0] == b"2"


def test_bad_changes_change_nothing():
    """Mistakes are refused with the reason, exit status 1 or 2, and the rules stay."""
    with Server() as server:
        add(server, "deny port 25")
        for args, status, reason in (
                (("add",), 2, "usage"),
                (("add", "deny", "guest"), 2, "client guest"),
                (("add", "deny", "net", "10.0.0.1/8"), 2, "prefix"),
                (("add", "--at", "0", "deny"), 2, "--at"),
                (("add", "--at", "3", "deny"), 1, "1 to 2"),
                (("remove", "2"), 1, "no access rule 2"),
                (("remove", "all"), 2, "number"),
                (("test", "nobody", "tcp", "a.test:1"), 1, "no client"),
                (("test", "-", "icmp", "a.test:1"), 2, "tcp or udp"),
                (("test", "-", "tcp", "a.test"), 2, "looks like")):
            done = server.ctl("access", *args, check=False)
            assert done.returncode == status and reason in done.stderr, (args, done)
        assert rules(server) == ["deny port 25"]
        done = server.ctl("access", "add", "deny", "client", "ghost")
        assert "no client 'ghost'" in done.stderr, done


def test_test_says_which_rule():
    """`access test`: the rule, the default, or why a rule does not count, for each address."""
    with named_server() as server:
        server.enrol("guest")
        for rule in ("deny client guest *.example.test port 25", "allow port 25",
                     "deny net 127.0.0.2"):
            add(server, rule)

        def test(*args):
            return server.json("access", "test", *args)

        refused = test("guest", "tcp", "www.example.test:25")
        assert (refused["allowed"], refused["rule"], refused["addresses"]) == (False, 1, [])
        assert "not looked up" in refused["why"]
        allowed = test("-", "tcp", "www.example.test:25")
        assert allowed["allowed"] and allowed["addresses"][0]["rule"] == 2
        row = test("guest", "udp", "second.test:53")["addresses"][0]
        assert (row["address"], row["allowed"], row["rule"]) == ("127.0.0.2", False, 3)
        row = test("guest", "udp", "8.8.8.8:53")["addresses"][0]
        assert (row["allowed"], row["rule"]) == (True, None), row
        row = test("guest", "tcp", "[fe80::1]:80")["addresses"][0]
        assert not row["allowed"] and "fe80::/10" in row["why"], row
        shown = server.ctl("access", "test", "guest", "tcp", "www.example.test:25").stdout
        assert shown.startswith("refused") and "rule 1" in shown, shown
        server.ctl("--yes", "client", "revoke", "guest")
        assert "revoked" in server.ctl("access", "test", "guest", "tcp", "127.0.0.1:1").stderr


@alone
def test_many_clients_and_rules():
    """10,000 clients and 1,000 rules: a start under a second, `client add` under 50 ms."""
    with Server() as server, TcpTarget(echo) as target:
        server.process.stop()
        database = sqlite3.connect(os.path.join(server.state, "mytunnel.db"))
        with database:
            database.executemany(
                "INSERT INTO client (name, fingerprint, created_at) VALUES (?, ?, 0)",
                ((f"c{number}", os.urandom(32)) for number in range(10000)))
            database.executemany(
                "INSERT INTO access_rule (position, rule, created_at) VALUES (?, ?, 0)",
                ((number, f"deny client c{number} tcp *.d{number}.test net 10.{number % 256}.0.0/16"
                          f" port {number}-{number + 1000}") for number in range(1, 1001)))
        database.close()
        begin = time.monotonic()
        server.start()
        assert server.status()["listeners"]
        took = time.monotonic() - begin
        assert took < 1.0 * SLOW, f"the start took {took:.2f} s"
        assert len(rules(server)) == 1000
        client = server.client(server.enrol("real"))
        assert reaches(client, "127.0.0.1", target.port)
        times = []
        for number in range(7):
            begin = time.monotonic()
            server.ctl("client", "add", f"new{number}")
            times.append(time.monotonic() - begin)
        # The least disturbed one: other programs share this machine.
        assert min(times) < 0.05 * SLOW, f"client add took {min(times) * 1000:.0f} ms"
        begin = time.monotonic()
        server.ctl("access", "add", "deny", "port", str(target.port))
        assert time.monotonic() - begin < 1.0 * SLOW
        assert not reaches(client, "127.0.0.1", target.port)


def test_unreadable_rule_stops_the_start():
    """A damaged rule might be the one that denies: no start without it, exit status 78."""
    with Server() as server:
        add(server, "deny port 25")
        server.process.stop()
        database = sqlite3.connect(os.path.join(server.state, "mytunnel.db"))
        with database:
            database.execute("UPDATE access_rule SET rule = 'deny everything'")
        database.close()
        try:
            server.start()
            raise AssertionError("it started")
        except AssertionError as error:
            assert "78" in str(error), error
        assert "access rule" in server.process.text()
