"""The use case behind /generate: messages and sampling parameters to a completion."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from django.conf import settings

from providers.base import Capability, Completion, CompletionRequest, Message, Sampling
from providers.calls import provider_call
from providers.prompt_text import fill_placeholders
from providers.registry import get_provider
from puffer.api import ApiError, Caller
from puffer.runtime import in_thread_if_large
from puffer.text import is_blank, without_control_characters

DEFAULT_INSTRUCTIONS = "You are a helpful AI Assistant."
MAX_COMPLETION_TOKENS = 128_000
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh"}
LEADING_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Number = TypeVar("Number", int, float)


async def generate(
    caller: Caller,
    provider_slug: str,
    model: str,
    messages: Sequence[Mapping[str, str]],
    *,
    system_instruction: str | None = None,
    ai_params: Mapping[str, Any] | None = None,
) -> Completion:
    """Return the completion. Raise ApiError if the provider refuses or fails."""
    provider = await get_provider(provider_slug, Capability.COMPLETION)
    request = await in_thread_if_large(
        len(system_instruction or "") + sum(len(message["content"]) for message in messages),
        lambda: CompletionRequest(
            model=model,
            messages=conversation(messages),
            instructions=instructions(system_instruction, messages),
            sampling=read_sampling(ai_params or {}),
        ),
    )
    async with provider_call(provider, Capability.COMPLETION, model, caller=caller) as call:
        completion = await provider.complete(request)
        call.usage = completion.usage
    return completion


def conversation(messages: Sequence[Mapping[str, str]]) -> list[Message]:
    """Return the user's and the assistant's messages that are not blank. Raise ApiError if all of them are."""
    dialog = [message for message in messages if message["role"] != "system"]
    turns = [
        Message(message["role"], without_control_characters(message["content"]))
        for message in dialog
        if not is_blank(message["content"])
    ]
    if dialog and not turns:
        raise ApiError("All messages are blank.", status=400, code="rest_aipkit_invalid_param")
    return turns


def instructions(system_instruction: str | None, messages: Sequence[Mapping[str, str]]) -> str:
    """Return the instruction followed by the system messages in order, or the default instructions."""
    instruction = fill_placeholders(without_control_characters(system_instruction or ""))
    system = [without_control_characters(message["content"]) for message in messages if message["role"] == "system"]
    return "\n\n".join(filter(None, [instruction, *system])) or DEFAULT_INSTRUCTIONS


def read_sampling(ai_params: Mapping[str, Any]) -> Sampling:
    """Read the known `ai_params` on top of the site's defaults, clamped as AI Puffer clamps them."""
    chosen = {name: value for name, value in ai_params.items() if value is not None}
    parameters = {name: value for name, value in {**settings.AI_PARAMETERS, **chosen}.items() if value is not None}

    def read(name: str, convert: Callable[[Any], Number]) -> Number | None:
        return convert(parameters[name]) if name in parameters else None

    stop = parameters.get("stop")
    reasoning = parameters.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else parameters.get("reasoning_effort")
    thinking = parameters.get("thinking")
    return Sampling(
        temperature=read("temperature", lambda value: min(max(number(value), 0.0), 2.0)),
        top_p=read("top_p", number),
        max_tokens=read(
            "max_completion_tokens" if "max_completion_tokens" in parameters else "max_tokens", clamp_tokens
        ),
        frequency_penalty=read("frequency_penalty", number),
        presence_penalty=read("presence_penalty", number),
        top_k=read("top_k", whole),
        top_logprobs=read("top_logprobs", whole),
        stop=tuple(word for word in (stop if isinstance(stop, list) else [stop]) if isinstance(word, str) and word),
        reasoning_effort=effort if isinstance(effort, str) and effort in EFFORTS else None,
        thinking=thinking if isinstance(thinking, dict) else None,
        chosen=frozenset(chosen),
    )


def number(value: Any) -> float:
    """Read a number as PHP does, also from the beginning of a string; anything else is 0.0."""
    if isinstance(value, str):
        found = LEADING_NUMBER.match(value)
        value = found[0] if found else 0
    try:
        parsed = float(value)
    except (TypeError, OverflowError):
        return 0.0
    return parsed if math.isfinite(parsed) else 0.0


def whole(value: Any) -> int:
    return abs(int(number(value)))


def clamp_tokens(value: Any) -> int:
    return min(max(whole(value), 1), MAX_COMPLETION_TOKENS)


def require_text(**parameters: str) -> None:
    """Refuse parameters that are blank."""
    if empty := [name for name, value in parameters.items() if is_blank(value)]:
        raise ApiError(
            f"These parameters must not be empty: {', '.join(empty)}.", status=400, code="rest_aipkit_missing_param"
        )
