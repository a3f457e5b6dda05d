"""The HTTP interface against its manual page, and who may look."""
import base64
import collections
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time

from harness import Server, wait_until

PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "web", "mytunnel-http.7")
FIELD = re.compile(r'^\.IP "\\fB([^\\"]+)\\fR(?: ([a-z|]+))?" 4$')
METRIC = re.compile(r'^\.IP "\\fB((?:mytunnel|process)_\w+)\\fR (\w+)(?: \{([\w, ]+)\})?[,"]')
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool,
         "null": type(None)}


def sections():
    """What the page lists, by the heading under which it stands."""
    found = {}
    heading = ""
    with open(PAGE, encoding="utf-8") as file:
        for line in file:
            if line.startswith((".SH ", ".SS ")):
                heading = line[4:].strip()
                found[heading] = {}
            elif heading == "METRICS":
                match = METRIC.match(line)
                if match:
                    found[heading][match[1]] = (match[2], match[3])
            else:
                match = FIELD.match(line)
                if match and heading:
                    found[heading][match[1]] = match[2]
    return found


def walk(value, path=""):
    """Every leaf of an answer with the path that the page gives it."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from walk(inside, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inside in value:
            yield from walk(inside, path + "[]")
    else:
        yield path, value


def pattern(field):
    """`*` stands for any one name."""
    return re.compile(re.escape(field).replace(r"\*", r"[^.\[]+"))


def fits(value, kinds):
    """Whether a value has one of the types."""
    for kind in kinds.split("|"):
        if isinstance(value, TYPES[kind]) and (kind == "boolean") == isinstance(value, bool):
            return True
    return False


def check(answer, fields, seen=None):
    """Nothing undocumented in an answer, every type as documented; notes what has been seen."""
    for path, value in walk(answer):
        match = [field for field in fields if pattern(field).fullmatch(path)]
        assert match, f"{path} is not documented"
        exact = [field for field in match if "*" not in field] or match
        assert fits(value, fields[exact[0]]), (path, value, fields[exact[0]])
        if seen is not None:
            seen.add(exact[0])


def stats_fields(page):
    """The fields of /stats with the samples spelled out."""
    fields = {name: kind for name, kind in page["/stats"].items() if kind}
    for name, kind in page["A sample"].items():
        fields[f"now.{name}"] = kind
        if name != "time_ms":
            fields[f"history.{name}[]"] = kind
    return fields


def test_page_json():
    """Every documented field is there with its type, and nothing else."""
    page = sections()
    with Server() as server:
        server.client()
        for path, unseen in (("/status", {"warnings[]"}), ("/stats", set()),
                             ("/connections", set()), ("/clients", set())):
            fields = stats_fields(page) if path == "/stats" else page[path]
            if path == "/stats":
                wait_until(lambda: json.loads(server.http("/stats"))["history"]["time"], 15,
                           what="a step of the history")
            seen = set()
            check(json.loads(server.http(path)), fields, seen)
            missing = set(fields) - seen - unseen
            assert not missing, (path, missing)


def connect(server, timeout=10):
    """A plain connection to the endpoint."""
    host, port = server.status()["http"]["address"].rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def ask(server, path, method="GET", **headers):
    """Status, headers and body of an answer; keys of `headers` have _ for -."""
    connection = http.client.HTTPConnection(server.status()["http"]["address"], timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path,
                           headers={key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


class Stream:
    """A reader of /events."""

    def __init__(self, server, last_id=None):
        self.connection = http.client.HTTPConnection(server.status()["http"]["address"], timeout=10)
        headers = {"Last-Event-ID": last_id} if last_id else {}
        self.connection.request("GET", "/events", headers=headers)
        self.answer = self.connection.getresponse()
        self.last_id = last_id

    def next(self):
        """The next event: its name, and its data."""
        name, data = "message", None
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("id: "):
                self.last_id = line[4:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
            elif not line and data is not None:
                return name, data

    def until(self, condition):
        """Reads on up to an event that fits; all that came."""
        came = []
        while not came or not condition(*came[-1]):
            assert len(came) < 100, came
            came.append(self.next())
        return came

    def close(self):
        """Goes away."""
        self.answer.close()
        self.connection.close()


def test_page_events():
    """The stream as documented: the greeting, what happened before, what happens, the present."""
    page = sections()
    fields = {name: kind for name, kind in page["/events"].items() if kind}
    sample = page["A sample"]
    with Server() as server:
        stream = Stream(server)
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        name, data = stream.next()
        assert name == "hello"
        check({"hello": data}, fields)
        server.client()
        for name, data in stream.until(lambda name, data: data.get("event") == "connected"):
            if name == "stats":
                check(data, sample)
            else:
                assert name == "event", name
                for field in ("number", "time_ms", "event"):
                    assert fits(data[field], fields[f"event.{field}"]), data
                assert all(isinstance(value, (str, int)) for value in data.values()), data
        seen = set()
        check(stream.until(lambda name, _: name == "stats")[-1][1], sample, seen)
        assert seen == set(sample), set(sample) ^ seen
        stream.close()


def test_events_go_on():
    """A reader that comes back gets what it has missed, and only that; others get what is recent."""
    with Server() as server:
        def change(value):
            server.ctl("set", "quic.max_connections", str(value))
        change(1)
        stream = Stream(server)
        stream.until(lambda _, data: data.get("value") == "1")
        last = stream.last_id
        stream.close()
        change(2)
        change(3)
        stream = Stream(server, last)
        came = stream.until(lambda _, data: data.get("value") == "3")
        assert [data["value"] for name, data in came if name == "event"] == ["2", "3"], came
        stream.close()
        stream = Stream(server, "1-5")  # of another process
        came = stream.until(lambda _, data: data.get("value") == "3")
        assert "1" in [data.get("value") for _, data in came], came
        stream.close()


def test_readers_are_bounded():
    """Sixteen readers, no more; one that reads nothing is cut, the others see nothing of it."""
    with Server() as server:
        streams = [Stream(server) for _ in range(16)]
        assert ask(server, "/events")[0] == 503
        assert server.metrics()["mytunnel_http_event_readers"] == 16
        for stream in streams:
            assert stream.next()[0] == "hello"
        streams.pop().close()
        wait_until(lambda: server.metrics()["mytunnel_http_event_readers"] == 15,
                   what="the reader that went")
        again = Stream(server)
        assert again.answer.status == 200
        again.close()
        for stream in streams:
            stream.close()
        wait_until(lambda: server.metrics()["mytunnel_http_event_readers"] == 0,
                   what="readers to go")
        # One with tiny buffers that stops reading. Each change of a setting is an event of 600 bytes.
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        host, port = server.status()["http"]["address"].rsplit(":", 1)
        stalled.connect((host, int(port)))
        stalled.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server.metrics()["mytunnel_http_event_readers"] == 1, what="the reader")
        value = ["a" * 60 + f".{i}.example.org" for i in range(2)]

        def flood():
            for i in range(40):
                server.ctl("set", "server.public_addr", value[i % 2])
            return server.metrics()["mytunnel_http_event_readers"] == 0
        wait_until(flood, 60, what="the stalled reader to be cut")
        stalled.close()


def test_endpoint_moves_under_readers():
    """Readers of the stream and askers of all kinds, while the endpoint is switched and moved."""
    paths = ("/connections", "/clients", "/stats", "/metrics", "/status", "/events", "/")
    with Server() as server:
        server.client()
        over = threading.Event()
        answered = collections.Counter()

        def look(path):
            while not over.is_set():
                try:
                    host, port = server_address[0].rsplit(":", 1)
                    connection = http.client.HTTPConnection(host, int(port), timeout=5)
                    with contextlib.closing(connection):
                        connection.request("GET", path)
                        answer = connection.getresponse()
                        while answer.read(1024 if path != "/events" else 1) and not over.is_set():
                            pass
                        answered[path] += 1
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)  # it is just moving

        server_address = [server.status()["http"]["address"]]
        lookers = [threading.Thread(target=look, args=(path,)) for path in paths for _ in range(2)]
        for looker in lookers:
            looker.start()
        try:
            for _ in range(6):
                server.ctl("set", "metrics.enabled", "off")
                assert server.status()["http"]["address"] is None
                server.ctl("set", "metrics.enabled", "on")
                server_address[0] = server.status()["http"]["address"]
                server.ctl("set", "metrics.bind_addr", "127.0.0.2:0")
                server_address[0] = server.status()["http"]["address"]
                before = answered.copy()
                wait_until(lambda: all(answered[path] > before[path] for path in paths[:5]), 30,
                           what="answers of the new address")
                server.ctl("set", "metrics.bind_addr", "127.0.0.1:0")
                server_address[0] = server.status()["http"]["address"]
        finally:
            over.set()
            for looker in lookers:
                looker.join()
        wait_until(lambda: server.metrics()["mytunnel_http_event_readers"] == 0,
                   what="readers to go")
        # The server stops with readers of the stream connected.
        streams = [Stream(server) for _ in range(4)]
        assert all(stream.next()[0] == "hello" for stream in streams)
    for stream in streams:
        stream.close()


def raw(server, data, wait=5):
    """What bytes of a peer's own making are answered with, up to the end or `wait` seconds."""
    got = b""
    with contextlib.closing(connect(server, wait)) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            while len(got) < 65536:
                part = sock.recv(4096)
                if not part:
                    break
                got += part
    return got


def test_who_is_refused():
    """Foreign hosts and origins, other methods, what no browser would send."""
    with Server() as server:
        port = server.status()["http"]["address"].rsplit(":", 1)[1]
        for path in ("/", "/metrics", "/stats", "/connections", "/events", "/nothing"):
            for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{port}"},
                            {"Host": "localhost:1"}, {"Origin": "http://evil.example"},
                            {"Origin": "null"}, {"Origin": "http://localhost"},
                            {"Origin": f"https://localhost:{port}"}):
                status, _, body = ask(server, path, **headers)
                assert status == 403, (path, headers, status)
                assert json.loads(body)["error"]["code"] == "forbidden", body
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
                status, headers, _ = ask(server, path, method)
                assert status == 405 and headers["Allow"] == "GET, HEAD", (path, method, status)
        check(json.loads(ask(server, "/nothing")[2]), sections()["ERRORS"])
        assert ask(server, "/stats", Origin=f"http://localhost:{port}")[0] == 200
        name = f"vpn.example.org:{port}"
        assert ask(server, "/stats", Host=name)[0] == 403
        server.ctl("set", "server.public_addr", "vpn.example.org:443")
        assert ask(server, "/stats", Host=name)[0] == 200
        server.ctl("reset", "server.public_addr")
        assert ask(server, "/stats", Host=name)[0] == 403
        for path in ("/connections?limit=0", "/connections?limit=1e3", "/clients?sort=key",
                     "/connections?x", "/clients?state=", "/connections?worker=-1",
                     "/connections?client=%00", "/clients?" + "&" * 100 + "=1"):
            assert ask(server, path)[0] in (200, 400), path


def test_bad_bytes():
    """Conflicting, oversized and broken requests are refused or cut, and nothing breaks."""
    host = b"Host: localhost\r\n"
    with Server() as server:
        bad = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"Host: evil.example\r\n\r\n",
            b"GET / HTTP/9.9\r\n" + host + b"\r\n",
            b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n" + host + b"\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"X: " + b"b" * 200000 + b"\r\n\r\n",
            b"GET /clients?" + b"&" * 2000 + b" HTTP/1.1\r\n" + host + b"\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 20000 + b"\r\n",
            b"POST /metrics HTTP/1.1\r\n" + host + b"Content-Length: 99999999999999\r\n\r\nx",
            b"POST /metrics HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\nx",
            b"POST /metrics HTTP/1.1\r\n" + host + b"Content-Length: 4\r\nContent-Length: 5\r\n"
            b"\r\nabcde",
            b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
            b"\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n" + host + b"\r\n",
            b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
            b"\0" * 5000,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ]
        for data in bad:
            got = raw(server, data, 1)
            assert b" 200 " not in got.split(b"\r\n")[0], (data[:80], got[:200])
            assert b"mytunnel_up" not in got, data[:80]
            assert server.http("/healthz") == "ok\n"


def test_token():
    """Off loopback: TLS and a token, or nothing at all."""
    with Server() as server:
        refused = server.ctl("set", "metrics.bind_addr", "0.0.0.0:0", check=False)
        assert refused.returncode == 1 and "mytunnelctl token create" in refused.stderr, refused
        token = server.ctl("token", "create").stdout.strip()
        assert re.fullmatch(r"[\w-]{43}", token), token
        server.ctl("set", "metrics.bind_addr", "0.0.0.0:0")
        state = server.status()["http"]
        assert state["secured"], state
        port = int(state["address"].rsplit(":", 1)[1])
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        def get(authorization=None, path="/readyz"):
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
            with contextlib.closing(connection):
                connection.request("GET", path, headers={"Authorization": authorization}
                                   if authorization else {})
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()

        def basic(password):
            return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
        status, headers, _ = get()
        assert status == 401 and headers["WWW-Authenticate"].startswith("Basic "), status
        assert get(f"Bearer {token}")[0] == 200
        assert get(basic(token))[0] == 200
        for wrong in (f"Bearer {token}x", f"Bearer {token[:-1]}", "Bearer ", basic("x"), token,
                      f"Digest {token}"):
            assert get(wrong)[0] == 401, wrong
        for path in ("/", "/metrics", "/events", "/ui/style.css", "/nothing"):
            assert get(None, path)[0] == 401, path
        assert get(None, f"/stats?token={token}")[0] == 401
        assert raw_port(port) == b"", "plain HTTP was answered"
        kept = server.ctl("token", "remove", check=False)
        assert kept.returncode == 1 and "needs it" in kept.stderr, kept
        another = server.ctl("token", "create").stdout.strip()
        port = int(server.status()["http"]["address"].rsplit(":", 1)[1])
        assert get(f"Bearer {token}")[0] == 401 and get(f"Bearer {another}")[0] == 200
        server.ctl("set", "metrics.bind_addr", "127.0.0.1:0")
        server.ctl("token", "remove")
        assert server.http("/healthz") == "ok\n"
        kept = server.ctl("audit").stdout + server.process.text()
        assert "token" in kept and token not in kept and another not in kept


def test_restored_token():
    """A backup with an endpoint off loopback comes back on a new machine, and its token opens it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with Server() as server, Server() as another:
        token = server.ctl("token", "create").stdout.strip()
        server.ctl("set", "metrics.bind_addr", "0.0.0.0:0", "server.bind_addr", "127.0.0.1:0")
        file = os.path.join(server.folder, "one.backup")
        server.ctl("backup", file)
        another.ctl("--yes", "restore", file)
        state = another.status()["http"]
        assert state["secured"] and state["problem"] == "", state
        connection = http.client.HTTPSConnection(
            "127.0.0.1", int(state["address"].rsplit(":", 1)[1]), timeout=10, context=context)
        with contextlib.closing(connection):
            for given, status in ((token, 200), (token[:-1], 401)):
                connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {given}"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == status, answer.status


def raw_port(port):
    """What plain HTTP gets there."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with contextlib.suppress(OSError):
            return sock.recv(4096) if sock.recv(1) in (b"H",) else b""
    return b""


def test_port_is_taken():
    """Tunnels are served; `status` and the log name the setting; it heals by itself."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with Server({"metrics.bind_addr": f"127.0.0.1:{port}"}) as server:
            server.client()
            state = server.status()
            assert state["state"] == "running" and state["http"]["address"] is None, state
            assert "metrics.bind_addr" in state["http"]["problem"], state["http"]
            assert "metrics.bind_addr" in server.ctl("status").stdout
            line = next(line for line in server.process.text().splitlines() if "http_failed" in line)
            assert "metrics.bind_addr" in line, line
            other.close()
            wait_until(lambda: server.status()["http"]["address"], 20, what="the port")
            assert server.http("/readyz") == "ready\n"


def test_readiness():
    """Not ready while draining."""
    with Server() as server:
        assert server.http("/readyz") == "ready\n"
        server.ctl("--yes", "drain")
        status, headers, body = ask(server, "/readyz")
        assert status == 503 and body in (b"draining\n", b"drained\n"), (status, body)
        assert headers["Retry-After"]
        assert server.http("/healthz") == "ok\n"


def test_page_metrics():
    """Every documented metric with its type and labels, and nothing else; promtool has no word."""
    page = sections()["METRICS"]
    with Server({"metrics.per_client": "10"}) as server:
        server.client()
        wait_until(lambda: "mytunnel_client_connections" in server.http("/metrics"), 20,
                   what="series of clients")
        text = server.http("/metrics")
        told = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                              capture_output=True, timeout=60, check=False)
        assert (told.returncode, told.stdout, told.stderr) == (0, "", ""), told
        families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        assert set(families) == set(page), set(families) ^ set(page)
        for name, (kind, labels) in page.items():
            assert families[name] == kind, name
            wanted = set((labels or "").replace(" ", "").split(",")) - {""}
            for line in re.findall(rf"^{name}(?:_bucket|_sum|_count)?(\{{.*\}})? ", text,
                                   re.MULTILINE):
                got = set(re.findall(r'(\w+)="', line)) - {"le"}
                assert got == wanted, (name, line, wanted)
        assert 'mytunnel_client_connections{client="' in text, text
        server.ctl("set", "metrics.per_client", "0")
        wait_until(lambda: "mytunnel_client_connections" not in server.http("/metrics"), 20,
                   what="no series of clients")
