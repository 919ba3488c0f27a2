"""GET /media/images/NAME: a generated image. Only its unguessable name protects it."""

import re
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
NAME = re.compile(r"[A-Za-z0-9_-]{32}\.(png|jpg|webp|gif)\Z")


def stored_image(request: HttpRequest, name: str) -> HttpResponse:
    if not NAME.match(name):
        raise Http404
    try:
        data = (Path(settings.MEDIA_ROOT) / "images" / name).read_bytes()
    except FileNotFoundError:
        raise Http404 from None
    return HttpResponse(
        data,
        content_type=TYPES[name.rpartition(".")[2]],
        headers={"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"},
    )
