"""`make install`, as the README says it, where there are no packages any more: the very last test."""

import glob
import os

from harness import TIMEOUT, Skip, run
from installed import UNIT, Installed, show, systemctl
from test_service import full_test

LOCAL = "/packages/local"


def test_make_install():
    """Below /usr/local, with the user and the folders made by systemd's tools: it runs, and
    carries traffic."""
    if not os.path.isdir(LOCAL):
        raise Skip("nothing was installed from the sources")
    run(["apt-get", "purge", "-y", "-q", "mytunnel", "mytunnel-client"], check=False,
        timeout=5 * TIMEOUT)
    assert not glob.glob("/usr/bin/mytunnel*"), "the packages are still there"
    run(["cp", "-a", f"{LOCAL}/.", "/"])
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:" + os.environ["PATH"]
    for name in ("mytunnel", "mytunnelctl"):  # where the other tests look for them
        os.symlink(f"/usr/local/bin/{name}", f"/usr/bin/{name}")
    run(["systemd-sysusers"])
    run(["systemd-tmpfiles", "--create"], check=False)
    systemctl("daemon-reload")
    systemctl("enable", "--now", UNIT)
    with Installed() as server:
        assert show("ExecStart").startswith("{ path=/usr/local/sbin/mytunneld"), show("ExecStart")
        full_test(server, server.client())
