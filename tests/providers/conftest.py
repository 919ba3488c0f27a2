"""Several API calls on one event loop, as in a server, and a folder for images."""

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
from puffer.asgi import application
from tests.support.api import BASE, Api


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


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    """Return the folder in which generated images are stored."""
    settings.MEDIA_ROOT = str(tmp_path)
    return tmp_path
