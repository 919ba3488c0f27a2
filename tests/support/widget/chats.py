"""Chats in a browser: what they show."""

from typing import Any

from tests.support.widget.browser import expect


def open_popup(page: Any) -> Any:
    page.click(".launcher")
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def ask(page: Any, question: str = "Do you sell shoes?") -> Any:
    """Ask a question, and return the bot's message, which may still be streaming."""
    count = page.locator(".message.bot").count()
    page.fill("textarea", question)
    page.press("textarea", "Enter")
    answer = page.locator(".message.bot").nth(count)
    expect(answer).to_be_visible()
    return answer


def ask_and_wait(page: Any, question: str = "Do you sell shoes?") -> Any:
    """Ask a question, and return the bot's message once it is complete."""
    answer = ask(page, question)
    expect(answer.locator(".actions")).to_be_visible()
    return answer


def focused_label(page: Any) -> str:
    """Return the label or text of the focused element, also within shadow roots."""
    return page.evaluate("""() => {
        let at = document.activeElement;
        while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
        return at.getAttribute("aria-label") ?? at.textContent;
    }""")
