"""Text for prompts: fill in placeholders, and keep names and special tokens in visitors' texts from being obeyed."""

import re
import unicodedata

from django.utils import timezone

MAX_NAME = 60  # characters
NAME_PUNCTUATION = "-_'’.@"
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
    """Return a name that a visitor has chosen as one short line of words: letters, digits and punctuation of names.

    It becomes part of the instructions, so it must not contain sentences, headings, tags or lines of its own.
    """
    known = "".join(character if may_be_in_name(character) else " " for character in text[: 4 * MAX_NAME])
    words = " ".join(word for part in known.split() if (word := part.strip(NAME_PUNCTUATION)))
    return words[:MAX_NAME].strip()


def may_be_in_name(character: str) -> bool:
    is_mark = unicodedata.category(character).startswith("M")  # such as vowels of many languages
    return character.isalnum() or is_mark or character in NAME_PUNCTUATION


def without_special_tokens(text: str) -> str:
    """Put a space into each special token, so that it is text for every model: "< |im_end|>"."""
    return TOKEN.sub(lambda found: f"{found[0]} ", text)
