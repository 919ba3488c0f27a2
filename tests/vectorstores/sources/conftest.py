"""A web site on loopback, which PRIVATE_HOST_ALLOWLIST names."""

from collections.abc import Callable
from typing import Any

import pytest

from vectorstores.sources import sitemap, web


@pytest.fixture
def site(httpserver, settings, monkeypatch) -> Callable[..., str]:
    """Serve pages, path -> body or arguments of respond_with_data, and return the site's URL. It is read quickly."""
    settings.PRIVATE_HOST_ALLOWLIST = [httpserver.host]
    monkeypatch.setattr(sitemap, "DELAY", 0.0)
    monkeypatch.setattr(web, "FIRST_WAIT", 0.0)
    base = httpserver.url_for("").rstrip("/")

    def serve(**pages: Any) -> str:
        for path, answer in {"robots.txt": {"status": 404}, **pages}.items():
            arguments = {"content_type": "text/html"}
            arguments |= answer if isinstance(answer, dict) else {"response_data": answer}
            for key in ("response_data", "headers"):
                if isinstance(arguments.get(key), str):
                    arguments[key] = arguments[key].replace("{base}", base)
            httpserver.expect_request(f"/{path}").respond_with_data(**arguments)
        return base

    return serve
