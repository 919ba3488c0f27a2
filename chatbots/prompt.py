"""Bot + history + question -> the prompt. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatbots.models import Chatbot
from providers.base import CompletionRequest, Message
from providers.completions import read_sampling
from providers.prompt_text import clean, fill_placeholders


def build_prompt(
    bot: Chatbot, model: str, history: Sequence[Mapping[str, Any]], question: str, username: str = ""
) -> CompletionRequest:
    """The last `max_messages` messages of the history that say something, then the question."""
    earlier = [Message(message["role"], text) for message in history if (text := clean(message["content"]))]
    return CompletionRequest(
        model=model,
        messages=[*earlier[-bot.max_messages :], Message("user", question)],
        instructions=fill_placeholders(clean(bot.instructions), username),
        sampling=read_sampling(
            {
                "temperature": bot.temperature,
                "max_completion_tokens": bot.max_completion_tokens,
                "reasoning_effort": bot.reasoning_effort,
            }
        ),
    )
