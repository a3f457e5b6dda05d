#!/usr/bin/env python3
"""The real programs over a shaped network: what each congestion control makes of it.

Usage: tests/vm/run -- python3 tests/bench/shaped.py [--cc cubic,bbr] [CELL]...
with CELL = RATE:RTT:LOSS:QUEUE, in Mbit/s, ms, percent and KiB; by default five of them. Or a whole
table: --rates 1,2,5 --rtts 20,100 --losses 0,1,3 --queues 1,4, where queues are in rate x RTT.

A download through a tunnel between two network namespaces, for each cell with each congestion
control. The server's way out has the rate, the queue and the loss (tbf with netem in it), the
client's the delay. Prints columns like build/bench/congestion does: the share of the link that
arrived, and by how much the server's smoothed RTT, read once a second, is above that of the cell.
The processors of the virtual machine are emulated: 5 to 50 Mbit/s are what they carry.
"""

import argparse
import itertools
import os
import socket
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))

import socks  # noqa: E402
from harness import Server, load_module, run  # noqa: E402
from netns import Networks, inside  # noqa: E402
from targets import TcpTarget  # noqa: E402

CELLS = ("10:20:0:100", "10:100:0:128", "10:100:1:128", "30:50:0.1:256", "30:20:1:128")
CONTROLS = "cubic,bbr,reno"
PIECE = bytes(65536)
PACKET = 1480


def shape(nets, rate, rtt, loss, queue):
    """A bucket smaller than a batch of packets cuts it up: netem sees them one by one."""
    packets = max(int(queue * 1024 / PACKET), 2)
    server = ["tc", "-n", nets.server, "qdisc", "add", "dev", "s1"]
    run([*server, "root", "handle", "1:", "tbf", "rate", f"{rate}mbit", "burst", "3000", "limit",
         f"{int(queue * 1024)}"])
    run([*server, "parent", "1:1", "netem", "limit", str(packets), "loss", f"{loss}%"])
    run(["tc", "-n", nets.client, "qdisc", "add", "dev", "c1", "root", "netem", "limit", "50000",
         "delay", f"{rtt}ms"])


def send_for_ever(sock, _):
    while True:
        sock.sendall(PIECE)


def download(sock, server, seconds):
    """Bytes that arrived within `seconds`, and the smoothed RTT in each of them."""
    begin = time.monotonic()
    received, rtts = 0, []
    while time.monotonic() < begin + seconds:
        received += len(sock.recv(1 << 20))
        if time.monotonic() - begin > len(rtts) + 1:
            rtts.append(server.connections()[0]["rtt_ms"])
    return received, rtts


def measure(control, cell, seconds):
    rate, rtt, loss, queue = (float(part) for part in cell.split(":"))
    with Networks() as nets:
        shape(nets, rate, rtt, loss, queue)
        settings = {"server.bind_addr": f"{Networks.SERVER}:0",
                    "quic.congestion_control": control}
        with Server(settings, prefix=nets.enter(nets.server)) as server:
            def in_server(family):
                return inside(nets.server, lambda: socket.socket(family))

            with TcpTarget(send_for_ever, make_socket=in_server) as target:
                client = server.client(prefix=nets.enter(nets.client))
                sock = inside(nets.client,
                              lambda: socks.connect(client.port, target.host, target.port))
                with sock:
                    received, rtts = download(sock, server, seconds)
    share = received * 8 / (rate * 1e6 * seconds)
    waited = statistics.median(rtts) - rtt if rtts else 0
    print(f"{control}\t{rate:g}\t{rtt:g}\t{loss * 10:g}\t{queue:g}k\t{seconds}\t{share:.3f}"
          f"\t{waited:.1f}", flush=True)


def table(args):
    """The cells of a whole table; KiB of a queue: what the link carries in so many RTT."""
    def numbers(text):
        return [float(part) for part in text.split(",")]

    axes = (args.rates, args.rtts, args.losses, args.queues)
    return [f"{rate:g}:{rtt:g}:{loss:g}:{rate * rtt * queue / 8.192:.1f}"
            for rate, rtt, loss, queue in itertools.product(*(numbers(axis) for axis in axes))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--cc", metavar="LIST", default=CONTROLS)
    parser.add_argument("--rates", metavar="LIST", help="Mbit/s: measures a whole table")
    parser.add_argument("--rtts", metavar="LIST", default="20,100", help="ms")
    parser.add_argument("--losses", metavar="LIST", default="0,1,3", help="percent")
    parser.add_argument("--queues", metavar="LIST", default="1,4", help="in rate x RTT")
    parser.add_argument("cells", metavar="RATE:RTT:LOSS:QUEUE", nargs="*", default=CELLS)
    args = parser.parse_args()
    for module in ("sch_netem", "sch_tbf", "veth"):
        load_module(module)
    print("cc\trate_mbit\trtt_ms\tloss_permille\tqueue\tseconds\tshare\twaited_ms")
    cells = table(args) if args.rates else args.cells
    runs = [(control, cell) for cell in cells for control in args.cc.split(",")]
    for done, (control, cell) in enumerate(runs):
        print(f"{done + 1} of {len(runs)}: {control} {cell}", file=sys.stderr, flush=True)
        measure(control, cell, args.seconds)


if __name__ == "__main__":
    main()
