"""Saved settings of providers."""

from providers.models import ProviderConfig

HI = [{"role": "user", "content": "Hi"}]


def generate(api, provider="openai"):
    return api.post("/generate", json={"provider": provider, "model": "some-model", "messages": HI})


def save(slug, **fields):
    config = ProviderConfig.objects.get(slug=slug)
    for name, value in fields.items():
        setattr(config, name, value)
    config.save()
    return config
