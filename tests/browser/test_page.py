"""The page against answers of the tests' own: hostile texts, much of everything, keyboard, phone."""

import json
import time

from devtools import Browser
from stub import Stub, client, history, sample, status

BAD = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
TURNED = "abc\u202egnp.exe\u0007\u200b\nline"


def answers(**changes):
    now = time.time()
    base = {
        "/stats": {"schema": 1, "started_at": 1700000000, "history": history(30, now),
                   "now": sample(now)},
        "/status": status(),
        "/clients": {"schema": 1, "total": 2, "clients": [
            client("laptop"), client("tablet", bytes_sent=5, connections=0)]},
    }
    return {**base, **changes}


def opened(browser, stub, **look):
    page = browser.page(**look)
    page.open(stub.url)
    page.wait("document.getElementById('live').dataset.state === 'live'")
    page.wait("document.querySelector('.chart canvas') !== null")
    page.wait("document.querySelectorAll('#clients tbody tr').length > 0")
    return page


def test_hostile_texts():
    """Whatever the server passes on stays text: no element, no script, no turned line."""
    texts = {
        "/status": status(
            state=BAD, version=BAD, warnings=[BAD, TURNED], problem=BAD, next=BAD,
            listeners=[{"protocol": BAD, "address": BAD}],
            certificates=[{"name": BAD, "not_after": 1900000000, "days_left": 2}]),
        "/clients": {"schema": 1, "total": 2, "clients": [
            client(BAD, state=BAD, last_address=BAD), client(TURNED, last_address=TURNED)]},
    }
    events = [
        {"number": 1, "time_ms": 1700000000000, "event": BAD, "detail": BAD, BAD: BAD},
        {"number": 2, "time_ms": 1700000000000, "event": "disconnected", "detail": TURNED,
         "list": [BAD], "long": "x" * 5000},
    ]

    def hostile():
        return sample(handshake_failures_per_second={BAD: 1.0},
                      connect_failures_per_second={TURNED: 1.0})

    with Stub(answers(**texts), events, samples=hostile) as stub, Browser() as browser:
        page = opened(browser, stub)
        page.wait("document.querySelectorAll('#events li').length === 2")
        page.wait("document.querySelectorAll('#reasons data').length >= 4")
        page.wait("document.querySelectorAll('.notice').length === 3")
        assert page.value("document.images.length") == 1, "an image that the page does not have"
        assert page.value("document.scripts.length") == 1
        assert page.value("document.querySelectorAll('[onerror], [onload], [onclick]').length") == 0
        assert page.value("document.title") == "MyTunnel"
        assert page.text("#events li:last-child .what") == BAD[:60] + "\u2026"
        assert BAD in page.text("#notices") and BAD in page.text("#events")
        assert BAD[:80] in page.text("#clients tbody tr")
        shown = page.value("document.body.textContent")
        assert "abc\u00b7gnp.exe\u00b7\u00b7\u00b7line" in shown and "x" * 301 not in shown
        assert not set(shown) & set("\u202e\u0007\u200b")
        # The policy holds even where the page's own script would err.
        assert page.value(
            "(() => { try { document.body.innerHTML = '<i>'; return 'taken'; } catch (e) "
            "{ return e.name; } })()") == "TypeError"
        assert all(url.startswith(stub.url) for _, url in page.requests), page.requests
        page.complaints = [text for text in page.complaints if "TrustedHTML" not in text]
        assert not page.complaints, page.complaints


def test_keyboard():
    """All that can be pressed is reached by Tab in the order of reading, seen, and works."""
    with Stub(answers()) as stub, Browser() as browser:
        page = opened(browser, stub)
        reached = []
        for _ in range(20):
            page.key("Tab")
            reached.append(page.value(
                "(() => { const e = document.activeElement; const s = getComputedStyle(e); return ["
                "e.innerText.slice(0, 16) || e.id, s.outlineStyle, e.tagName]; })()"))
            if reached[-1][0] == "stats":
                break
        names = [name for name, _, _ in reached]
        assert names[0] == "Skip to the figu" and names[1:4] == ["5 min", "15 min", "1 hour"], names
        heads = ["Client", "Address", "Connections", "To client", "From client", "Last seen"]
        begin = names.index("Client")
        assert names[begin:begin + 6] == heads and names[-3:] == ["metrics", "status", "stats"]
        assert all(style not in ("none", "") for _, style, _ in reached), reached

        def press(selector, key="Enter"):
            page.value(f"document.querySelector({json.dumps(selector)}).focus()")
            page.key(key)

        def first():
            return page.text("#clients tbody tr:first-child bdi")

        assert page.value("document.querySelector('[aria-sort]').dataset.key") == "down"
        assert first() == "laptop"
        press("th[data-key=name] button")
        page.wait("document.querySelector('th[data-key=name]').ariaSort === 'ascending'")
        assert page.value("document.querySelectorAll('[aria-sort]').length") == 1
        press("th[data-key=name] button", " ")
        page.wait("document.querySelector('th[data-key=name]').ariaSort === 'descending'")
        page.wait("document.querySelector('#clients tbody bdi').innerText === 'tablet'")
        page.wait("document.activeElement.innerText.startsWith('Client')", what="the focus to stay")
        press("[data-range='3600']")
        page.wait("document.querySelector('[data-range=\"3600\"]').ariaPressed === 'true'")
        page.wait("document.querySelector('.chart').ariaLabel.includes('last 1 h')")
        assert any("sort=name" in path for path in stub.asked)
        assert not page.complaints, page.complaints


def test_failures_by_reason():
    """The last hour's counts are the sums of its steps, and of the seconds since."""

    def step(now):
        return sample(now, connect_failures_per_second={"dns": 0.5, "timeout": 0.0},
                      handshake_failures_per_second={"tls": 0.1})

    now = time.time()
    stats = {"schema": 1, "started_at": 1700000000, "history": history(360, now, step),
             "now": sample(now, connect_failures_per_second={}, handshake_failures_per_second={})}
    quiet = sample(now, connect_failures_per_second={"dns": 0.0},
                   handshake_failures_per_second={"tls": 0.0})
    with Stub(answers(**{"/stats": stats}), samples=lambda: quiet) as stub, \
            Browser() as browser:
        page = opened(browser, stub)
        page.wait("document.querySelectorAll('#reasons data').length === 2")
        rows = page.value("[...document.querySelectorAll('#reasons li')].map(e => e.innerText)")
        assert [row.split() for row in rows] == [["tls", "360"], ["dns", "1,800"]], rows
        assert page.number("[data-tile=failures]") == 2160
        assert page.text("[data-tile=failures] .sub") == "360 handshakes, 1,800 dials"


def test_much_of_everything():
    """A hundred clients of thousands, 64 workers and 1,000 events neither break nor widen it."""
    many = {"schema": 1, "total": 4321, "clients": [
        client(f"client-{i:03}", bytes_sent=10**12 - i) for i in range(100)]}
    events = [{"number": i, "time_ms": 1700000000000, "event": "connected",
               "client": f"c{i}"} for i in range(1, 1001)]

    def busy():
        return sample(worker_busy=[i / 64 for i in range(64)], worker_connections=[9] * 64)

    stats = {"schema": 1, "started_at": 1700000000,
             "history": history(5, time.time(), lambda now: {**busy(), "time_ms": int(now * 1000)}),
             "now": busy()}
    with Stub(answers(**{"/clients": many, "/stats": stats}), events, samples=busy) as stub, \
            Browser() as browser:
        page = opened(browser, stub)
        page.wait("document.querySelectorAll('#events li').length === 100")
        page.wait("document.querySelectorAll('#workers li').length === 64")
        assert "c1000" in page.text("#events li")
        assert page.text("#clients-count") == "100 of 4,321"
        legend = page.value("document.querySelector('[data-chart=workers]').parentElement"
                            ".querySelector('.legend').innerText")
        assert "busiest" in legend and "mean" in legend, legend
        assert not page.complaints, page.complaints


def test_narrow_screens():
    """From a small phone to a wide screen nothing is cut off, and what is pressed is large enough."""
    with Stub(answers()) as stub, Browser() as browser:
        page = opened(browser, stub)
        for width, mobile in ((320, True), (390, True), (768, True), (1920, False)):
            page.look(width, 800, mobile=mobile)
            page.wait(f"innerWidth === {width}")
            page.wait("document.querySelector('.chart canvas').clientWidth <= "
                      "document.querySelector('.chart').clientWidth")
            assert page.value("document.documentElement.scrollWidth") <= width
            small = page.value(
                "[...document.querySelectorAll('button')].filter(b => b.offsetHeight > 0 && "
                "b.offsetHeight < 30).map(b => b.innerText)")
            assert not small, (width, small)


def test_comes_back():
    """A server that goes is told at once, and found again; what was shown meanwhile is marked old."""
    with Browser() as browser:
        with Stub(answers()) as stub:
            page = opened(browser, stub)
            port = stub.port
        page.wait("document.getElementById('live').dataset.state === 'lost'")
        assert page.text("#live") == "connection lost, trying again"
        assert page.value("document.body.classList.contains('stale')")
        assert page.value("document.getElementById('live').getAttribute('role')") == "status"
        hello = {"schema": 1, "version": "0.1.0", "started_at": 1700009999}
        stats = {"schema": 1, "started_at": 1700009999, "history": history(1, time.time()),
                 "now": sample()}
        with Stub(answers(**{"/stats": stats, "/status": status(version="0.2.0")}),
                  [{"number": 1, "time_ms": 1700009999000, "event": "listening"}], hello,
                  port=port):
            page.wait("document.getElementById('live').dataset.state === 'live'")
            page.wait("document.getElementById('facts').innerText.includes('0.2.0')")
            page.wait("document.querySelector('#events .what').innerText === 'listening'")
            assert page.text("#live") == "live" and page.value("document.title") == "MyTunnel"
            assert not page.value("document.body.classList.contains('stale')")


def test_colour_schemes():
    """Texts keep a contrast of 4.5 in both, and the charts are painted anew."""
    script = """(() => {
        const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
        const light = (c) => {
            const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const under = (e) => {
            for (; e; e = e.parentElement) {
                const c = rgb(getComputedStyle(e).backgroundColor);
                if (c.length === 3 || c[3] === 1) return c;
            }
            return [255, 255, 255];
        };
        const bad = [];
        for (const e of document.querySelectorAll('body *')) {
            const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== '');
            if (!own || e.offsetHeight === 0 || e.closest('noscript')) continue;
            const [a, b] = [light(rgb(getComputedStyle(e).color)), light(under(e))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (contrast < 4.5) bad.push([e.innerText, contrast]);
        }
        return bad;
    })()"""
    with Stub(answers(**{"/status": status(warnings=["a warning"])})) as stub, \
            Browser() as browser:
        page = opened(browser, stub)
        seen = []
        for dark in (False, True):
            page.look(1280, 900, dark)
            page.wait(f"matchMedia('(prefers-color-scheme: dark)').matches === {str(dark).lower()}")
            assert page.value(script) == []
            seen.append(page.value("getComputedStyle(document.body).backgroundColor"))
        assert seen[0] != seen[1]
        assert not page.complaints, page.complaints
