"""The scopes of API keys as DRF permission classes."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from puffer.api.authentication import Caller


class HasScope(BasePermission):
    """The permission of API keys with the view's `required_scope`. A view without one admits every valid key."""

    never_blocks = True

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raise InsufficientScope if the key lacks the scope; return False for callers without an API key."""
        if not isinstance(request.auth, Caller):
            return False
        if scope := getattr(view, "required_scope", None):
            request.auth.require(scope)
        return True
