"""What operators take away, against a real Prometheus: /metrics under load, alert rules, the queries
of the Grafana dashboard."""

import contextlib
import json
import math
import os
import re
import threading
import time
import urllib.parse
import urllib.request

import socks
from harness import ROOT, SLOW, TIMEOUT, Process, Server, alone, need, run, wait_until
from targets import EchoTarget, UdpTarget, receive_exactly

MONITORING = os.path.join(ROOT, "web", "monitoring")
RULES = os.path.join(MONITORING, "alerts.yml")
RULE_TESTS = os.path.join(MONITORING, "alerts.test.yml")
GRAFANA = os.path.join(MONITORING, "grafana.json")
TUNNELS = 1000
AT_ONCE = 20
BATCHES = 20
SCRAPE_SECONDS = 0.25
# Grafana takes four scrapes for what it calls the rate interval.
INTERVAL = "3s"


class Prometheus:
    """One of its own on a free port, with the product's alert rules, that scrapes one server."""

    def __init__(self, server):
        folder = os.path.join(server.folder, "prometheus")
        os.mkdir(folder)
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w", encoding="ascii") as file:
            # JSON is YAML.
            json.dump({
                "global": {"scrape_interval": f"{int(SCRAPE_SECONDS * 1000)}ms",
                           "scrape_timeout": f"{int(SCRAPE_SECONDS * 1000)}ms",
                           "evaluation_interval": "1s"},
                "rule_files": [RULES],
                "scrape_configs": [{"job_name": "mytunnel", "static_configs": [
                    {"targets": [server.status()["http"]["address"]]}]}],
            }, file)
        self.process = Process(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             "--web.listen-address=127.0.0.1:0"],
            server.folder, "prometheus")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self):
        try:
            self.address = self.process.wait_line(
                r'"Listening on" address=(\S+)', TIMEOUT).group(1)
            self.process.wait_line("ready to receive web requests")
            wait_until(lambda: self.value("up"), what="the first scrape")
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()

    def ask(self, path, **params):
        query = urllib.parse.urlencode(params)
        with self.opener.open(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def vector(self, query):
        """Labels and value of each series now."""
        return [(row["metric"], float(row["value"][1]))
                for row in self.ask("query", query=query)["result"]]

    def value(self, query):
        """The sum of them, None without any."""
        rows = self.vector(query)
        return sum(value for _, value in rows) if rows else None

    def history(self, query, begin, end):
        """The values that are numbers, of all series, once a second."""
        rows = self.ask("query_range", query=query, start=begin, end=end, step=1)["result"]
        values = [float(value) for row in rows for _, value in row["values"]]
        return [value for value in values if not math.isnan(value)]


def tunnels(client, target, count):
    """Opens and closes so many, a byte there and back in each, AT_ONCE at a time."""
    left = list(range(count))
    errors = []

    def work():
        with contextlib.suppress(IndexError):
            while True:
                left.pop()
                try:
                    with socks.connect(client.port, "127.0.0.1", target.port) as sock:
                        sock.sendall(b"x")
                        receive_exactly(sock, 1)
                except (OSError, AssertionError, socks.SocksError) as error:
                    errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT * 6)
    assert not errors, errors[:3]


def trouble(server, client):
    """One of each: a target that refuses, a name that is none, a client that is not known."""
    for host, port in (("127.0.0.1", 1), ("nowhere.invalid", 80), ("0.0.0.0", 80)):
        with contextlib.suppress(socks.SocksError):
            socks.connect(client.port, host, port).close()
    profile = server.enrol("revoked")
    server.ctl("--yes", "client", "revoke", "revoked")
    stranger = server.client(profile, wait=False)
    stranger.process.wait_line(r"(?i)revoked|refused|identity")
    stranger.process.kill()


def queries():
    """Title and expression of each query in the Grafana file."""
    with open(GRAFANA, encoding="utf-8") as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for note in dashboard["annotations"]["list"]:
        # It marks what is rare: without the comparison it always has a value.
        yield note["name"], re.sub(r" > 0$", "", note["expr"])


def bound(expression):
    return expression.replace("$instance", ".*").replace("$__rate_interval", INTERVAL)


def counters(text):
    """The names of series that may only grow."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for name, kind in kinds.items():
        if kind in ("counter", "untyped"):
            yield name
        elif kind == "histogram":
            yield from (f"{name}_count", f"{name}_bucket", f"{name}_sum")


@alone
def test_scraped_under_load():
    """1,000 tunnels come and go while it is scraped: the sums are right and never go back, every
    query of the Grafana dashboard has data, and no alert is raised for nothing."""
    need("prometheus")
    with Server({"metrics.per_client": "10"}) as server, EchoTarget() as target, \
            UdpTarget() as udp, Prometheus(server) as prometheus:
        begin = time.time()
        client = server.client()
        trouble(server, client)
        with socks.Association(client.port) as association:
            association.exchange(b"datagram", "127.0.0.1", udp.port)
            for _ in range(BATCHES):  # with a scrape in between
                scrapes = prometheus.value("count_over_time(up[10m])")
                tunnels(client, target, TUNNELS // BATCHES)
                wait_until(lambda: prometheus.value("count_over_time(up[10m])") > scrapes,
                           what="a scrape")
        wait_until(lambda: server.status()["tunnels"]["active"] == 0, what="the tunnels to end")
        own = server.metrics()
        assert own["mytunnel_tunnels_opened_total"] >= TUNNELS
        wait_until(lambda: prometheus.value("mytunnel_tunnels_opened_total")
                   == own["mytunnel_tunnels_opened_total"], what="the last scrape")
        assert prometheus.value("mytunnel_bytes_sent") >= TUNNELS
        for reason in ("refused", "dns"):
            assert prometheus.value(
                f'mytunnel_connect_failures_total{{reason="{reason}"}}') == 1, reason
        assert prometheus.value('mytunnel_handshake_failures_total{reason="identity_revoked"}') >= 1
        wait_until(lambda: all(prometheus.history(bound(expression), begin, time.time())
                               for _, expression in queries() if "topk" in expression),
                   what="the clients' own series")  # a rate needs two scrapes of them
        end = time.time()
        text = server.http("/metrics")
        for name in counters(text):
            assert prometheus.vector(f"resets({name}[10m]) > 0") == [], name
        assert prometheus.value('sum_over_time(up[1m]) - count_over_time(up[1m])') == 0
        empty = [(title, expression) for title, expression in queries()
                 if not prometheus.history(bound(expression), begin, end)]
        assert not empty, "\n".join(f"{title}: {expression}" for title, expression in empty)
        firing = prometheus.vector('ALERTS{alertstate="firing",alertname!="MyTunnelErrors"}')
        assert firing == [], firing


def test_metrics_are_well_formed():
    """promtool has nothing to say about names, types and help texts."""
    need("promtool")
    with Server({"metrics.per_client": "10"}) as server:
        server.client()
        with open(os.path.join(server.folder, "metrics"), "w+", encoding="utf-8") as file:
            file.write(server.http("/metrics"))
            file.seek(0)
            done = run(["promtool", "check", "metrics"], stdin=file, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done


def test_alert_rules():
    """They are valid, each fires when it should and stays quiet when not, and they speak of metrics
    that exist."""
    need("promtool")
    run(["promtool", "check", "rules", RULES])
    run(["promtool", "test", "rules", RULE_TESTS], cwd=MONITORING, timeout=TIMEOUT * SLOW)
    with open(RULES, encoding="utf-8") as file:
        rules = file.read()
    with open(RULE_TESTS, encoding="utf-8") as file:
        tests = file.read()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) == len(set(alerts)) > 10
    for alert in alerts:
        assert f"name: {alert} fires" in tests and f"name: {alert} stays quiet" in tests, alert
    with Server() as server:
        known = set(re.findall(r"^# TYPE (\S+)", server.http("/metrics"), re.MULTILINE))
    used = set(re.findall(r"\b(?:mytunnel|process)_\w+", "\n".join(
        line for line in rules.splitlines() if not re.match(r"\s*(summary|description|next):", line))))
    assert used <= known, used - known


def test_grafana_dashboard():
    """It can be imported as it is: no data source, id or link of ours in it."""
    with open(GRAFANA, encoding="utf-8") as file:
        dashboard = json.load(file)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) > 20 and "id" not in dashboard
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
    assert [v["name"] for v in dashboard["templating"]["list"]] == ["datasource", "instance"]
    assert "http" not in json.dumps(dashboard).replace("mytunnel_http", "")
