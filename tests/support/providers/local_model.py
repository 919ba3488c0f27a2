"""Calls of the process of the bundled models."""

import http.client
import json

from providers.local.engines import COMPLETION_MODEL, EMBEDDING_MODEL

TOKENS = {}  # by base URL


def post(base_url, path, body, **headers):
    """Post `body`, raw bytes or a JSON value, and return the status and the JSON of the answer."""
    headers = {"Authorization": f"Bearer {TOKENS[base_url]}"} | headers
    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=60)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


HELLO = {"model": COMPLETION_MODEL, "messages": [{"role": "user", "content": "Hello"}]}


LAMP = {"model": EMBEDDING_MODEL, "input": "A lamp"}


CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
