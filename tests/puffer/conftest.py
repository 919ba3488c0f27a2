from tests.providers.conftest import loopback_server, upstream  # noqa: F401
