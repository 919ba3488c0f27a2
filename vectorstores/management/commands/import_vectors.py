from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import chain
from typing import Any

from puffer.api import ApiError
from vectorstores.ingestion.embedding_choice import choose_embedding, embedding_of
from vectorstores.ingestion.pipeline import Destination
from vectorstores.ingestion.sync import Chunking, Import, Report, documents_in, prepare, read
from vectorstores.management.import_command import Bar, ImportCommand, positive, refused_command
from vectorstores.sources.files import Sources
from vectorstores.sources.row_files import Columns
from vectorstores.sources.rows import Refused, Row

Rows = Iterator[Row | Refused]


class Command(ImportCommand):
    help = (
        "Put texts into a collection: files, folders, web pages, sitemaps, WordPress exports. Run again, it stores "
        "only what is new or has changed. A document is known by its id, else by its file or address; a row without "
        "either by its text. Exit code 0: all is stored, 1: some rows were refused, 2: it could not go on, 130: Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, glob, URL, or - for JSONL")
        self.add_store_arguments(parser)
        self.add_embedding_arguments(parser, help="default: as the collection has it")
        parser.add_argument("--create", action="store_true", help="make the collection if there is none")
        parser.add_argument("--dry-run", action="store_true", help="count and estimate, send nothing")
        parser.add_argument("--prune", action="store_true", help="remove what has vanished from these sources")
        parser.add_argument("--sitemap", action="store_true", help="the URLs are sitemaps: read the pages they name")
        parser.add_argument("--max-pages", type=positive, default=2000, help="of a sitemap (default: 2000)")
        parser.add_argument("--chunk-size", type=positive, metavar="CHARACTERS")
        parser.add_argument(
            "--chunk-overlap", type=positive, default=0, metavar="CHARACTERS", help="of documents (default: none)"
        )
        for name in ("content", "id", "title", "url"):
            parser.add_argument(f"--{name}-column", default=name, metavar="NAME", help=f"of CSV (default: {name})")
        self.add_import_arguments(parser)

    def handle(self, *, sources: list[str], **options: Any) -> None:
        columns = Columns(*(options[f"{name}_column"] for name in ("content", "id", "title", "url")))
        reading = Sources(sources, columns, are_sitemaps=options["sitemap"], max_pages=options["max_pages"])
        try:
            destination, first, rows = self.destination(reading.rows(), options)
        except ApiError as error:
            raise refused_command(error) from None
        documents = documents_in(rows, destination, Chunking(options["chunk_size"], options["chunk_overlap"]))

        async def estimate(run: Import) -> None:
            await run.estimate(read(documents))
            if options["prune"] and run.report.is_complete:
                run.report.pruned = len(await run.vanished(reading.origins()))

        async def store(run: Import) -> None:
            dimension = first.vector.values.size if first and first.vector else None
            is_empty = await prepare(destination, create=options["create"], dimension=dimension)
            await run.store(read(documents), into_empty=is_empty)
            if options["prune"] and run.report.is_complete:
                await run.prune(reading.origins())

        work = estimate if options["dry_run"] else store
        self.carry_out(destination, work, bar_for(reading), options, embeds=not options["dry_run"])

    def destination(self, rows: Rows, options: dict[str, Any]) -> tuple[Destination, Row | None, Rows]:
        """Where the rows go; the first of them, if it had to be read for that; and the rows, that one too.

        Into a new collection, vectors that come ready made bring the name of their model.
        """
        store, target = options["provider"], options["target"]
        named = options["embedding_provider"], options["embedding_model"]
        first = None
        if not any(named) and not embedding_of(store, target):
            passed: list[Row | Refused] = []
            for row in rows:
                passed.append(row)
                if isinstance(row, Row):
                    first = row
                    break
            rows = chain(passed, rows)
        brought = first.embedding if first and first.vector else None
        embedding = choose_embedding(store, target, *named, brought)
        return Destination(store, target, *embedding, options["namespace"]), first, rows

    def tell_summary(self, report: Report, *others: Any) -> None:
        super().tell_summary(report, *others)
        if others[-1]["prune"] and not report.is_complete:
            self.stderr.write("Nothing was pruned, for not everything in the sources could be read.")


def bar_for(reading: Sources) -> Bar:
    total = reading.bytes_known()
    if total is None:
        return Bar(None, lambda report: report.documents + report.unchanged, " documents")
    return Bar(total, lambda report: reading.bytes_read(), "B")
