from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import CommandError

from chatbots.lifecycle.switch_collection import switch_collection
from puffer.api import ApiError
from puffer.text import counted
from vectorstores.ingestion import Destination, Import, Reembedding, choose_embedding, prepare
from vectorstores.management import NOTHING_DONE, Bar, ImportCommand, refused_command
from vectorstores.registry import get_store


class Command(ImportCommand):
    help = (
        "Embed the chunks of a collection with another model into a new collection, and switch chatbots to it. The old "
        "collection is kept. Run it again to continue after an interruption. Exit codes are those of import_vectors."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        self.add_store_arguments(parser)
        parser.add_argument(
            "--to", required=True, metavar="NEW", help="the new collection, created if it does not exist"
        )
        self.add_embedding_arguments(parser, required=True)
        parser.add_argument("--switch-bots", action="store_true", help="then switch the chatbots to the new collection")
        self.add_import_arguments(parser)

    def handle(self, *, provider: str, target: str, to: str, namespace: str, **options: Any) -> None:
        if target == to:
            raise CommandError("--to must name another collection.", returncode=NOTHING_DONE)
        try:
            named = options["embedding_provider"], options["embedding_model"]
            destination = Destination(provider, to, *choose_embedding(provider, to, *named), namespace)
            total = async_to_sync(get_store)(provider).describe(target).count
        except ApiError as error:
            raise refused_command(error) from None
        reembedding = Reembedding(target, destination)

        async def work(run: Import) -> None:
            is_empty = await prepare(destination, create=True)
            await run.store(reembedding.batches(), into_empty=is_empty)

        self.carry_out(destination, work, Bar(total, lambda report: report.chunks, " chunks"), options)
        if reembedding.too_long:
            self.stderr.write(
                f"{named[1]} could not embed the end of {counted(reembedding.too_long, 'chunk')}, because of its input "
                "limit. Import the texts again to get shorter chunks."
            )
        if options["switch_bots"]:
            self.switch_bots(target, destination)

    def switch_bots(self, old: str, new: Destination) -> None:
        switched, kept = switch_collection(old, new)
        for bot in switched:
            self.stderr.write(f"Chatbot {bot.pk} ({bot.name}) now uses {new.target}.")
        for bot, reason in kept:
            self.stderr.write(f"Chatbot {bot.pk} ({bot.name}) still uses {old}: {reason}", self.style.WARNING)
