"""The packages as they are installed under systemd, for the tests of this folder."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile

import harness
from harness import Server, run, wait_until

UNIT = "mytunnel.service"
SOCKET = "/run/mytunnel/control.sock"
DATABASE = "/var/lib/mytunnel/mytunnel.db"
DROP_IN = "/run/systemd/system/mytunnel.service.d"
# The kernel's word for a call that the filter did not let pass, and systemd's.
VIOLATION = re.compile(r"type=1326|^SECCOMP |status=31/SYS|signal=SYS|SIGSYS")


def systemctl(*args, check=True):
    return run(["systemctl", *args], check=check)


def show(name, unit=UNIT):
    return systemctl("show", "-P", name, unit).stdout.strip()


def journal(*args):
    return run(["journalctl", "--no-pager", "-o", "cat", *args]).stdout


def now():
    """A place in the journal, for said()."""
    return re.search(r"-- cursor: (\S+)", run(
        ["journalctl", "-n", "0", "--show-cursor"]).stdout).group(1)


def said(since, unit=UNIT):
    """What the unit and systemd about it have said since then."""
    return journal("-u", unit, f"--after-cursor={since}")


def violations():
    text = run(["dmesg"]).stdout + journal("_TRANSPORT=audit") + journal("-u", UNIT)
    return [line for line in text.splitlines() if VIOLATION.search(line)]


class Installed(Server):
    """The service, running; restarted when the test before has left it in another state."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="mytunnel-service-")
        self.socket = SOCKET
        self.clients = []
        self.process = None
        self.violations = len(violations())

    def __enter__(self):
        if show("ActiveState") != "active":
            systemctl("reset-failed", UNIT, check=False)
            systemctl("start", UNIT)
        self.wait_running()
        self.ctl("set", "server.public_addr", "127.0.0.1", "access.allow_private", "on")
        return self

    def __exit__(self, kind, *_):
        for client in self.clients:
            with contextlib.suppress(AssertionError):
                client.process.stop(expected=None)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(DROP_IN)
            systemctl("daemon-reload")
        new = violations()[self.violations:]
        if kind:
            print("      " + journal("-u", UNIT, "-n", "40").replace("\n", "\n      "))
        assert not new, new

    def _ready(self):
        return self.ctl("--json", "status", check=False).returncode == 0

    def wait_running(self):
        wait_until(lambda: "running" in self.ctl("status", check=False).stdout,
                   what="the state running")

    def pid(self):
        return int(show("MainPID"))

    def drop_in(self, text):
        """Changes the unit until the test ends."""
        os.makedirs(DROP_IN, exist_ok=True)
        with open(os.path.join(DROP_IN, "test.conf"), "w", encoding="ascii") as file:
            file.write(f"[Service]\n{text}\n")
        systemctl("daemon-reload")

    def enrol(self, name="laptop"):
        self.ctl("client", "remove", name, "--yes", check=False)
        return super().enrol(name)

    def journal_since_start(self):
        return journal("-u", UNIT, f"_SYSTEMD_INVOCATION_ID={show('InvocationID')}")


def reads(text, *patterns):
    """What a person reads, shown and looked for."""
    print("      | " + text.strip().replace("\n", "\n      | "))
    for pattern in patterns:
        assert re.search(pattern, text), f"/{pattern}/ is not said"


def offers(option):
    """Whether the client has an option."""
    return option in run([harness.program("mytunnel"), "connect", "--help"]).stdout


def package_version(name="mytunnel"):
    return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
