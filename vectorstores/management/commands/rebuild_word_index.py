import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from tqdm import tqdm

from puffer.api import ApiError
from puffer.text import counted
from vectorstores.base import VectorStore
from vectorstores.models import LOCAL, Collection
from vectorstores.registry import STORES, get_store
from vectorstores.word_index.rebuild import delete_all, rebuild

ELSEWHERE = [slug for slug in STORES if slug != LOCAL]
SOME_FAILED, ALL_FAILED = 1, 2  # exit codes


class Command(BaseCommand):
    help = (
        "Index the words of what Pinecone, Qdrant or Chroma hold again: after turning on “Search words too”, for what "
        "was stored before puffer indexed words, or for a collection that another program has filled. Where the "
        "setting is off, delete the texts instead. The server can keep running. After an interruption, run it again. "
        "Exit codes: 0 everything is indexed, 1 some collections failed, 2 all failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--store", choices=ELSEWHERE, help="default: all")
        parser.add_argument(
            "--collection", action="append", default=[], metavar="NAME", help="may be repeated (default: all)"
        )
        parser.add_argument(
            "--namespace",
            action="append",
            default=[],
            metavar="NAMESPACE",
            help="may be repeated (default: those that puffer has filled)",
        )

    def handle(self, *, store: str | None, collection: list[str], namespace: list[str], **options: Any) -> None:
        found = self.collections(store, collection)
        failed = 0
        for one in found:
            try:
                self.stdout.write(self.style.SUCCESS(self.apply(one, namespace)))
            except ApiError as error:
                failed += 1
                self.stderr.write(f"{one}: {error.message}")
            except Collection.DoesNotExist:
                self.stderr.write(f"{one}: was deleted meanwhile.")
        if failed:
            raise CommandError(
                f"{counted(failed, 'collection')} could not be indexed. Run the command again.",
                returncode=ALL_FAILED if failed == len(found) else SOME_FAILED,
            )

    def collections(self, slug: str | None, names: Sequence[str]) -> QuerySet[Collection]:
        """Return the collections. Record those that are named and only known to their store. Raise CommandError."""
        found = Collection.objects.filter(store__in=[slug] if slug else ELSEWHERE)
        if not names:
            return found
        for name in sorted(set(names) - set(found.values_list("name", flat=True))):
            if slug is None:
                raise CommandError(
                    f"Puffer has filled no collection {name!r}. Name its store with --store.", returncode=2
                )
            try:
                described = async_to_sync(get_store)(slug).describe(name)
            except ApiError as error:
                raise CommandError(error.message, returncode=ALL_FAILED) from None
            Collection.objects.get_or_create(store=slug, name=name, defaults={"dimension": described.dimension})
        return found.filter(name__in=names)

    def apply(self, collection: Collection, namespaces: Sequence[str]) -> str:
        """Rebuild or delete the words of a collection, and return what was done. Raise ApiError."""
        if not collection.searches_words:
            delete_all(collection.vectors.all())
            return f"{collection}: does not search words. Its texts are deleted."
        store = async_to_sync(get_store)(collection.store)
        read = indexed = 0
        with tqdm(
            total=store.describe(collection.name).count, unit=" chunks", unit_scale=True, disable=None, file=sys.stderr
        ) as bar:
            bar.set_description(collection.name)
            for namespace in namespaces_of(store, collection, namespaces):
                for more_read, more_indexed in rebuild(store, collection, namespace):
                    read, indexed = read + more_read, indexed + more_indexed
                    bar.update(more_read)
        text = f"{collection}: indexed {counted(indexed, 'chunk')}."
        return (
            f"{text} Left out {read - indexed} that changed meanwhile or have no id or text."
            if read > indexed
            else text
        )


def namespaces_of(store: VectorStore, collection: Collection, named: Sequence[str]) -> Iterator[str]:
    if not store.has_namespaces:
        yield ""
    elif named:
        yield from named
    else:
        filled = (
            collection.documents.order_by().values_list("namespace").union(collection.vectors.values_list("namespace"))
        )
        yield from sorted({"", *(namespace for (namespace,) in filled)})
