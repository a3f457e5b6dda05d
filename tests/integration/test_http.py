"""The HTTP interface against its manual page, and who may look."""
import json
import os
import re
import subprocess

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
        for path, unseen in (("/status", {"warnings[]"}), ("/stats", set())):
            fields = stats_fields(page) if path == "/stats" else page[path]
            if path == "/stats":
                wait_until(lambda: json.loads(server.http("/stats"))["history"]["time"], 15,
                           what="a step of the history")
            seen = set()
            check(json.loads(server.http(path)), fields, seen)
            missing = set(fields) - seen - unseen
            assert not missing, (path, missing)


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
        assert set(families) <= set(page), set(families) - set(page)
        for name, (kind, labels) in page.items():
            assert families.get(name, kind) == kind, name
            wanted = set((labels or "").replace(" ", "").split(",")) - {""}
            for line in re.findall(rf"^{name}(?:_bucket|_sum|_count)?(\{{.*\}})? ", text,
                                   re.MULTILINE):
                got = set(re.findall(r'(\w+)="', line)) - {"le"}
                assert got == wanted, (name, line, wanted)
        assert 'mytunnel_client_connections{client="' in text, text
        server.ctl("set", "metrics.per_client", "0")
        wait_until(lambda: "mytunnel_client_connections" not in server.http("/metrics"), 20,
                   what="no series of clients")
