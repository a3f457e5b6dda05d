"""Who gets in, and where to: identities, revocation, pins, private targets, what clients are told."""

import base64
import os
import re
import socket
import threading
import time

import socks
from harness import SLOW, TIMEOUT, Server, program, run, wait_until
from targets import TcpTarget, UdpTarget, echo, receive_exactly


def refused(server, profile):
    """`mytunnel connect` that must end by itself with exit status 1; returns what it said."""
    client = server.client(profile, wait=False)
    assert client.process.wait(TIMEOUT) == 1, client.process.text()
    said = [line for line in client.process.text().splitlines() if line.strip()]
    assert said, "no reason given"
    return "\n".join(said)


def rewrite(server, profile, name, pattern, replacement):
    with open(profile, encoding="ascii") as file:
        uri, count = re.subn(pattern, replacement, file.read().strip(), count=1)
    assert count == 1, uri
    return server.write_profile(name, uri)


def token():
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def test_unknown_identity():
    """A key that the server does not know: exit 1, one sentence, and the counters show it."""
    with Server() as server:
        before = server.metrics()["mytunnel_connections_failed"]
        profile = rewrite(server, server.enrol(), "stranger", r"//[^@]+@", f"//{token()}@")
        said = refused(server, profile)
        assert re.search(r"identity|know", said), said
        wait_until(lambda: server.metrics()["mytunnel_connections_failed"] > before,
                   what="the failed connection in the counters")


def test_missing_identity():
    """A profile without a key: exit 1 and the reason."""
    with Server() as server:
        profile = rewrite(server, server.enrol(), "anonymous", r"//[^@]+@", "//")
        said = refused(server, profile)
        assert re.search(r"identity|key|certificate", said), said


def test_wrong_pin():
    """Another server than the profile's: refused by the client, exit 1 and the reason."""
    with Server() as server:
        profile = rewrite(server, server.enrol(), "pin", r"pin=[^#]+", f"pin={token()}")
        said = refused(server, profile)
        assert "pin" in said, said


def test_revoked_identity():
    """Revoked while connected: over within 1 s, exit 1 with the reason; refused from then on."""
    with Server() as server, TcpTarget(echo) as target:
        profile = server.enrol("gone")
        client = server.client(profile)
        other = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x")
            receive_exactly(sock, 1)
            server.ctl("--yes", "client", "revoke", "gone")
            begin = time.monotonic()
            assert client.process.wait(TIMEOUT) == 1
            assert time.monotonic() - begin < 1.5 * SLOW
        assert "revoked" in client.process.text(), client.process.text()
        assert re.search(r"revoked|know", refused(server, profile))
        with socks.connect(other.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"y")
            receive_exactly(sock, 1)


def test_private_targets_refused_by_default():
    """access.allow_private is off by default: SOCKS reply 2, a dropped datagram, nothing arrives."""
    with Server({"access.allow_private": "off"}) as server, TcpTarget(echo) as target, \
            UdpTarget() as udp:
        client = server.client()
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
                     "::1", "::ffff:127.0.0.1", "0.0.0.0", "10.0.0.1", "192.168.1.1",
                     "100.64.0.1", "169.254.169.254", "224.0.0.1", "64:ff9b::7f00:1"):
            try:
                socks.connect(client.port, host, target.port).close()
                raise AssertionError(f"{host} was reached")
            except socks.SocksError as error:
                # What is no address at all in the resolver's eyes is an unknown name.
                allowed = {socks.NOT_ALLOWED}
                if re.fullmatch(r"127\.1|\d+|0x\w+|0177.*", host):
                    allowed.add(socks.HOST_UNREACHABLE)
                assert error.reply in allowed, (host, error.reply)
        with socks.Association(client.port) as association:
            for host in ("127.0.0.1", "localhost"):
                association.send(b"secret", host, udp.port)
            wait_until(lambda: any("denied" in name and value >= 1
                                   for name, value in server.metrics().items()),
                       what="a counter of refused datagrams")
        assert target.accepted == 0 and udp.received == []
        # Switched on, it applies at once, to the live client.
        server.ctl("set", "access.allow_private", "on")
        wait_until(lambda: reaches(client.port, target.port), what="the setting to apply")


def reaches(port, target_port):
    try:
        with socks.connect(port, "127.0.0.1", target_port) as sock:
            sock.sendall(b"z")
            return receive_exactly(sock, 1) == b"z"
    except socks.SocksError:
        return False


def test_profile_as_argument_is_refused():
    """A URI on the command line would be public on the machine."""
    with Server() as server:
        with open(server.enrol(), encoding="ascii") as file:
            uri = file.read().strip()
        done = run([program("mytunnel"), "connect", uri], check=False)
        assert done.returncode in (1, 2), done
        assert uri[11:40] not in done.stdout + done.stderr
        assert re.search(r"file|import|argument", done.stderr), done.stderr


def test_bad_profiles():
    """Malformed profiles are refused with the reason; nothing is sent."""
    with Server() as server:
        with open(server.enrol(), encoding="ascii") as file:
            uri = file.read().strip()
        for number, bad in enumerate((
                "", "http://example.org", uri[:30], uri.replace("?pin=", "?pin=AAAA"),
                uri + "\nmore", uri.replace("#", "&pin=x#"), "x" * 5000)):
            profile = server.write_profile(f"bad{number}", bad)
            done = run([program("mytunnel"), "connect", profile], check=False)
            assert done.returncode == 1, (bad, done)
            assert done.stderr.strip(), bad


def test_import_and_keygen():
    """A profile on standard input becomes a 0600 file; a key made by the client is enrolled."""
    with Server() as server, TcpTarget(echo) as target:
        home = os.path.join(server.folder, "home")
        os.mkdir(home)
        with open(server.enrol(), encoding="ascii") as file:
            uri = file.read()
        from harness import environment
        env = {**environment(), "HOME": home}
        env.pop("XDG_CONFIG_HOME", None)
        run([program("mytunnel"), "import", "work"], input=uri, env=env, stdin=None)
        files = [os.path.join(folder, name) for folder, _, names in os.walk(home)
                 for name in names]
        assert len(files) == 1 and "/.config/mytunnel/" in files[0], files
        assert os.stat(files[0]).st_mode & 0o777 == 0o600
        client = server.client(files[0])
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"x")
            receive_exactly(sock, 1)


def is_connecting(port):
    """Whether some socket of this host is in SYN-SENT to 127.0.0.1:`port`."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table]
    return any(row[2] == f"0100007F:{port:04X}" and row[3] == "02" for row in rows)


def test_rules_change_during_connect():
    """A connect that was allowed when it began is judged again when it succeeds."""
    with Server() as server, socket.socket() as listener:
        client = server.client()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the queue is full
            replies = []

            def ask():
                try:
                    socks.connect(client.port, "127.0.0.1", port).close()
                    replies.append(0)
                except socks.SocksError as error:
                    replies.append(error.reply)

            thread = threading.Thread(target=ask)
            thread.start()
            wait_until(lambda: is_connecting(port), what="the first SYN, which is dropped")
            server.ctl("set", "access.allow_private", "off")
            listener.accept()[0].close()
            thread.join(TIMEOUT)
        assert replies == [socks.NOT_ALLOWED], replies
