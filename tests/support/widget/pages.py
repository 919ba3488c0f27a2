"""Pages of another site that embed the widget, for tests in a real browser."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.installation import Server, serving
from tests.support.providers.answers import CHAT_END, chat_chunk
from tests.support.upstream import Behavior, Upstream, embedding, running, streaming

COMPLETIONS = "/v1/chat/completions"
# The chatbots of the site, with the fields that differ from the defaults.
BOTS: dict[str, dict[str, Any]] = {
    "popup": {"popup_label_frequency": "always"},
    "inline": {"popup_enabled": False},
    "plain": {"popup_enabled": False, "theme": "auto", "enable_download": True, "enable_conversation_sidebar": True},
    "page": {"theme": "chatgpt", "enable_chat_page": True, "enable_conversation_sidebar": True},
    "arabic": {"language": "ar"},
    "consent": {"enable_consent_compliance": True, "consent_message": "May we keep what you write?"},
    "spent": {"token_guest_limit": 1, "token_limit_message": "Come back tomorrow."},
    "hinting": {"popup_label_mode": "on_delay", "popup_label_delay_seconds": 0, "popup_delay": 1},
    "learned": {
        "popup_enabled": False,
        "enable_vector_store": True,
        "collections": ["shop"],
        "vector_embedding_provider": "openai",
        "vector_embedding_model": "some-model",
        "vector_store_confidence_threshold": 0,
    },
    "elsewhere": {"embed_allowed_domains": ["shop.example"]},
}


@dataclass
class Site:
    """The server under test, and its chatbots by name."""

    server: Server
    bots: dict[str, int]

    @property
    def url(self) -> str:
        return self.server.url.replace("127.0.0.1", "localhost")  # to browsers, a different site than the host

    def snippet(self, name: str, container: bool = True) -> str:
        bot = self.bots[name]
        place = f'<div id="aipkit-chatbot-container-{bot}"></div>' if container else ""
        return f'{place}<script src="{self.url}/embed.js" data-bot-id="{bot}" data-wp-site="{self.url}" defer></script>'


def says(text: str, pause: float = 0, then: str = "end") -> Behavior:
    """Return a behavior that streams the text word by word, like a model."""
    pieces = [chat_chunk({"content": f"{word} "}) for word in text.split(" ")]
    return streaming([*pieces, *(CHAT_END if then == "end" else [])], pause, then, {})


def says_half(finish: threading.Event) -> Behavior:
    """Return a behavior that streams "Yes, **we", waits for `finish`, and streams " do**."."""

    def pieces() -> Iterator[bytes]:
        yield chat_chunk({"content": "Yes, **we"})
        finish.wait(20)
        yield chat_chunk({"content": " do**."})
        yield from CHAT_END

    return streaming(pieces(), 0, "end", {})


@contextmanager
def widget_site(folder: Path, host: Upstream) -> Iterator[Site]:
    """Run a server with the chatbots of BOTS, which pages of `host` may embed."""
    with running() as upstream, serving(folder, upstream) as server:
        upstream.pages["/v1/embeddings"] = embedding()
        free = {"messages_per_minute": None, "messages_per_minute_per_address": None}
        model = {"provider": "openai", "model": "gpt-4o-mini", "embed_allowed_domains": [host.url]}
        fields = {name: {"name": "Shop assistant", **model, **free, **own} for name, own in BOTS.items()}
        output = server.python(
            "from chatbots.models import Chatbot; import json;"
            f"print(json.dumps({{name: Chatbot.objects.create(**own).pk for name, own in {fields!r}.items()}}))"
        )
        teach(server)
        yield Site(server, json.loads(output))


def teach(server: Server) -> None:
    """Store three documents in the collection "shop"."""
    key = server.manage("create_api_key", "widget").split()[-1]
    documents = [
        {"id": f"doc-{number}", "content": f"Shoes may be returned, rule {number}.", "metadata": metadata}
        for number, metadata in enumerate(
            [{"title": "Returns", "url": "https://shop.example/returns"}, {"title": "rules.pdf"}, {"title": "FAQ"}]
        )
    ]
    target = {"provider": "local", "target_id": "shop", "embedding_provider": "openai", "embedding_model": "some-model"}
    response = requests.post(
        f"{server.url}/wp-json/aipkit/v1/vector-stores/upsert",
        json={**target, "vectors": documents}, headers={"Authorization": f"Bearer {key}"}, timeout=30,
    )  # fmt: skip
    assert response.status_code == 200, response.text


class Visits:
    """Pages of the host that embed chatbots: `visit("popup")` opens one in a new browser context."""

    def __init__(self, browser: Any, site: Site, host: Upstream) -> None:
        self.browser, self.site, self.host = browser, site, host
        self.errors: list[str] = []
        self.requested: set[str] = set()
        self.contexts: list[Any] = []

    def __call__(self, *names: str, body: str = "", container: bool = True, headers: Any = None, **how: Any) -> Any:
        body = "".join(self.site.snippet(name, container) for name in names) + body
        self.serve(body, head=how.pop("head", ""), headers=headers)
        context = self.browser.new_context(**{"viewport": {"width": 1100, "height": 760}, **how})
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        return self.new_page(context)

    def serve(self, body: str, head: str = "", headers: Any = None) -> None:
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Host</title>' + head
        html = f'<!doctype html><html lang="en"><head>{head}</head><body><main><h1>Shop</h1>{body}</main></body></html>'
        kind = {"content-type": "text/html"}
        self.host.serves("/favicon.ico", b"", 204)
        self.host.serves("/", html.encode(), headers={**kind, **(headers or {})})

    def new_page(self, context: Any, address: str = "") -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requested.add(request.url))
        page.goto(address or f"{self.host.url}/")
        return page

    def strays(self) -> set[str]:
        """Return the requested URLs that belong to neither the host nor the server under test."""
        ours = (f"{self.host.url}/", f"{self.site.url}/", "blob:", "data:")
        return {url for url in self.requested if not url.startswith(ours)}

    def end(self) -> None:
        for context in self.contexts:
            context.close()
