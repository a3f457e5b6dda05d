"""The commands of docs/howto.md, run in their order against the real programs.

A fenced block says where it runs: `sh server`, `sh new-server`, `sh laptop`, or `sh laptop
background` for a client that goes on running. What the test replaces in a command stands in the
document itself, in the table at its end. The laptop's commands run where vpn.example.org is this
machine and the test's authority is in the system's trust store: in a mount namespace of their own.
"""

import functools
import os
import re
import tempfile

from harness import ROOT, Process, Server, Skip, free_port, need, program, run, wait_until
from targets import HttpTarget
from test_certificates import Authority

DOCUMENT = os.path.join(ROOT, "docs", "howto.md")
PLACES = {"sh server", "sh new-server", "sh laptop", "sh laptop background", "yaml"}
PAGE = "the page behind the tunnel\n"
HOSTS = "127.0.0.1 localhost vpn.example.org\n"
TRUST = "/etc/ssl/certs"


def blocks(text):
    """Section, place and commands of each fenced block."""
    section, place, lines = None, None, []
    for line in text.splitlines():
        if place is None and line.startswith("## "):
            section = line[3:]
        elif place is None and line.startswith("```"):
            place, lines = line[3:], []
        elif line == "```":
            yield section, place, "\n".join(lines) + "\n"
            place = None
        elif place is not None:
            lines.append(line)


def replacements(text):
    """The rows of the document's table, the longest first, so that none spoils another."""
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", text, re.MULTILINE)
    return sorted(rows, key=lambda row: -len(row[0]))


@functools.lru_cache(maxsize=1)
def namespace():
    """The command that gives a program mounts of its own, as root or as another user."""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        if run([*command, "mount", "--bind", "/etc/hosts", "/etc/hosts"],
               check=False).returncode == 0:
            return command
    raise Skip("no mount namespaces here")


class Story:
    """The machines that the document speaks of, as folders with their programs."""

    def __init__(self, root, servers, page):
        self.root = root
        self.servers = servers
        self.page = page
        self.rows = replacements(read(DOCUMENT))
        self.used = set()
        self.client = None
        self.folders = {}
        for place in ("server", "new-server", "laptop"):
            self.folders[place] = self.make_folder(place)
        self.bin = self.make_folder("bin")
        for name in ("mytunnelctl", "mytunnel"):
            self.write_program(name, f'exec "{program(name)}" "$@"')
        self.write_program("sudo", 'exec env "$@"')
        self.make_certificate()

    def make_folder(self, name):
        path = os.path.join(self.root, name)
        os.makedirs(path, exist_ok=True)
        return path

    def write_program(self, name, command):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\n{command}\n")
        os.chmod(path, 0o755)

    def make_certificate(self):
        authority = Authority(self.root)
        _, chain, key = authority.sign("own")
        live = self.make_folder("letsencrypt/live/vpn.example.org")
        self.make_folder("letsencrypt/renewal-hooks/deploy")
        os.rename(chain, os.path.join(live, "fullchain.pem"))
        os.rename(key, os.path.join(live, "privkey.pem"))
        trust = self.make_folder("trust")
        os.symlink(authority.cert, os.path.join(trust, "ca-certificates.crt"))
        hosts = os.path.join(self.root, "hosts")
        with open(hosts, "w", encoding="ascii") as file:
            file.write(HOSTS)
        self.mounts = (f'mount --bind "{hosts}" /etc/hosts && '
                       f'mount --bind "{trust}" {TRUST} && exec "$@"')

    def values(self):
        server = self.servers["server"]
        metrics = server.status()["http"]["address"] if server.process.alive() else ""
        return {
            "server": self.folders["server"],
            "proxy": f"127.0.0.1:{self.client_port()}" if self.client else "",
            "page": f"127.0.0.1:{self.page.port}",
            "page_port": str(self.page.port),
            "letsencrypt": os.path.join(self.root, "letsencrypt"),
            "metrics": metrics,
            "metrics_port": metrics.rpartition(":")[2],
            "pid": str(server.process.pid),
        }

    def client_port(self):
        return self.client.wait_line(r"(?i)(?:socks|proxy).*127\.0\.0\.1:(\d+)").group(1)

    def replaced(self, line):
        """A line with the table's replacements; what one has put there no other touches."""
        values = self.values()
        pattern = "|".join(re.escape(old) for old, _ in self.rows)
        table = dict(self.rows)

        def put(match):
            self.used.add(match.group(0))
            return table[match.group(0)].format(**values)

        return re.sub(pattern, put, line)

    def shell(self, place, commands):
        """What runs a block: its shell, its environment, its folder."""
        setting = [f"HOME={self.folders[place]}",
                   f"PATH={self.bin}:{os.environ['PATH']}:/usr/sbin:/sbin"]
        if place in self.servers:
            setting.append(f"MYTUNNEL_SOCKET={self.servers[place].socket}")
        script = f'cd "{self.folders[place]}"\n{commands}'
        prefix = [*namespace(), "sh", "-c", self.mounts, "sh"] if place == "laptop" else []
        return [*prefix, "env", "-u", "XDG_CONFIG_HOME", *setting, "bash", "-euo", "pipefail", "-c",
                script]

    def run(self, place, commands):
        """One block; yields each command with its output. A command is replaced just before it
        runs, because what it needs may come from the one before it."""
        for command in statements(commands):
            done = run(self.shell(place, self.replaced(command)), check=False)
            assert done.returncode == 0, f"{place}: {command}{done.stdout}{done.stderr}"
            yield command, done.stdout

    def connect(self, commands):
        """The client of the laptop; another one before it ends."""
        if self.client:
            self.client.stop(expected=None)
        self.client = Process(self.shell("laptop", "exec " + self.replaced(commands)),
                              self.root, "laptop")
        self.client.wait_line(r"(?i)(?<!dis)(?<!not )\bconnected\b")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def statements(commands):
    """The commands of a block, each with its here-document."""
    lines = iter(commands.splitlines(keepends=True))
    for line in lines:
        mark = re.search(r"<<'(\w+)'$", line.rstrip())
        while mark:
            following = next(lines)
            line += following
            if following.rstrip() == mark.group(1):
                break
        yield line


def fetch(story):
    return run(["curl", "--silent", "--fail", "--socks5-hostname",
                f"127.0.0.1:{story.client_port()}", f"http://127.0.0.1:{story.page.port}/"],
               check=False)


def tell(story, text):
    server = story.servers["server"]
    for section, place, commands in blocks(text):
        assert place in PLACES, f"{section}: a block for '{place}'"
        if place == "yaml":
            continue
        if place == "sh laptop background":
            story.connect(commands)
            continue
        if "access add allow" in commands and "10.1.0.0/16" in commands:
            server.ctl("set", "access.allow_private", "off")
            assert fetch(story).returncode != 0, "a private network is closed without a rule"
        if place == "sh new-server":
            wait_until(lambda: not server.process.alive(), what="the old server's end")
        for command, output in story.run(place[3:], commands):
            if command.startswith("curl") and "127.0.0.1:1080" in command:
                assert output == PAGE, command
            if "access test" in command:
                assert "allow" in output, output


def test_howto():
    """Every command of docs/howto.md does what the text says, with the replacements that the text
    declares; the client survives the move to another machine."""
    need("curl", "openssl", "unshare")
    namespace()
    text = read(DOCUMENT)
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="mytunnel-howto-") as root, \
            Server({"server.bind_addr": address}) as server, Server() as new:
        pages = os.path.join(root, "pages")
        os.mkdir(pages)
        with open(os.path.join(pages, "index.html"), "w", encoding="ascii") as file:
            file.write(PAGE)
        with HttpTarget(pages) as page:
            story = Story(root, {"server": server, "new-server": new}, page)
            try:
                tell(story, text)
                wait_until(lambda: any(c["client"] == "laptop" for c in new.connections()),
                           what="the client at the new server")
                assert new.address == address
            finally:
                if story.client:
                    story.client.stop(expected=None)
    unused = {old for old, _ in story.rows} - story.used
    assert not unused, f"replacements that nothing needs: {unused}"


# Commands of the README that docs/howto.md has not, and what runs them.
ELSEWHERE = {
    "make demo": ".ci/run",
    "scripts/deps build package && make deb": "tests/packages/run",
    "sudo apt install ./build/deb/mytunnel_*.deb": "tests/packages/life",
    "sudo apt install ./build/deb/mytunnel-client_*.deb": "tests/packages/life",
    "make rpm": "Makefile",
    "sudo dnf install ./build/rpm/mytunnel-[0-9]*.rpm ./build/rpm/mytunnel-client-[0-9]*.rpm":
        "tests/service/test_with_rpm.py",
    "make deps all && sudo make install": "tests/packages/service",
    "sudo systemd-sysusers && sudo systemd-tmpfiles --create":
        "tests/service/test_without_packages.py",
    "sudo systemctl daemon-reload && sudo systemctl enable --now mytunnel":
        "tests/service/test_without_packages.py",
    "mytunnel connect vpn -L 2222:git.internal:22": "tests/integration/test_traffic.py",
    "systemctl --user enable --now mytunnel@vpn": "tests/service/test_service.py",
}
# A machine of Fedora only.
FEDORA_ONLY = "sudo firewall-cmd "


def test_readme():
    """Each command of the README is one of docs/howto.md, or one that another test runs."""
    howto = "".join(commands for _, _, commands in blocks(read(DOCUMENT)))
    readme = read(os.path.join(ROOT, "README.md"))
    commands = [
        line.split("  #")[0].strip() for _, _, text in blocks(readme) for line in text.splitlines()
        if re.match(r"(sudo|make|scripts|mytunnel|curl|systemctl|dnf|apt)[ /]", line)]
    assert len(commands) > 12, commands
    for command in commands:
        if command.startswith(FEDORA_ONLY):
            continue
        place = ELSEWHERE.get(command)
        assert place or command in howto, f"nothing runs '{command}'"
        assert not place or os.path.exists(os.path.join(ROOT, place)), place
