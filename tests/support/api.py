"""A client of the HTTP API on the real ASGI application."""

import asyncio
from typing import Any

import httpx2
from asgiref.sync import async_to_sync
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from logs.usage import recorder
from providers import registry
from puffer.asgi import application

BASE = "/wp-json/aipkit/v1"


class Api:
    """A client that calls the ASGI application with its API key: `api.post("/generate", json={...})`."""

    def __init__(self, key: str, address: str = "127.0.0.1") -> None:
        self.key, self.address = key, address

    def request(self, method: str, path: str, *, key: str | None = "", **options: Any) -> httpx2.Response:
        headers = dict(options.pop("headers", None) or {})
        key = self.key if key == "" else key
        if key:
            headers.setdefault("Authorization", f"Bearer {key}")
        url = path if path.startswith(("/wp-json", "/?", "http")) else BASE + path
        return async_to_sync(self._send)(method, url, headers=headers, **options)

    async def _send(self, method: str, url: str, **options: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=application, raise_app_exceptions=True, client=(self.address, 1))
        # As Django's own test client does: a page must not close the connection of the test's transaction.
        for signal in (request_started, request_finished):
            signal.disconnect(close_old_connections)
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", timeout=60) as client:
                return await client.request(method, url, **options)
        finally:
            for signal in (request_started, request_finished):
                signal.connect(close_old_connections)
            await recorder.flush_usage()
            await registry.close_clients()
            await asyncio.sleep(0)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)
