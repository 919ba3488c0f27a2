"""How many tokens a call may have cost that nobody counted."""

from providers.base import CompletionRequest, Usage

# English text with the usual tokenizers; other languages need more tokens.
# Source: https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them
CHARACTERS_PER_TOKEN = 4


def estimate_usage(request: CompletionRequest, written: str) -> Usage:
    """For an answer that was cut off: a provider tells its counts at the end, but charges for what it wrote until then.

    Without an estimate, whoever stops each answer before its last word would chat for nothing.
    """
    prompt = len(request.instructions) + sum(len(message.content) for message in request.messages)
    tokens_in, tokens_out = tokens_of(prompt), tokens_of(len(written))
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out)


def tokens_of(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)  # rounded up
