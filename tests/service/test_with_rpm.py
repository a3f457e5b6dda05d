"""The RPM packages under systemd, when the Debian ones are gone: the last of these tests."""

import glob

from harness import TIMEOUT, Skip, run, wait_until
from installed import UNIT, Installed, reads, show, systemctl
from test_service import full_test

PACKAGES = "/packages"


def test_rpm():
    """rpm installs both, and the service is enabled and runs; an upgrade restarts it, a removal
    stops it and keeps the data."""
    rpms = [path for path in glob.glob(f"{PACKAGES}/rpm/*.rpm") if not path.endswith(".src.rpm")]
    if not rpms:
        raise Skip("no RPM packages were given")
    run(["apt-get", "purge", "-y", "-q", "mytunnel", "mytunnel-client"], check=False,
        timeout=5 * TIMEOUT)
    install = ["rpm", "--nodeps", "-U"]
    reads(run([*install, *rpms], timeout=5 * TIMEOUT).stdout, "mytunnelctl client add", "http://127.0.0.1:9090/")
    assert systemctl("is-enabled", UNIT).stdout == "enabled\n"
    with Installed() as server:
        client = server.client()
        full_test(server, client)
        old, mark = server.pid(), client.process.mark()
        run([*install, "--force", *rpms], timeout=5 * TIMEOUT)
        wait_until(lambda: server.pid() not in (0, old), what="the new daemon")
        server.wait_running()
        client.process.wait_line("state connected", start=mark)
        assert show("NRestarts") == "0"
    run(["rpm", "--nodeps", "-e", "mytunnel", "mytunnel-client"])
    assert systemctl("is-active", UNIT, check=False).stdout != "active\n"
    assert glob.glob("/var/lib/mytunnel/mytunnel.db")
