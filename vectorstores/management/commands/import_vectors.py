from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from itertools import chain
from typing import Any

from puffer.api import ApiError
from vectorstores.extraction import known_encoding
from vectorstores.ingestion.chunking import Chunking
from vectorstores.ingestion.destination import Destination, choose_embedding, embedding_of
from vectorstores.ingestion.pipeline import documents_from_rows
from vectorstores.ingestion.rows import Found, Row
from vectorstores.ingestion.sync import Import, Report, prepare, read_batches
from vectorstores.management.import_command import Bar, ImportCommand, positive, refused_command
from vectorstores.sources.columns import Columns
from vectorstores.sources.files import Sources

Rows = Iterator[Found]


class Command(ImportCommand):
    nothing_found = "No documents were found in the sources."
    help = (
        "Import files, folders, web pages, sitemaps and WordPress exports into a collection. Run it again to store "
        "only new and changed documents. A document is identified by its id, otherwise by its file or URL; a row with "
        "neither by its text. Exit codes: 0 everything is stored, 1 some rows were refused, 2 nothing could be stored "
        "or the import failed, 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, glob, URL, or - for JSON lines")
        self.add_store_arguments(parser)
        self.add_embedding_arguments(parser, help="default: the collection's, or the first available")
        parser.add_argument("--create", action="store_true", help="create the collection if it does not exist")
        parser.add_argument("--dry-run", action="store_true", help="count and estimate the cost, send nothing")
        parser.add_argument("--prune", action="store_true", help="remove documents that are no longer in these sources")
        parser.add_argument(
            "--post-type",
            action="append",
            default=[],
            metavar="TYPE",
            help="of WordPress exports, in addition to post and page: for example product; may be repeated",
        )
        parser.add_argument(
            "--encoding", type=encoding_name, metavar="NAME", help="of text files, if it is not recognized correctly"
        )
        parser.add_argument(
            "--refresh", action="store_true", help="store unchanged documents again, for example after a loss of data"
        )
        parser.add_argument("--sitemap", action="store_true", help="treat the URLs as sitemaps and import their pages")
        parser.add_argument(
            "--max-pages", type=positive, default=2000, help="read at most this many pages of a sitemap (default: 2000)"
        )
        parser.add_argument("--chunk-size", type=positive, metavar="CHARACTERS", help="default: depends on the model")
        parser.add_argument(
            "--chunk-overlap", type=positive, default=0, metavar="CHARACTERS", help="for files only (default: 0)"
        )
        for name in ("content", "id", "title", "url"):
            parser.add_argument(
                f"--{name}-column",
                default="",
                metavar="NAME",
                help="column of CSV files (default: a common name)",
            )
        self.add_import_arguments(parser)

    def handle(self, *, sources: list[str], **options: Any) -> None:
        columns = Columns(*(options[f"{name}_column"] for name in ("content", "id", "title", "url")))
        reading = Sources(
            sources,
            columns,
            are_sitemaps=options["sitemap"],
            max_pages=options["max_pages"],
            post_types=options["post_type"],
            encoding=options["encoding"],
        )
        try:
            destination, first, rows = self.destination(reading.rows(), options)
        except ApiError as error:
            raise refused_command(error) from None
        chunking = Chunking(options["chunk_size"], options["chunk_overlap"])
        documents = documents_from_rows(rows, destination, chunking)

        async def estimate(run: Import) -> None:
            run.refresh = options["refresh"]
            await run.estimate(read_batches(documents))
            if options["prune"] and run.report.is_complete:
                run.report.pruned = len(await run.missing(reading.origins()))

        async def store(run: Import) -> None:
            run.refresh = options["refresh"]
            dimension = first.vector.values.size if first and first.vector else None
            is_empty = await prepare(destination, create=options["create"], dimension=dimension)
            await run.store(read_batches(documents), into_empty=is_empty)
            if options["prune"] and run.report.is_complete:
                await run.prune(reading.origins())

        work = estimate if options["dry_run"] else store
        self.carry_out(destination, work, bar_for(reading), options, embeds=not options["dry_run"])

    def destination(self, rows: Rows, options: dict[str, Any]) -> tuple[Destination, Row | None, Rows]:
        """Return the destination, the first row if it had to be read to find the destination, and all rows.

        Rows that bring their embeddings also name the embedding model of a new collection.
        """
        store, target = options["provider"], options["target"]
        named = options["embedding_provider"], options["embedding_model"]
        first = None
        if not any(named) and not embedding_of(store, target):
            passed: list[Found] = []
            for row in rows:
                passed.append(row)
                if isinstance(row, Row):
                    first = row
                    break
            rows = chain(passed, rows)
        brought = first.embedding if first and first.vector else None
        embedding = choose_embedding(store, target, *named, brought)
        return Destination(store, target, *embedding, options["namespace"]), first, rows

    def write_summary(self, report: Report, *others: Any) -> None:
        super().write_summary(report, *others)
        if others[-1]["prune"] and not report.is_complete:
            self.stderr.write("Nothing was pruned, because not everything in the sources could be read.")


def encoding_name(text: str) -> str:
    if not known_encoding(text):
        raise ArgumentTypeError(f"{text!r} is not a known encoding. Try one like windows-1251, gb18030 or utf-16.")
    return text


def bar_for(reading: Sources) -> Bar:
    total = reading.total_bytes()
    if total is None:
        return Bar(None, lambda report: report.documents + report.unchanged, " documents")
    return Bar(total, lambda report: reading.bytes_read(), "B")
