"""Format numbers, costs and times for pages."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from django.utils import timezone
from django.utils.formats import date_format, number_format


def moment(when: datetime, *, seconds: bool = False) -> str:
    """Return the date and time in the site's time zone, with the zone's name."""
    return date_format(timezone.localtime(when), "Y-m-d H:i:s T" if seconds else "DATETIME_FORMAT")


class AtLeast(int):
    """A count that was stopped at a limit, and is shown with a plus sign."""

    def __str__(self) -> str:
        return f"{whole(int(self))}+"


def whole(number: int | Decimal) -> str:
    if isinstance(number, AtLeast):
        return str(number)
    return number_format(number, 0, use_l10n=True, force_grouping=True)


def counted(number: int, thing: str) -> str:
    return f"{whole(number)} {thing}" if number == 1 else f"{whole(number)} {thing}s"


def dollars(amount: Decimal) -> str:
    """Return the amount with cents, or with more places below one cent, because an answer can cost far less."""
    places = 2 if amount >= 1 or not amount else 4 if amount >= Decimal("0.01") else 6
    return f"${amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):,f}"


def duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
