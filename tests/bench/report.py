"""Tables out of results: one run for people, its goals, two runs side by side."""
import statistics

SCHEMA = 1  # of the files


class Results:
    """Medians by case and contestant."""

    def __init__(self, result):
        self.rows = {(f"{row['part']}/{row['case']}", row["contestant"]): row["median"]
                     for row in result["results"]}
        self.rounds = {(f"{row['part']}/{row['case']}", row["contestant"]): row["rounds"]
                       for row in result["results"]}

    def get(self, case, contestant, figure):
        return self.rows.get((case, contestant), {}).get(figure)

    def cpu(self, case, contestant):
        """Server and client together."""
        both = [self.get(case, contestant, f"{side}_cpu") for side in ("server", "client")]
        return None if None in both else sum(both)


    def ratio(self, case, reference, contestant, figure):
        """The median of what two cases measured one right after the other have to each other: less of
        how the machine's pace changes is in it than in the ratio of their medians. None when a
        window of either failed."""
        ours, others = ([figures[figure] for figures in self.rounds.get((name, contestant), [])]
                        for name in (case, reference))
        if not ours or len(ours) != len(others) or 0 in others:
            return None
        return statistics.median(a / b for a, b in zip(ours, others))


class Goal:
    """A line of what is to be reached: `ours` against `reference`, by factor `wanted`; with None it is
    told beside the others, and nothing is to be reached. `ratio`, if not just that of the two."""

    def __init__(self, work, against, unit, ours, reference, wanted=None, at_least=False, ratio=None):
        self.work = work
        self.against = against
        self.unit = unit
        self.ours = ours
        self.reference = reference
        self.wanted = wanted
        self.at_least = at_least
        self.ratio = ratio

    def as_dict(self):
        ratio = self.ratio
        if ratio is None and self.ours is not None and self.reference:
            ratio = self.ours / self.reference
        reached, wanted = None, "-"
        if self.wanted is not None:
            wanted = f"{'at least' if self.at_least else 'at most'} {self.wanted:g}"
        if ratio is not None and self.wanted is not None:
            reached = ratio >= self.wanted if self.at_least else ratio <= self.wanted
        return {"work": self.work, "against": self.against, "unit": self.unit, "ours": self.ours,
                "reference": self.reference, "ratio": ratio, "reached": reached,
                "wanted": wanted}


def _plus(*values):
    return None if None in values else sum(values)


def _bulk_goals(r):
    for way in ("down", "up"):
        case = f"bulk/{way}-1"
        yield Goal(f"bulk {way}, 1 stream", "ssh -D", "Gbit/s", r.get(case, "mytunnel", "rate"),
                   r.get(case, "ssh", "rate"), 1, True)
        yield Goal(f"bulk {way}, CPU of server and client", "ssh -D", "s/GiB",
                   r.cpu(case, "mytunnel"), r.cpu(case, "ssh"), 1, False)
        # The generator has the server's part of TCP in a direct transfer: it reads what comes down,
        # and writes what goes up.
        yield Goal(f"bulk {way}, CPU of the server", "library's example + TCP", "s/GiB",
                   r.get(case, "mytunnel", "server_cpu"),
                   _plus(r.get(case, "library", "server_cpu"), r.get(case, "direct", "load_cpu")),
                   1.15, False)
        for streams in (8, 64):
            for name, work, wanted in (("mytunnel", f"bulk {way}, {streams} streams", 0.95),
                                       ("direct", "control: no tunnel", None)):
                many, one = f"streams/{way}-{streams}", f"streams/{way}-1"
                yield Goal(work, "own single stream", "Gbit/s", r.get(many, name, "rate"),
                           r.get(one, name, "rate"), wanted, True,
                           r.ratio(many, one, name, "rate"))


def _small_goals(r):
    tunnels, trips, udp = "tunnels/32", "trips/1", "udp/1000"
    yield Goal("new tunnels", "ssh -D", "/s", r.get(tunnels, "mytunnel", "rate"),
               r.get(tunnels, "ssh", "rate"), 1.25, True)
    yield Goal("new tunnels, CPU of the server", "ssh -D", "us",
               r.get(tunnels, "mytunnel", "server_cpu"), r.get(tunnels, "ssh", "server_cpu"), 0.75,
               False)
    yield Goal("round trip, median", "ssh -D", "us", r.get(trips, "mytunnel", "p50_us"),
               r.get(trips, "ssh", "p50_us"), 1.2, False)
    yield Goal("UDP, 1000 bytes", "shadowsocks-libev", "packets/s",
               r.get(udp, "mytunnel", "rate"), r.get(udp, "shadowsocks", "rate"), 1.5, True)
    yield Goal("UDP, 1000 bytes, CPU of the server", "shadowsocks-libev", "us",
               r.get(udp, "mytunnel", "server_cpu"), r.get(udp, "shadowsocks", "server_cpu"), 0.5,
               False)


def _worker_goals(r):
    for name, title, unit in (("down", "bulk down", "s/GiB"), ("up", "bulk up", "s/GiB"),
                              ("tunnels", "new tunnels", "us")):
        for case, single, what in ((name, "workers-1", "two workers, %s, CPU of the server"),
                                   (f"{name}-each", "workers-1-each",
                                    "the same, as much for each worker, %s")):
            one = r.get(f"workers/{case}", single, "server_cpu")
            yield Goal(what % title, "one worker", unit,
                       r.get(f"workers/{case}", "workers-2", "server_cpu"), one, 1.05)
            yield Goal("control: two servers of one worker each", "one worker", unit,
                       r.get(f"workers/{case}", "workers-apart", "server_cpu"), one)


def _interactive_goals(r):
    for way in ("down", "up"):
        for name, title in (("mytunnel", "one connection"), ("crowd", "100 connections")):
            case = f"interactive/{way}"
            yield Goal(f"round trips beside bulk {way}, {title}, p99", "the same alone", "us",
                       r.get(case, name, "p99_us"), r.get(case, name, "alone_p99_us"), 3, False)


def goals(result):
    r = Results(result)
    rows = [goal.as_dict()
            for make in (_bulk_goals, _small_goals, _worker_goals, _interactive_goals)
            for goal in make(r)]
    loss = r.get("udp/1000-load", "mytunnel", "loss")
    worst = max((figures["loss"] for row in result["results"] for figures in row["rounds"]
                 if (row["case"], row["contestant"]) == ("1000-load", "mytunnel")), default=0)
    rows.append({"work": f"UDP, loss at 80 % of the peak (worst round {worst * 100:.2f} %)",
                 "against": "-", "unit": "%", "ours": None if loss is None else loss * 100, "reference": None, "ratio": None,
                 "reached": None if loss is None else loss == 0, "wanted": "none"})
    return rows


def number(value):
    """Three digits that count."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(heads, rows, markdown=False):
    """Lines of a table; the first column to the left, the others, or those of figures, to the right."""
    cells = [list(map(str, row)) for row in rows]
    if markdown:
        figures = [all(row[i][:1].isdigit() or row[i] == "-" for row in cells) for i in range(len(heads))]
        yield "| " + " | ".join(heads) + " |"
        yield "| " + " | ".join("---:" if right else "---" for right in figures) + " |"
        for row in cells:
            yield "| " + " | ".join(row) + " |"
        return
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    for row in [heads, *cells]:
        yield "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))).rstrip()


UNITS = {"bulk": ("Gbit/s", "s/GiB"), "tunnels": ("per s", "us"), "trips": ("per s", "us"),
         "udp": ("packets/s", "us"), "handshakes": ("per s", "us"), "interactive": ("Gbit/s", "cores")}


def case_columns(kind):
    """Heads and how to make each cell of a kind's table."""
    rate, cpu = UNITS[kind]
    if kind == "interactive":
        return [*((f"{what}{name} us", lambda m, key=f"{key}{name}_us": number(m.get(key)))
                  for what, key in (("alone ", "alone_"), ("", "")) for name in ("p50", "p99")),
                ("times", lambda m: number(m["p99_us"] / m["alone_p99_us"])),
                (f"bulk {rate}", lambda m: number(m.get("rate"))),
                ("real time", lambda m: "yes" if m["realtime"] else "no")]
    columns = [(rate, lambda m: number(m.get("rate"))),
               (f"server {cpu}", lambda m: number(m.get("server_cpu"))),
               (f"client {cpu}", lambda m: number(m.get("client_cpu")))]
    if kind != "bulk":
        columns += [("p50 us", lambda m: number(m.get("p50_us"))),
                    ("p99 us", lambda m: number(m.get("p99_us")))]
    if kind == "udp":
        columns.append(("lost %", lambda m: f"{m['loss'] * 100:.2f}" if "loss" in m else "-"))
    columns.append(("server MiB", lambda m: number(m.get("server_rss_mib"))))
    return columns


def tables(result, markdown=False, parts=()):
    """One table for each case, of these parts or of all."""
    cases = {}
    for row in result["results"]:
        if parts and row["part"] not in parts:
            continue
        cases.setdefault((row["part"], row["case"]), []).append(row)
    for rows in cases.values():
        columns = case_columns(rows[0]["kind"])
        yield rows[0]["title"], list(table(
            [""] + [head for head, _ in columns],
            [[result["contestants"].get(row["contestant"], row["contestant"])] +
             [cell(row["median"]) for _, cell in columns] for row in rows], markdown))


def goal_table(result, markdown=False):
    said = {True: "yes", False: "NO", None: "-"}
    return list(table(["to reach", "against", "unit", "ours", "reference", "ratio", "wanted", "reached"],
                      [[g["work"], g["against"], g["unit"], number(g["ours"]), number(g["reference"]),
                        number(g["ratio"]), g["wanted"], said[g["reached"]]] for g in result["goals"]],
                      markdown))


def tcp_line(result):
    """What TCP alone costs at one end."""
    r = Results(result)
    read, write = (r.get(f"bulk/{way}-1", "direct", "load_cpu") for way in ("down", "up"))
    if None in (read, write):
        return ""
    return (f"TCP without a tunnel, CPU of one end: reading {number(read)} s/GiB, writing "
            f"{number(write)} s/GiB.")


def describe(result):
    """A line about where and how."""
    m, s = result["machine"], result["settings"]
    pins = ", ".join(f"{side} on CPU {cpus}" for side, cpus in s["pin"].items() if cpus)
    return (f"{m['cpu']}, {m['usable_cpus']} CPUs, Linux {m['kernel'].split('-')[0]}; medians of "
            f"{s['rounds']} round{'s' * (s['rounds'] > 1)} of {s['seconds']:g} s; "
            f"{pins or 'every process may use every CPU'}")


def print_tables(result):
    print(f"{result['date']}: {describe(result)}")
    for title, lines in tables(result):
        print(f"\n{title}")
        print("\n".join(f"  {line}" for line in lines))
    print()
    print("\n".join(goal_table(result)))
    print(tcp_line(result))
    for name, reason in result["absent"].items():
        print(f"left out: {name}: {reason}")
    for error in result["errors"]:
        print(f"failed: {error}")
