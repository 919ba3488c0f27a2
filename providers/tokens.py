"""Tokens: of a text and of a call whose usage the provider did not report, estimated; and those that a model reads."""

from functools import lru_cache

from genai_prices import data_snapshot

from logs.usage import PRICE_LIST_NAMES
from providers.base import CompletionRequest, Usage
from providers.models import ProviderConfig

# English text with the usual tokenizers; other languages need more tokens.
# Source: https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them
CHARACTERS_PER_TOKEN = 4
UNKNOWN_WINDOW = 16_384  # what servers with models of their own read at least, unless they were set up for less
BUNDLED_WINDOW = 2048  # of 4,096: reading more would take a small machine longer than a visitor waits


def estimate_usage(request: CompletionRequest, written: str) -> Usage:
    """Estimate the usage of an answer that was stopped early: providers bill it, but report usage only at the end.

    Without an estimate, a visitor who stops each answer before its end would chat for free.
    """
    prompt = len(request.instructions) + sum(len(message.content) for message in request.messages)
    tokens_in, tokens_out = tokens_of(prompt), tokens_of(len(written))
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out)


def most_tokens(text: str) -> int:
    """Return how many tokens a text has at most, roughly: a third of its bytes, for Latin and for Chinese texts."""
    return -(-len(text.encode(errors="replace")) // 3)


def tokens_of(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)  # rounded up


def context_window(config: ProviderConfig, model: str) -> int:
    """Return the tokens of prompt and answer together: as the public price list tells, otherwise a careful guess."""
    if config.slug == "local":
        return BUNDLED_WINDOW
    if config.slug == "ollama":
        return config.context_length_in_use
    return published_window(config.slug, model) or UNKNOWN_WINDOW


@lru_cache(maxsize=1000)
def published_window(provider: str, model: str) -> int | None:
    """Return what the public price list tells of the model; None if it does not."""
    name = PRICE_LIST_NAMES.get(provider, provider)
    try:
        return data_snapshot.get_snapshot().find_provider_model(model, None, name, None)[1].context_window
    except LookupError:
        return None
