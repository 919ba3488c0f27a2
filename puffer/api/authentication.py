"""The API key as a DRF authentication class: which caller a key belongs to, and what that caller may do."""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
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
class Caller:
    """The holder of an API key. `key_id` is None for PUFFER_API_KEY; `bot_ids` is None if every chatbot is allowed."""

    key_id: int | None
    name: str
    scopes: frozenset[str]
    bot_ids: frozenset[int] | None
    expires_on: date | None = None

    def may_use_bot(self, bot_id: int) -> bool:
        return self.bot_ids is None or bot_id in self.bot_ids

    def require(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise InsufficientScope(f"This API key may not {scope.label}.")

    def require_bot(self, bot_id: int) -> None:
        if not self.may_use_bot(bot_id):
            raise InsufficientScope("This API key may not use this chatbot.")


async def _read_caller(key_digest: str) -> Caller | None:
    key = await ApiKey.objects.active().filter(digest=key_digest).afirst()
    if key is None:
        return None
    today = timezone.localdate()
    if key.last_used_on != today:
        await ApiKey.objects.filter(pk=key.pk).aupdate(last_used_on=today)
    bot_ids = frozenset([pk async for pk in key.chatbots.values_list("pk", flat=True)]) if key.is_bound else None
    return Caller(key.pk, key.name, frozenset(key.scopes), bot_ids, key.expires_on)


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
        """Return the caller as `request.auth`. Raises AccessDisabled, NoApiKeyConfigured or InvalidApiKey."""
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
