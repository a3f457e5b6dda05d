"""Servers on free loopback ports for tunnels to reach, and bytes whose order can be checked."""

import contextlib
import hashlib
import http.server
import os
import selectors
import socket
import socketserver
import struct
import subprocess
import threading

BLOCK = 65536
_BASE = os.urandom(BLOCK - 8)


def blocks(size, seed=0):
    """`size` bytes; every block differs, so that lost, repeated or swapped ones change the sum."""
    number = 0
    while size > 0:
        block = struct.pack(">II", seed, number) + _BASE
        yield block[:size] if size < BLOCK else block
        size -= BLOCK
        number += 1


def sum_of(size, seed=0):
    digest = hashlib.sha256()
    for block in blocks(size, seed):
        digest.update(block)
    return digest.hexdigest()


def send_blocks(sock, size, seed=0, on_block=None):
    """Sends them all; returns their checksum."""
    digest = hashlib.sha256()
    sent = 0
    for block in blocks(size, seed):
        sock.sendall(block)
        digest.update(block)
        sent += len(block)
        if on_block:
            on_block(sent)
    return digest.hexdigest()


def receive_all(sock, on_data=None):
    """Reads up to the FIN; returns count and checksum. A reset raises ConnectionResetError."""
    digest = hashlib.sha256()
    count = 0
    while True:
        data = sock.recv(1 << 18)
        if not data:
            return count, digest.hexdigest()
        digest.update(data)
        count += len(data)
        if on_data:
            on_data(count)


def receive_exactly(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise AssertionError(f"the stream ended after {len(data)} of {size} bytes")
        data += part
    return data


def reset(sock):
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def watch(sock, _):
    """How a connection ends: "fin" or "reset"."""
    try:
        receive_all(sock)
        return "fin"
    except ConnectionResetError:
        return "reset"


class TcpTarget:
    """Runs `handler(sock, target)` in a thread for each connection; a context manager."""

    def __init__(self, handler, address="127.0.0.1", make_socket=None):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.handler = handler
        self.listener = make_socket(family) if make_socket else socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, 0))
        self.listener.listen(2048)
        self.host, self.port = self.listener.getsockname()[:2]
        self.accepted = 0
        self.results = []
        self.errors = []
        self.changed = threading.Condition()
        self.sockets = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        sock.settimeout(120)
        try:
            result, error = self.handler(sock, self), None
        except (OSError, AssertionError) as caught:
            result, error = None, caught
        with self.changed:
            if error is None:
                self.results.append(result)
            else:
                self.errors.append(error)
            self.changed.notify_all()

    def wait_ended(self, count=1, timeout=60):
        """Waits until `count` handlers have returned or raised."""
        with self.changed:
            done = self.changed.wait_for(
                lambda: len(self.results) + len(self.errors) >= count, timeout)
        if not done:
            raise AssertionError(f"the target saw {len(self.results) + len(self.errors)} ends")


def echo(sock, _):
    """Sends everything back; the end of what came ends what goes."""
    with sock:
        while True:
            data = sock.recv(1 << 16)
            if not data:
                sock.shutdown(socket.SHUT_WR)
                return "fin"
            sock.sendall(data)


class EchoTarget:
    """An echo for thousands of connections at once, in one thread."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.open = 0
        self.most = 0
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join(5)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()

    def _run(self):
        while self.running:
            for key, _ in self.selector.select(0.1):
                if key.fileobj is self.listener:
                    self._accept()
                else:
                    self._echo(key.fileobj)

    def _accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(True)
                self.selector.register(sock, selectors.EVENT_READ)
                self.open += 1
                self.most = max(self.most, self.open)

    def _echo(self, sock):
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(65536)
            sock.sendall(data)
        if not data:
            self.selector.unregister(sock)
            sock.close()
            self.open -= 1


class HttpHandler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; /git/... through git's own CGI program."""

    protocol_version = "HTTP/1.1"
    git_root = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._git() if self._is_git() else super().do_GET()

    def do_POST(self):
        self._git() if self._is_git() else self.send_error(405)

    def _is_git(self):
        return self.git_root is not None and self.path.startswith("/git/")

    def _git(self):
        path, _, query = self.path[4:].partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        env = {
            **os.environ, "GIT_PROJECT_ROOT": self.git_root, "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=env, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((value for name, value in fields if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in fields:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class HttpTarget:
    """An HTTP server over a folder, and over the git repositories in another."""

    def __init__(self, folder, git_root=None, address="127.0.0.1"):
        handler = type("Handler", (HttpHandler,), {
            "git_root": git_root,
            "__init__": lambda s, *a: HttpHandler.__init__(s, *a, directory=folder),
        })

        class HttpServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # a client that went away is what some tests are about

        self.server = HttpServer((address, 0), handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class UdpTarget:
    """Answers each datagram with `answer(data)`; None answers nothing, a list several times."""

    def __init__(self, answer=lambda data: data, address="127.0.0.1", make_socket=None):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_DGRAM
        self.socket = make_socket(family, kind) if make_socket else socket.socket(family, kind)
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]
        self.answer = answer
        self.received = []
        self.sources = []

    def __enter__(self):
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _run(self):
        while True:
            try:
                data, source = self.socket.recvfrom(65536)
            except OSError:
                return
            if source is None:  # shut down
                return
            self.received.append(data)
            self.sources.append(source)
            answers = self.answer(data)
            for answer in answers if isinstance(answers, list) else [answers]:
                if answer is not None:
                    with contextlib.suppress(OSError):
                        self.socket.sendto(answer, source)


def dns_answer(query, address="192.0.2.53"):
    """The answer to a query for an A record: always `address`; other types have no record."""
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12:end + 5]
    kind = struct.unpack(">H", query[end + 1:end + 3])[0]
    found = kind == 1
    header = query[:2] + struct.pack(">HHHHH", 0x8580, 1, 1 if found else 0, 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
    return header + question + (record if found else b"")


def dns_query(name, identity=0x1234):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + b"\0\1\0\1"


class DnsTarget(UdpTarget):
    """A resolver that knows one address for every name."""

    def __init__(self, address="127.0.0.1"):
        super().__init__(dns_answer, address)
