"""The bundled models: their server, its process and its lifecycle."""

from providers.local.lifecycle import bundled_model
from providers.local.server import installed

__all__ = [
    "bundled_model",
    "installed",
]
