"""An installation for imports in processes of their own."""

import pytest

from tests.support.knowledge.importer import Importer
from tests.support.upstream import fast_embedding, running


@pytest.fixture
def installation(tmp_path):
    with running() as upstream:
        upstream.pages["/v1/embeddings"] = fast_embedding
        openai = {"OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
        openai |= {"PRIVATE_HOST_ALLOWLIST": "127.0.0.1"}
        with Importer.new(tmp_path, **openai) as importer:
            importer.upstream = upstream
            yield importer
