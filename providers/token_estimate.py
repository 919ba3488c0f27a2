"""Estimate the tokens of calls whose usage the provider did not report."""

from providers.base import CompletionRequest, Usage

# English text with the usual tokenizers; other languages need more tokens.
# Source: https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them
CHARACTERS_PER_TOKEN = 4


def estimate_usage(request: CompletionRequest, written: str) -> Usage:
    """Estimate the usage of an answer that was stopped early: providers bill it, but report usage only at the end.

    Without an estimate, a visitor who stops each answer before its end would chat for free.
    """
    prompt = len(request.instructions) + sum(len(message.content) for message in request.messages)
    tokens_in, tokens_out = tokens_of(prompt), tokens_of(len(written))
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out)


def tokens_of(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)  # rounded up
