"""API key -> the caller and what it may do. No origins, no limits."""

import hmac
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from puffer.api.errors import AccessDisabled, InsufficientScope, InvalidApiKey, NoApiKeyConfigured
from puffer.models import ApiKey, Scope, digest, is_well_formed
from puffer.runtime.live_cache import LiveCache

PARAMETER = "aipkit_api_key"


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of an API key. `key_id` is None for the one of the environment; `bot_ids` None means every chatbot."""

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
    """Whose key it is. Asks the database only for a well-formed key that this worker has not just seen."""
    if settings.PUFFER_API_KEY and hmac.compare_digest(key.encode(), settings.PUFFER_API_KEY.strip().encode()):
        return Caller(None, "PUFFER_API_KEY", frozenset(Scope.values), None)
    if not is_well_formed(key):
        return None
    caller = await callers.get(digest(key))
    if caller and caller.expires_on and caller.expires_on < timezone.localdate():
        return None
    return caller


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY`, else the parameter aipkit_api_key. One right key is enough."""

    async def authenticate(self, request: Request, parameters: dict[str, Any]) -> tuple[AnonymousUser, Caller]:  # type: ignore[override]
        if not settings.PUFFER_API_ENABLED:
            raise AccessDisabled
        for key in self.submitted(request, parameters):
            if caller := await find_caller(key):
                return AnonymousUser(), caller
        if not settings.PUFFER_API_KEY and not await any_active_key.get(""):
            raise NoApiKeyConfigured
        raise InvalidApiKey

    def submitted(self, request: Request, parameters: dict[str, Any]) -> list[str]:
        scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
        keys = [credentials.strip()] if scheme.lower() == "bearer" else []
        parameter = parameters.get(PARAMETER)
        if isinstance(parameter, str) and (settings.PUFFER_API_KEY_IN_QUERY or PARAMETER not in request.GET):
            keys.append(parameter)
        return [key for key in keys if key]
