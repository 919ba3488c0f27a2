"""The demo chatbot: which provider and model it gets."""

import json

import pytest

from chatbots.models import Chatbot
from providers.models import ProviderConfig
from providers.registry import PROVIDERS
from tests.support.commands import run

pytestmark = pytest.mark.django_db


@pytest.fixture
def ollama(httpserver, settings):
    """Configure Ollama alone, at `httpserver`; no provider has a key."""
    settings.PROVIDER_ENVIRONMENT = {"ollama": {"base_url": httpserver.url_for("")}}
    return httpserver


def make_demo_bot() -> Chatbot:
    out, _ = run("create_demo_bot", "--json")
    [pk] = json.loads(out)
    return Chatbot.objects.get(pk=pk)


def test_the_demo_bot_is_created_once(ollama):
    first = make_demo_bot()
    assert first.name == "Puffer demo"
    assert make_demo_bot() == first
    assert run("create_demo_bot")[0] == f"{first.pk}\n"
    assert Chatbot.objects.count() == 1


def test_a_key_in_the_environment_takes_precedence(settings, ollama):
    ollama.expect_request("/v1/models").respond_with_json({"data": [{"id": "llama3.2"}]})
    settings.PROVIDER_ENVIRONMENT["claude"] = {"api_key": "sk-ant-1"}
    bot = make_demo_bot()
    assert (bot.provider, bot.model) == ("claude", PROVIDERS["claude"].default_models["completion"])


def test_a_saved_key_and_model_are_used(ollama):
    config = ProviderConfig.objects.get(slug="google")
    config.api_key, config.default_model = "saved", "gemini-custom"
    config.save()
    bot = make_demo_bot()
    assert (bot.provider, bot.model) == ("google", "gemini-custom")


def test_a_provider_without_a_default_model_is_skipped(settings, ollama):
    settings.PROVIDER_ENVIRONMENT["azure"] = {"api_key": "key", "base_url": "https://example.com"}
    assert make_demo_bot().provider == "local"


def test_without_a_key_ollamas_first_completion_model_is_used(ollama):
    models = [{"id": "all-minilm-embed"}, {"id": "llama3.2"}, {"id": "qwen3"}]
    ollama.expect_request("/v1/models").respond_with_json({"data": models})
    bot = make_demo_bot()
    assert (bot.provider, bot.model) == ("ollama", "llama3.2")


@pytest.mark.parametrize("answer", [{"data": []}, {"nonsense": 1}])
def test_without_a_key_or_an_ollama_model_the_bundled_model_is_used(ollama, answer):
    ollama.expect_request("/v1/models").respond_with_json(answer)
    bot = make_demo_bot()
    assert (bot.provider, bot.model) == ("local", PROVIDERS["local"].default_models["completion"])
