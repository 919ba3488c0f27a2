"""The “Test connection” button of a provider: one cheap call, or the list of its models."""

import asyncio

from providers import registry
from providers.base import Capability, CompletionRequest, Message, Sampling
from providers.calls import provider_call
from providers.models import ProviderConfig
from providers.upstream_errors import EmptyAnswer, no_answer_in_time
from puffer.api import ApiError
from puffer.text import counted, storable

TRIAL_SECONDS = 10
TRIAL_TOKENS = 16


async def check_connection(config: ProviderConfig) -> str:
    """Return the outcome as a sentence. Raises ApiError with the provider's message if the connection fails."""
    provider = registry.adapter_for(config.slug, Capability.COMPLETION, registry.settings_of(config))
    model = registry.default_model(config, Capability.COMPLETION)
    if not model:
        models = await read_models(config)
        return f"Connected to {provider.label}: {counted(len(models), 'model')} found. Choose one as the default."
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
        return f"Connected to {provider.label}, and the key works. {error.message}"
    return f"{provider.label} answered in {call.milliseconds} ms with {model}: {completion.text[:200]}"


async def read_models(config: ProviderConfig) -> list[str]:
    """Return the ids of the account's models. Raises ApiError."""
    provider = registry.adapter_for(config.slug, Capability.COMPLETION, registry.settings_of(config))
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            return [storable(model) for model in await provider.list_models()]
    except TimeoutError as late:
        raise no_answer_in_time(provider, Capability.COMPLETION, TRIAL_SECONDS) from late
