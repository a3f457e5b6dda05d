"""The virtual machine has what the other tests in it rely on."""

import os
import socket

from harness import Server, run
from targets import HttpTarget

NEEDS = ("tls", "sch_netem", "veth")

SOL_TCP = socket.IPPROTO_TCP
TCP_ULP = 31


def test_kernel_tls():
    """The kernel takes over TLS on a connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as sock:
            sock.setsockopt(SOL_TCP, TCP_ULP, b"tls")


def test_lossy_network():
    """A network namespace behind a link that loses packets."""
    run(["ip", "netns", "add", "far"])
    run(["ip", "link", "add", "near0", "type", "veth", "peer", "far0", "netns", "far"])
    run(["tc", "qdisc", "add", "dev", "near0", "root", "netem", "loss", "10%", "delay", "20ms"])
    assert "loss 10%" in run(["tc", "qdisc", "show", "dev", "near0"]).stdout
    run(["ip", "netns", "del", "far"])


def test_traffic():
    """A page through a tunnel, on this kernel."""
    with Server() as server:
        folder = os.path.join(server.folder, "pages")
        os.mkdir(folder)
        with open(os.path.join(folder, "page"), "w", encoding="ascii") as file:
            file.write("through the tunnel\n")
        with HttpTarget(folder) as page:
            client = server.client()
            done = run(["curl", "--silent", "--fail", "--socks5-hostname",
                        f"127.0.0.1:{client.port}", f"http://127.0.0.1:{page.port}/page"])
            assert done.stdout == "through the tunnel\n", done
