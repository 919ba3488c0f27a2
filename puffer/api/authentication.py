"""DRF authentication by API key: find the caller that a key belongs to, and what the caller may do."""

import hmac
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from puffer.api.errors import (
    AccessDisabled,
    InsufficientScope,
    InvalidApiKey,
    InvalidParameters,
    NoApiKeyConfigured,
    RequestTooLarge,
)
from puffer.api.parameters import body_of, parameter_in_body, query_of
from puffer.api.schema import wrong_type
from puffer.http import SMALL_BODY
from puffer.models import ApiKey, Scope, digest, is_well_formed
from puffer.runtime.live_cache import LiveCache

PARAMETER = "aipkit_api_key"


@dataclass(frozen=True, slots=True)
class BotCollection:
    """A collection that a chatbot searches: its store (slug), and the chatbot's namespace and embedding model."""

    store: str
    name: str
    namespace: str = ""
    embedding_provider: str = ""
    embedding_model: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of an API key. `key_id` is None for PUFFER_API_KEY; `bot_ids` is None if every chatbot is allowed.

    `allowed_models` holds providers and provider/model; empty: all models for a key without chatbots, otherwise none.
    """

    key_id: int | None
    name: str
    scopes: frozenset[str]
    bot_ids: frozenset[int] | None
    expires_on: date | None = None
    allowed_models: frozenset[str] = frozenset()
    collections: tuple[BotCollection, ...] = ()  # of the chatbots that the key is bound to

    def may_use_bot(self, bot_id: int) -> bool:
        return self.bot_ids is None or bot_id in self.bot_ids

    def require(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise InsufficientScope(f"This API key may not {scope.label}.")

    def require_bot(self, bot_id: int) -> None:
        if not self.may_use_bot(bot_id):
            raise InsufficientScope("This API key may not use this chatbot.")

    def require_model(self, provider: str, model: str) -> None:
        allowed = self.allowed_models
        if (allowed or self.bot_ids is not None) and not allowed & {provider, f"{provider}/{model}"}:
            raise InsufficientScope(
                f"This API key may not call {provider}/{model}. Its models are listed in the admin, under API keys."
            )

    def collections_of_bots(self, store: str, name: str) -> list[BotCollection]:
        """Return the collection as the key's chatbots use it. Raise InsufficientScope if none of them does."""
        found = [own for own in self.collections if (own.store, own.name) == (store, name)]
        if self.bot_ids is not None and not found:
            raise InsufficientScope("This API key may only use the collections of its chatbots.")
        return found


async def _read_caller(key_digest: str) -> Caller | None:
    key = await ApiKey.objects.active().filter(digest=key_digest).afirst()
    if key is None:
        return None
    today = timezone.localdate()
    if key.last_used_on != today:
        with suppress(DatabaseError):  # such as a full disk: no reason to refuse a call
            await ApiKey.objects.filter(pk=key.pk).aupdate(last_used_on=today)
    bots = [bot async for bot in key.chatbots.defer("identity_secret")] if key.is_bound else []
    return Caller(
        key.pk,
        key.name,
        frozenset(key.scopes),
        bot_ids=frozenset(bot.pk for bot in bots) if key.is_bound else None,
        expires_on=key.expires_on,
        allowed_models=frozenset(key.allowed_models),
        collections=tuple(collection for bot in bots for collection in collections_of(bot)),
    )


def collections_of(bot: Any) -> Iterator[BotCollection]:
    """Yield the collections of a chatbot, whose model belongs to an app that imports this one."""
    for name in bot.collections:
        yield BotCollection(
            bot.vector_store_provider,
            name,
            bot.namespace,
            bot.vector_embedding_provider,
            bot.vector_embedding_model,
        )


async def _read_whether_any_key_is_active(_: str) -> bool | None:
    return await ApiKey.objects.active().aexists() or None


callers = LiveCache(_read_caller)
any_active_key = LiveCache(_read_whether_any_key_is_active)


async def find_caller(key: str) -> Caller | None:
    """Return the holder of the key, or None. Queries the database only for well-formed keys that are not cached."""
    if settings.PUFFER_API_KEY and hmac.compare_digest(
        key.encode(errors="replace"), settings.PUFFER_API_KEY.strip().encode()
    ):
        return Caller(None, "PUFFER_API_KEY", frozenset(Scope.values), None)
    if not is_well_formed(key):
        return None
    caller = await callers.get(digest(key))
    if caller and caller.expires_on and caller.expires_on < timezone.localdate():
        return None
    return caller


class ApiKeyAuthentication(BaseAuthentication):
    """An API key as `Authorization: Bearer KEY`, or as the parameter aipkit_api_key. One valid key is enough.

    AsyncAPIView awaits `aauthenticate`; DRF's own views call `authenticate`.
    """

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Caller]:
        return async_to_sync(self.aauthenticate)(request)

    async def aauthenticate(self, request: Request) -> tuple[AnonymousUser, Caller]:
        """Return the caller as `request.auth`. Raise AccessDisabled, NoApiKeyConfigured or InvalidApiKey."""
        if not settings.PUFFER_API_ENABLED:
            raise AccessDisabled
        for key in keys_of_head(request):
            if caller := await find_caller(key):
                return AnonymousUser(), caller
        if (key := await key_of_body(request)) and (caller := await find_caller(key)):
            return AnonymousUser(), caller
        if not settings.PUFFER_API_KEY and not await any_active_key.get(""):
            raise NoApiKeyConfigured
        raise InvalidApiKey

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme, so that DRF answers 401 and not 403 to callers without a key."""
        return "Bearer"


def keys_of_head(request: Request) -> Iterator[str]:
    """Yield the key of the header, then that of the query. Raise InvalidParameters for a list in place of a key."""
    scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        yield credentials.strip()
    query = query_of(request._request)
    if any(name.startswith(f"{PARAMETER}[") for name in query):
        raise InvalidParameters({PARAMETER: wrong_type(PARAMETER, "string")})
    if settings.PUFFER_API_KEY_IN_QUERY and (key := query.get(PARAMETER)):
        yield key


async def key_of_body(request: Request) -> str:
    """Return the key of the body, which is read only if it is small, or "". Raise InvalidParameters for a list."""
    try:
        body = await body_of(request._request, SMALL_BODY)
    except RequestTooLarge:
        return ""
    key = parameter_in_body(request._request, body, PARAMETER)
    if isinstance(key, list | dict):
        raise InvalidParameters({PARAMETER: wrong_type(PARAMETER, "string")})
    return key if isinstance(key, str) else ""


def caller_of(request: Request) -> Caller:
    """Return the holder of the API key that a view has authenticated."""
    caller = request.auth
    assert isinstance(caller, Caller)
    return caller
