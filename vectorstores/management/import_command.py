"""The base of commands that store many documents: progress bar, Ctrl-C, refusals, summary and exit codes."""

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
from providers.bundled_model import bundled_model
from providers.registry import providers_with
from providers.run_async import run_async
from puffer.api import ApiError
from puffer.text import counted
from vectorstores.errors import CollectionNotFound
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.pipeline import CONCURRENCY
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.ingestion.sync import Import, Report
from vectorstores.registry import STORES, get_store
from vectorstores.stores.threads import call_store

SHOWN_REFUSALS = 20
SOME_REFUSED, NOTHING_DONE, INTERRUPTED = 1, 2, 130  # exit codes; 130 is what shells use for Ctrl-C
SECONDS_TO_END = 0.7  # after Ctrl-C, before the process exits without waiting for threads
CONTINUE = "Run the same command again to continue. Stored documents are skipped."


class ImportCommand(BaseCommand):
    nothing_found = ""  # the error if there is nothing to store; "" if that is not an error
    has_waited = False  # for another import

    def execute(self, *args: Any, **options: Any) -> str | None:
        with CtrlC() as self.ctrl_c:
            return super().execute(*args, **options)

    def add_store_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--provider", default="local", choices=list(STORES), help="the vector store (default: local)"
        )
        parser.add_argument("--target", required=True, metavar="NAME", help="the collection (for Pinecone, the index)")
        parser.add_argument("--namespace", default="", help="default: the default namespace")

    def add_import_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--batch-size", type=positive, help="texts in one call of the embedding model")
        parser.add_argument("--concurrency", type=positive, default=CONCURRENCY, help="calls at the same time")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write all refused rows to this file")
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
        """Run the import and print its result. Exit with one of the exit codes unless everything was stored."""
        started = time.perf_counter()
        failure, code = "", 0
        with ExitStack() as stack:
            refusals = stack.enter_context(Refusals.written_to(options["report"]))
            update_bar = stack.enter_context(bar.shown())
            run = Import(
                destination,
                update_bar,
                refusals.add,
                options["batch_size"],
                options["concurrency"],
                on_note=refusals.add_note,
                on_wait=self.announce_wait,
            )
            needs_model = embeds and destination.embedding_provider == "local"
            try:
                with bundled_model() if needs_model else nullcontext():
                    run_async(lambda: self.ctrl_c.watch(self.work_and_index(work(run), destination, embeds)))
            except CollectionNotFound as error:
                failure, code = error.message, NOTHING_DONE
                if "create" in options:
                    failure += " Create it with --create."
            except ApiError as error:
                failure, code = error.message, NOTHING_DONE
            except asyncio.CancelledError:
                failure, code = "Interrupted.", INTERRUPTED
        report = run.report
        if not code and not (report.documents or report.unchanged or report.pruned or report.refused):
            failure, code = self.nothing_found, NOTHING_DONE if self.nothing_found else 0
        if not code and report.refused:
            code = SOME_REFUSED if report.documents or report.unchanged else NOTHING_DONE
        self.write_refusals(refusals, options)
        self.write_summary(report, failure, time.perf_counter() - started, refusals, options)
        if failure and code != INTERRUPTED:
            self.stderr.write(failure)
            if report.documents or report.unchanged:
                self.stderr.write(CONTINUE)
        if code == INTERRUPTED:
            sys.stdout.flush()
            os._exit(code)  # do not wait for a store that does not answer
        if code:
            sys.exit(code)
        return report

    async def work_and_index(self, work: Awaitable[None], destination: Destination, stores: bool) -> None:
        """Do the work, then build the index that searches need. A worker builds it if this process is killed."""
        await work
        if stores:
            store = await get_store(destination.store)
            if await call_store(store, store.needs_index, destination.target):
                tqdm.write("Building the search index. Searches work meanwhile.", file=self.stderr)
                await call_store(store, store.build_index, destination.target)

    def announce_wait(self, waiting: int) -> None:
        if not self.has_waited:
            self.has_waited = True
            tqdm.write(
                f"Another import is storing {counted(waiting, 'document')} of the same sources. Waiting for it.",
                file=self.stderr,
            )

    def write_refusals(self, refusals: "Refusals", options: dict[str, Any]) -> None:
        for refused in refusals.first:
            self.stderr.write(f"Refused: {refused.place}: {refused.reason}")
        if more := refusals.count - len(refusals.first):
            self.stderr.write(f"... and {more} more{'' if options['report'] else ' (list all with --report FILE)'}.")
        for note in refusals.notes:
            self.stderr.write(f"Note: {note.place}: {note.text}")
        if more := refusals.note_count - len(refusals.notes):
            self.stderr.write(f"... and {more} more notes{'' if options['report'] else ' (see --report FILE)'}.")

    def write_summary(
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
                "left_out": report.left_out,
                "refusals": [{"place": refused.place, "reason": refused.reason} for refused in refusals.first],
                "notes": [{"place": note.place, "text": note.text} for note in refusals.notes],
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
        if report.left_out:
            text += f"; {report.left_out} left out"
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
    """The numbers of refusals and notes, the first of each, and optionally a file that lists all."""

    def __init__(self) -> None:
        self.first: list[Refused] = []
        self.notes: list[Note] = []
        self.count = self.note_count = 0
        self.write: Callable[[str], Any] | None = None

    @classmethod
    @contextmanager
    def written_to(cls, file: Path | None) -> Iterator["Refusals"]:
        refusals = cls()
        if file is None:
            yield refusals
            return
        try:
            opened = file.open("w", encoding="utf-8", errors="replace")
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.", returncode=NOTHING_DONE) from None
        with opened:
            refusals.write = opened.write
            yield refusals

    def add(self, refused: Refused) -> None:
        self.count += 1
        if len(self.first) < SHOWN_REFUSALS:
            self.first.append(refused)
        if self.write:
            self.write(f"{refused.place}: {refused.reason}\n")

    def add_note(self, note: Note) -> None:
        self.note_count += 1
        if len(self.notes) < SHOWN_REFUSALS:
            self.notes.append(note)
        if self.write:
            self.write(f"Note: {note.place}: {note.text}\n")


class Bar:
    """A progress bar, shown only on a terminal. `done` returns how much of `total` (None: unknown) is done."""

    def __init__(self, total: int | None, done: Callable[[Report], int], unit: str) -> None:
        self.total = total
        self.done = done
        self.unit = unit

    @contextmanager
    def shown(self) -> Iterator[Callable[[Report], None]]:
        # disable=None: only on a terminal
        with tqdm(total=self.total, unit=self.unit, unit_scale=True, disable=None, file=sys.stderr) as bar:

            def update(report: Report) -> None:
                bar.update(self.done(report) - bar.n)
                bar.set_postfix(stored=report.documents, unchanged=report.unchanged, refresh=False)

            yield update


class CtrlC:
    """A handler of Ctrl-C that ends the work at its next await.

    Threads that do not stop are abandoned, because a kill at any point does no harm.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None

    def __enter__(self) -> "CtrlC":
        if threading.current_thread() is threading.main_thread():  # no other thread can handle signals
            self.previous = signal.signal(signal.SIGINT, self.stop)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.previous)

    async def watch(self, work: Awaitable[None]) -> None:
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        await work

    def stop(self, signum: int, frame: FrameType | None) -> None:
        os.write(2, f"\nInterrupted. {CONTINUE}\n".encode())  # not print(), which the signal may have interrupted
        if self.loop is None or self.task is None:
            os._exit(INTERRUPTED)
        self.loop.call_soon_threadsafe(self.task.cancel)
        end = threading.Timer(SECONDS_TO_END, os._exit, [INTERRUPTED])
        end.daemon = True
        end.start()
