"""The tests of debian/tests, as Debian runs them."""

import glob
import subprocess

from harness import TIMEOUT

PACKAGES = "/packages"


def test_autopkgtest():
    """autopkgtest with the null server, in this machine: install, traffic, upgrade, purge."""
    debs = glob.glob(f"{PACKAGES}/new/*.deb")
    source = glob.glob(f"{PACKAGES}/source/*.dsc")
    done = subprocess.run(
        ["autopkgtest", "--ignore-restrictions=isolation-machine,breaks-testbed", "--no-built-binaries",
         *debs, *source, "--", "null"],
        check=False, text=True, timeout=30 * TIMEOUT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = done.stdout.splitlines()
    print("\n".join("      | " + line for line in lines[-60:]))
    assert done.returncode == 0, f"exit status {done.returncode}"
    for name in ("traffic", "purge"):
        assert any(line.split()[:2] == [name, "PASS"] for line in lines), name
