"""Network namespaces for tests that change addresses or filter packets."""

import ctypes
import os
import threading

from harness import Skip, need, run

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def inside(namespace, function):
    """Calls a function in a thread inside a network namespace: sockets made there stay there."""
    result = []

    def work():
        with open(f"/run/netns/{namespace}", "rb") as file:
            if _libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        result.append(function())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not result:
        raise AssertionError(f"nothing came of it in {namespace}")
    return result[0]


class Networks:
    """Two namespaces, server and client, joined by two pairs of interfaces; only the first pair is
    up. The server's address is on its loopback, so both ways lead to it."""

    SERVER = "10.111.9.1"

    def __init__(self):
        need("ip")
        self.server = f"mts{os.getpid()}"
        self.client = f"mtc{os.getpid()}"
        self.names = []

    def __enter__(self):
        try:
            for name in (self.server, self.client):
                done = run(["ip", "netns", "add", name], check=False)
                if done.returncode:
                    raise Skip(f"no network namespaces here: {done.stderr.strip()}")
                self.names.append(name)
                done = run(["ip", "-n", name, "link", "set", "lo", "up"], check=False)
                if done.returncode:  # in a chroot, for example
                    raise Skip(f"no way into network namespaces here: {done.stderr.strip()}")
            self.ip(self.server, "addr", "add", f"{self.SERVER}/32", "dev", "lo")
            for number in (1, 2):
                self.ip(self.server, "link", "add", f"s{number}", "type", "veth", "peer", "name",
                        f"c{number}", "netns", self.client)
                self.ip(self.server, "addr", "add", f"10.111.{number}.1/24", "dev", f"s{number}")
                self.ip(self.server, "link", "set", f"s{number}", "up")
            self.up(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            run(["ip", "netns", "del", name], check=False)

    @staticmethod
    def ip(namespace, *args):
        return run(["ip", "-n", namespace, *args])

    def up(self, number):
        self.ip(self.client, "addr", "add", f"10.111.{number}.2/24", "dev", f"c{number}")
        self.ip(self.client, "link", "set", f"c{number}", "up")
        self.ip(self.client, "route", "replace", "default", "via", f"10.111.{number}.1")

    def down(self, number):
        self.ip(self.client, "addr", "flush", "dev", f"c{number}")
        self.ip(self.client, "link", "set", f"c{number}", "down")

    def enter(self, name):
        return ["ip", "netns", "exec", name]
