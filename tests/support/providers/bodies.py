"""The body that a provider is sent."""

from tests.support.providers.answers import COMPLETIONS
from tests.support.providers.requests import generate

USAGE = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}


GOOGLE_USAGE = {**USAGE, "cached_tokens": 0, "thought_tokens": 0, "tool_use_tokens": 0}


def request_body(api, upstream, provider, **options):
    """Call the API, and return the body that the provider was sent."""
    upstream.will_answer(COMPLETIONS[provider])
    answer = generate(api, provider, **options)
    assert answer.status_code == 200, answer.text
    assert len(upstream.sent) == 1
    return upstream.sent[0].json
