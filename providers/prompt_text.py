"""Text for prompts: the placeholders in instructions, and texts of strangers without what a model could obey."""

import re
import unicodedata

from django.utils import timezone

MAX_NAME = 60  # characters
IN_NAMES = "-_'’.@"
# Tokens that begin or end messages in models' templates. Servers that run open models read them also in a message.
# Sources: the chat templates of Llama, Mistral, Gemma, Qwen, DeepSeek, GLM and Phi.
TOKEN = re.compile(
    r"<(?=[|\uff5c])"  # <|im_end|>, <|eot_id|>, <｜end▁of▁sentence｜>
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|cls|sep|(?:start|end)_of_(?:turn|image)|think|tool_(?:call|response)s?)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|sMASK)\])",
    re.IGNORECASE,
)


def fill_placeholders(text: str, username: str = "") -> str:
    """Replace [date] with today, such as "November 23, 2026", and [username] with the visitor's name."""
    if "[date]" in text:
        today = timezone.localdate()
        text = text.replace("[date]", f"{today:%B} {today.day}, {today.year}")
    return text.replace("[username]", as_name(username))


def as_name(text: str) -> str:
    """Return a name that a visitor has chosen as one short line of words: letters, digits and the signs within names.

    It becomes part of the instructions, so it must not contain sentences, headings, tags or lines of its own.
    """
    known = "".join(sign if is_in_names(sign) else " " for sign in text[: 4 * MAX_NAME])
    words = " ".join(word for part in known.split() if (word := part.strip(IN_NAMES)))
    return words[:MAX_NAME].strip()


def is_in_names(sign: str) -> bool:
    return sign.isalnum() or sign in IN_NAMES or unicodedata.category(sign).startswith("M")  # M: marks, such as vowels


def without_special_tokens(text: str) -> str:
    """Put a space into each special token, so that it is text for every model: "< |im_end|>"."""
    return TOKEN.sub(lambda found: f"{found[0]} ", text)
