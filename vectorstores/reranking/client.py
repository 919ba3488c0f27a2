"""Call a reranker: a question and texts to the order of the texts.

The protocols agree on `POST /rerank` with a query and texts; they differ in the names of parameters and of the answer.
Sources: https://docs.cohere.com/v2/reference/rerank, https://jina.ai/reranker,
https://docs.voyageai.com/reference/reranker-api, https://huggingface.github.io/text-embeddings-inference
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import httpx2
import orjson
from django.core.exceptions import ValidationError

from logs.models import UsageEvent
from providers.base import Usage
from providers.calls import ProviderCall, recorded
from providers.error_messages import error_text, read_error
from providers.http_client import UnusableAnswer, http_client
from puffer.api import ApiError, Caller
from puffer.net import validate_base_url
from puffer.security import UnreadableSecret
from vectorstores.errors import status_of
from vectorstores.reranking.models import Reranker

PATH = "/rerank"
MAX_QUERY, MAX_TEXT = 2000, 2000  # characters: rerankers read 512 tokens or more of a query with a text
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # some servers repeat the texts
PER_THOUSAND = Decimal(1000)


class RerankerError(ApiError):
    """A reranker that cannot be called, or whose answer cannot be used."""

    status = 502
    code = "reranker_error"


@dataclass(frozen=True, slots=True)
class Ranking:
    """The places of the texts in the call, the best first. `cost` is in US dollars; None if tokens decide it."""

    order: Sequence[int]
    usage: Usage | None = None
    cost: Decimal | None = None


def refuse_unusable(reranker: Reranker) -> None:
    """Raise RerankerError if the settings do not allow a call."""
    if isinstance(reranker.api_key, UnreadableSecret):
        text = f"No key in PUFFER_ENCRYPTION_KEYS can decrypt the API key of {reranker.name}. Enter it again."
        raise RerankerError(text, status=503)
    if not (reranker.api_key.isascii() and reranker.api_key.isprintable()):
        text = f"The saved API key of {reranker.name} contains invalid characters. Copy it again."
        raise RerankerError(text, status=503)
    try:
        validate_base_url(reranker.base_url)
        httpx2.URL(reranker.base_url)  # as the client parses it
    except (ValidationError, httpx2.InvalidURL) as error:
        reason = error.message if isinstance(error, ValidationError) else error
        raise RerankerError(f"The base URL of {reranker.name} is not allowed. {reason}", status=503) from None


async def call_reranker(
    reranker: Reranker,
    query: str,
    texts: Sequence[str],
    *,
    milliseconds: int,
    caller: Caller | None = None,
    chatbot_id: int | None = None,
) -> tuple[Ranking, int]:
    """Return the order of the texts and the milliseconds that it took, and record the call.

    Raise RerankerError, also if the time was not enough.
    """
    refuse_unusable(reranker)
    client = http_client()  # its first use in a process takes long, and is not the reranker's fault
    call = ProviderCall()
    with recorded(call, reranker.name, UsageEvent.Operation.RERANK, reranker.model, caller, chatbot_id):
        try:
            async with asyncio.timeout(milliseconds / 1000):
                response = await send(client, reranker, request_body(reranker, query, texts))
        except TimeoutError:
            raise RerankerError(f"{reranker.name} did not answer within {milliseconds} ms.", status=504) from None
        ranking = read_ranking(reranker, response, len(texts))
        call.usage, call.cost = ranking.usage, ranking.cost
    return ranking, call.milliseconds


def request_body(reranker: Reranker, query: str, texts: Sequence[str]) -> dict[str, Any]:
    query, texts = query[:MAX_QUERY], [text[:MAX_TEXT] for text in texts]
    if reranker.protocol == Reranker.Protocol.TEI:
        return {"query": query, "texts": texts, "truncate": True}
    number = "top_k" if reranker.protocol == Reranker.Protocol.VOYAGE else "top_n"
    model = {"model": reranker.model} if reranker.model else {}
    return {**model, "query": query, "documents": texts, number: len(texts)}


async def send(client: httpx2.AsyncClient, reranker: Reranker, body: dict[str, Any]) -> httpx2.Response:
    """Return the answer of a successful call. Raise RerankerError."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if reranker.api_key:
        headers["Authorization"] = f"Bearer {reranker.api_key}"
    url = reranker.base_url.rstrip("/") + PATH
    try:
        response = await client.post(url, content=orjson.dumps(body), headers=headers)
    except UnusableAnswer as error:
        raise RerankerError(f"The answer of {reranker.name} {error}.") from error
    except (httpx2.RequestError, aiohttp.ClientError) as error:
        raise RerankerError(f"{reranker.name} cannot be reached, or closed the connection.") from error
    if response.status_code != 200:
        reason = error_text(response, read_error(response), reranker.api_key)
        status = status_of(response.status_code)
        raise RerankerError(f"{reranker.name} API Error (HTTP {response.status_code}): {reason}", status=status)
    return response


def read_ranking(reranker: Reranker, response: httpx2.Response, count: int) -> Ranking:
    if len(response.content) > MAX_ANSWER_BYTES:
        raise RerankerError(f"The answer of {reranker.name} is larger than {MAX_ANSWER_BYTES} bytes.")
    try:
        answer = orjson.loads(response.content)
        order = order_in(answer, count)
    except (ValueError, LookupError, TypeError, AttributeError):  # anything may be missing or of another type
        raise RerankerError(f"{reranker.name} sent an answer that cannot be read.") from None
    if len(order) < count:
        raise RerankerError(f"{reranker.name} ordered only {len(order)} of {count} texts.")
    cost = None if reranker.price is None else reranker.price / PER_THOUSAND * searches_in(answer)
    return Ranking(order, usage_in(answer), cost)


def order_in(answer: Any, count: int) -> list[int]:
    """Return the places of the texts by falling scores; equal scores stay in the answer's order. Raise ValueError."""
    rows = answer if isinstance(answer, list) else answer.get("results", answer.get("data"))
    scores: dict[int, float] = {}
    for row in rows:
        place, score = row["index"], row.get("relevance_score", row.get("score"))
        if type(place) is not int or not 0 <= place < count or place in scores:
            raise ValueError("an index that is not the place of one text")
        if type(score) not in (int, float) or not math.isfinite(score):
            raise ValueError("a score that is not a number")
        scores[place] = score
    return sorted(scores, key=lambda place: -scores[place])


def usage_in(answer: Any) -> Usage | None:
    """Return the tokens that are billed, all of them input; None if the server reports none."""
    for group, name in (("usage", "total_tokens"), ("usage", "prompt_tokens")):
        if tokens := whole_number(answer, group, name):
            return Usage(tokens, 0, tokens)
    return None


def searches_in(answer: Any) -> int:
    """Return the number of searches that are billed. Cohere counts several for long texts."""
    return whole_number(answer, "meta", "billed_units", "search_units") or 1


def whole_number(answer: Any, *path: str) -> int:
    """Return the positive number at the end of the path; 0 for anything else."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer if type(answer) is int and 0 < answer < 2**31 else 0
