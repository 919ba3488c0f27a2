"""API calls of every capability, several calls on one event loop, as in a server, and a folder for images."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

# Loading the SDKs takes a second, which no single test should spend.
import anthropic  # noqa: F401
import google.genai  # noqa: F401
import httpx2
import openai  # noqa: F401
import pytest
from asgiref.sync import async_to_sync

from logs.usage import recorder
from providers import registry
from providers.base import Capability
from puffer.asgi import application
from tests.support.api import BASE, Api
from tests.support.providers.failing_calls import COMPLETION, EMBEDDING, code_for


@pytest.fixture
def run_on_one_loop(api: Api) -> Callable[[Callable[[httpx2.AsyncClient], Awaitable[Any]]], Any]:
    """Return a function that runs `await calls(client)` on one event loop, and returns its result."""

    @async_to_sync
    async def run(calls: Callable[[httpx2.AsyncClient], Awaitable[Any]]) -> Any:
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=application),
            base_url=f"http://testserver{BASE}",
            headers={"Authorization": f"Bearer {api.key}"},
            timeout=60,
        )
        try:
            async with client:
                return await calls(client)
        finally:
            await recorder.flush_usage()
            await registry.close_clients()
            await asyncio.sleep(0)

    return run


@pytest.fixture
def call(api: Api) -> Callable[..., Any]:
    """Return a function that calls a capability of a provider, and returns the response."""

    def call(slug: str, capability: Capability, model: str = "some-model") -> Any:
        body = {"provider": slug, "model": model}
        if capability is COMPLETION:
            return api.post("/generate", json={**body, "messages": [{"role": "user", "content": "Hi"}]})
        if capability is EMBEDDING:
            return api.post("/embeddings", json={**body, "input": ["one", "two"]})
        return api.post("/images/generate", json={**body, "prompt": "a cat"})

    return call


@pytest.fixture
def failure(call: Callable[..., Any]) -> Callable[..., str]:
    """Return a function that makes a call which must fail, checks its error, and returns the error's message.

    The code of the error is `code`, or that of a `kind`: see code_for(). Its data contains only the status.
    """

    def failure(
        slug: str,
        capability: Capability,
        status: int,
        *,
        kind: str = "",
        upstream: int = 0,
        code: str = "",
        **options: Any,
    ) -> str:
        answer = call(slug, capability, **options)
        error = answer.json()
        assert (answer.status_code, error["code"]) == (status, code or code_for(slug, capability, kind, upstream)), (
            error
        )
        assert error["data"] == {"status": status}
        assert error.keys() == {"code", "message", "data"}
        return error["message"]

    return failure


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    """Return the folder in which generated images are stored."""
    settings.MEDIA_ROOT = str(tmp_path)
    return tmp_path
