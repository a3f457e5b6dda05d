"""Certificates change while tunnels go on: new handshakes use the new one at once."""

import os
import re
import sqlite3
import time

from harness import SLOW, Server, need, run, wait_until
from load import Trickle, events, tunnel
from targets import TcpTarget, echo
from test_protocol import interop


def openssl(*args, **kwargs):
    return run(["openssl", *args], **kwargs)


class Authority:
    """An authority in a folder, which signs certificates for servers."""

    def __init__(self, folder, name="authority"):
        self.folder = folder
        self.key = self.path(f"{name}.key")
        self.cert = self.path(f"{name}.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.cert, "-days", "3650", "-subj", f"/CN={name}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def sign(self, name, days=90, host="vpn.example.org", extensions=()):
        """Files with a certificate, its chain and its key."""
        key, request, cert = (self.path(name + end) for end in (".key", ".csr", ".pem"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request, "-subj", f"/CN={host}")
        config = self.path("extensions.cnf")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"subjectAltName=DNS:{host}\n" if host else "basicConstraints=CA:FALSE\n")
            file.writelines(f"{line}\n" for line in extensions)
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key,
                "-CAcreateserial", "-days", str(days), "-extfile", config, "-out", cert)
        chain = self.path(name + ".chain")
        with open(chain, "w", encoding="ascii") as out:
            for part in (cert, self.cert):
                with open(part, encoding="ascii") as file:
                    out.write(file.read())
        return cert, chain, key


def shown(server):
    return {row["certificate"]: row for row in server.json("cert", "show")["certificates"]}


def fingerprint(path):
    done = openssl("x509", "-in", path, "-noout", "-fingerprint", "-sha256")
    return done.stdout.split("=")[1].strip().replace(":", "").lower()


def seen_by_new_client(profile, **job):
    got = interop(profile, streams=[], **job)
    assert got["connected"], got
    return got["server"]


def test_renew_under_load():
    """A new certificate of the appliance: the pin stays, live connections too."""
    with Server() as server, TcpTarget(echo) as target:
        client = server.client()
        profile = server.enrol()
        before = shown(server)["server"]
        with Trickle([client], 20):
            assert seen_by_new_client(profile) == before["fingerprint"]
            server.ctl("cert", "renew")
            after = shown(server)["server"]
            assert after["fingerprint"] != before["fingerprint"]
            assert after["pin"] == before["pin"]
            assert seen_by_new_client(profile) == after["fingerprint"]
            tunnel(client, target)
        assert len([e for e in events(server, "connected") if e["client"] == "client0"]) == 1
        assert events(server, "certificate_renewed")[-1]["by"]
        server.process.kill()
        server.start()
        assert shown(server)["server"]["fingerprint"] == after["fingerprint"]


def test_renewed_by_itself():
    """What has less than a month left is renewed without being asked, unless tls.auto_generate is
    off; what has more stays."""
    need("openssl")
    with Server() as server:
        profile = server.enrol()
        port = server.port
        for days, auto, renewed in ((20, "on", True), (60, "on", False), (20, "off", False)):
            server.process.stop()
            database = sqlite3.connect(os.path.join(server.state, "mytunnel.db"))
            chain, key = database.execute(
                "SELECT chain, key FROM certificate WHERE kind = 'ca'").fetchone()
            own = Authority(server.folder, f"ca-{days}-{auto}")
            for path, text in ((own.cert, chain), (own.key, key)):
                with open(path, "w", encoding="ascii") as file:
                    file.write(text)
            cert, full, key = own.sign(f"short-{days}-{auto}", days, "pinned.mytunnel.invalid")
            with open(full, encoding="ascii") as chain, open(key, encoding="ascii") as key:
                database.execute(
                    "UPDATE certificate SET chain = ?, key = ? WHERE kind = 'server'",
                    (chain.read(), key.read()))
            database.commit()
            database.close()
            server.start({"server.bind_addr": f"127.0.0.1:{port}", "tls.auto_generate": auto})
            now = shown(server)["server"]
            assert (now["fingerprint"] != fingerprint(cert)) == renewed, (days, now)
            assert now["not_after"] - time.time() > (365 if renewed else days - 10) * 86400, now
            assert seen_by_new_client(profile) == now["fingerprint"]
        server.ctl("set", "tls.auto_generate", "on")  # what waited for it is done now
        wait_until(lambda: seen_by_new_client(profile) != now["fingerprint"], timeout=3 * SLOW,
                   what="the renewal")
        assert "expire" in events(server, "certificate_renewed")[-1]["reason"]


def test_import_beside_the_own_one():
    """An imported certificate serves other names; pinned profiles keep the appliance's."""
    need("openssl")
    with Server() as server, TcpTarget(echo) as target:
        authority = Authority(server.folder)
        client = server.client()
        profile = server.enrol()
        own = shown(server)["server"]["fingerprint"]
        with Trickle([client], 10):
            assert seen_by_new_client(profile, server_name="vpn.example.org") == own
            for name in ("first", "second"):
                cert, chain, key = authority.sign(name)
                server.ctl("cert", "import", chain, key)
                assert shown(server)["imported"]["fingerprint"] == fingerprint(cert)
                assert seen_by_new_client(profile, server_name="vpn.example.org") == \
                    fingerprint(cert)
                assert seen_by_new_client(profile) == own
            tunnel(client, target)


def test_import_refused():
    """A refusal says what is wrong and leaves the certificates alone."""
    need("openssl")
    with Server() as server:
        authority = Authority(server.folder)
        other = Authority(server.folder, "other")
        cert, chain, key = authority.sign("good")
        _, _, foreign_key = authority.sign("foreign")
        mixed = authority.path("mixed.chain")
        with open(mixed, "w", encoding="ascii") as out:
            for part in (cert, other.cert):
                with open(part, encoding="ascii") as file:
                    out.write(file.read())
        _, client_chain, client_key = authority.sign(
            "client", extensions=["extendedKeyUsage=clientAuth"])
        _, nameless_chain, nameless_key = authority.sign("nameless", host="")
        expired = authority.path("expired.pem")
        openssl("x509", "-req", "-in", authority.path("good.csr"), "-CA", authority.cert, "-CAkey",
                authority.key, "-CAcreateserial", "-days", "-1", "-extfile",
                authority.path("extensions.cnf"), "-out", expired, check=False)
        garbage = authority.path("garbage.pem")
        with open(garbage, "w", encoding="ascii") as file:
            file.write("this is no certificate\n")
        before = server.json("cert", "show")
        cases = [(chain, foreign_key, r"does not belong"), (mixed, key, r"not signed by"),
                 (client_chain, client_key, r"serverAuth"), (garbage, key, r"PEM"),
                 (nameless_chain, nameless_key, r"subjectAltName"), (chain, garbage, r"PEM"),
                 (authority.cert, authority.key, r"authority"),
                 (authority.path("missing"), key, r"missing")]
        if os.path.exists(expired) and os.path.getsize(expired):
            cases.append((expired, key, r"expired|subjectAltName"))
        for one, two, reason in cases:
            done = server.ctl("cert", "import", one, two, check=False)
            assert done.returncode == 1 and re.search(reason, done.stderr), (reason, done)
            assert server.json("cert", "show") == before, reason
        with open(key, encoding="ascii") as file:
            secret = file.read().splitlines()[1]
        assert secret not in server.process.text()
