import asyncio
import json
import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from providers.base import Capability
from providers.beside_server import bundled_model
from providers.connection import on_event_loop
from providers.registry import PROVIDERS, providers_with
from puffer.api.errors import ApiError
from vectorstores.embedding_choice import choose_embedding
from vectorstores.importing import Import, Options, Report, prepare_target
from vectorstores.ingest import CONCURRENCY, Destination
from vectorstores.registry import STORES
from vectorstores.sources import Columns, Sources
from vectorstores.store_errors import CollectionNotFound

SHOWN_REFUSALS = 20
SOME_REFUSED, NOTHING_DONE, INTERRUPTED = 1, 2, 130  # exit codes; 130 as shells have it for Ctrl-C


class Command(BaseCommand):
    help = (
        "Put texts into a collection: files, folders, web pages, sitemaps, WordPress exports. Run again, it stores "
        "only what is new or has changed. A document is known by its id, else by its file or address; a row without "
        "either by its text. Exit code 0: all is stored, 1: some rows were refused, 2: it could not go on, 130: Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, glob, URL, or - for JSONL")
        parser.add_argument("--provider", default="local", choices=list(STORES), help="the vector store")
        parser.add_argument("--target", required=True, metavar="NAME", help="the collection (Pinecone's index)")
        parser.add_argument("--namespace", default="")
        embedding = [provider.slug for provider in providers_with(Capability.EMBEDDING)]
        parser.add_argument("--embedding-provider", choices=embedding, help="default: as the collection has it")
        parser.add_argument("--embedding-model", metavar="MODEL")
        parser.add_argument("--create", action="store_true", help="make the collection if there is none")
        parser.add_argument("--dry-run", action="store_true", help="count and estimate, send nothing")
        parser.add_argument("--prune", action="store_true", help="remove what has vanished from these sources")
        parser.add_argument("--sitemap", action="store_true", help="the URLs are sitemaps: read the pages they name")
        parser.add_argument("--max-pages", type=int, default=2000, help="of a sitemap (default: 2000)")
        parser.add_argument("--chunk-size", type=positive, metavar="CHARACTERS")
        parser.add_argument("--chunk-overlap", type=int, metavar="CHARACTERS", help="of documents (default: none)")
        parser.add_argument("--batch-size", type=positive, help="texts in a call of the embedding model")
        parser.add_argument("--concurrency", type=positive, default=CONCURRENCY, help="such calls at the same time")
        for name in ("content", "id", "title", "url"):
            parser.add_argument(f"--{name}-column", default=name, metavar="NAME", help=f"of CSV (default: {name})")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write every refused row to this file")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    def handle(self, *, sources: list[str], **options: Any) -> None:
        started = time.perf_counter()
        reading = Sources(
            sources,
            Columns(*(options[f"{name}_column"] for name in ("content", "id", "title", "url"))),
            are_sitemaps=options["sitemap"],
            max_pages=options["max_pages"],
        )
        try:
            destination = self.destination(options)
        except ApiError as error:
            raise CommandError(error.message, returncode=NOTHING_DONE) from None
        run_options = Options(
            **{name: options[name] for name in ("chunk_size", "chunk_overlap", "batch_size", "concurrency")},
            prune=options["prune"],
            dry_run=options["dry_run"],
        )
        failure, code = "", 0
        with progress(reading) as tell:
            run = Import(reading, destination, run_options, tell)
            stopped = Interrupt()
            try:
                with bundled_model() if self.needs_bundled_model(destination, options) else stopped.nothing():
                    on_event_loop(lambda: stopped.watch(self.run(run, create=options["create"])))
            except CollectionNotFound as error:
                failure, code = f"{error.message} Make it with --create.", NOTHING_DONE
            except ApiError as error:
                failure, code = error.message, NOTHING_DONE
            except asyncio.CancelledError:
                failure, code = "Interrupted.", INTERRUPTED
        report = run.report
        if not code and report.refused:
            nothing = not (report.documents or report.chunks or report.unchanged)
            code = NOTHING_DONE if nothing else SOME_REFUSED
        self.write_refusals(report, options["report"])
        self.write_summary(report, failure, time.perf_counter() - started, options)
        if failure:
            self.stderr.write(failure)
            if report.documents or report.unchanged:
                self.stderr.write("Run the same command again to go on: what is stored is skipped.")
        if code == INTERRUPTED:
            self.stdout.flush()
            self.stderr.flush()
            os._exit(code)  # a store that does not answer must not hold us
        if code:
            sys.exit(code)

    def destination(self, options: dict[str, Any]) -> Destination:
        provider, model = choose_embedding(
            options["provider"], options["target"], options["embedding_provider"], options["embedding_model"]
        )
        return Destination(options["provider"], options["target"], provider, model, options["namespace"])

    def needs_bundled_model(self, destination: Destination, options: dict[str, Any]) -> bool:
        return PROVIDERS[destination.embedding_provider].slug == "local" and not options["dry_run"]

    async def run(self, run: Import, *, create: bool) -> None:
        if not run.options.dry_run:
            await prepare_target(run.destination, create=create)
        await run.run()

    def write_refusals(self, report: Report, file: Path | None) -> None:
        lines = [f"{refused.place}: {refused.reason}" for refused in report.refused]
        for line in lines[:SHOWN_REFUSALS]:
            self.stderr.write(f"Refused: {line}")
        if len(lines) > SHOWN_REFUSALS:
            rest = f"{len(lines) - SHOWN_REFUSALS} more"
            self.stderr.write(f"... and {rest}{'' if file else ' (--report FILE lists all)'}.")
        if file:
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def write_summary(self, report: Report, failure: str, seconds: float, options: dict[str, Any]) -> None:
        cost = None if report.cost is None else float(report.cost)
        summary: dict[str, Any] = {
            "documents": report.documents,
            "chunks": report.chunks,
            "unchanged": report.unchanged,
            "pruned": report.pruned,
            "refused": len(report.refused),
            "seconds": round(seconds, 1),
        }
        if options["dry_run"]:
            summary |= {"dry_run": True, "tokens": report.tokens, "cost": cost}
        if failure:
            summary["error"] = failure
        if options["prune"] and not report.is_complete:
            summary["pruned"] = 0
            self.stderr.write("Nothing was pruned, for not every source could be read to its end.")
        if options["json"]:
            self.stdout.write(json.dumps(summary))
            return
        verb = "Would store" if options["dry_run"] else "Stored"
        text = f"{verb} {report.documents} documents, {report.chunks} chunks; {report.unchanged} unchanged"
        if report.pruned:
            text += f"; {report.pruned} removed"
        if report.refused:
            text += f"; {len(report.refused)} refused"
        if options["dry_run"]:
            price = "at an unknown price" if cost is None else f"about US$ {cost:.4f}"
            text += f"; about {report.tokens} tokens, {price}"
        self.stdout.write(f"{text}; {seconds:.1f} s.")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


@contextmanager
def progress(reading: Sources) -> Iterator[Any]:
    """What tells a bar how far the import is; silent where nobody looks."""
    with tqdm(total=reading.bytes_known(), unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:

        def tell(report: Report) -> None:
            bar.update(reading.bytes_read - bar.n)
            bar.set_postfix(stored=report.documents, chunks=report.chunks, unchanged=report.unchanged, refresh=False)

        yield tell


class Interrupt:
    """Ctrl-C ends the work at its next wait instead of in the middle of something."""

    @contextmanager
    def nothing(self) -> Iterator[None]:
        yield

    async def watch(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def stop(signum: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(task.cancel)

        self.previous = signal.signal(signal.SIGINT, stop)
        try:
            await task
        finally:
            signal.signal(signal.SIGINT, self.previous)
