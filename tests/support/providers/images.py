"""A picture, and calls that draw one."""

from providers.base import Capability
from providers.registry import providers_with

SLUGS = [provider.slug for provider in providers_with(Capability.IMAGE)]


def draw(api, provider="openai", **options):
    body = {"provider": provider, "model": "some-model", "prompt": "a cat", **options}
    return api.post("/images/generate", json=body)


def image_at(url, **fields):
    return {"created": 1795401842, "data": [{"url": url, **fields}]}
