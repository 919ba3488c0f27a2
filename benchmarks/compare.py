"""Compare puffer with LiteLLM's proxy and the Portkey gateway on this machine: python benchmarks/compare.py

compile upstream.c -> in each round, for each server: start -> for each case: check, warm up, measure -> stop -> table
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path
from statistics import median

from servers import COMPLETION_REQUEST, EMBEDDING_REQUEST, SERVERS

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 120  # seconds
OPEN_FILES = 8192  # 1,000 callers and 1,000 upstream calls exceed the usual limit of 1,024

# case -> (concurrent callers, the upstream's delay in milliseconds), in the order of the runs
CASES = {
    "generate": (32, 0),
    "embeddings": (32, 0),
    "chat": (32, 0),
    "inflight": (1000, 1000),  # the completions of "generate"
}
TITLES = {
    "generate": "completion, 32 callers",
    "embeddings": "embedding, 32 callers",
    "chat": "chat turn, 32 callers",
    "inflight": "1,000 in flight, upstream takes 1 s",
}
# measure -> digits after the decimal point, in the order of the table
MEASURES = {"requests/s": 0, "p50 ms": 1, "p99 ms": 1, "CPU µs/request": 0, "memory MB": 0, "cold start s": 2}


class Processes:
    """A program and all its child processes, which may have sessions of their own: setsid(2)."""

    def __init__(self, command, log, **options):
        self.log = log
        with log.open("w") as output:
            self.leader = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for signal_number, timeout in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.leader.pid, signal_number)
            deadline = time.monotonic() + timeout
            while self.stats() and time.monotonic() < deadline:
                self.leader.poll()  # reaps the process
                time.sleep(0.05)

    def stats(self):
        """Return the fields after the name in /proc/PID/stat, see proc(5), of each live process."""
        return list(self.members().values())

    def members(self):
        """Return the same fields by process id."""
        everything = {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                everything[int(file.parent.name)] = file.read_text().rpartition(")")[2].split()
        found = {pid: fields for pid, fields in everything.items() if int(fields[3]) == self.leader.pid}
        while children := {
            pid: fields for pid, fields in everything.items() if int(fields[1]) in found and pid not in found
        }:
            found |= children
        return found

    def cpu(self):
        """Return the CPU time in seconds, user and system, including children that have ended."""
        return sum(int(ticks) for fields in self.stats() for ticks in fields[11:15]) / TICK

    def memory(self):
        """Return the memory in megabytes, with shared pages divided among processes: the PSS of proc(5)."""
        kilobytes = 0
        for pid in self.members():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                kilobytes += int(rollup.partition("\nPss:")[2].split()[0])
        return kilobytes * 1024 / 1e6


def machine_cpu():
    """Return the CPU time in seconds that all processes of the machine have used."""
    user, nice, system, _idle, _iowait, *rest = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, *rest))) / TICK


def ask(method, url, headers=(), body=None):
    """Send a request, and return the answer's JSON. Raise HTTPError unless the status is 2xx."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **dict(headers)}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
        return json.load(answer)


class Upstream(Processes):
    """The mock of OpenAI's API, compiled and running."""

    def __init__(self, scratch):
        program = scratch / "upstream"
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, HERE / "upstream.c"], check=True)
        super().__init__([program, 0], scratch / "upstream.log")
        while not (url := self.log.read_text().strip()):
            if self.leader.poll() is not None:
                sys.exit("The upstream did not start.")
            time.sleep(0.01)
        self.url = url
        completion = ask("POST", f"{url}/v1/chat/completions", body=COMPLETION_REQUEST)
        embeddings = ask("POST", f"{url}/v1/embeddings", body=EMBEDDING_REQUEST)
        self.text = completion["choices"][0]["message"]["content"]
        self.vector = embeddings["data"][0]["embedding"]

    def set_delay(self, milliseconds):
        ask("PUT", f"{self.url}/delay-ms/{milliseconds}", body={})

    def answered(self):
        return ask("GET", f"{self.url}/answered")

    def expected(self, case):
        """Return a string in every right answer: the text, or a number with the digits that float32 keeps."""
        return f"{self.vector[2]:.8f}"[:-1] if case == "embeddings" else self.text


def check(server, upstream, case):
    """Send one request, and exit unless its complete text or vector equals the upstream's."""
    request = server.request(case)
    found = ask("POST", server.url + request.path, request.headers, request.body)
    for step in request.place:
        found = found[step]
    if case == "embeddings":
        pairs = zip(found, upstream.vector, strict=True)
        right = all(abs(ours - theirs) < 1e-7 for ours, theirs in pairs)
    else:
        right = found == upstream.text
    if not right:
        sys.exit(f"{server.label}, {case}: the answer differs from the upstream's: {str(found)[:200]}")


def wait_for_first_answer(server, processes, since):
    """Return the seconds from `since` to the first answer with status 200."""
    request = server.request("generate")
    while time.perf_counter() < since + START_TIMEOUT and processes.leader.poll() is None:
        try:
            ask("POST", server.url + request.path, request.headers, request.body)
        except (OSError, urllib.error.HTTPError):  # not listening yet, or not ready
            time.sleep(0.01)
        else:
            return time.perf_counter() - since
    sys.exit(f"{server.label} did not start. The end of its log:\n{processes.log.read_text()[-3000:]}")


def run_load(url, request, expected, callers, seconds, meanwhile):
    """Run load.py, call `meanwhile` about four times a second, and return the report."""
    arguments = {
        "url": url + request.path,
        "headers": request.headers,
        "body": request.body,
        "expected": expected,
        "connections": callers,
        "seconds": seconds,
    }
    client = subprocess.Popen(
        [sys.executable, HERE / "load.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        client.stdin.write(json.dumps(arguments))
        client.stdin.close()
        while client.poll() is None:
            meanwhile()
            time.sleep(0.25)
        return json.loads(client.stdout.read())
    finally:
        client.kill()
        client.wait()


def measure(server, processes, upstream, case, seconds):
    """Measure one case on a running server.

    Return the figures, the failures by kind, and the share of the machine's CPU time that other programs used.
    """
    callers, delay = CASES[case]
    upstream.set_delay(delay)
    memory = []
    answered, client_before = upstream.answered(), resource.getrusage(resource.RUSAGE_CHILDREN)
    started, machine, cpu, upstream_cpu = time.monotonic(), machine_cpu(), processes.cpu(), upstream.cpu()
    report = run_load(
        server.url, server.request(case), upstream.expected(case), callers, seconds,
        meanwhile=lambda: memory.append(processes.memory()),
    )  # fmt: skip
    time.sleep(0.5)  # include work that the server does after it has answered
    cpu = processes.cpu() - cpu
    client_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    client_cpu = sum(client_after[:2]) - sum(client_before[:2])
    other_share = machine_cpu() - machine - cpu - client_cpu - (upstream.cpu() - upstream_cpu)
    failures = report["failures"]
    if (missing := report["answers"] - (upstream.answered() - answered)) > 0:
        failures["not from the upstream"] = missing
    figures = {
        "requests/s": report["rate"],
        "p50 ms": report["p50_ms"],
        "p99 ms": report["p99_ms"],
        "CPU µs/request": 1e6 * cpu / max(report["answers"], 1),
        "memory MB": max(memory),
    }
    return figures, failures, other_share / (time.monotonic() - started) / os.cpu_count()


class Results:
    """The figures of all rounds, and the table of them."""

    def __init__(self, servers):
        self.servers = servers
        self.figures = defaultdict(list)  # (case, measure, slug) -> a figure per round
        self.failures = defaultdict(lambda: defaultdict(int))  # (case, slug) -> kind -> count
        self.other_shares = []

    def add(self, case, server, figures, failures=()):
        for name, figure in figures.items():
            self.figures[case, name, server.slug].append(figure)
        for kind, count in dict(failures).items():
            self.failures[case, server.slug][kind] += count

    def summary(self):
        """Yield the table and the notes below it."""
        if self.figures:
            yield self.table()
        if text := self.chat_against_generate():
            yield text
        if self.other_shares:
            typical, maximum = median(self.other_shares), max(self.other_shares)
            yield f"Other programs used {typical:.0%} of the machine's CPU time (median), at most {maximum:.0%}."

    def table(self):
        peers = [slug for slug in self.servers if slug != "puffer"] if "puffer" in self.servers else []
        head = ["", *(server.label for server in self.servers.values()), *(f"puffer / {slug}" for slug in peers)]
        rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
        for case in CASES:
            for name in MEASURES:
                if any((case, name, slug) in self.figures for slug in self.servers):
                    rows.append(self.row(f"{TITLES[case]}: {name}", case, name, peers))
            if any((case, "requests/s", slug) in self.figures for slug in self.servers):
                failed = [self.failed(case, slug) for slug in self.servers]
                rows.append([f"{TITLES[case]}: failed", *failed, *("" for _ in peers)])
        rows.append(self.row("cold start s", "start", "cold start s", peers))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def row(self, title, case, name, peers):
        """Return each server's median, minimum and maximum, then puffer's median as a multiple of each peer's."""
        cells = [self.cell(self.figures.get((case, name, slug)), MEASURES[name]) for slug in self.servers]
        for slug in peers:
            ours, theirs = self.figures.get((case, name, "puffer")), self.figures.get((case, name, slug))
            cells.append(f"{median(ours) / median(theirs):.2f}" if ours and theirs and median(theirs) else "")
        return [title, *cells]

    @staticmethod
    def cell(figures, digits):
        if not figures:
            return "-"
        shown = [f"{figure:,.{digits}f}" for figure in (median(figures), min(figures), max(figures))]
        return "{} ({}-{})".format(*shown)

    def failed(self, case, slug):
        if (case, "requests/s", slug) not in self.figures:
            return "-"
        return ", ".join(f"{count} x {kind}" for kind, count in self.failures[case, slug].items()) or "0"

    def chat_against_generate(self):
        chat, generate = (self.figures.get((case, "CPU µs/request", "puffer")) for case in ("chat", "generate"))
        if not chat or not generate:
            return ""
        ratios = [ours / other for ours, other in zip(chat, generate, strict=False)]
        return f"A chat turn of puffer takes {self.cell(ratios, 2)} times the CPU time of its /generate."


def run_server(server, upstream, cases, seconds, results):
    """Run one round on one server, and add its figures to the results."""
    server.prepare()
    upstream.set_delay(0)
    started = time.perf_counter()
    with Processes(server.command(), server.scratch / "log", env=server.environment(), cwd=server.scratch) as processes:
        results.add("start", server, {"cold start s": wait_for_first_answer(server, processes, started)})
        for case in cases:
            if server.request(case) is None:
                continue
            upstream.set_delay(0)
            check(server, upstream, case)
            run_load(server.url, server.request(case), upstream.expected(case), 32, 2, meanwhile=lambda: None)
            figures, failures, other_share = measure(server, processes, upstream, case, seconds)
            results.add(case, server, figures, failures)
            results.other_shares.append(other_share)
            shown = ", ".join(f"{figure:,.{MEASURES[name]}f} {name}" for name, figure in figures.items())
            print(
                f"{server.slug} {case}: {shown}, failed {failures or 0}, other programs {other_share:.0%}",
                file=sys.stderr,
            )


def measure_upstream_alone(upstream, cases, seconds):
    """Return the request rate without a server in between: the maximum that any server could reach here."""
    requests = {"embeddings": ("/v1/embeddings", EMBEDDING_REQUEST)}
    shown = []
    for case in cases:
        if case == "chat":
            continue
        path, body = requests.get(case, ("/v1/chat/completions", COMPLETION_REQUEST))
        callers, delay = CASES[case]
        upstream.set_delay(delay)
        request = argparse.Namespace(path=path, headers={}, body=body)
        report = run_load(upstream.url, request, upstream.expected(case), callers, seconds, meanwhile=lambda: None)
        shown.append(f"{case} {report['rate']:,.0f}/s")
    return f"The upstream alone, without a server in front of it: {', '.join(shown)}.\n"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])

    def names(known):
        def split(text):
            if unknown := set(text.split(",")) - set(known):
                raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
            return [name for name in known if name in text.split(",")]

        return split

    parser.add_argument("--only", type=names(CASES), default=list(CASES), help=f"cases to run, of {','.join(CASES)}")
    parser.add_argument(
        "--servers", type=names(SERVERS), default=list(SERVERS), help=f"servers, of {','.join(SERVERS)}"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="duration of each case in each round")
    parser.add_argument(
        "--peers", type=Path, default=Path.home() / ".cache/puffer-benchmarks", help="folder of the other servers"
    )
    return parser.parse_args()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Terminated."))  # runs the cleanup that stops all processes
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most_files), most_files))
    with contextlib.ExitStack() as cleanup:
        scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="puffer-bench-")))
        upstream = cleanup.enter_context(Upstream(scratch))
        chosen = {}
        for slug in options.servers:
            server = SERVERS[slug](upstream.url, options.peers, scratch)
            if server.is_installed():
                chosen[slug] = SERVERS[slug]
            else:
                print(
                    f"{server.label} is not installed and is skipped. To install it: "
                    f"{server.install.format(peers=options.peers)}\n"
                )
        print(measure_upstream_alone(upstream, options.only, options.seconds))
        results = Results(chosen)
        try:
            for round_ in range(options.rounds):
                for slug, server in chosen.items():
                    folder = scratch / f"{slug}-{round_}"
                    folder.mkdir()
                    one = server(upstream.url, options.peers, folder)
                    run_server(one, upstream, options.only, options.seconds, results)
        finally:  # show the results of an interrupted run too
            print(*results.summary(), sep="\n\n")


if __name__ == "__main__":
    main()
