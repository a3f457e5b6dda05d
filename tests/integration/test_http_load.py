"""A thousand connections to the HTTP endpoint at once, and what tunnels beside them notice."""
import multiprocessing
import os
import selectors
import socket
import time

import socks
from harness import SLOW, Server, alone, raise_file_limit, wait_until
from targets import TcpTarget, echo, receive_exactly

CONNECTIONS = 1000
SECONDS = 3
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"


def crowd(port, opened, seconds):
    """Keeps a thousand connections: every third one asks and asks, the others stop within their
    request; what is closed comes again."""
    raise_file_limit()
    selector = selectors.DefaultSelector()
    ask = REQUEST % port
    until = time.monotonic() + seconds
    count = 0

    def open_one(number):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        selector.register(sock, selectors.EVENT_WRITE, number)

    for number in range(CONNECTIONS):
        open_one(number)
    while time.monotonic() < until:
        for key, events in selector.select(0.1):
            sock, number = key.fileobj, key.data
            try:
                if events & selectors.EVENT_WRITE:
                    sock.send(ask if number % 3 == 0 else ask[:20])
                    selector.modify(sock, selectors.EVENT_READ, number)
                    count += 1
                    opened.value = count
                elif not sock.recv(1 << 16):
                    raise ConnectionError
                elif number % 3 == 0:
                    sock.send(ask)
            except BlockingIOError:
                pass
            except OSError:
                selector.unregister(sock)
                sock.close()
                open_one(number)


def round_trips(sock, seconds):
    """The 99th percentile of single bytes there and back, in seconds."""
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.monotonic()
        sock.sendall(b"x")
        receive_exactly(sock, 1)
        times.append(time.monotonic() - begin)
        time.sleep(0.0005)
    times.sort()
    return times[len(times) * 99 // 100]


def is_served(port):
    """False as well while the crowd's connections are still being ended."""
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(request)
            return sock.recv(15) == b"HTTP/1.1 200 OK"
    except OSError:
        return False


@alone
def test_thousand_connections():
    """They are bounded; tunnels go on as before, and afterwards everybody is served again."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()
        port = int(server.status()["http"]["address"].rsplit(":", 1)[1])
        opened = multiprocessing.Value("l", 0)
        with socks.connect(client.port, "127.0.0.1", target.port) as tunnel:
            quiet = round_trips(tunnel, SECONDS)
            many = multiprocessing.Process(target=crowd, args=(port, opened, SECONDS + 2))
            many.start()
            wait_until(lambda: opened.value >= CONNECTIONS, what="a thousand connections")
            beside = round_trips(tunnel, SECONDS)
            many.join()
        descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        assert beside <= 2 * quiet + 0.01 * SLOW, (quiet, beside)
        assert descriptors < CONNECTIONS, descriptors
        wait_until(lambda: is_served(port), what="the endpoint")
        print(f"p99 {quiet * 1000:.2f} ms quiet, {beside * 1000:.2f} ms beside a thousand")
