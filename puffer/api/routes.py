"""GET /wp-json/aipkit/v1: the namespace and its routes, as WordPress lists them."""

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.request import Request
from rest_framework.response import Response

from puffer.api.site_url import site_url
from puffer.api.views import BASE, NAMESPACE, AsyncAPIView


def api_views(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, type[AsyncAPIView]]]:
    """Yield the path, with WordPress' named groups, and the view class of every route of the API."""
    for pattern in patterns:
        route = prefix + re.sub(r"<int:(\w+)>", r"(?P<\1>\\d+)", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from api_views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            view = getattr(pattern.callback, "cls", None)
            if isinstance(view, type) and issubclass(view, AsyncAPIView) and f"/{route}".startswith(BASE):
                yield f"/{route}".removeprefix("/wp-json"), view


class NamespaceView(AsyncAPIView):
    schema = None
    authentication_classes = []
    permission_classes = []

    async def get(self, request: Request) -> Response:
        routes = {}
        for path, view in api_views(get_resolver().url_patterns):
            routes[path] = view().description()
            if "(" not in path:
                url = f"{site_url(request._request)}/wp-json{path}"
                routes[path]["_links"] = {"self": [{"href": url}]}
        return Response({"namespace": NAMESPACE, "routes": routes})
