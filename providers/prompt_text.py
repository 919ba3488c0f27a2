"""The placeholders in instructions, which are filled before a model sees them."""

from django.utils import timezone


def fill_placeholders(text: str, username: str = "") -> str:
    """Replace [date] with today, such as "November 23, 2026", and [username] with the visitor's name."""
    if "[date]" in text:
        today = timezone.localdate()
        text = text.replace("[date]", f"{today:%B} {today.day}, {today.year}")
    return text.replace("[username]", username)
