"""The placeholders in text on its way to a model."""

from django.utils import timezone


def fill_placeholders(text: str, username: str = "") -> str:
    """Replace [date] by "November 23, 2026" in the site's time zone, and [username] by the visitor's name."""
    if "[date]" in text:
        today = timezone.localdate()
        text = text.replace("[date]", f"{today:%B} {today.day}, {today.year}")
    return text.replace("[username]", username)
