"""Half-close and resets in all orders: a cut transfer is never reported as a complete one."""

import contextlib
import socket
import threading

import socks
from harness import SANITIZE, SLOW, TIMEOUT, Server, lengthy, over_tls, wait_until
from targets import TcpTarget, receive_all, receive_exactly, reset, send_blocks, sum_of

SIZE = (1 << 20) if SANITIZE else (4 << 20)


@contextlib.contextmanager
def tunnel(handler):
    """(application's socket, target, server) with one tunnel between them."""
    with Server() as server, TcpTarget(handler) as target:
        client = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port, timeout=TIMEOUT) as sock:
            yield sock, target, server


def expect_reset(sock):
    """Data may come first, but the end is a reset, no FIN."""
    try:
        count, _ = receive_all(sock)
    except (ConnectionResetError, BrokenPipeError):
        return
    raise AssertionError(f"a clean end after {count} bytes of a cut transfer")


@over_tls
def test_application_ends_first():
    """FIN from the application; the target then sends much, and ends."""

    def handler(sock, _):
        received = receive_all(sock)
        send_blocks(sock, SIZE, 2)
        sock.shutdown(socket.SHUT_WR)
        return received

    with tunnel(handler) as (sock, target, _):
        sent = send_blocks(sock, SIZE, 1)
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == (SIZE, sum_of(SIZE, 2))
        target.wait_ended()
        assert target.results == [(SIZE, sent)], (target.results, target.errors)


@over_tls
def test_target_ends_first():
    """FIN from the target; the application then sends much, and ends."""

    def handler(sock, _):
        send_blocks(sock, SIZE, 2)
        sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)

    with tunnel(handler) as (sock, target, _):
        assert receive_all(sock) == (SIZE, sum_of(SIZE, 2))
        sent = send_blocks(sock, SIZE, 1)
        sock.shutdown(socket.SHUT_WR)
        target.wait_ended()
        assert target.results == [(SIZE, sent)], (target.results, target.errors)


@over_tls
def test_both_end_at_once():
    """Both send all they have and FIN at once; both get everything."""

    def handler(sock, _):
        sender = threading.Thread(target=lambda: (send_blocks(sock, SIZE, 2),
                                                  sock.shutdown(socket.SHUT_WR)))
        sender.start()
        received = receive_all(sock)
        sender.join(TIMEOUT)
        return received

    with tunnel(handler) as (sock, target, _):
        send_blocks(sock, SIZE, 1)
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == (SIZE, sum_of(SIZE, 2))
        target.wait_ended()
        assert target.results == [(SIZE, sum_of(SIZE, 1))]


@over_tls
def test_empty_streams():
    """FIN without a byte, from either side."""

    def handler(sock, _):
        sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)[0]

    with tunnel(handler) as (sock, target, _):
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock)[0] == 0
        target.wait_ended()
        assert target.results == [0]


@over_tls
def test_target_resets_in_the_middle():
    """RST from the target while it sends: the application sees a reset."""

    def handler(sock, _):
        send_blocks(sock, SIZE)
        receive_exactly(sock, 1)
        reset(sock)

    with tunnel(handler) as (sock, _, server):
        receive_exactly(sock, 65536)
        sock.sendall(b"x")
        expect_reset(sock)
        wait_until(lambda: not any(c["streams"] > 1 for c in server.connections()),
                   what="the stream to be gone")


@over_tls
def test_target_resets_at_once():
    """RST from the target before any byte: a reset, or a refusal when it was there before the status.

    RESET_STREAM takes away a status that has not left yet (RFC 9000, section 3.1): both are the truth.
    """

    def handler(sock, _):
        reset(sock)

    try:
        with tunnel(handler) as (sock, _, _):
            expect_reset(sock)
    except socks.SocksError as error:
        assert error.reply == socks.GENERAL_FAILURE, error


@over_tls
def test_target_resets_after_applications_fin():
    """FIN from the application, then RST from the target in the middle of its answer."""

    def handler(sock, _):
        receive_all(sock)
        send_blocks(sock, 100_000)
        reset(sock)

    with tunnel(handler) as (sock, _, _):
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        expect_reset(sock)


@over_tls
def test_target_resets_after_its_fin():
    """FIN from the target, then RST: what it sent is whole, the other direction is cut."""
    go = threading.Event()

    def handler(sock, _):
        sock.sendall(b"answer")
        sock.shutdown(socket.SHUT_WR)
        go.wait(TIMEOUT)
        reset(sock)

    with tunnel(handler) as (sock, _, _):
        assert receive_all(sock)[0] == 6
        go.set()
        # The other direction ends as soon as the application goes on sending.
        sock.settimeout(TIMEOUT)
        try:
            for _ in range(100_000):
                sock.sendall(b"x" * 1000)
        except (ConnectionResetError, BrokenPipeError):
            return
        raise AssertionError("the application may send for ever into a cut direction")


def application_resets(before, fin=False):
    """`before(sock)` at the application, then RST; the target must see a reset."""

    def handler(sock, _):
        sock.sendall(b"r")
        if fin:
            sock.shutdown(socket.SHUT_WR)
        try:
            count, _ = receive_all(sock)
        except ConnectionResetError:
            return "reset"
        return f"a clean end after {count} bytes"

    with tunnel(handler) as (sock, target, server):
        receive_exactly(sock, 1)
        if fin:
            assert sock.recv(1) == b""
        before(sock)
        reset(sock)
        target.wait_ended()
        assert target.results == ["reset"], (target.results, target.errors)
        wait_until(lambda: not any(c["streams"] > 1 for c in server.connections()),
                   what="the stream to be gone")


@over_tls
def test_application_resets_in_the_middle():
    """RST from the application while it sends: the target sees a reset."""
    application_resets(lambda sock: send_blocks(sock, SIZE))


@over_tls
def test_application_resets_at_once():
    """RST from the application before any byte."""
    application_resets(lambda sock: None)


@over_tls
def test_application_resets_after_targets_fin():
    """FIN from the target, then RST from the application in the middle of its data."""
    application_resets(lambda sock: send_blocks(sock, 100_000), fin=True)


@over_tls
def test_application_resets_after_its_fin():
    """FIN from the application, then RST: the target's answer has nobody to go to."""
    gone = threading.Event()

    def handler(sock, _):
        count = receive_all(sock)[0]
        sock.sendall(b"r")
        gone.wait(TIMEOUT)
        try:
            for _ in range(100_000):
                sock.sendall(b"x" * 1000)
        except (ConnectionResetError, BrokenPipeError):
            return count
        raise AssertionError("the target may send for ever")

    with tunnel(handler) as (sock, target, _):
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        receive_exactly(sock, 1)
        reset(sock)
        gone.set()
        target.wait_ended()
        assert target.results == [8], (target.results, target.errors)


@over_tls
def test_back_pressure():
    """A target that does not read stops the application after a bounded amount; then all arrives."""
    go = threading.Event()

    def handler(sock, _):
        go.wait(TIMEOUT)
        return receive_all(sock)

    size = 64 << 20
    with tunnel(handler) as (sock, target, _):
        sock.settimeout(2 * SLOW)
        sent = 0
        chunk = bytes(1 << 16)
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += sock.send(chunk)
        assert sent < size, "64 MiB vanished into buffers"
        go.set()
        sock.settimeout(TIMEOUT)
        sock.shutdown(socket.SHUT_WR)
        target.wait_ended()
        assert [count for count, _ in target.results] == [sent], (target.results, sent)


@over_tls
@lengthy
def test_server_killed_in_the_middle():
    """kill -9 of the server while a target sends: the application sees a reset, no end."""
    stop = threading.Event()

    def handler(sock, _):
        while not stop.is_set():
            sock.sendall(bytes(1 << 16))

    with tunnel(handler) as (sock, _, server):
        receive_exactly(sock, 1 << 20)
        server.process.kill()
        sock.settimeout(60)  # up to the idle timeout
        expect_reset(sock)
        stop.set()


@lengthy
def test_client_goes_and_target_never_reads():
    """What is left to deliver when the connection has gone is given up after a while: clients that
    come and go cannot pile up sockets and memory behind targets that never read."""
    stop = threading.Event()

    def never_reads(sock, _):
        sock.shutdown(socket.SHUT_WR)
        stop.wait(300)
        sock.close()

    def small(family):
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return sock

    with Server() as server, TcpTarget(never_reads, make_socket=small) as target:
        client = server.client()
        with socks.connect(client.port, "127.0.0.1", target.port, timeout=TIMEOUT) as sock:
            assert sock.recv(1) == b""
            sent = 0
            with contextlib.suppress(AssertionError):  # the target's system takes no more
                while True:
                    sock.sendall(bytes(1 << 17))
                    sent += 1 << 17
                    wait_until(lambda: server.connections()[0]["bytes_received"] == sent, 2)
            sock.shutdown(socket.SHUT_WR)
            wait_until(lambda: server.connections()[0]["streams"] == 1,
                       what="the server to have all")
            assert server.metrics()["mytunnel_tunnels_active"] == 1
            client.stop()
        wait_until(lambda: not server.connections(), what="the end of the connection")
        assert server.metrics()["mytunnel_tunnels_active"] == 1
        wait_until(lambda: server.metrics()["mytunnel_tunnels_active"] == 0, 40,
                   "the end of the tunnel without a connection")
        stop.set()
