"""GET /media/images/NAME: a generated image. Only its unguessable name protects it."""

import re

from django.core.files.storage import default_storage
from django.http import Http404, HttpRequest, HttpResponse

TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
FOLDER = "images"
NAME = re.compile(r"[A-Za-z0-9_-]{32}\.(png|jpg|webp|gif)\Z")


def stored_image(request: HttpRequest, name: str) -> HttpResponse:
    if not NAME.match(name):
        raise Http404
    try:
        with default_storage.open(f"{FOLDER}/{name}") as file:
            data = file.read()
    except FileNotFoundError:
        raise Http404 from None
    return HttpResponse(
        data,
        content_type=TYPES[name.rpartition(".")[2]],
        headers={"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"},
    )
