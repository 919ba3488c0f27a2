"""Make a call once for each idempotency key, and replay its answer to the calls that repeat it.

    claim the key -> make the call -> keep its answer for a day
    the same key again -> the kept answer; 409 while the call is under way; 422 if the request differs

Only answers with a status below 300 are kept: after a failure, the same key makes the call again. Source of the header:
https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import asyncio
import hashlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.http import HttpRequest
from rest_framework.response import Response

from puffer.api.errors import ApiError
from puffer.idempotency.models import IdempotentCall
from puffer.runtime import Periodic, database_now, delete_batch, in_seconds

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
USABLE = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")  # 1 to 255 printable ASCII characters
KEPT_SECONDS = 24 * 60 * 60
# A call whose process has died blocks its key for so long: no call takes longer.
UNDER_WAY_SECONDS = 2 * settings.SHUTDOWN_TIMEOUT
MAX_KEPT = 10_000_000  # bytes of an answer

_sweep = Periodic(every_seconds=60)


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of an idempotency key by one attempt, which makes the call."""

    digest: str
    owner: uuid.UUID

    def row(self) -> Any:
        return IdempotentCall.objects.filter(digest=self.digest, owner=self.owner)


async def answer_once(
    caller: str, key: str, request: HttpRequest, body: bytes, call: Callable[[], Awaitable[Any]]
) -> Any:
    """Return the response of `call`, or the kept one of an earlier call with the same key of the same caller.

    Raise ApiError for a key that is unusable, under way, or used for another request.
    """
    if not USABLE.fullmatch(key):
        raise ApiError(
            f"{HEADER} must have 1 to 255 printable ASCII characters.", status=400, code="invalid_idempotency_key"
        )
    digest = sha256(f"{caller}:{key}".encode())
    found = await sync_to_async(claim_or_replay)(digest, digest_of(request, body))
    if isinstance(found, Response):
        return found
    kept = False
    try:
        response = await call()
        if not isinstance(response, Response):
            raise ApiError(
                f"A stream cannot be repeated. Send the call without {HEADER}.",
                status=400,
                code="idempotency_key_with_stream",
            )
        kept = response.status_code < 300 and await sync_to_async(keep)(found, response)
    finally:
        if not kept:
            await asyncio.shield(sync_to_async(release)(found))
    return response


def sha256(*parts: bytes) -> str:
    joined = hashlib.sha256()
    for part in parts:
        joined.update(len(part).to_bytes(8) + part)
    return joined.hexdigest()


def digest_of(request: HttpRequest, body: bytes) -> str:
    """Return the digest of what makes two requests the same."""
    head = (request.method, request.path, request.META.get("QUERY_STRING", ""), request.content_type)
    return sha256(*(str(part).encode(errors="replace") for part in head), body)


def claim_or_replay(digest: str, request: str) -> Claim | Response:
    """Claim the key, or return the kept response. Raise ApiError if the key is taken."""
    sweep_if_due()
    claim = Claim(digest, uuid.uuid4())
    for _ in range(3):  # again if the row disappears in between
        fields: dict[str, Any] = {
            "request": request,
            "owner": claim.owner,
            "valid_until": in_seconds(UNDER_WAY_SECONDS),
        }
        try:
            with transaction.atomic():
                IdempotentCall.objects.create(digest=digest, **fields)
            return claim
        except IntegrityError:
            rows = IdempotentCall.objects.filter(digest=digest)
            if rows.filter(valid_until__lte=database_now()).update(status=None, answer="", **fields):
                return claim
            if row := rows.first():
                return replay(row, request)
    raise in_use()


def replay(row: IdempotentCall, request: str) -> Response:
    if row.request != request:
        raise ApiError(
            f"This {HEADER} was used for another request. Use a new key for each call.",
            status=422,
            code="idempotency_key_reused",
        )
    if row.status is None or not row.answer:  # or no key decrypts the answer
        raise in_use()
    return Response(orjson.loads(row.answer), status=row.status, headers={REPLAYED: "true"})


def in_use() -> ApiError:
    return ApiError(
        f"A call with this {HEADER} is under way. Send it again in a moment to get its answer.",
        status=409,
        code="idempotency_key_in_use",
        headers={"Retry-After": "1"},
    )


def keep(claim: Claim, response: Response) -> bool:
    """Keep the answer for a day. Return False if it is too large, or cannot be stored: it is sent all the same."""
    answer = orjson.dumps(response.data, option=orjson.OPT_NON_STR_KEYS)
    if len(answer) > MAX_KEPT:
        return False
    try:
        claim.row().update(status=response.status_code, answer=answer.decode(), valid_until=in_seconds(KEPT_SECONDS))
    except DatabaseError:
        logger.exception("the answer to a call with an idempotency key could not be kept")
        return False
    return True


def release(claim: Claim) -> None:
    """Free the key, because its call has no answer to keep."""
    try:
        claim.row().delete()
    except DatabaseError:
        logger.exception("an idempotency key stays in use for %d seconds", UNDER_WAY_SECONDS)


def sweep_if_due() -> None:
    """Delete a batch of old answers, if none were deleted in the last minute."""
    if not _sweep.is_due():
        return
    _sweep.restart()
    try:
        delete_batch(IdempotentCall.objects.filter(valid_until__lte=database_now()))
    except DatabaseError:
        logger.warning("old answers could not be deleted; the next sweep tries again", exc_info=True)
