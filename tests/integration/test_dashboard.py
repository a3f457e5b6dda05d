"""The dashboard's files as the daemon serves them. How they behave in a browser: tests/browser."""

import contextlib
import gzip
import http.client
import os
import re

from harness import ROOT, Server

UI = os.path.join(ROOT, "web", "ui")


def get(address, path, method="GET", **headers):
    """Status, headers and body."""
    connection = http.client.HTTPConnection(address, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def files():
    """What is served under which path."""
    yield "/", os.path.join(UI, "index.html")
    for folder in (UI, os.path.join(UI, "vendor", "uPlot")):
        for name in sorted(os.listdir(folder)):
            if name.endswith((".css", ".js", ".svg")):
                yield f"/ui/{name}", os.path.join(folder, name)


def test_files_in_both_forms():
    """Every file of the page as it is in the tree, compressed for those who take it."""
    with Server() as server:
        address = server.status()["http"]["address"]
        for path, source in files():
            with open(source, "rb") as file:
                content = file.read()
            status, headers, body = get(address, path)
            assert (status, body) == (200, content), path
            assert "Content-Encoding" not in headers
            status, headers, body = get(address, path, **{"Accept-Encoding": "gzip"})
            assert status == 200 and headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(body) == content, path
            assert headers["Vary"] == "Accept-Encoding"
            tag = headers["ETag"]
            status, _, body = get(address, path, **{"If-None-Match": tag})
            assert (status, body) == (304, b""), path
            status, headers, body = get(address, path, "HEAD")
            assert (status, body) == (200, b"")
            assert int(headers["Content-Length"]) == len(content)


def test_policy():
    """A browser may load from the endpoint alone, and run nothing that stands in the page."""
    with Server() as server:
        address = server.status()["http"]["address"]
        for path, _ in files():
            headers = get(address, path)[1]
            policy = dict(
                part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
            assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
            assert policy.pop("require-trusted-types-for") == "'script'"
            assert set(policy.values()) <= {"'none'", "'self'"}, policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
        page = get(address, "/")[2].decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", page), page
        assert not re.search(r"(https?:)?//[a-z]", re.sub(r"<!--.*?-->", "", page)), page


def test_only_these_files():
    """No other path is a file, and none is written to."""
    with Server() as server:
        address = server.status()["http"]["address"]
        for path in ("/ui", "/ui/", "/ui/index.html", "/index.html", "/ui/vendor/uPlot/uPlot.js",
                     "/ui/%2e%2e/http.c", "/ui/../http.c", "/ui/style.css/", "//"):
            assert get(address, path)[0] == 404, path
        for method in ("POST", "PUT", "DELETE"):
            assert get(address, "/", method)[0] == 405, method
        assert get(address, "/", Host="evil.example")[0] == 403
        assert get(address, "/", Origin="http://evil.example")[0] == 403
