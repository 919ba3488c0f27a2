"""The placeholders in text on its way to a model."""

from django.utils import timezone


def fill_placeholders(text: str, username: str = "") -> str:
    """[date] as "November 23, 2026" in the site's time zone, [username] as the visitor's login name."""
    if "[date]" in text:
        today = timezone.localdate()
        text = text.replace("[date]", f"{today:%B} {today.day}, {today.year}")
    return text.replace("[username]", username)
