"""DRF's APIView with an async dispatch, and the view that answers every unknown URL of the API."""

import asyncio
from collections.abc import Mapping
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from puffer.api.authentication import PARAMETER, caller_of
from puffer.api.errors import NoRoute, TooManyCalls
from puffer.api.openapi import AutoSchema
from puffer.api.parameters import body_of, read_parameters, refuse_many_parts
from puffer.api.renderers import JSONRenderer
from puffer.api.schema import Parameter, Parameters, String
from puffer.http import SMALL_BODY, ClientLeft, public_requests, seconds_to_wait
from puffer.idempotency.replay import HEADER, answer_once
from puffer.models import Scope
from puffer.net import client_ip

NAMESPACE = "aipkit/v1"
BASE = f"/wp-json/{NAMESPACE}"
API_KEY = String(description="The API key, for callers who can't send an Authorization header.")
# Proxies, browsers and servers write URLs to logs and histories.
KEY_IN_URL = "The API key is in the URL, where logs keep it. Send it as Authorization: Bearer KEY, or in the body."
UNSUPPORTED = {"parser_classes", "renderer_classes", "content_negotiation_class", "versioning_class", "metadata_class"}
ASYNC_HOOKS = ("initial", "perform_authentication", "check_permissions", "check_throttles")


def refuse_unsupported(view: str, declared: Mapping[str, Any]) -> None:
    if unsupported := sorted(UNSUPPORTED & declared.keys()):
        raise TypeError(
            f"{view} declares {', '.join(unsupported)}, but an AsyncAPIView reads bodies by WordPress' rules and "
            "answers in JSON. Use rest_framework.views.APIView for anything else."
        )


async def ask(policy: Any, question: str, *arguments: Any) -> Any:
    """Call a method of an authentication, permission or throttle class.

    A method with the same name and an `a` in front is awaited instead. Other methods run in a thread, because they may
    query the database, unless the class sets `never_blocks = True`.
    """
    if asynchronous := getattr(policy, f"a{question}", None):
        return await asynchronous(*arguments)
    method = getattr(policy, question)
    if getattr(policy, "never_blocks", False):
        return method(*arguments)
    return await sync_to_async(method)(*arguments)


class AsyncAPIView(APIView):
    """A DRF view whose handlers are `async def` and take the validated parameters by name.

    Order: route -> authenticate -> permissions -> throttles -> body -> required -> type, enum, range -> handler.
    An anonymous caller learns nothing and costs next to nothing. Public views declare `authentication_classes = []` and
    `permission_classes = []`.
    """

    parameters: ClassVar[Parameters] = Parameters()
    required_scope: ClassVar[Scope | None] = None  # that the API key must have
    schema: Any = AutoSchema()
    view_is_async = True  # set by hand, because Django looks only at handlers and dispatch is async for all methods
    parser_classes = []  # puffer/api/parameters.py reads the body by WordPress' rules
    renderer = JSONRenderer()

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse declarations that the async dispatch would ignore."""
        super().__init_subclass__(**options)
        refuse_unsupported(cls.__name__, cls.__dict__)
        for name in (*cls.http_method_names, *ASYNC_HOOKS):
            method = cls.__dict__.get(name)
            if callable(method) and not iscoroutinefunction(method):
                raise TypeError(f"{cls.__name__}.{name} must be `async def`.")

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        refuse_unsupported(cls.__name__, initkwargs)
        return super().as_view(**initkwargs)

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.request.accepted_renderer = self.renderer
        self.request.accepted_media_type = self.renderer.media_type
        self.headers = {"X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex", "Cache-Control": "no-store"}
        try:
            if not self.authentication_classes:
                self.limit_strangers(request)
            response = await self.respond(self.request, kwargs)
        except ClientLeft:
            raise
        except Exception as exception:
            response = self.handle_exception(exception)
        self.response = self.finalize_response(self.request, response, *args, **kwargs)
        return self.response.render() if isinstance(self.response, Response) else self.response

    def limit_strangers(self, request: HttpRequest) -> None:
        """Raise TooManyCalls for a network that makes too many calls of views that take no key."""
        if wait := seconds_to_wait(public_requests, client_ip(request)):
            raise TooManyCalls(headers={"Retry-After": wait})

    async def respond(self, request: Request, captured: dict[str, Any]) -> Response:
        method = (request.method or "").lower()
        handler = getattr(self, method, None) if method in self.http_method_names else None
        if handler is None:
            raise NoRoute
        self.headers["Allow"] = ", ".join(self.methods_of_the_route())
        if method == "options":
            return Response(self.description())
        await self.initial(request, **captured)
        body = await body_of(request._request, self.max_body_bytes())
        if len(body) <= SMALL_BODY:
            parameters = self.read(request._request, body)
        else:  # what takes a while must not stop all other requests
            parameters = await asyncio.to_thread(self.read, request._request, body)
        call = partial(handler, request, **parameters, **captured)
        key = request._request.headers.get(HEADER)
        if key is None or method != "post" or not self.authentication_classes:
            return await call()
        return await answer_once(str(caller_of(request).key_id), key, request._request, body, call)

    def max_body_bytes(self) -> int:
        """Return the limit of a body. Without authentication it is small, because anybody can send one."""
        limit: int = settings.MAX_REQUEST_BYTES
        return limit if self.authentication_classes else min(limit, SMALL_BODY)

    def read(self, request: HttpRequest, body: bytes) -> dict[str, Any]:
        """Return the declared parameters of a request in their types."""
        if not self.authentication_classes:
            refuse_many_parts(request, body)
        return self.parameters.validate(read_parameters(request, body))

    async def initial(self, request: Request, **captured: Any) -> None:  # type: ignore[override]
        """Authenticate, then ask the permission and throttle classes, as DRF's `initial` does."""
        await self.perform_authentication(request)
        await self.check_permissions(request)
        await self.check_throttles(request)

    async def perform_authentication(self, request: Request) -> None:  # type: ignore[override]
        for authenticator in request.authenticators or ():
            if result := await ask(authenticator, "authenticate", request):
                request._authenticator = authenticator  # type: ignore[attr-defined]
                request.user, request.auth = result
                if PARAMETER in request._request.GET:
                    self.headers["X-Puffer-Warning"] = KEY_IN_URL
                return
        request._not_authenticated()  # type: ignore[attr-defined]

    async def check_permissions(self, request: Request) -> None:  # type: ignore[override]
        for permission in self.get_permissions():
            if not await ask(permission, "has_permission", request, self):
                message, code = getattr(permission, "message", None), getattr(permission, "code", None)
                self.permission_denied(request, message=message, code=code)

    async def check_throttles(self, request: Request) -> None:  # type: ignore[override]
        throttles = self.get_throttles()
        waits = [throttle.wait() for throttle in throttles if not await ask(throttle, "allow_request", request, self)]
        if waits:
            self.throttled(request, max((wait for wait in waits if wait is not None), default=None))  # type: ignore[arg-type]

    def methods_of_the_route(self) -> list[str]:
        """Return the methods as WordPress lists them, without HEAD and OPTIONS."""
        return [method for method in self.allowed_methods if method not in ("OPTIONS", "HEAD")]

    def all_parameters(self) -> dict[str, Parameter]:
        """Return the declared parameters, and the API key's if the view needs a key."""
        return self.parameters.declared | ({PARAMETER: API_KEY} if self.authentication_classes else {})

    def description(self) -> dict[str, Any]:
        """Return the route's description in WordPress' format, for OPTIONS and for the index of the namespace."""
        args = {
            name: parameter.json_schema() | {"required": parameter.required}
            for name, parameter in self.all_parameters().items()
        }
        methods = self.methods_of_the_route()
        return {"namespace": NAMESPACE, "methods": methods, "endpoints": [{"methods": methods, "args": args}]}


class NoRouteView(AsyncAPIView):
    """The view for every unknown URL below /wp-json/."""

    schema = None
    authentication_classes = []
    permission_classes = []

    async def respond(self, request: Request, captured: dict[str, Any]) -> Response:
        if request.method == "OPTIONS":
            return Response([])  # as WordPress: a browser's preflight must not fail before the call itself does
        raise NoRoute
