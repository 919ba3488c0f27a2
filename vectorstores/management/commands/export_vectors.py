import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from puffer.api import ApiError
from puffer.runtime import open_atomic
from puffer.text import counted
from vectorstores.base import Vector
from vectorstores.ingestion.destination import Embedding, embedding_of
from vectorstores.registry import STORES, get_store


class Command(BaseCommand):
    help = (
        "Export a collection with its vectors as JSON lines: id, content, metadata, values, embedding provider and "
        "model. import_vectors imports them into any store without embedding them again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--provider", default="local", choices=list(STORES), help="the vector store (default: local)"
        )
        parser.add_argument("--target", required=True, metavar="NAME", help="the collection (for Pinecone, the index)")
        parser.add_argument("--namespace", default="", help="the namespace to export (default: the default namespace)")
        parser.add_argument("--output", type=Path, metavar="FILE", help="write to this file instead of standard output")

    def handle(self, *, provider: str, target: str, namespace: str, output: Path | None, **options: Any) -> None:
        embedding = embedding_of(provider, target)
        count = 0
        try:
            store = async_to_sync(get_store)(provider)
            total = store.describe(target).count
            with (
                open_atomic(output) as file,
                tqdm(total=total, unit=" vectors", unit_scale=True, disable=None, file=sys.stderr) as bar,
            ):
                for vector in store.scan(target, namespace):
                    file.write(line_of(vector, embedding))
                    count += 1
                    bar.update()
        except ApiError as error:
            raise CommandError(error.message, returncode=2) from None
        except OSError as error:
            raise CommandError(f"{output or 'The output'} cannot be written: {error.strerror}.", returncode=2) from None
        self.stderr.write(f"Exported {counted(count, 'vector')}.")


def line_of(vector: Vector, embedding: Embedding | None) -> bytes:
    line: dict[str, Any] = {
        "id": vector.id,
        "content": vector.text,
        "metadata": vector.metadata,
        "values": vector.values,
    }
    if embedding:
        line["embedding_provider"], line["embedding_model"] = embedding
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
