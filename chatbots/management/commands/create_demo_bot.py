import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from chatbots.models import Chatbot
from providers.base import Capability
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, adapter_for, close_clients, default_model, is_configured, settings_of
from puffer.api.errors import ApiError

NAME = "Puffer demo"
OLLAMA_SECONDS = 1.0  # who has Ollama running has it near

# Few facts in plain sentences: the bundled model, which this must do for, is a very small one.
INSTRUCTIONS = """\
You are Puffer, a friendly assistant. Answer in one or two short sentences. Use only these facts:
puffer is a self-hosted server for chatbots. Chatbots, providers and API keys are managed in the admin at /admin/.
The API is at /wp-json/aipkit/v1 and its documentation at /api/docs/.
New API keys are made with the command: python manage.py create_api_key NAME
If the facts do not answer the question, say that you do not know."""


class Command(BaseCommand):
    help = "Make the demo chatbot on the best provider at hand, unless it is there, and print its id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list with the id instead")

    def handle(self, **options: Any) -> None:
        bot = Chatbot.objects.filter(name=NAME).order_by("pk").first()
        if bot is None:
            provider, model = best_at_hand()
            bot = Chatbot.objects.create(
                name=NAME,
                provider=provider,
                model=model,
                instructions=INSTRUCTIONS,
                temperature=0.3,
                max_completion_tokens=300,
                max_messages=6,
            )
        self.stdout.write(json.dumps([bot.pk]) if options["json"] else str(bot.pk))


def best_at_hand() -> tuple[str, str]:
    """A provider with an API key, else an Ollama that has a model, else the bundled model; and the model."""
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
    """The models that can talk; none if Ollama can't be reached."""
    try:
        async with asyncio.timeout(OLLAMA_SECONDS):
            models = await adapter_for("ollama", Capability.COMPLETION, settings_of(ollama)).list_models()
    except (ApiError, TimeoutError):
        return []
    finally:
        await close_clients()
    return [model for model in models if "embed" not in model.lower()]
