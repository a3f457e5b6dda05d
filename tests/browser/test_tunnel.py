"""The dashboard of the real daemon in a browser whose own traffic goes through the tunnel."""

import contextlib
import json
import os
import socket

from devtools import Browser
from harness import ROOT, SLOW, TIMEOUT, Server, free_port, wait_until
from targets import HttpTarget

RESOURCES = 200
# What Chromium asks for by itself, whatever it shows.
BROWSERS_OWN = (".google.com", ".googleapis.com", ".gvt1.com")
PICTURES = os.path.join(ROOT, "build", "screenshots")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def write_site(folder):
    """A page with so many pictures; returns the bytes of all."""
    total = 0
    for i in range(RESOURCES):
        picture = (f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><desc>{i} '
                   f'{"x" * (100 * i)}</desc><rect width="9" height="9"/></svg>')
        total += len(picture)
        with open(os.path.join(folder, f"{i}.svg"), "w", encoding="ascii") as file:
            file.write(picture)
    page = "<!doctype html><title>pictures</title><link rel=icon href=0.svg>" + "".join(
        f"<img src={i}.svg alt=''>" for i in range(RESOURCES))
    with open(os.path.join(folder, "index.html"), "w", encoding="ascii") as file:
        file.write(page)
    return total + len(page)


@contextlib.contextmanager
def appliance():
    """A server on ports that outlive it, and a client."""
    with Server({"server.bind_addr": f"127.0.0.1:{free_port()}",
                 "metrics.bind_addr": f"127.0.0.1:{free_port()}"}) as server:
        yield server, server.client()


def dashboard(browser, server):
    page = browser.page()
    url = f"http://{server.status()['http']['address']}/"
    page.open(url)
    page.wait("document.getElementById('live').dataset.state === 'live'", TIMEOUT * 2)
    page.wait("document.querySelector('[data-chart=throughput] canvas') !== null")
    page.wait("document.querySelectorAll('#clients tbody tr').length === 1")
    return page, url


def agrees(page, selector, now):
    """The page's figure is one that the counter `now()` has had since this was called."""
    low = now()
    wait_until(lambda: page.number(selector) >= low, what=f"{selector} to reach {low}")
    shown, high = page.number(selector), now()
    assert low <= shown <= high, f"{selector}: {low}, {shown}, {high}"


def test_under_its_own_traffic():
    """A page with 200 pictures is fetched beside it: what it shows agrees with mytunnelctl and with
    what was transferred; no complaint, no request to anywhere else."""
    with appliance() as (server, client), contextlib.ExitStack() as shown:
        site_folder = os.path.join(server.folder, "site")
        os.mkdir(site_folder)
        total = write_site(site_folder)
        closed = free_port()
        with HttpTarget(site_folder) as target:
            # Whatever the browser wants beside these three ports is refused, and logged.
            server.ctl("set", "logging.access", "on")
            metrics = server.settings["metrics.bind_addr"].rpartition(":")[2]
            for port in (metrics, target.port, closed):
                server.ctl("access", "add", "allow", "net", "127.0.0.1/32", "port", str(port))
            server.ctl("access", "add", "deny")
            browser = shown.enter_context(Browser(client.port))
            page, url = dashboard(browser, server)
            site = browser.page()
            site.open(f"http://127.0.0.1:{target.port}/")
            site.wait("[...document.images].filter(i => i.naturalWidth === 9).length === "
                      f"{RESOURCES}", TIMEOUT * 2)
            assert len(site.requests) >= RESOURCES + 1 and not site.complaints, site.complaints
            site.value(f"fetch('http://127.0.0.1:{closed}/').catch(() => 'refused')")

            def stats(name):
                return server.json("stats")["counters"][name]

            wait_until(lambda: stats("bytes_sent") > total, what="the counters")
            agrees(page, "[data-tile=down]", lambda: stats("bytes_sent"))
            agrees(page, "[data-tile=up]", lambda: stats("bytes_received"))
            page.wait("document.querySelector('[data-tile=failures] data').value === '1'")
            page.wait("document.getElementById('reasons').innerText.includes('refused')")
            assert page.number("[data-tile=connections]") == stats("connections_active") == 1
            assert page.value("document.querySelector('[data-tile=connections]').dataset.total") \
                == str(stats("connections_total"))
            days = server.json("cert", "show")
            assert 1 < page.number("[data-tile=certificate]") < 1000, days
            row = page.text("#clients tbody tr").split("\t")
            [connection] = server.connections()
            assert row[0].startswith(connection["client"]) and row[1] == connection["peer"], row
            agrees(page, "#clients tbody td:nth-child(4)", lambda: stats("bytes_sent"))
            assert page.text("#workers").count("worker") == server.status()["workers"] == 2
            page.wait("document.querySelector('#events').innerText.includes('connected')")
            elsewhere = {host for host in denied(server) if not host.endswith(BROWSERS_OWN)}
            assert not elsewhere, elsewhere
            assert all(asked.startswith(url) for _, asked in page.requests), page.requests
            assert {method for method, _ in page.requests} == {"GET"}
            assert not page.complaints, page.complaints
            pictures(page)


def denied(server):
    """The hosts that the rules have refused, by the access log."""
    for line in server.process.text().splitlines():
        if '"denied"' in line:
            yield json.loads(line)["target"].rpartition(":")[0]


def pictures(page):
    os.makedirs(PICTURES, exist_ok=True)
    for name, width, height, dark, mobile in (
            ("desktop-light", 1280, 900, False, False), ("desktop-dark", 1280, 900, True, False),
            ("phone-light", 390, 844, False, True), ("phone-dark", 390, 844, True, True)):
        page.look(width, height, dark, mobile)
        page.wait("document.querySelector('.chart canvas').clientWidth <= "
                  "document.querySelector('.chart').clientWidth")
        page.screenshot(os.path.join(PICTURES, f"{name}.png"))


def test_daemon_restarts():
    """It says that the connection is lost, and is back by itself, with the new process's figures."""
    with appliance() as (server, client), Browser(client.port) as browser:
        page, url = dashboard(browser, server)
        before = page.text("#facts")
        assert not page.complaints, page.complaints
        server.process.stop()
        page.wait("document.getElementById('live').innerText === 'connection lost, trying again'",
                  TIMEOUT * 2)
        server.start()
        page.wait("document.getElementById('live').innerText === 'live'", TIMEOUT * 2 * SLOW)
        total = "document.querySelector('[data-tile=connections]').dataset.total"
        page.wait(f"{total} === '{server.json('stats')['counters']['connections_total']}'")
        assert "up" in before and not page.value("document.body.classList.contains('stale')")
        # The browser itself reports each request that finds nobody.
        complaints = [c for c in page.complaints if not c.startswith("Failed to load resource")]
        assert not complaints, complaints
        assert all(asked.startswith(url) for _, asked in page.requests), page.requests


def test_with_a_token():
    """Off loopback the browser asks for the token once, and everything of the page comes by TLS."""
    with appliance() as (server, client):
        token = server.ctl("token", "create").stdout.strip()
        server.ctl("set", "metrics.bind_addr", f"0.0.0.0:{free_port()}")
        port = server.status()["http"]["address"].rpartition(":")[2]
        with Browser(client.port, ["--ignore-certificate-errors"]) as browser:
            page = browser.page()
            page.answer_login("anybody", token)
            page.open(f"https://127.0.0.1:{port}/")
            page.wait("document.getElementById('live').dataset.state === 'live'")
            page.wait("document.querySelectorAll('#clients tbody tr').length === 1")
            page.wait("document.querySelector('[data-chart=throughput] canvas') !== null")
            assert all(url.startswith(f"https://127.0.0.1:{port}/") for _, url in page.requests)
            assert not any(token in url for _, url in page.requests)
            assert not page.complaints, page.complaints
