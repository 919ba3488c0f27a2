"""A system check: a server behind a proxy must know it, otherwise all visitors have the proxy's address."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning


def check_proxy_count(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Warn if PUBLIC_URL is https, which only a proxy can serve, and no proxy is trusted."""
    if not settings.PUBLIC_URL.startswith("https://") or settings.TRUSTED_PROXY_COUNT:
        return []
    return [
        Warning(
            "PUBLIC_URL is https, so a proxy serves it, but TRUSTED_PROXY_COUNT is 0: all visitors share the proxy's IP"
            " address, its limits, its bans and its lock-outs.",
            hint="Set TRUSTED_PROXY_COUNT to the number of proxies in front of this server, usually 1.",
            id="puffer.W001",
        )
    ]
