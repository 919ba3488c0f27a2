"""The bundled models: their engines, their server and its process. Imports no Django, for the server's process."""

from providers.local.engines import installed

__all__ = ["installed"]
