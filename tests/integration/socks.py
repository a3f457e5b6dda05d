"""What a local application says to the client: SOCKS5 (RFC 1928) and HTTP CONNECT."""

import ipaddress
import socket
import struct
import threading

from harness import TIMEOUT
from targets import receive_exactly

GENERAL_FAILURE, NOT_ALLOWED, NETWORK_UNREACHABLE, HOST_UNREACHABLE, REFUSED, TIMED_OUT = range(1, 7)
COMMAND_NOT_SUPPORTED, ADDRESS_NOT_SUPPORTED = 7, 8


class SocksError(Exception):
    def __init__(self, reply):
        super().__init__(f"SOCKS5 reply {reply}")
        self.reply = reply


def encode_address(host, port):
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        return b"\x03" + bytes([len(name)]) + name + struct.pack(">H", port)
    return (b"\x01" if ip.version == 4 else b"\x04") + ip.packed + struct.pack(">H", port)


def read_address(sock):
    kind = receive_exactly(sock, 1)[0]
    if kind == 1:
        host = socket.inet_ntop(socket.AF_INET, receive_exactly(sock, 4))
    elif kind == 4:
        host = socket.inet_ntop(socket.AF_INET6, receive_exactly(sock, 16))
    else:
        host = receive_exactly(sock, receive_exactly(sock, 1)[0]).decode()
    return host, struct.unpack(">H", receive_exactly(sock, 2))[0]


def _request(port, command, host, target_port, timeout, connect=None):
    sock = (connect or socket.create_connection)(("127.0.0.1", port))
    sock.settimeout(timeout)
    try:
        sock.sendall(b"\x05\x01\x00")
        if receive_exactly(sock, 2) != b"\x05\x00":
            raise AssertionError("the proxy wants to authenticate")
        sock.sendall(bytes([5, command, 0]) + encode_address(host, target_port))
        version, reply, _ = receive_exactly(sock, 3)
        if version != 5:
            raise AssertionError(f"SOCKS version {version}")
        bound = read_address(sock)
        if reply:
            raise SocksError(reply)
        return sock, bound
    except BaseException:
        sock.close()
        raise


def connect(port, host, target_port, timeout=TIMEOUT, make=None):
    """A tunnel through the proxy on `port`; raises SocksError."""
    return _request(port, 1, host, target_port, timeout, make)[0]


def http_connect(port, host, target_port, timeout=TIMEOUT):
    """A tunnel by HTTP CONNECT: (status code, socket)."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(timeout)
    name = f"[{host}]" if ":" in host else host
    sock.sendall(f"CONNECT {name}:{target_port} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = sock.recv(1)
        if not part:
            break
        head += part
    return int(head.split()[1]), sock


class Association:
    """A UDP association; a context manager."""

    def __init__(self, port, timeout=TIMEOUT, source=("0.0.0.0", 0)):
        self.control, self.relay = _request(port, 3, *source, timeout)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.control.close()

    def send(self, data, host, port):
        self.socket.sendto(b"\0\0\0" + encode_address(host, port) + data, self.relay)

    def receive(self):
        """(payload, host, port) of the next datagram."""
        return self.parse(self.socket.recv(65536))

    @staticmethod
    def parse(data):
        if data[:3] != b"\0\0\0":
            raise AssertionError(f"a UDP header of {data[:4].hex()}")
        kind = data[3]
        size = {1: 4, 4: 16}.get(kind) or data[4] + 1
        text = data[4:4 + size]
        if kind == 3:
            host = text[1:].decode()
        else:
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, text)
        port = struct.unpack(">H", data[4 + size:6 + size])[0]
        return data[6 + size:], host, port

    def exchange(self, data, host, port, tries=3):
        """One question, one answer; UDP may lose either."""
        limit = self.socket.gettimeout()
        self.socket.settimeout(limit / tries)
        try:
            for left in range(tries - 1, -1, -1):
                self.send(data, host, port)
                try:
                    return self.receive()
                except TimeoutError:
                    if not left:
                        raise
        finally:
            self.socket.settimeout(limit)


class UdpForward:
    """A local UDP port whose datagrams go through an association to one target: for programs that
    know nothing of SOCKS, such as dig."""

    def __init__(self, socks_port, host, port):
        self.association = Association(socks_port)
        self.target = (host, port)
        self.local = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.local.bind(("127.0.0.1", 0))
        self.port = self.local.getsockname()[1]
        self.peer = None

    def __enter__(self):
        for loop in (self._out, self._back):
            threading.Thread(target=loop, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.local.close()
        self.association.__exit__()

    def _out(self):
        while True:
            try:
                data, self.peer = self.local.recvfrom(65536)
                self.association.send(data, *self.target)
            except OSError:
                return

    def _back(self):
        while True:
            try:
                self.local.sendto(self.association.receive()[0], self.peer)
            except OSError:
                return
