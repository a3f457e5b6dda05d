"""The parts of the suite: which load each case is, and what is made of its counters."""
import json
import subprocess

import contestants
from harness import program

GIB = 1 << 30
UDP_SIZES = (64, 512, 1000, 1200)
# Milliseconds between two round trips of a tunnel: fast typing. With 20 ms a hundred clients are
# busy with the round trips alone, and what they wait for is each other.
TRIP_INTERVAL = "100"
PEAK_SHARE = 0.8  # of the packets per second that a window of 32 reached


class Case:
    """One measurement that several contestants repeat. `options` are those of build/bench/load;
    `stretch` is how many times as long as others it takes, `turns` how often it is made in a round;
    `each` streams are for every client of a contestant."""

    def __init__(self, part, name, kind, title, options, works=None, each=0):
        self.part = part
        self.name = name
        self.kind = kind
        self.title = title
        self.options = options
        self.works = works or (part,)
        self.each = each
        self.key = f"{part}/{name}"
        # How bytes flow changes for longer than how small things do: see docs/performance.md.
        self.stretch = 2 if part in ("bulk", "streams") else 1
        # The machine gives more or less from second to second: the more windows, one right after the
        # other, the less of that is between one stream and many.
        self.turns = 2 if part == "streams" else 1

    def takes(self, contestant):
        return any(work in contestant.works for work in self.works)


def _bulk(way, streams, part="bulk", title=""):
    works = (part, "bulk-1") if (part, streams) == ("bulk", 1) else (part,)
    return Case(part, f"{way}-{streams}", "bulk",
                f"{way}, {streams} stream{'s' * (streams > 1)}{title}",
                [way, "--streams", str(streams)], works)


PARTS = {
    "bulk": [_bulk(way, streams) for streams in (1, 8, 64) for way in ("down", "up")],
    # What several streams carry is told against one, in windows next to each other.
    "streams": [_bulk(way, streams, "streams", ", by turns")
                for way in ("down", "up") for streams in (1, 8, 64)],
    "tunnels": [Case("tunnels", "32", "tunnels", "new tunnels, 32 at once",
                     ["tunnels", "--streams", "32"])],
    "trips": [Case("trips", "1", "trips", "round trips on an open tunnel", ["trips"])],
    "udp": [Case("udp", str(size), "udp", f"UDP, {size} bytes", ["udp", "--size", str(size)])
            for size in UDP_SIZES] + [
                Case("udp", "1000-load", "udp", "UDP, 1000 bytes at 80 % of the peak",
                     ["udp", "--size", "1000"])],

    "handshakes": [Case("handshakes", "16", "handshakes", "handshakes with client certificates, 16 "
                        "at once (no tunnel: TCP connections, 1 KiB each way)",
                        ["tunnels", "--streams", "16"])],
    "workers": [Case("workers", "down", "bulk", "down, 8 streams of 2 clients",
                     ["down", "--streams", "8"]),
                Case("workers", "up", "bulk", "up, 8 streams of 2 clients",
                     ["up", "--streams", "8"]),
                Case("workers", "tunnels", "tunnels", "new tunnels, 32 at once of 2 clients",
                     ["tunnels", "--streams", "32"]),
                # Each of two workers with as much to do as one has alone.
                Case("workers", "down-each", "bulk", "down, 8 streams of a client for each worker",
                     ["down"], ("workers-each",), 8),
                Case("workers", "up-each", "bulk", "up, 8 streams of a client for each worker",
                     ["up"], ("workers-each",), 8),
                Case("workers", "tunnels-each", "tunnels",
                     "new tunnels, 32 at once of a client for each worker", ["tunnels"],
                     ("workers-each",), 32)],
    "interactive": [Case("interactive", way, "interactive",
                         f"round trips of 100 tunnels beside a bulk transfer {way}",
                         ["--bulk", way], ("interactive", "crowd")) for way in ("down", "up")],
}


class Failed(Exception):
    """A measurement that could not be made."""


def _load(contestant, words, warm, seconds):
    # Bytes of a direct transfer are read, because that is what a tunnel's end does with them.
    command = [*contestants.pinned(contestant.pins["load"]), program("bench/load"), *words, "--warm",
               str(warm), "--seconds", str(seconds)]
    if contestant.ports:
        command += ["--socks", ",".join(map(str, contestant.ports))]
        for side, pids in (("server", contestant.server_pids), ("client", contestant.client_pids)):
            command += ["--cpu", f"{side}=" + ",".join(map(str, pids))]
    else:
        command.append("--copy")
    return _counters(command, warm + seconds)


def _handshakes(contestant, at_once, warm, seconds):
    command = [*contestants.pinned(contestant.pins["client"]), program("bench/handshakes"),
               contestant.profile, str(contestant.server_pids[0]), at_once, str(warm), str(seconds)]
    return _counters(command, warm + seconds)


def _interactive(contestant, words, seconds):
    """Alone, and beside a bulk transfer through the first of the clients."""
    proxies = contestant.ports or [0]
    command = [*contestants.pinned(contestant.pins["load"]), program("bench/interactive"), *words,
               "--rounds", "1", "--seconds", str(seconds), "--bulk-socks", str(proxies[0]),
               "--bulk-nice", contestants.BULK_NICE, "--interval", TRIP_INTERVAL]
    for pid in contestant.server_pids + contestant.client_pids:
        command += ["--pid", str(pid)]
    command.append(",".join(map(str, proxies[1:] or proxies)))
    alone, beside = map(json.loads, _run(command, 2 * seconds + 5).splitlines())
    figures = {"failed": 0, "rate": beside["bulk_gbit_s"],
               "realtime": int(beside["realtime"] and contestant.realtime)}
    for what, row in (("alone_", alone), ("", beside)):
        for name in ("p50", "p99"):
            figures[f"{what}{name}_us"] = row[f"{name}_ms"] * 1000
    for side, cores in zip(("server", "client"), beside["cpu"]):
        figures[f"{side}_cpu"] = cores
    return figures


def _run(command, seconds):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed("no end in sight") from None
    if done.returncode != 0:
        raise Failed(done.stderr.strip() or f"exit status {done.returncode}")
    return done.stdout


def _counters(command, seconds):
    return json.loads(_run(command, seconds))


def _per_unit(raw, scale):
    """CPU of each side for each unit; without a tunnel, those of the two ends."""
    return {f"{side}_cpu": seconds * scale for side, seconds in raw["cpu_s"].items()}


def measure(case, contestant, warm, seconds, peak=None):
    """One round of a case with one contestant: its figures, CPU in s/GiB or us."""
    words = list(case.options)
    if case.each:
        words += ["--streams", str(case.each * contestant.clients)]
    seconds *= case.stretch
    if case.kind == "interactive":
        contestant.enter()
        return _interactive(contestant, words, seconds)
    if case.name.endswith("-load"):
        if not peak:
            raise Failed("no peak to take a share of")
        words += ["--rate", str(int(peak * PEAK_SHARE))]
    if contestant.name == "library":
        size = max(int(seconds * GIB / 2), 8 << 20)
        raw = contestant.transfer(words[0], size, seconds + 30)
    elif case.kind == "handshakes" and contestant.ports:
        raw = _handshakes(contestant, words[-1], warm, seconds)
    else:
        raw = _load(contestant, words, warm, seconds)
    if raw["units"] == 0:
        raise Failed("nothing went through")
    figures = {"failed": raw["failed"]}
    if case.kind == "bulk":
        figures["rate"] = raw["units"] * 8 / raw["seconds"] / 1e9
        figures.update(_per_unit(raw, GIB / raw["units"]))
    else:
        figures["rate"] = raw["units"] / raw["seconds"]
        figures.update(_per_unit(raw, 1e6 / raw["units"]))
        figures["p50_us"], figures["p99_us"] = raw["p50_us"], raw["p99_us"]
    if case.kind == "udp":
        figures["loss"] = 1 - raw["returned"] / raw["sent"]
    if raw["rss_kib"]:
        figures["server_rss_mib"] = raw["rss_kib"]["server"] / 1024
    return figures
