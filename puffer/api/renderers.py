"""How answers are written."""

from typing import Any

import orjson
from rest_framework.renderers import BaseRenderer


class JSONRenderer(BaseRenderer):
    """JSON as WordPress labels it, whatever the request's Accept header says."""

    media_type = "application/json"
    format = "json"
    charset = "UTF-8"
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
