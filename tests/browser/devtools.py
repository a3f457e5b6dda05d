"""Chromium without a screen, driven through the DevTools protocol with the standard library alone."""

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse

from harness import SLOW, TIMEOUT, Skip, environment, leftovers, wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing but what the page asks for: no updates, no look-ups of its own, no QUIC beside the tunnel.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-extensions", "--disable-sync", "--disable-domain-reliability",
    "--disable-client-side-phishing-detection", "--disable-features=OptimizationHints,"
    "MediaRouter,Translate,DialMediaRouteProvider", "--disable-dev-shm-usage", "--mute-audio",
    "--hide-scrollbars", "--remote-debugging-port=0", "--force-color-profile=srgb",
)


class WebSocket:
    """The client's side of RFC 6455: masked text out, whole messages in."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT)
        self.buffer = b""
        self.sending = threading.Lock()
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head
        self.socket.settimeout(None)

    def _more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the browser has gone")
        self.buffer += data

    def _take(self, size):
        while len(self.buffer) < size:
            self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def send(self, text, opcode=1):
        data = text.encode() if isinstance(text, str) else text
        mask = os.urandom(4)
        length = len(data)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
        elif length < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 0xFE, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, length)
        key = (mask * (length // 4 + 1))[:length]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
        with self.sending:
            self.socket.sendall(head + mask + masked)

    def receive(self):
        """The next text, None at the end."""
        message = b""
        while True:
            first, second = self._take(2)
            opcode, length = first & 15, second & 127
            if length == 126:
                length = struct.unpack(">H", self._take(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self._take(8))[0]
            data = self._take(length)
            if opcode == 8:
                return None
            if opcode == 9:
                self.send(data, 10)
                continue
            message += data
            if first & 0x80:
                return message.decode()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Browser:
    """A Chromium with a profile of its own; `proxy` is the port of a SOCKS5 proxy for everything,
    loopback too."""

    def __init__(self, proxy=None, args=()):
        path = next((found for found in map(shutil.which, NAMES) if found), None)
        if path is None:
            raise Skip("no Chromium is installed (make deps)")
        self.profile = tempfile.mkdtemp(prefix="mytunnel-browser-")
        self.log = os.path.join(self.profile, "stderr.log")
        leftovers.add("chromium", self.log)
        through = [f"--proxy-server=socks5://127.0.0.1:{proxy}",
                   "--proxy-bypass-list=<-loopback>"] if proxy else ["--no-proxy-server"]
        self.commands = itertools.count(1)
        self.answers = {}
        self.pages = {}
        self.changed = threading.Condition()
        self.socket = None
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [path, *FLAGS, f"--user-data-dir={self.profile}/profile", *through, *args,
                 "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
                start_new_session=True)

    def __enter__(self):
        try:
            url = wait_until(self._endpoint, TIMEOUT * 2, "Chromium's DevTools")
            self.socket = WebSocket(url)
            threading.Thread(target=self._read, daemon=True).start()
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, *_):
        if self.socket:
            with contextlib.suppress(Exception):
                self.command("Browser.close", timeout=3)
            self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        with contextlib.suppress(ProcessLookupError):  # what is left of its own process group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _endpoint(self):
        assert self.process.poll() is None, "Chromium ended at once"
        with open(self.log, encoding="utf-8", errors="replace") as log:
            match = re.search(r"DevTools listening on (ws://\S+)", log.read())
        return match and match.group(1)

    def _read(self):
        with contextlib.suppress(OSError, ConnectionError):
            while (text := self.socket.receive()) is not None:
                message = json.loads(text)
                with self.changed:
                    if "id" in message:
                        self.answers[message["id"]] = message
                    elif message.get("sessionId") in self.pages:
                        self.pages[message["sessionId"]].note(message["method"], message["params"])
                    self.changed.notify_all()

    def say(self, method, session, **params):
        """A command whose answer nobody waits for."""
        self.socket.send(json.dumps({"id": next(self.commands), "method": method,
                                     "params": params, "sessionId": session}))

    def command(self, method, session=None, timeout=TIMEOUT * SLOW, **params):
        number = next(self.commands)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        deadline = time.monotonic() + timeout
        with self.changed:
            while number not in self.answers:
                left = deadline - time.monotonic()
                assert left > 0, f"no answer to {method}"
                self.changed.wait(left)
            answer = self.answers.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self, width=1280, height=900, dark=False, mobile=False):
        target = self.command("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        with self.changed:
            self.pages[session] = page
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.command(f"{domain}.enable")
        page.look(width, height, dark, mobile)
        return page


class Page:
    """A tab: what it asked for, what it complained of, and what stands in it."""

    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        self.requests = []  # method and URL of each
        self.failed = []    # URL and why
        self.urls = {}
        self.login = None  # user and password for a dialog that asks
        self.complaints = []  # errors on the console, exceptions, violations of the policy

    def note(self, method, params):
        """An event of the protocol; under the browser's lock."""
        if method == "Fetch.requestPaused":
            self.browser.say("Fetch.continueRequest", self.session,
                             requestId=params["requestId"])
        if method == "Fetch.authRequired":
            user, password = self.login
            self.browser.say("Fetch.continueWithAuth", self.session,
                             requestId=params["requestId"], authChallengeResponse={
                                 "response": "ProvideCredentials", "username": user,
                                 "password": password})
        if method == "Network.requestWillBeSent":
            request = params["request"]
            self.urls[params["requestId"]] = request["url"]
            self.requests.append((request["method"], request["url"]))
        elif method == "Network.loadingFailed":
            self.failed.append((self.urls.get(params["requestId"]), params["errorText"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(
                details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(
                str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def command(self, method, **params):
        return self.browser.command(method, self.session, **params)

    def look(self, width, height, dark=False, mobile=False):
        """Size and colour scheme."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=2 if mobile else 1, mobile=mobile)
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        answer = self.command("Page.navigate", url=url)
        assert not answer.get("errorText"), f"{url}: {answer['errorText']}"
        wait_until(lambda: self.value("document.readyState") == "complete", what=f"{url} to load")

    def answer_login(self, user, password):
        """To the dialog that asks for them."""
        self.login = (user, password)
        self.command("Fetch.enable", handleAuthRequests=True)

    def value(self, expression):
        """Of a JavaScript expression, a promise too."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True,
                              awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression, timeout=TIMEOUT, what=None):
        """Until the expression is true; its value."""
        return wait_until(lambda: self.value(expression), timeout, what or expression)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def number(self, selector):
        """Of the first <data> in the element."""
        text = self.value(f"document.querySelector({json.dumps(selector + ' data')}).value")
        return float(text)

    def key(self, key, code=None, shift=False):
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": codes.get(key, 0),
                  "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.command("Input.dispatchKeyEvent", type="keyDown", **common,
                     **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path, whole=True):
        """A PNG of the page, down to its end."""
        if whole:
            size = self.command("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            data = self.command("Page.captureScreenshot", format="png", clip=clip,
                                captureBeyondViewport=True)["data"]
        else:
            data = self.command("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
