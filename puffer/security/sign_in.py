"""Lock-outs from the sign-in page, which django-axes counts: per user name and network, per network, and per name.

One client can use all addresses of a /64 network of IPv6, so these count as one. Addresses of IPv4 count one by one.
"""

import math
from datetime import timedelta
from ipaddress import IPv6Network
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt, AccessLog
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _

from puffer.net import client_ip, read_ip

NETWORK_FACTOR = 4  # times SIGN_IN_FAILURES, of all names: colleagues can share an address
NAME_FACTOR = 10  # times SIGN_IN_FAILURES, from all networks
KNOWN_DAYS = 90  # since the last sign-in of a user from a network that is known to be theirs


def address(request: HttpRequest) -> str | None:
    """Return the address by which failures are counted and recorded: for IPv6 that of the /64 network."""
    ip = read_ip(client_ip(request))
    if ip is None:
        return None
    return str(ip if ip.version == 4 else IPv6Network((ip, 64), strict=False).network_address)


class SignInHandler(AxesDatabaseHandler):
    """The handler of django-axes that locks a user name for a network that guesses its password, or a whole network.

    A name that is guessed from everywhere is not locked, because anybody could then lock out its user: networks from
    which the user has never signed in have one guess each.
    """

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the failures that count, which are SIGN_IN_FAILURES or more during a lock."""
        failures: int = super().get_failures(request, credentials)
        if failures >= settings.AXES_FAILURE_LIMIT:
            return failures
        recent = AccessAttempt.objects.filter(attempt_time__gte=get_cool_off_threshold(request))
        network: str | None = request.axes_ip_address  # type: ignore[attr-defined]
        username = get_client_username(request, credentials)
        of_network = total(recent.filter(ip_address=network)) if network else 0
        if of_network >= NETWORK_FACTOR * settings.AXES_FAILURE_LIMIT:
            return of_network
        of_name = total(recent.filter(username=username)) if failures else 0
        if of_name >= NAME_FACTOR * settings.AXES_FAILURE_LIMIT and not is_known(username, network):
            return of_name
        return failures


def total(attempts: QuerySet[AccessAttempt]) -> int:
    return attempts.aggregate(total=Sum("failures_since_start"))["total"] or 0


def is_known(username: str | None, network: str | None) -> bool:
    """Return whether the user has signed in from this network lately."""
    since = timezone.now() - timedelta(days=KNOWN_DAYS)
    return AccessLog.objects.filter(username=username, ip_address=network, attempt_time__gte=since).exists()


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: Any) -> HttpResponse:
    """Answer 429 instead of the sign-in page, with the same text whether the user exists or not."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {**admin.site.each_context(request), "title": _("Too many attempts"), "minutes": math.ceil(seconds / 60)}
    page = render(request, "admin/puffer/locked_out.html", context, status=429)
    page["Retry-After"] = str(seconds)
    return page
