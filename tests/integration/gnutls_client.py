"""A client of TLS over TCP that does what Python's ssl cannot: it changes its keys in mid-stream, and
chooses its ciphers. By GnuTLS, which mytunneld needs anyway, called through ctypes."""

import ctypes
import socket
import tempfile

import tls_client
from harness import TIMEOUT, Skip

CLIENT = 2  # GNUTLS_CLIENT
CERTIFICATE = 1  # GNUTLS_CRD_CERTIFICATE
PEM = 1  # GNUTLS_X509_FMT_PEM
DNS = 1  # GNUTLS_NAME_DNS
ASK_PEER = 1  # GNUTLS_KU_PEER
AGAIN = -28  # GNUTLS_E_AGAIN
FORCE_CERTIFICATE = 1 << 9  # GNUTLS_FORCE_CLIENT_CERT


class Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_uint)]


def load():
    try:
        library = ctypes.CDLL("libgnutls.so.30")
    except OSError as error:
        raise Skip(str(error)) from None
    library.gnutls_strerror.restype = ctypes.c_char_p
    library.gnutls_record_send.restype = ctypes.c_ssize_t
    library.gnutls_record_recv.restype = ctypes.c_ssize_t
    library.gnutls_record_send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.gnutls_record_recv.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    return library


class GnutlsStream:
    """One connection, blocking; Failure for whatever GnuTLS calls an error."""

    def __init__(self, profile, priority="NORMAL:-VERS-ALL:+VERS-TLS1.3", timeout=TIMEOUT):
        self.library = load()
        scalar, host, port = tls_client.read_profile(profile)
        self.credentials = ctypes.c_void_p()
        self._call("certificate_allocate_credentials", ctypes.byref(self.credentials))
        with tempfile.TemporaryDirectory() as folder:
            path = tls_client.identity_files(folder, scalar).encode()
            self._call("certificate_set_x509_key_file", self.credentials, path, path, PEM)
        self.session = ctypes.c_void_p()
        self._call("init", ctypes.byref(self.session), CLIENT | FORCE_CERTIFICATE)
        self._call("priority_set_direct", self.session, priority.encode(), None)
        self._call("credentials_set", self.session, CERTIFICATE, self.credentials)
        name = b"pinned.mytunnel.invalid"
        self._call("server_name_set", self.session, DNS, name, ctypes.c_size_t(len(name)))
        alpn = Datum(b"mytunnel", 8)
        self._call("alpn_set_protocols", self.session, ctypes.byref(alpn), 1, 0)
        self.sock = socket.create_connection((host, port), timeout=timeout)
        # The library wants a descriptor that blocks; the kernel keeps the time.
        self.sock.setblocking(True)
        limit = int(timeout).to_bytes(8, "little") + bytes(8)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.library.gnutls_transport_set_int2(self.session, self.sock.fileno(),
                                               self.sock.fileno())
        self._call("handshake", self.session)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.library.gnutls_deinit(self.session)
        self.library.gnutls_certificate_free_credentials(self.credentials)

    def _call(self, name, *args):
        return self._check(name, getattr(self.library, f"gnutls_{name}")(*args))

    def _check(self, name, result):
        if result < 0:
            text = self.library.gnutls_strerror(ctypes.c_int(result)).decode()
            raise tls_client.Failure("reset", f"gnutls_{name}: {text}")
        return result

    def send(self, data):
        while data:
            data = data[self._call("record_send", self.session, data, len(data)):]

    def receive(self, size=65536):
        buffer = ctypes.create_string_buffer(size)
        count = AGAIN
        for _ in range(3):
            # It says that also behind a KeyUpdate of the server that it has dealt with.
            count = self.library.gnutls_record_recv(self.session, buffer, size)
            if count != AGAIN:
                break
        self._check("record_recv", count)
        return buffer.raw[:count]

    def receive_all(self, size):
        """Exactly `size` bytes."""
        data = b""
        while len(data) < size:
            part = self.receive(size - len(data))
            assert part, f"the end after {len(data)} of {size} bytes"
            data += part
        return data

    def update_keys(self, ask_peer=False):
        """KeyUpdate (RFC 8446, section 4.6.3)."""
        self._call("session_key_update", self.session, ASK_PEER if ask_peer else 0)
