"""The use case behind /images/generate: a prompt to images, stored here if the provider sends no URL."""

import asyncio
import base64
import re
import secrets
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from yarl import URL

from providers.base import Capability, GeneratedImage, ImageRequest, Images, Provider
from providers.calls import provider_call
from providers.registry import get_provider
from providers.upstream_errors import failure_code
from providers.use_cases.stored_images import FOLDER
from puffer.api import ApiError, Caller
from puffer.net import may_connect

# Types by the first bytes, as patterns. Nothing else is stored, because it would be served from this server's address.
SIGNATURES = {
    rb"\x89PNG\r\n\x1a\n": ("image/png", "png"),
    rb"\xff\xd8\xff": ("image/jpeg", "jpg"),
    rb"RIFF....WEBP": ("image/webp", "webp"),
    rb"GIF8[79]a": ("image/gif", "gif"),
}


async def generate_images(caller: Caller, provider_slug: str, request: ImageRequest, site_url: str) -> Images:
    """Return images with `url` or `base64`, as request.response_format says.

    `site_url` is this server's address, for images that are stored here. Raise ApiError if the provider refuses or
    fails.
    """
    provider = await get_provider(provider_slug, Capability.IMAGE)
    async with provider_call(provider, Capability.IMAGE, request.model, caller=caller) as call:
        drawn = await provider.generate_images(request)
        call.usage, call.images = drawn.usage, len(drawn.images)
        images = [await in_format(provider, image, request.response_format, site_url) for image in drawn.images]
    return Images(images, drawn.usage)


async def in_format(provider: Provider, image: GeneratedImage, response_format: str, site_url: str) -> GeneratedImage:
    mime_type, url, encoded = image.mime_type, image.url, image.base64
    if response_format == "url" and not url:
        data = decode(provider, encoded or "")
        mime_type, extension = detect_type(provider, data)
        url, encoded = site_url + await asyncio.to_thread(store, data, extension), None
    elif response_format == "b64_json" and not encoded:
        data = await fetch(provider, url or "")
        mime_type, _ = detect_type(provider, data)
        url, encoded = None, base64.b64encode(data).decode()
    elif url and encoded:
        url, encoded = (url, None) if response_format == "url" else (None, encoded)
    return GeneratedImage(url, encoded, image.revised_prompt, mime_type)


def unusable(provider: Provider, text: str) -> ApiError:
    return ApiError(text, status=502, code=failure_code(provider, Capability.IMAGE, "unreadable"))


def decode(provider: Provider, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        raise unusable(provider, f"{provider.label} sent an image that cannot be read.") from None


def detect_type(provider: Provider, data: bytes) -> tuple[str, str]:
    """Return the media type and the file extension."""
    for signature, known in SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            return known
    raise unusable(provider, f"{provider.label} sent something other than a PNG, JPEG, WebP or GIF image.")


def store(data: bytes, extension: str) -> str:
    """Store an image under an unguessable name and return its URL path."""
    name = f"{FOLDER}/{secrets.token_urlsafe(24)}.{extension}"
    return settings.MEDIA_URL + default_storage.save(name, ContentFile(data))


class PublicResolver(AbstractResolver):
    """A resolver without private addresses, so that a provider's answer cannot make the server call its own network."""

    def __init__(self) -> None:
        self.resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self.resolver.resolve(host, port, family)
        allowed = [address for address in found if may_connect(host, port, address["host"])]
        if not allowed:
            raise OSError(f"{host} has no public address")
        return allowed

    async def close(self) -> None:
        await self.resolver.close()


async def fetch(provider: Provider, url: str) -> bytes:
    """Return the image at a URL from the provider: https at a public address, or at the address of its API."""
    try:
        address = URL(url)
        same_server = address.origin() == URL(provider.settings.base_url).origin()
    except ValueError:
        raise unusable(provider, f"{provider.label} sent an invalid image URL.") from None
    if not same_server and not is_public_https(address):
        raise unusable(provider, f"{provider.label} sent an image URL that is not public.")
    data = bytearray()
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=None if same_server else PublicResolver()),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.CONNECT_TIMEOUT),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
            ) as session,
            session.get(address, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise unusable(provider, f"{provider.label}'s image could not be fetched (HTTP {answer.status}).")
            async for chunk in answer.content.iter_any():
                data += chunk
                if len(data) > settings.MAX_ANSWER_BYTES:
                    raise unusable(
                        provider, f"{provider.label}'s image is larger than {settings.MAX_ANSWER_BYTES} bytes."
                    )
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: an invalid host name
        raise unusable(provider, f"{provider.label}'s image could not be fetched.") from error
    return bytes(data)


def is_public_https(address: URL) -> bool:
    """Return whether the URL is https; an IP address must be public, because it bypasses the resolver."""
    host = address.host or ""
    try:
        return address.scheme == "https" and may_connect(host, address.port, host)
    except ValueError:
        return address.scheme == "https"
