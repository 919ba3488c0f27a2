"""The use case behind /generate: a caller's messages and wishes -> a completion."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from providers.base import Capability, Completion, CompletionRequest, Message, Sampling
from providers.calls import provider_call
from providers.prompt_text import clean, fill_placeholders
from providers.registry import get_provider
from puffer.api.authentication import Caller
from puffer.api.errors import ApiError

DEFAULT_INSTRUCTIONS = "You are a helpful AI Assistant."
MAX_COMPLETION_TOKENS = 128_000
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh"}


async def generate(
    caller: Caller,
    provider_slug: str,
    model: str,
    messages: Sequence[Mapping[str, str]],
    *,
    system_instruction: str | None = None,
    ai_params: Mapping[str, Any] | None = None,
) -> Completion:
    """The model's answer. Raises ApiError for whatever the provider refuses or fails at."""
    provider = await get_provider(provider_slug, Capability.COMPLETION)
    request = CompletionRequest(
        model=model,
        messages=conversation(messages),
        instructions=instructions(system_instruction, messages),
        sampling=read_sampling(ai_params or {}),
    )
    async with provider_call(provider, Capability.COMPLETION, model, caller=caller) as call:
        completion = await provider.complete(request)
        call.usage = completion.usage
    return completion


def conversation(messages: Sequence[Mapping[str, str]]) -> list[Message]:
    """The user's and the assistant's messages that say something."""
    return [
        Message(message["role"], text)
        for message in messages
        if message["role"] != "system" and (text := clean(message["content"]))
    ]


def instructions(system_instruction: str | None, messages: Sequence[Mapping[str, str]]) -> str:
    """The instruction, then the system messages in order; the built-in text only where there is neither."""
    own = fill_placeholders(clean(system_instruction or ""))
    system = [clean(message["content"]) for message in messages if message["role"] == "system"]
    return "\n\n".join(filter(None, [own, *system])) or DEFAULT_INSTRUCTIONS


def read_sampling(ai_params: Mapping[str, Any]) -> Sampling:
    """The known ones of a caller's `ai_params` over the site's defaults, clamped as AI Puffer clamps them."""
    chosen = {name: value for name, value in ai_params.items() if value is not None}
    wanted = {**settings.AI_PARAMETERS, **chosen}
    max_tokens = wanted.get("max_completion_tokens", wanted.get("max_tokens"))
    stop = wanted.get("stop") or ()
    reasoning = wanted.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else wanted.get("reasoning_effort")
    thinking = wanted.get("thinking")
    return Sampling(
        temperature=min(max(number(wanted.get("temperature", 1.0)), 0.0), 2.0),
        top_p=number(wanted["top_p"]) if "top_p" in wanted else None,
        max_tokens=None if max_tokens is None else clamp_tokens(max_tokens),
        frequency_penalty=number(wanted["frequency_penalty"]) if "frequency_penalty" in wanted else None,
        presence_penalty=number(wanted["presence_penalty"]) if "presence_penalty" in wanted else None,
        top_k=whole(wanted["top_k"]) if "top_k" in wanted else None,
        top_logprobs=whole(wanted["top_logprobs"]) if "top_logprobs" in wanted else None,
        stop=tuple(str(word) for word in ([stop] if isinstance(stop, str) else stop))
        if isinstance(stop, str | list)
        else (),
        reasoning_effort=effort if isinstance(effort, str) and effort in EFFORTS else None,
        thinking=thinking if isinstance(thinking, dict) else None,
        chosen=frozenset(chosen),
    )


def number(value: Any) -> float:
    """As PHP reads a number: 0.0 where there is none to be read."""
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return parsed if math.isfinite(parsed) else 0.0


def whole(value: Any) -> int:
    return abs(int(number(value)))


def clamp_tokens(value: Any) -> int:
    return min(max(whole(value), 1), MAX_COMPLETION_TOKENS)


def require_text(**parameters: str) -> None:
    """Refuse parameters that are there but empty."""
    if empty := [name for name, value in parameters.items() if not value.strip()]:
        raise ApiError(
            f"These parameters must not be empty: {', '.join(empty)}.", status=400, code="rest_aipkit_missing_param"
        )
