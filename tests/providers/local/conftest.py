"""The process of the bundled models, started once per file."""

import pytest

from providers.local.process import running
from tests.support.providers.local_model import TOKENS


@pytest.fixture(scope="module")
def base_url():
    with running() as address:
        TOKENS[address.url] = address.token
        yield address.url
