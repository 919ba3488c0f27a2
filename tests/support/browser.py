"""Chromium, driven by Playwright: pages that must not fail, and owners who are signed in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Server

CHROMIUM = Path("/usr/bin/chromium")
try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    MISSING = "playwright and axe come with requirements-dev.txt"
else:
    MISSING = "" if CHROMIUM.exists() else "no Chromium here"
    axe = Axe()
    expect.set_options(timeout=20_000)  # a machine may be busy

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PASSWORD = "correct horse"
OWNER = f"""
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("owner", password="{PASSWORD}")
"""

needs_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)
in_browser = [pytest.mark.slow, needs_browser]


@contextmanager
def launched() -> Iterator[Any]:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def pages(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages, each in a context of its own. Fail at the end if a script or a request of one has failed."""
    wrong: list[str] = []
    contexts = []

    def new_page(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "Security Policy" in message.text else None)
        page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert [text for text in wrong if "favicon" not in text] == []


def open_admin(page: Any, server: Server, user: str = "owner", path: str = "/admin/") -> None:
    """Open a page of the admin as this user. Only the first call for a server and a user fills in the form."""
    if user in server.cookies:
        page.context.add_cookies(server.cookies[user])
        page.goto(f"{server.url}{path}")
        return
    page.goto(f"{server.url}/admin/login/?next={path}")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(f"**{path}")
    server.cookies[user] = page.context.cookies()


def tab(page: Any, name: str) -> None:
    """Open a tab of a chatbot's form."""
    page.click(f"#chatbot_form nav >> text={name}")
