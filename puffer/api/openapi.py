"""The OpenAPI document of the API, made from what each view declares."""

from functools import cache
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema as SpectacularAutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer

FORMATS: dict[str, Any] = {"yaml": OpenApiYamlRenderer, "openapi": OpenApiYamlRenderer, "json": OpenApiJsonRenderer}
JSON_TYPES = ("application/json", OpenApiJsonRenderer.media_type)
ERRORS = {
    "400": "A parameter is missing or invalid, or the body cannot be read.",
    "401": "The API key is missing or wrong.",
    "403": "The API is switched off, no key exists yet, or the key may not do this.",
    "404": "The endpoint or the resource does not exist.",
    "413": "The request body is too large.",
    "500": "Internal server error.",
}
TOO_MANY_CALLS = "These are too many calls of one network or visitor. Retry-After says how long to wait."
REPEATED_CALLS = {
    "409": "A call with this Idempotency-Key is under way.",
    "422": "The Idempotency-Key was used for another request.",
}
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A call that is repeated with the same key within a day is not made again, but answered again.",
}
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["code", "message", "data"],
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "data": {"type": "object", "required": ["status"], "properties": {"status": {"type": "integer"}}},
    },
}


class BearerKey(OpenApiAuthenticationExtension):
    target_class = "puffer.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class AutoSchema(SpectacularAutoSchema):
    """The OpenAPI schema of a view, from its `parameters`, `answer`, `answer_media_type` and `error_statuses`.

    `answer` is the JSON Schema of a response with status 200. `also_answers` are further media types, sent as text.
    """

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        operation: Any = super().get_operation(path, path_regex, path_prefix, method, registry)
        view: Any = self.view
        declared = {name: parameter.json_schema() for name, parameter in view.all_parameters().items()}
        required = list(view.parameters.required)
        operation.pop("security", None)
        if view.authentication_classes:
            operation["security"] = [{"apiKey": []}]
        parameters = [parameter for parameter in operation.get("parameters", []) if parameter["in"] == "path"]
        if method == "GET":
            parameters += [
                {"in": "query", "name": name, "required": name in required, "schema": schema}
                for name, schema in declared.items()
            ]
        else:
            body: dict[str, Any] = {"type": "object", "properties": declared}
            if required:
                body["required"] = required
            if view.authentication_classes:
                parameters.append(IDEMPOTENCY_KEY)
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        operation["parameters"] = parameters
        limits = REPEATED_CALLS if view.authentication_classes else {"429": TOO_MANY_CALLS}
        answer = getattr(view, "answer", {})
        media_type = getattr(view, "answer_media_type", "application/json")
        others = {other: {"schema": {"type": "string"}} for other in getattr(view, "also_answers", ())}
        operation["responses"] = {
            "200": {"description": "Done.", "content": {media_type: {"schema": answer}} | others},
            **{
                status: {"description": text, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
                for status, text in (ERRORS | limits | getattr(view, "error_statuses", {})).items()
            },
        }
        return operation

    def get_request_serializer(self) -> None:
        return None

    def get_response_serializers(self) -> None:
        return None


@require_safe
def openapi_document(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document: YAML, or JSON for `?format=json` or an Accept header that names it."""
    accepted = request.headers.get("Accept", "")[:300]
    name = request.GET.get("format") or ("json" if accepted.startswith(JSON_TYPES) else "yaml")
    if name not in FORMATS:
        raise Http404("The document exists as JSON and as YAML.")
    renderer = FORMATS[name]
    response = HttpResponse(rendered(renderer), content_type=f"{renderer.media_type}; charset=utf-8")
    response["Content-Disposition"] = f'inline; filename="puffer.{renderer.format}"'
    response["Vary"] = "Accept"
    return response


@cache
def rendered(renderer: Any) -> bytes:
    """Return the document, which takes most of a second to make and is the same for everybody."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    content = renderer().render(schema, renderer_context={})
    return content.encode() if isinstance(content, str) else bytes(content)
