"""Chromium driven by Playwright: pages that fail the test on any error, and signed-in admin users."""

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
    MISSING = "playwright and axe are not installed: requirements-dev.txt"
else:
    MISSING = "" if CHROMIUM.exists() else "Chromium is not installed"
    axe = Axe()
    expect.set_options(timeout=20_000)  # the machine may be busy

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
    """Yield a function that opens a page in a new context; fail at the end if a script or request of one failed."""
    errors: list[str] = []
    contexts = []

    def new_page(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
        page.on("response", lambda response: errors.append(response.url) if response.status >= 400 else None)
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert [text for text in errors if "favicon" not in text] == []


def open_admin(page: Any, server: Server, user: str = "owner", path: str = "/admin/") -> None:
    """Open an admin page as this user. Only the first call per server and user fills in the sign-in form."""
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
