"""What the server asks of the kernel under load, as strace sees it."""

import os
import re
import signal
import socket
import threading
import time

import socks
from harness import SANITIZE, TIMEOUT, Process, Server, Skip, need, alone, wait_until
from targets import TcpTarget


def under_load(body):
    """Calls body(server) while data flows in both directions of four tunnels."""
    stop = threading.Event()

    def pour(sock):
        try:
            while not stop.is_set():
                sock.sendall(bytes(1 << 16))
        except OSError:
            pass

    def drain(sock):
        try:
            while sock.recv(1 << 18):
                pass
        except OSError:
            pass

    def both(sock, _):
        thread = threading.Thread(target=pour, args=(sock,), daemon=True)
        thread.start()
        drain(sock)

    with Server() as server, TcpTarget(both) as target:
        client = server.client()
        tunnels = [socks.connect(client.port, "127.0.0.1", target.port) for _ in range(4)]
        for sock in tunnels:
            for work in (pour, drain):
                threading.Thread(target=work, args=(sock,), daemon=True).start()
        first = server.metrics()["mytunnel_bytes_sent"]
        wait_until(lambda: server.metrics()["mytunnel_bytes_sent"] > first + (32 << 20),
                   what="traffic")
        try:
            return body(server)
        finally:
            stop.set()
            for sock in tunnels:
                sock.shutdown(socket.SHUT_RDWR)
                sock.close()


def strace(server, seconds, *args):
    """strace of all threads of the server for a while; what it wrote."""
    need("strace")
    out = os.path.join(server.folder, "strace.out")
    tracer = Process(["strace", "-f", "-o", out, *args, "-p", str(server.process.pid)],
                     server.folder, "strace")
    try:
        tracer.wait_line(r"attached", TIMEOUT)
    except AssertionError:
        raise Skip(f"strace cannot attach: {tracer.text()[:200]}") from None
    time.sleep(seconds)  # the length of the measurement
    tracer.signal(signal.SIGINT)
    tracer.wait(TIMEOUT)
    with open(out, encoding="utf-8", errors="replace") as file:
        return file.read()


@alone
def test_batches_and_no_locks():
    """recvmmsg, sendmmsg or sendmsg with UDP_SEGMENT; no datagram by sendto; no futex in steady
    state."""
    if SANITIZE:
        raise Skip("a sanitizer's own calls would be counted")

    def measure(server):
        summary = strace(server, 2, "-c")
        detail = strace(server, 0.5, "-v", "-s", "0", "-e",
                        "trace=sendto,sendmsg,sendmmsg,recvmmsg,recvfrom,recvmsg")
        return summary, detail

    summary, detail = under_load(measure)
    print("      " + summary.strip().replace("\n", "\n      "))
    counts = {}
    for line in summary.splitlines():
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if match:
            counts[match.group(2)] = int(match.group(1))
    assert counts.get("recvmmsg", 0) > 0, summary
    assert counts.get("sendmmsg", 0) + counts.get("sendmsg", 0) > 0, summary
    assert counts.get("futex", 0) == 0, summary
    assert re.search(r"send(m)?msg\(.*(UDP_SEGMENT|SOL_UDP, cmsg_type=0x67)", detail), \
        "no segmentation offload: " + detail[:2000]
    addressed = re.findall(r"sendto\(.*sa_family=AF_INET.*", detail)
    assert not addressed, addressed[:5]
