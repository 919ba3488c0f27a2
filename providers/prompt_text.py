"""The cleaning and the placeholders of text on its way to a model."""

import re

from django.utils import timezone

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def clean(text: str) -> str:
    """With LF as line end, without control characters but TAB and LF, and trimmed. HTML stays."""
    return CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def fill_placeholders(text: str, username: str = "") -> str:
    """[date] as "November 23, 2026" in the site's time zone, [username] as the visitor's login name."""
    if "[date]" in text:
        today = timezone.localdate()
        text = text.replace("[date]", f"{today:%B} {today.day}, {today.year}")
    return text.replace("[username]", username)
