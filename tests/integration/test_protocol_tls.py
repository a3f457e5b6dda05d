"""The wire protocol over TLS on TCP: the tests of QUIC from the same code, with a client of OpenSSL's
instead of quic-go, and what TCP adds to them."""

import functools
import struct

import socks
import test_protocol
import tls_client
from harness import SLOW, Server
from targets import TcpTarget, echo
from test_clients import ended_with

CHANNELS = 8  # of one identity from one address

# Those that are about datagrams of QUIC stay there, and the one about a second control channel, which
# over TLS another program of the same client may have.
SHARED = (
    "tcp_with_half_close", "names_and_literals", "resets", "header_at_every_split",
    "malformed_headers", "early_fin", "unknown_type", "header_deadline",
    "wrong_alpn", "refused_identities", "open_tunnel",
)


def over_tls(function):
    @functools.wraps(function)
    def test():
        before = test_protocol.interop
        test_protocol.interop = tls_client.run_job
        try:
            function()
        finally:
            test_protocol.interop = before

    test.__module__ = __name__
    return test


for _name in SHARED:
    globals()[f"test_{_name}"] = over_tls(getattr(test_protocol, f"test_{_name}"))


def test_control_channels():
    """Programs of one identity behind one address have a control channel each, up to eight: one more
    is answered by 0x01 and FIN, the others go on."""
    with Server() as server:
        streams = [{"chunks": ["02"], "timeout_ms": 1500 * SLOW}] * (CHANNELS + 1)
        got = tls_client.run_job(server.enrol(), parallel=True, streams=streams)["streams"]
        *open_ones, refused = sorted(got, key=lambda stream: stream["received"])
        for one in open_ones:
            assert one["received"].startswith("00") and one["end"] == "timeout", got
        assert (refused["received"], refused["end"]) == ("01", "fin"), got


def test_limit_and_quota_are_told():
    """A connection beyond the limit of its client: a control channel gets the reason right behind the
    status, a tunnel status 0x01; so does one whose quota is used up."""
    with Server() as server:
        profile = server.enrol("x")
        server.ctl("client", "set", "x", "--max-connections", "1")
        holder = server.client(profile, args=("--transport", "quic"))

        def closing(code):
            channel, tunnel, silent = tls_client.run_job(profile, parallel=True, streams=[
                {"chunks": ["02", "000401000000"], "timeout_ms": 3000 * SLOW},
                {"chunks": test_protocol.hexed(test_protocol.request(80, "127.0.0.1")), "timeout_ms": 3000 * SLOW},
                {"chunks": [], "fin": True, "timeout_ms": 3000 * SLOW}])["streams"]
            received = bytes.fromhex(channel["received"])
            length, kind, told = struct.unpack(">HBI", received[1:8])
            assert received[0] == 0 and kind == 5 and told == code, channel
            assert length == len(received) - 3 and channel["end"] == "fin", channel
            assert (tunnel["received"], tunnel["end"]) == ("01", "fin"), tunnel
            assert silent["received"] in ("", "01"), silent

        closing(6)
        server.ctl("client", "set", "x", "--quota", "1K")
        with TcpTarget(echo) as target, \
                socks.connect(holder.port, "127.0.0.1", target.port) as sock:
            sock.sendall(bytes(2000))
            ended_with(holder, "quota")
        closing(4)
