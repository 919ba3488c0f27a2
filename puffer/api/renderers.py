"""The renderer of the API's responses."""

from typing import Any

import orjson
from rest_framework.renderers import BaseRenderer


class JSONRenderer(BaseRenderer):
    """A renderer that always writes JSON, with WordPress' content type, whatever the Accept header says."""

    media_type = "application/json"
    format = "json"
    charset = "UTF-8"
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
