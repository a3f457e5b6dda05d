"""A client of TLS over TCP that is not ours: Python's ssl (OpenSSL), with the wire in its own hands.

Takes the same jobs as the QUIC client in interop/ and answers in the same form, so that one test
serves both transports. An alert is told as QUIC tells it: a transport error 0x100 + alert.
"""

import base64
import contextlib
import functools
import hashlib
import os
import re
import select
import socket
import ssl
import struct
import tempfile
import threading
import time

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
     0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)

ALERTS = {
    "CLOSE_NOTIFY": 0, "UNEXPECTED_MESSAGE": 10, "BAD_RECORD_MAC": 20, "RECORD_OVERFLOW": 22,
    "HANDSHAKE_FAILURE": 40, "BAD_CERTIFICATE": 42, "UNSUPPORTED_CERTIFICATE": 43,
    "CERTIFICATE_REVOKED": 44, "CERTIFICATE_EXPIRED": 45, "CERTIFICATE_UNKNOWN": 46,
    "ILLEGAL_PARAMETER": 47, "UNKNOWN_CA": 48, "ACCESS_DENIED": 49, "DECODE_ERROR": 50,
    "DECRYPT_ERROR": 51, "PROTOCOL_VERSION": 70, "INTERNAL_ERROR": 80,
    "CERTIFICATE_REQUIRED": 116, "NO_APPLICATION_PROTOCOL": 120,
}


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * (a[0] * a[0] - 1) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def public_point(scalar):
    result, step = None, G
    while scalar:
        if scalar & 1:
            result = add(result, step)
        step = add(step, step)
        scalar >>= 1
    return b"\4" + result[0].to_bytes(32, "big") + result[1].to_bytes(32, "big")


def der(tag, *parts):
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else (
        bytes([0x81, len(body)]) if len(body) < 256 else b"\x82" + struct.pack(">H", len(body)))
    return bytes([tag]) + length + body


EC_PUBLIC_KEY = der(6, bytes.fromhex("2a8648ce3d0201"))
P256 = der(6, bytes.fromhex("2a8648ce3d030107"))
ECDSA_SHA256 = der(0x30, der(6, bytes.fromhex("2a8648ce3d040302")))


def pem(kind, data):
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n"


def identity_files(folder, scalar):
    """Certificate and key of a private scalar. The server looks at the public key alone, so the
    certificate's own signature may be any."""
    point = public_point(scalar)
    name = der(0x30, der(0x31, der(0x30, der(6, b"\x55\4\3"), der(12, b"client"))))
    times = der(0x30, der(0x17, b"200101000000Z"), der(0x17, b"490101000000Z"))
    spki = der(0x30, der(0x30, EC_PUBLIC_KEY, P256), der(3, b"\0" + point))
    body = der(0x30, der(0xA0, der(2, b"\2")), der(2, b"\1"), ECDSA_SHA256, name, times, name, spki)
    signature = der(3, b"\0" + der(0x30, der(2, b"\1"), der(2, b"\1")))
    key = der(0x30, der(2, b"\1"), der(4, scalar.to_bytes(32, "big")), der(0xA0, P256),
              der(0xA1, der(3, b"\0" + point)))
    path = os.path.join(folder, "identity.pem")
    with open(path, "w", encoding="ascii") as file:
        file.write(pem("CERTIFICATE", der(0x30, body, ECDSA_SHA256, signature)))
        file.write(pem("EC PRIVATE KEY", key))
    return path


def read_profile(path):
    """(scalar, host, port) of a profile."""
    with open(path, encoding="ascii") as file:
        match = re.match(r"mytunnel://([\w-]*)@?(\S+):(\d+)\?", file.read())
    key = base64.urlsafe_b64decode(match.group(1) + "=")
    return int.from_bytes(key, "big"), match.group(2).strip("[]"), int(match.group(3))


@functools.lru_cache(maxsize=16)
def make_context(scalar, alpn="mytunnel"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    if scalar is not None:
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(identity_files(folder, scalar))
    return context


def alert_of(error):
    match = re.search(r"ALERT_([A-Z_]+)", str(error.args[-1]).upper().replace(" ", "_"))
    return ALERTS.get(match.group(1).rstrip("_"), 255) if match else None


# A client's end goes out only behind the server's status, which says that the handshake is done at that
# side too: a kernel takes no keys of a connection that is half closed.
fin_waits = False


class Failure(Exception):
    """The connection's end that is no end of the stream: kind "alert" or "reset"."""

    def __init__(self, kind, code=None):
        super().__init__(f"{kind} {code}")
        self.kind = kind
        self.code = code


class TlsStream:
    """One connection. Every wait ends at `deadline` (time.monotonic) with TimeoutError."""

    def __init__(self, address, context, timeout=20, server_name="pinned.mytunnel.invalid",
                 sock=None):
        self.deadline = time.monotonic() + timeout
        self.sock = sock or socket.create_connection(address, timeout=timeout)
        self.sock.setblocking(False)
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name)
        self.early = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _wait(self, read, write):
        left = self.deadline - time.monotonic()
        if left <= 0 or not any(select.select([self.sock] if read else [],
                                              [self.sock] if write else [], [], left)):
            raise TimeoutError

    def _flush(self):
        while self.outgoing.pending:
            data = self.outgoing.read(65536)
            while data:
                try:
                    data = data[self.sock.send(data):]
                except BlockingIOError:
                    self._wait(False, True)
                except (ConnectionResetError, BrokenPipeError):
                    return  # an alert may still be there to be read

    def _more(self):
        """Waits for bytes of the other side."""
        while True:
            try:
                data = self.sock.recv(262144)
                break
            except BlockingIOError:
                self._wait(True, False)
            except ConnectionResetError:
                raise Failure("reset") from None
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def _run(self, call, *args):
        """A call of the TLS object with the bytes that it needs."""
        while True:
            try:
                result = call(*args)
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                self._more()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                raise Failure("reset") from None
            except ssl.SSLError as error:
                alert = alert_of(error)
                raise Failure("reset" if alert is None else "alert", alert) from error

    def handshake(self):
        self._run(self.tls.do_handshake)
        return self

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[self._run(self.tls.write, view[:65536]):]

    def receive(self, size=262144):
        """Bytes, b"" at the other side's close_notify; Failure, TimeoutError."""
        if self.early:
            data, self.early = self.early[:size], self.early[size:]
            return data
        return self._run(self.tls.read, size)

    def fin(self):
        """close_notify, then a FIN."""
        # OpenSSL would take what is here already for an error, and answer it with an alert.
        while self.tls.pending():
            self.early += self.tls.read(self.tls.pending())
        waiting = self.incoming.read()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLError):
            self.tls.unwrap()
        self.incoming.write(waiting)
        self._flush()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def truncate(self):
        """A FIN without close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def pattern(size):
    """What a stream sends when a job asks for `send_bytes`."""
    block = hashlib.sha256(b"tls").digest() * 2048
    while size > 0:
        yield block[:size]
        size -= len(block)


class Reader(threading.Thread):
    """What comes back: all of it by its digest, the first bytes as they are."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream = stream
        self.head = b""
        self.count = 0
        self.digest = hashlib.sha256()
        self.end = None
        self.failure = None
        self.first = threading.Event()

    def step(self):
        """False at the end."""
        try:
            data = self.stream.receive()
        except TimeoutError:
            self.end = "timeout"
            return False
        except Failure as failure:
            self.end, self.failure = "reset", failure
            return False
        except OSError:
            self.end = "reset"
            return False
        if not data:
            self.end = "fin"
            return False
        self.head = (self.head + data)[:4096] if self.count < 4096 else self.head
        if self.count == 0:
            data = data[1:]
            self.count = 1
        self.count += len(data)
        self.digest.update(data)
        return True


def run_stream(address, context, job, timeout):
    got = {"received": "", "end": None, "code": None}
    stream = TlsStream(address, context, job.get("timeout_ms", timeout * 1000) / 1000)
    reader = Reader(stream)
    sent = hashlib.sha256()
    with stream:
        try:
            stream.handshake()
            for chunk in job.get("chunks", []):
                data = bytes.fromhex(chunk)
                stream.send(data)
                time.sleep(job.get("gap_ms", 0) / 1000)
            if job.get("status_first"):
                reader.step()
            for data in pattern(job.get("send_bytes", 0)):
                sent.update(data)
                stream.send(data)
            if job.get("reset") is not None:
                if job.get("after_status"):
                    reader.step()
                stream.reset()
                return got
            if job.get("fin"):
                if fin_waits and not reader.count:
                    reader.step()
                stream.fin()
            while reader.step():
                pass
        except Failure as failure:
            reader.end, reader.failure = "reset", failure
        except TimeoutError:
            reader.end = "timeout"
    got.update(received=reader.head.hex(), end=reader.end, bytes=reader.count,
               sha256=reader.digest.hexdigest(), sent_sha256=sent.hexdigest())
    if reader.failure and reader.failure.kind == "alert":
        got["alert"] = reader.failure.code
    return got


def run_job(profile, timeout=60, identity=None, alpn="mytunnel", streams=(), parallel=False, **_):
    """A job of the interop client, each stream over a connection of its own."""
    scalar, host, port = read_profile(profile)
    if identity:
        scalar = None if identity == "none" else int.from_bytes(os.urandom(31), "big") + 1
    context = make_context(scalar, alpn)
    jobs = list(streams) or [{"timeout_ms": 3000}]
    results = [None] * len(jobs)

    def work(index):
        results[index] = run_stream((host, port), context, jobs[index], timeout)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
        if not parallel:
            thread.join()
    for thread in threads:
        thread.join()
    alerts = [got["alert"] for got in results if got and "alert" in got]
    out = {"connected": not alerts, "streams": results, "datagrams": []}
    if alerts:
        out["error"] = {"kind": "transport", "code": 0x100 + alerts[0]}
    return out
