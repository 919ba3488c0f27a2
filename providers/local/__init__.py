"""The bundled models: their server, its process and its lifecycle."""

from providers.local.engines import installed
from providers.local.lifecycle import bundled_model

__all__ = [
    "bundled_model",
    "installed",
]
