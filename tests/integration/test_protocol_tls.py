"""The wire protocol over TLS on TCP: the tests of QUIC from the same code, with a client of OpenSSL's
instead of quic-go, and what TCP adds to them."""

import functools

import test_protocol
import tls_client

# Those that are about datagrams of QUIC stay there, and the one about a second control channel, which
# over TLS another program of the same client may have.
SHARED = (
    "tcp_with_half_close", "names_and_literals", "resets",
    "header_at_every_split", "malformed_headers", "early_fin", "unknown_type", "header_deadline",
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
