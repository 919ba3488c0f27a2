import asyncio
import json
from argparse import ArgumentParser
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from chatbots.models import Chatbot
from providers.base import Capability
from providers.bundled_model import bundled_model
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, adapter_for, close_clients, default_model, is_configured, settings_of
from providers.run_async import run_async
from puffer.api import ApiError
from vectorstores.ingestion import Destination, first_configured, ingest, make_document

NAME = "Puffer demo"
OLLAMA_SECONDS = 1.0  # enough, because Ollama runs on this machine or in the local network

SMALL_MODEL_TOKENS = 40  # the bundled model rambles in longer answers
COLLECTION = "puffer"
KNOWLEDGE = Path(__file__).parents[1] / "demo_knowledge.json"  # items of POST /vector-stores/upsert

INSTRUCTIONS = "You are Puffer, a friendly assistant. Answer in one or two short sentences."
# A model this small follows examples better than rules.
SMALL_MODEL_INSTRUCTIONS = """\
You are Puffer, a friendly assistant. Answer with one short sentence from the passages.

Q: Where is the admin?
A: The admin is at /admin/.

Q: How do I make an API key?
A: You make an API key with the command: python manage.py create_api_key NAME"""


class Command(BaseCommand):
    help = "Create the demo chatbot, unless it exists, with the best available provider, and print its id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list with the id")

    def handle(self, **options: Any) -> None:
        bot = Chatbot.objects.filter(name=NAME).order_by("pk").first()
        if bot is None:
            provider, model = best_available()
            bot = Chatbot(name=NAME, provider=provider, model=model, instructions=INSTRUCTIONS, temperature=0)
            bot.enable_chat_page = True
            if provider == "local":
                bot.instructions = SMALL_MODEL_INSTRUCTIONS
                bot.max_completion_tokens = SMALL_MODEL_TOKENS
                bot.vector_store_top_k = 1
            if embedding := first_configured(["local", provider]):
                bot.enable_vector_store = self.fill_collection(Destination("local", COLLECTION, *embedding))
                bot.collections = [COLLECTION]
            bot.save()
        self.stdout.write(json.dumps([bot.pk]) if options["json"] else str(bot.pk))

    def fill_collection(self, destination: Destination) -> bool:
        """Import the demo's knowledge and return whether that worked. Without it the chatbot is still usable."""
        items = json.loads(KNOWLEDGE.read_text(encoding="utf-8"))
        documents = [make_document(item, destination) for item in items]

        async def store() -> None:
            async for _ in ingest(documents, destination):
                pass

        with bundled_model() if destination.embedding_provider == "local" else nullcontext():
            try:
                run_async(store)
            except ApiError as error:
                self.stderr.write(f"The demo chatbot has no knowledge base: {error.message}")
                return False
        return True


def best_available() -> tuple[str, str]:
    """Return a provider with an API key and its model, or else Ollama with a model, or else the bundled model."""
    configs = {config.slug: config for config in ProviderConfig.objects.all()}
    for slug, provider in PROVIDERS.items():
        config = configs.get(slug) or ProviderConfig(slug=slug)
        model = default_model(config, Capability.COMPLETION)
        if provider.needs_api_key and model and is_configured(config):
            return slug, model
    ollama = configs.get("ollama") or ProviderConfig(slug="ollama")
    models = asyncio.run(models_of(ollama))
    if models:
        saved = default_model(ollama, Capability.COMPLETION)
        return "ollama", saved if saved in models else models[0]
    return "local", PROVIDERS["local"].default_models[Capability.COMPLETION]


async def models_of(ollama: ProviderConfig) -> list[str]:
    """Return the chat models, or [] if Ollama cannot be reached."""
    try:
        async with asyncio.timeout(OLLAMA_SECONDS):
            models = await adapter_for("ollama", Capability.COMPLETION, settings_of(ollama)).list_models()
    except (ApiError, TimeoutError):
        return []
    finally:
        await close_clients()
    return [model for model in models if "embed" not in model.lower()]
