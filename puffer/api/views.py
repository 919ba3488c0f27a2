"""DRF's APIView with an awaiting dispatch, and the answers that hold for every view of the API."""

from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from puffer.api.authentication import PARAMETER, ApiKeyAuthentication, Caller
from puffer.api.errors import ApiError, InvalidParameters, NoRoute
from puffer.api.openapi import AutoSchema
from puffer.api.parameters import read_parameters
from puffer.api.renderers import JSONRenderer
from puffer.api.schema import Parameter, Parameters, String, wrong_type
from puffer.models import Scope

NAMESPACE = "aipkit/v1"
BASE = f"/wp-json/{NAMESPACE}"
API_KEY = String(description="The API key, for callers who can't send an Authorization header.")


class AsyncAPIView(APIView):
    """A view whose handlers are `async def` and get the validated parameters by name.

    route -> authenticate -> parse -> required -> type, enum, range -> handler. An anonymous caller learns nothing and
    costs nothing.
    """

    parameters: ClassVar[Parameters] = Parameters()
    scope: ClassVar[Scope | None] = None  # None: anybody may call, without a key
    schema: Any = AutoSchema()
    view_is_async = True  # Django would look at the handlers, and a view without any has an async dispatch too
    parser_classes = []  # puffer/api/parameters.py reads the body, by WordPress' rules
    renderer = JSONRenderer()
    authenticator = ApiKeyAuthentication()

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.request.accepted_renderer = self.renderer
        self.request.accepted_media_type = self.renderer.media_type
        self.headers = {"X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex", "Cache-Control": "no-store"}
        try:
            response = await self.respond(self.request, kwargs)
        except Exception as exception:
            response = self.handle_exception(exception)
        self.response = self.finalize_response(self.request, response, *args, **kwargs)
        return self.response.render() if isinstance(self.response, Response) else self.response

    async def respond(self, request: Request, captured: dict[str, Any]) -> Response:
        method = (request.method or "").lower()
        handler = getattr(self, method, None) if method in self.http_method_names else None
        if handler is None:
            raise NoRoute
        self.headers["Allow"] = ", ".join(self.methods_of_the_route())
        if method == "options":
            return Response(self.description())
        sent, malformed = {}, None
        try:
            sent = read_parameters(request._request)
        except ApiError as error:
            malformed = error
        if self.scope is not None:
            if isinstance(sent.get(PARAMETER), list | dict):
                raise InvalidParameters({PARAMETER: wrong_type(PARAMETER, "string")})
            request.user, request.auth = await self.authenticator.authenticate(request, sent)
            request.auth.require(self.scope)
        if malformed:
            raise malformed
        return await handler(request, **self.parameters.validate(sent), **captured)

    def methods_of_the_route(self) -> list[str]:
        """As WordPress lists them: HEAD and OPTIONS go without saying."""
        return [method for method in self.allowed_methods if method not in ("OPTIONS", "HEAD")]

    def all_parameters(self) -> dict[str, Parameter]:
        """The declared ones, and the key's where one is needed."""
        return self.parameters.declared | ({} if self.scope is None else {PARAMETER: API_KEY})

    def description(self) -> dict[str, Any]:
        """How WordPress describes a route in answer to OPTIONS and in the index of a namespace."""
        args = {
            name: parameter.json_schema() | {"required": parameter.required}
            for name, parameter in self.all_parameters().items()
        }
        methods = self.methods_of_the_route()
        return {"namespace": NAMESPACE, "methods": methods, "endpoints": [{"methods": methods, "args": args}]}


def caller_of(request: Request) -> Caller:
    """Who called a view that has a scope."""
    caller = request.auth
    assert isinstance(caller, Caller)
    return caller


class NoRouteView(AsyncAPIView):
    """Every URL below /wp-json/ that is none of ours."""

    schema = None

    async def respond(self, request: Request, captured: dict[str, Any]) -> Response:
        if request.method == "OPTIONS":
            return Response([])  # as WordPress: a browser's preflight must not fail before the call itself does
        raise NoRoute
