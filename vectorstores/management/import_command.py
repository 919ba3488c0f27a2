"""What commands that store many documents have in common: progress, Ctrl-C, what was refused, and exit codes."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from providers.base import Capability
from providers.local import bundled_model
from providers.registry import providers_with
from providers.run_async import run_async
from puffer.api import ApiError
from vectorstores.errors import CollectionNotFound
from vectorstores.ingestion.pipeline import CONCURRENCY, Destination
from vectorstores.ingestion.sync import Import, Report
from vectorstores.registry import STORES
from vectorstores.sources.rows import Refused

SHOWN_REFUSALS = 20
SOME_REFUSED, NOTHING_DONE, INTERRUPTED = 1, 2, 130  # exit codes; 130 as shells have it for Ctrl-C
SECONDS_TO_END = 0.7  # after Ctrl-C, until what does not let go is left behind
GO_ON = "Run the same command again to go on: what is stored is skipped."


class ImportCommand(BaseCommand):
    def execute(self, *args: Any, **options: Any) -> str | None:
        with CtrlC() as self.ctrl_c:
            return super().execute(*args, **options)

    def add_store_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", default="local", choices=list(STORES), help="the vector store")
        parser.add_argument("--target", required=True, metavar="NAME", help="the collection (Pinecone's index)")
        parser.add_argument("--namespace", default="")

    def add_import_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--batch-size", type=positive, help="texts in a call of the embedding model")
        parser.add_argument("--concurrency", type=positive, default=CONCURRENCY, help="such calls at the same time")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write every refused row to this file")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    def add_embedding_arguments(self, parser: ArgumentParser, **options: Any) -> None:
        slugs = [provider.slug for provider in providers_with(Capability.EMBEDDING)]
        parser.add_argument("--embedding-provider", choices=slugs, **options)
        parser.add_argument("--embedding-model", metavar="MODEL", **options)

    def carry_out(
        self,
        destination: Destination,
        work: Callable[[Import], Awaitable[None]],
        bar: "Bar",
        options: dict[str, Any],
        *,
        embeds: bool = True,
    ) -> Report:
        """Do it, tell what became of it, and leave with the exit code unless all went well."""
        started = time.perf_counter()
        failure, code = "", 0
        with ExitStack() as stack:
            refusals = stack.enter_context(Refusals.told_to(options["report"]))
            tell = stack.enter_context(bar.shown())
            run = Import(destination, tell, refusals.add, options["batch_size"], options["concurrency"])
            needs_model = embeds and destination.embedding_provider == "local"
            try:
                with bundled_model() if needs_model else nullcontext():
                    run_async(lambda: self.ctrl_c.watch(work(run)))
            except CollectionNotFound as error:
                failure, code = error.message, NOTHING_DONE
                if "create" in options:
                    failure += " Make it with --create."
            except ApiError as error:
                failure, code = error.message, NOTHING_DONE
            except asyncio.CancelledError:
                failure, code = "Interrupted.", INTERRUPTED
        report = run.report
        if not code and report.refused:
            code = SOME_REFUSED if report.documents or report.unchanged else NOTHING_DONE
        self.tell_refusals(refusals, options)
        self.tell_summary(report, failure, time.perf_counter() - started, refusals, options)
        if failure and code != INTERRUPTED:
            self.stderr.write(failure)
            if report.documents or report.unchanged:
                self.stderr.write(GO_ON)
        if code == INTERRUPTED:
            sys.stdout.flush()
            os._exit(code)  # a store that does not answer must not hold us
        if code:
            sys.exit(code)
        return report

    def tell_refusals(self, refusals: "Refusals", options: dict[str, Any]) -> None:
        for refused in refusals.first:
            self.stderr.write(f"Refused: {refused.place}: {refused.reason}")
        if more := refusals.count - len(refusals.first):
            self.stderr.write(f"... and {more} more{'' if options['report'] else ' (--report FILE lists all)'}.")

    def tell_summary(
        self, report: Report, failure: str, seconds: float, refusals: "Refusals", options: dict[str, Any]
    ) -> None:
        dry_run = options.get("dry_run", False)
        cost = None if report.cost is None else float(report.cost)
        if options["json"]:
            summary: dict[str, Any] = {
                "documents": report.documents,
                "chunks": report.chunks,
                "unchanged": report.unchanged,
                "pruned": report.pruned,
                "refused": report.refused,
                "refusals": [{"place": refused.place, "reason": refused.reason} for refused in refusals.first],
                "seconds": round(seconds, 1),
            }
            if dry_run:
                summary |= {"dry_run": True, "tokens": report.tokens, "cost": cost}
            if failure:
                summary["error"] = failure
            self.stdout.write(json.dumps(summary, ensure_ascii=False))
            return
        verb = "Would store" if dry_run else "Stored"
        text = f"{verb} {report.documents} documents, {report.chunks} chunks; {report.unchanged} unchanged"
        if report.pruned:
            text += f"; {report.pruned} removed"
        if report.refused:
            text += f"; {report.refused} refused"
        if dry_run:
            price = "at an unknown price" if cost is None else f"about US$ {cost:.4f}"
            text += f"; about {report.tokens} tokens, {price}"
        self.stdout.write(f"{text}; {seconds:.1f} s.")


def refused_command(error: ApiError) -> CommandError:
    return CommandError(error.message, returncode=NOTHING_DONE)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


class Refusals:
    """The first of them, how many there are, and all of them in a file if one is named."""

    def __init__(self) -> None:
        self.first: list[Refused] = []
        self.count = 0
        self.write: Callable[[str], Any] | None = None

    @classmethod
    @contextmanager
    def told_to(cls, file: Path | None) -> Iterator["Refusals"]:
        refusals = cls()
        if file is None:
            yield refusals
            return
        try:
            opened = file.open("w", encoding="utf-8", errors="replace")
        except OSError as error:
            raise CommandError(f"{file} can't be written: {error.strerror}.", returncode=NOTHING_DONE) from None
        with opened:
            refusals.write = opened.write
            yield refusals

    def add(self, refused: Refused) -> None:
        self.count += 1
        if len(self.first) < SHOWN_REFUSALS:
            self.first.append(refused)
        if self.write:
            self.write(f"{refused.place}: {refused.reason}\n")


class Bar:
    """A progress bar on a terminal, silent elsewhere. `done` tells how much of `total` is done; None: nobody knows."""

    def __init__(self, total: int | None, done: Callable[[Report], int], unit: str) -> None:
        self.total = total
        self.done = done
        self.unit = unit

    @contextmanager
    def shown(self) -> Iterator[Callable[[Report], None]]:
        # disable=None: only on a terminal
        with tqdm(total=self.total, unit=self.unit, unit_scale=True, disable=None, file=sys.stderr) as bar:

            def tell(report: Report) -> None:
                bar.update(self.done(report) - bar.n)
                bar.set_postfix(stored=report.documents, unchanged=report.unchanged, refresh=False)

            yield tell


class CtrlC:
    """Ends the work at its next wait; what does not let go is left behind, for a kill at any point does no harm."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None

    def __enter__(self) -> "CtrlC":
        if threading.current_thread() is threading.main_thread():  # no other gets signals
            self.previous = signal.signal(signal.SIGINT, self.stop)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.previous)

    async def watch(self, work: Awaitable[None]) -> None:
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        await work

    def stop(self, signum: int, frame: FrameType | None) -> None:
        os.write(2, f"\nInterrupted. {GO_ON}\n".encode())  # print() may be what was interrupted
        if self.loop is None or self.task is None:
            os._exit(INTERRUPTED)
        self.loop.call_soon_threadsafe(self.task.cancel)
        end = threading.Timer(SECONDS_TO_END, os._exit, [INTERRUPTED])
        end.daemon = True
        end.start()
