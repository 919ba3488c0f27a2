"""Limits for requests without credentials: per network and minute, counted by each server process for itself.

They are far above what people need. Requests from this machine are not limited: a proxy that is missing in
TRUSTED_PROXY_COUNT often runs there, and makes all clients look like one.
"""

from django.conf import settings

from puffer.http.rates import RateLimit
from puffer.net import is_loopback, network_of

MAX_HEALTH_CHECKS = 600  # balancers ask every few seconds

public_requests = RateLimit(settings.PUBLIC_REQUESTS_PER_MINUTE)  # pages, and the API's calls that take no key
public_files = RateLimit(settings.PUBLIC_FILES_PER_MINUTE)
health_checks = RateLimit(MAX_HEALTH_CHECKS)  # on its own, so that a busy proxy still gets its answer


def seconds_to_wait(limit: RateLimit, address: str) -> str:
    """Count a request. Return "", or the seconds to wait if it exceeds the limit. 0 switches the limit off."""
    if not limit.limit or is_loopback(address) or limit.allows(network_of(address)):
        return ""
    return limit.retry_after()
