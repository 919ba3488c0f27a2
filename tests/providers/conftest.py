"""Several calls on one event loop, as a worker makes them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

# The SDKs take a second to load: here, so that no single test bears it.
import anthropic  # noqa: F401
import google.genai  # noqa: F401
import httpx2
import openai  # noqa: F401
import pytest
from asgiref.sync import async_to_sync

from logs.usage import recorder
from providers import registry
from puffer.asgi import application
from tests.support.api import BASE, Api


@pytest.fixture
def talk(api: Api) -> Callable[[Callable[[httpx2.AsyncClient], Awaitable[Any]]], Any]:
    """`talk(calls)` gives what `await calls(client)` gives: several calls of one worker's event loop."""

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
