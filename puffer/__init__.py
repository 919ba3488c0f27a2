"""The foundation of the server: settings, API keys, request handling, security and the admin's base."""

__version__ = "0.1.0"
