"""An endpoint that serves the page's files with the daemon's policy, and answers of the tests' own:
whatever a hostile client or a broken server could make the real one say."""

import http.server
import json
import os
import re
import socketserver
import threading
import time

from harness import ROOT

UI = os.path.join(ROOT, "web", "ui")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript",
         ".svg": "image/svg+xml"}


def policy():
    """The one that the daemon sends."""
    with open(os.path.join(ROOT, "web", "assets.h"), encoding="ascii") as file:
        text = file.read()
    value = re.search(r"#define MT_WEB_ASSET_POLICY((?:.*\\\n)*.*)", text).group(1)
    return "".join(re.findall(r'"([^"]*)"', value))


def source(path):
    """The file behind a path, None if there is none."""
    if path == "/":
        return os.path.join(UI, "index.html")
    for folder in (UI, os.path.join(UI, "vendor", "uPlot")):
        name = os.path.join(folder, os.path.basename(path))
        if path.startswith("/ui/") and os.path.isfile(name):
            return name
    return None


def sample(now=None, **changes):
    """As one of /events and /stats; its fields come with the changes."""
    base = {
        "time_ms": int((now or time.time()) * 1000), "received_bytes_per_second": 1e6,
        "sent_bytes_per_second": 12e6, "connections": 42, "half_open": 0,
        "handshakes_per_second": 0.5, "tunnels": 120, "tunnels_per_second": 9.0, "udp_flows": 7,
        "packets_received_per_second": 900.0, "packets_sent_per_second": 9000.0, "rtt_ms": 23.4,
        "rtt_p95_ms": 48.0, "handshake_ms": 31.0, "connect_ms": 12.0, "connect_p95_ms": 40.0,
        "packets_lost_per_second": 2.0, "loss": 0.0012, "datagrams_dropped_per_second": 0.0,
        "denied_per_second": 0.0, "limit_hits_per_second": 0.0,
        "handshake_failures_per_second": {"timeout": 0.0, "tls": 0.1},
        "connect_failures_per_second": {"dns": 0.2, "refused": 0.0},
        "worker_busy": [0.31, 0.58], "worker_connections": [20, 22], "cpu": 0.9,
        "memory_bytes": 50000000,
    }
    return {**base, **changes}


def history(steps, end, of=None):
    """Columns of `steps` samples that end at `end`."""
    rows = [(of or sample)(end - 10 * (steps - 1 - i)) for i in range(steps)]
    columns = {"step_seconds": 10, "time": [row["time_ms"] // 1000 for row in rows]}
    for name, value in rows[0].items():
        if name == "time_ms":
            continue
        if isinstance(value, dict):
            columns[name] = {key: [row[name][key] for row in rows] for key in value}
        elif isinstance(value, list):
            columns[name] = [[row[name][i] for row in rows] for i in range(len(value))]
        else:
            columns[name] = [row[name] for row in rows]
    return columns


def status(**changes):
    base = {
        "schema": 1, "version": "0.1.0", "pid": 1, "started_at": 1700000000,
        "uptime_seconds": 3600, "state": "running", "ready": True, "problem": "", "next": "",
        "workers": 2, "listeners": [{"protocol": "quic", "address": "192.0.2.1:443"}],
        "connections": {"active": 42, "total": 4200}, "tunnels": {"active": 120, "opened": 99000},
        "traffic": {"bytes_received": 5 * 10**9, "bytes_sent": 7 * 10**10},
        "certificates": [{"name": "appliance", "not_after": 1900000000, "days_left": 83}],
        "warnings": [],
    }
    return {**base, **changes}


def client(name, **changes):
    base = {
        "name": name, "state": "active", "connections": 1, "max_connections": None,
        "bytes_received": 10**6, "bytes_sent": 10**8, "last_seen": int(time.time()),
        "last_address": "198.51.100.7:50000", "expires_at": None, "rate_bits": None,
        "quota_bytes": None, "quota_used": 0,
    }
    return {**base, **changes}


class Stub:
    """`answers` maps paths to objects or functions of the request's whole path; `events` are
    sent to each reader first, then a sample each tenth of a second."""

    def __init__(self, answers, events=(), hello=None, samples=sample, port=0):
        stub = self
        self.answers = answers
        self.asked = []
        self.stopping = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                path = self.path.partition("?")[0]
                stub.asked.append(self.path)
                if path == "/events":
                    self.stream()
                elif path in stub.answers:
                    answer = stub.answers[path]
                    self.answer(json.dumps(answer(self.path) if callable(answer) else answer)
                                .encode(), "application/json")
                elif source(path):
                    with open(source(path), "rb") as file:
                        self.answer(file.read(), TYPES[os.path.splitext(source(path))[1]])
                else:
                    self.send_error(404)

            def answer(self, body, kind):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", policy())
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(body)

            def stream(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.say("hello", hello or {"schema": 1, "version": "0.1.0",
                                            "started_at": 1700000000})
                for event in events:
                    self.say("event", event)
                while not stub.stopping.wait(0.1):
                    self.say("stats", samples())

            def say(self, name, data):
                self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
                self.wfile.flush()

        class HttpServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                pass  # readers that go away

        self.server = HttpServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
