"""Real programs and bulk data through a tunnel."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import socks
from harness import (FULL, SANITIZE, SLOW, TIMEOUT, Server, environment, need, over_tls, run,
                     wait_until)
from targets import (DnsTarget, EchoTarget, HttpTarget, TcpTarget, UdpTarget, dns_answer, dns_query,
                     echo, receive_all, receive_exactly, send_blocks)


def bulk_size():
    return (2 << 30) if FULL else (24 << 20) if SANITIZE else (256 << 20)


def page_folder(folder, size=1 << 20):
    with open(os.path.join(folder, "page.html"), "wb") as file:
        file.write(b"<!doctype html><title>page</title>" + os.urandom(size))
    with open(os.path.join(folder, "page.html"), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def curl(*args):
    need("curl")
    with tempfile.NamedTemporaryFile() as out:
        done = run(["curl", "-sS", "--max-time", str(TIMEOUT), "-o", out.name,
                    "-w", "%{http_code}", *args])
        with open(out.name, "rb") as file:
            return int(done.stdout), hashlib.sha256(file.read()).hexdigest()


@over_tls
def test_curl_socks5_and_http():
    """A page over SOCKS5 by name and by address, over HTTP CONNECT, and as a plain HTTP request."""
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        expected = page_folder(folder)
        client = server.client()
        with HttpTarget(folder) as target:
            proxy = f"127.0.0.1:{client.port}"
            for url, options in (
                ("localhost", ["--socks5-hostname", proxy]),
                ("127.0.0.1", ["--socks5-hostname", proxy]),
                ("127.0.0.1", ["--socks5", proxy]),
                ("localhost", ["--proxy", f"http://{proxy}", "--proxytunnel"]),
                ("127.0.0.1", ["--proxy", f"http://{proxy}", "--proxytunnel"]),
                ("localhost", ["--proxy", f"http://{proxy}"]),
                ("127.0.0.1", ["--proxy", f"http://{proxy}"]),
            ):
                got = curl(*options, f"http://{url}:{target.port}/page.html")
                assert got == (200, expected), (url, options, got)
            # Two requests in one go: the proxy keeps apart what belongs to which.
            twice = run(["curl", "-sS", "--proxy", f"http://{proxy}", "-o", os.devnull, "-o",
                         os.devnull, "-w", "%{http_code} ",
                         f"http://127.0.0.1:{target.port}/page.html",
                         f"http://127.0.0.1:{target.port}/absent"])
            assert twice.stdout.split() == ["200", "404"], twice.stdout


@over_tls
def test_ipv6_target():
    """An IPv6 literal over SOCKS5 (address type 4) and HTTP CONNECT (brackets)."""
    try:
        target = TcpTarget(echo, "::1")
    except OSError:
        from harness import Skip
        raise Skip("no IPv6 on loopback") from None
    with Server() as server, target:
        client = server.client()
        with socks.connect(client.port, "::1", target.port) as sock:
            sock.sendall(b"six")
            assert receive_exactly(sock, 3) == b"six"
        status, sock = socks.http_connect(client.port, "::1", target.port)
        with sock:
            assert status == 200
            sock.sendall(b"six")
            assert receive_exactly(sock, 3) == b"six"


@over_tls
def test_forward():
    """-L forwards, several at once, beside the proxy."""
    with Server() as server, TcpTarget(echo) as one, TcpTarget(echo) as two:
        client = server.client(args=["-L", f"0:127.0.0.1:{one.port}",
                                     "-L", f"127.0.0.1:0:localhost:{two.port}"])
        for target in (one, two):
            with socket.create_connection(("127.0.0.1", forward_port(client, target.port))) as sock:
                sock.settimeout(TIMEOUT)
                sock.sendall(b"forward")
                assert receive_exactly(sock, 7) == b"forward"
            assert target.accepted == 1


def forward_port(client, target_port):
    """The local port of the -L forward to `target_port`, as `connect` prints it."""
    match = client.process.wait_line(
        rf"127\.0\.0\.1:(\d+)\b.*:{target_port}\b")
    return int(match.group(1))


@over_tls
def test_ssh_through_forward():
    """An ssh session through -L: a command's output, and 8 MiB of standard input to and fro."""
    need("ssh", "sshd", "ssh-keygen")
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        with TcpTarget(sshd(folder)) as target:
            client = server.client(args=["-L", f"0:127.0.0.1:{target.port}"])
            port = forward_port(client, target.port)
            data = os.urandom(1 << 23)
            done = subprocess.run(
                ["ssh", "-F", os.devnull, "-p", str(port), "-i", f"{folder}/user", "-o",
                 "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known",
                 "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "127.0.0.1", "cat"],
                input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT,
                env=environment(), check=False)
            assert done.returncode == 0, done.stderr.decode()
            assert done.stdout == data


def sshd(folder):
    """A handler that gives each connection to an sshd of its own, in inetd mode."""
    for name in ("host", "user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"])
    shutil.copy(f"{folder}/user.pub", f"{folder}/authorized")
    with open(f"{folder}/sshd_config", "w", encoding="ascii") as file:
        file.write(f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
                   "StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
                   "PermitRootLogin prohibit-password\n")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    path = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")

    def serve(sock, _):
        sock.setblocking(True)
        with open(f"{folder}/sshd.log", "ab") as log, sock:
            return subprocess.run([path, "-i", "-e", "-f", f"{folder}/sshd_config"], stdin=sock,
                                  stdout=sock, stderr=log, check=False).returncode

    return serve


@over_tls
def test_git_over_http():
    """git clones, and pushes a commit, through the SOCKS5 proxy."""
    need("git")
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        origin, work = os.path.join(folder, "origin.git"), os.path.join(folder, "work")
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        run(["git", "init", "-q", "--bare", "-b", "main", origin])
        run(["git", "-C", origin, "config", "http.receivepack", "true"])
        client = server.client()
        with HttpTarget(folder, git_root=folder) as target:
            proxy = ["-c", f"http.proxy=socks5h://127.0.0.1:{client.port}"]
            url = f"http://localhost:{target.port}/git/origin.git"
            run(["git", *proxy, "clone", "-q", url, work])
            with open(os.path.join(work, "file"), "wb") as file:
                file.write(os.urandom(500_000))
            run(["git", "-C", work, "add", "file"])
            run(["git", "-C", work, *who, "commit", "-q", "-m", "file"])
            run(["git", "-C", work, *proxy, "push", "-q", "origin", "HEAD:main"])
            run(["git", *proxy, "clone", "-q", url, work + "2"])
        heads = {run(["git", "-C", path, "rev-parse", "main"]).stdout
                 for path in (work, origin, work + "2")}
        assert len(heads) == 1, heads
        run(["git", "-C", work + "2", "fsck", "--strict"])


def test_dns_over_udp():
    """A question to a resolver over UDP ASSOCIATE, by name and address, and by dig."""
    with Server() as server, DnsTarget() as resolver:
        client = server.client()
        query = dns_query("www.example.org")
        with socks.Association(client.port) as association:
            for host in ("127.0.0.1", "localhost"):
                payload, source, port = association.exchange(query, host, resolver.port)
                assert payload == dns_answer(query), payload
                assert (source, port) == (host, resolver.port), (source, port)
        need("dig")
        with socks.UdpForward(client.port, "127.0.0.1", resolver.port) as forward:
            done = run(["dig", "+short", "+tries=3", "+noedns", "-p", str(forward.port),
                        "@127.0.0.1", "www.example.org", "A"])
            assert done.stdout.split() == ["192.0.2.53"], done.stdout


def test_udp_sizes_and_full_cone():
    """Payloads from 0 bytes up; answers that come several times and from another port arrive."""
    with Server() as server:
        client = server.client()
        with UdpTarget(lambda data: [data, data]) as target, UdpTarget() as stranger:
            with socks.Association(client.port) as association:
                for size in (0, 1, 500, 1100):
                    data = os.urandom(size)
                    assert association.exchange(data, "127.0.0.1", target.port)[0] == data
                    assert association.receive()[0] == data
                # Endpoint-independent filtering: whoever knows the relay's address may answer.
                source = target.sources[-1]
                stranger.socket.sendto(b"unasked", source)
                payload, host, port = association.receive()
                assert (payload, host, port) == (b"unasked", "127.0.0.1", stranger.port)
            # Endpoint-independent mapping: one socket of the server for all targets.
            assert len(set(target.sources)) == 1, target.sources


def test_thousand_tunnels():
    """1,000 tunnels open at once at 100 streams a connection, each with its own bytes."""
    count = 1000
    with Server() as server, EchoTarget() as target:
        client = server.client()
        tunnels = []
        try:
            for number in range(count):
                sock = socks.connect(client.port, "127.0.0.1", target.port, timeout=30 * SLOW)
                tunnels.append(sock)
            wait_until(lambda: target.open == count, what=f"{count} connections at the target")
            for number, sock in enumerate(tunnels):
                sock.sendall(b"%08d" % number)
            for number, sock in enumerate(tunnels):
                assert receive_exactly(sock, 8) == b"%08d" % number
            connections = server.connections()
            assert len(connections) >= 10, len(connections)
            assert sum(c["streams"] for c in connections) >= count, connections
        finally:
            for sock in tunnels:
                sock.close()
        wait_until(lambda: target.open == 0, what="all tunnels to be closed")
        # What was used up is free again.
        with socks.connect(client.port, "127.0.0.1", target.port) as sock:
            sock.sendall(b"again")
            assert receive_exactly(sock, 5) == b"again"


@over_tls
def test_bulk_both_ways():
    """Much data in both directions of one tunnel at the same time, checksums equal."""
    size = bulk_size()

    def exchange(sock, _):
        sent = []
        sender = threading.Thread(target=lambda: sent.append(finish(sock, size, 2)))
        sender.start()
        received = receive_all(sock)
        sender.join(600)
        return received, sent[0]

    with Server() as server, TcpTarget(exchange) as target:
        client = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port, timeout=120 * SLOW) as sock:
            sent = []
            sender = threading.Thread(target=lambda: sent.append(finish(sock, size, 1)))
            sender.start()
            count, digest = receive_all(sock)
            sender.join(600)
        target.wait_ended(timeout=120 * SLOW)
        assert not target.errors, target.errors
        (target_count, target_digest), target_sent = target.results[0]
        assert (count, digest) == (size, target_sent)
        assert (target_count, target_digest) == (size, sent[0])
        metrics = server.metrics()
        assert metrics["mytunnel_bytes_received"] >= size, metrics
        assert metrics["mytunnel_bytes_sent"] >= size, metrics


def finish(sock, size, seed):
    digest = send_blocks(sock, size, seed)
    sock.shutdown(socket.SHUT_WR)
    return digest


@over_tls
def test_many_parallel_transfers():
    """60 transfers side by side, each with its own content."""
    count, size = 60, (1 << 18 if SANITIZE else 1 << 21)

    def reflect(sock, _):
        number = int(receive_exactly(sock, 4))
        return number, finish(sock, size, number)

    with Server() as server, TcpTarget(reflect) as target:
        client = server.client()
        got = {}

        def fetch(number):
            with socks.connect(client.port, "127.0.0.1", target.port, timeout=60 * SLOW) as sock:
                sock.sendall(b"%04d" % number)
                got[number] = receive_all(sock)

        threads = [threading.Thread(target=fetch, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120 * SLOW)
        target.wait_ended(count)
        assert got == {number: (size, digest) for number, digest in target.results}


@over_tls
def test_true_reasons():
    """Local applications are told why a target cannot be reached."""
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # bound, not listening: refused
    with closed, Server() as server:
        client = server.client()
        for host, port, reply, status in (
            ("127.0.0.1", closed.getsockname()[1], socks.REFUSED, 502),
            ("does-not-exist.invalid", 80, socks.HOST_UNREACHABLE, 502),
            ("169.254.1.1", 80, socks.NOT_ALLOWED, 403),
        ):
            try:
                socks.connect(client.port, host, port).close()
                raise AssertionError(f"{host} was reached")
            except socks.SocksError as error:
                assert error.reply == reply, (host, error.reply)
            code, sock = socks.http_connect(client.port, host, port)
            sock.close()
            assert code // 100 in (4, 5) and (status != 403 or code == 403), (host, code)
        # BIND is not offered.
        try:
            socks._request(client.port, 2, "127.0.0.1", 80, TIMEOUT)[0].close()
            raise AssertionError("BIND was accepted")
        except socks.SocksError as error:
            assert error.reply == socks.COMMAND_NOT_SUPPORTED


def test_ping():
    """`mytunnel ping` measures the latency over the control channel."""
    from harness import program
    with Server() as server:
        done = run([program("mytunnel"), "ping", server.enrol()])
        assert re.search(r"\d+(\.\d+)? ms", done.stdout), done.stdout


def test_association_ends_with_its_connection():
    """Also when the application's end came together with its request."""
    with Server() as server:
        client = server.client()
        with socket.create_connection(("127.0.0.1", client.port)) as sock:
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            sock.sendall(b"\x05\x01\x00" + b"\x05\x03\x00" + socks.encode_address("0.0.0.0", 0))
            sock.shutdown(socket.SHUT_WR)
            assert receive_exactly(sock, 5) == b"\x05\x00\x05\x00\x00"
            assert len(receive_exactly(sock, 7)) == 7
            assert sock.recv(1) == b"", "the association lives on"
