"""The “Test connection” button of a provider: one cheap call, or the list of its models."""

import asyncio

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from providers import registry
from providers.base import Capability, CompletionRequest, Message, Sampling
from providers.calls import provider_call
from providers.models import ProviderConfig
from providers.upstream_errors import EmptyAnswer, no_answer_in_time
from puffer.api import ApiError
from puffer.text import storable

TRIAL_SECONDS = 10
TRIAL_TOKENS = 16


async def check_connection(config: ProviderConfig) -> str:
    """Return the outcome as a sentence. Raise ApiError with the provider's message if the connection fails."""
    provider = registry.adapter_for(config.slug, Capability.COMPLETION, registry.settings_of(config))
    model = registry.default_model(config, Capability.COMPLETION)
    if not model:
        models = await read_models(config)
        text = ngettext(
            "Connected to %(provider)s: %(count)d model found. Choose one as the default.",
            "Connected to %(provider)s: %(count)d models found. Choose one as the default.",
            len(models),
        )
        return text % {"provider": provider.label, "count": len(models)}
    request = CompletionRequest(
        model=model,
        messages=[Message("user", "Say hello.")],
        sampling=Sampling(max_tokens=TRIAL_TOKENS, reasoning_effort="none"),
    )
    try:
        async with asyncio.timeout(TRIAL_SECONDS), provider_call(provider, Capability.COMPLETION, model) as call:
            completion = await provider.complete(request)
            call.usage = completion.usage
    except TimeoutError as late:
        raise no_answer_in_time(provider, Capability.COMPLETION, TRIAL_SECONDS) from late
    except ApiError as error:
        if not isinstance(error, EmptyAnswer):
            raise
        # A readable but empty answer is fine: some models reason for more than 16 tokens.
        connected = _("Connected to %(provider)s, and the key works.") % {"provider": provider.label}
        return f"{connected} {error.message}"
    return _("%(provider)s answered in %(milliseconds)d ms with %(model)s: %(answer)s") % {
        "provider": provider.label,
        "milliseconds": call.milliseconds,
        "model": model,
        "answer": completion.text[:200],
    }


async def read_models(config: ProviderConfig) -> list[str]:
    """Return the ids of the account's models. Raise ApiError."""
    provider = registry.adapter_for(config.slug, Capability.COMPLETION, registry.settings_of(config))
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            return [storable(model) for model in await provider.list_models()]
    except TimeoutError as late:
        raise no_answer_in_time(provider, Capability.COMPLETION, TRIAL_SECONDS) from late
