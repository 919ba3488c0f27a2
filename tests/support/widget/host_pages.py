"""What is seen of a chat on a host page."""

from typing import Any

from tests.support.widget.browser import expect

SEEN = ":is(.launcher, .panel):visible"


def ask(page: Any, question: str) -> None:
    """Ask through the API, which opens a popup, and wait for the complete answer."""
    count = page.locator(".message.bot .actions").count()
    page.evaluate("(question) => Puffer.ask(question)", question)
    expect(page.locator(".message.bot .actions")).to_have_count(count + 1)


def the_chat(page: Any) -> Any:
    """Return the only chat, once something of it is visible."""
    expect(page.locator("puffer-chat").locator(SEEN).first).to_be_visible()
    expect(page.locator("puffer-chat")).to_have_count(1)
    return page.locator("puffer-chat")
