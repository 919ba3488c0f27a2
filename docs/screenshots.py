"""Take the screenshots in the README from a fresh installation: `make screenshots`.

The script needs Chromium and the bundled model. It writes docs/images/widget.png and docs/images/admin.png.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
START_SECONDS = 60
ANSWER_SECONDS = 15


@contextmanager
def installation() -> Iterator[tuple[str, str]]:
    """Yield the URL of a running server with the demo chatbot, and the admin's password."""
    with tempfile.TemporaryDirectory(prefix="puffer-screenshots-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {
            **os.environ,
            "SECRET_KEY": "for-screenshots-only",
            "DATABASE_URL": f"sqlite:///{folder}/puffer.sqlite3",
            "MEDIA_ROOT": folder,
            "PUFFER_ENV_FILE": "/nonexistent",
        }

        def command(*arguments: str) -> list[str]:
            return [sys.executable, str(ROOT / "manage.py"), *arguments]

        prepared = subprocess.run(
            command("quickstart", "--no-serve"), env=environment, check=True, capture_output=True, text=True
        )
        password = re.search(r"password (\S+)", prepared.stdout)
        assert password, prepared.stdout
        settings = "enable_chat_page=True, embed_allow_any_domain=True, popup_enabled=True"
        code = f"from chatbots.models import Chatbot; Chatbot.objects.update({settings})"
        subprocess.run(command("shell", "--no-imports", "-c", code), env=environment, check=True)
        server = subprocess.Popen(command("serve", "--port", str(port)), env=environment, stderr=subprocess.DEVNULL)
        try:
            site = f"http://127.0.0.1:{port}"
            wait_until_ready(site)
            yield site, password[1]
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(site: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{site}/health/ready")
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def take_widget(browser: Browser, site: str) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 640})
    page.goto(f"{site}/chat/1/")
    page.locator("textarea").fill("What is puffer?")
    page.keyboard.press("Enter")
    page.wait_for_timeout(ANSWER_SECONDS * 1000)
    save(page, "widget")


def take_admin(browser: Browser, site: str, password: str) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{site}/admin/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", password)
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{site}/admin/")
    page.goto(f"{site}/admin/chatbots/chatbot/1/change/")
    page.wait_for_load_state("networkidle")
    save(page, "admin")


def save(page: Page, name: str) -> None:
    page.wait_for_timeout(1000)  # until animations have ended
    page.screenshot(path=IMAGES / f"{name}.png")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with installation() as (site, password), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        take_widget(browser, site)
        take_admin(browser, site, password)
        browser.close()


if __name__ == "__main__":
    main()
