"""The cost of provider calls, in US dollars."""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.db import connection
from genai_prices import Usage, calc_price

logger = logging.getLogger(__name__)

PER_MILLION = Decimal(1_000_000)
# Our slugs -> the names in genai-prices, where they differ. Ollama and the bundled model run on the owner's machine.
PRICE_LIST_NAMES = {"claude": "anthropic", "xai": "x-ai"}
FREE = {"ollama", "local"}


class PriceBook:
    """The owner's prices, read once for a batch of calls, and the public list prices for other models."""

    def __init__(self) -> None:
        # Raw SQL: this runs for every few turns, and the ORM takes many times as long as the query.
        with connection.cursor() as cursor:
            cursor.execute("SELECT provider, model, input_price, output_price, image_price FROM logs_modelprice")
            # SQLite stores decimals as floats, whose shortest text is the number that was saved.
            self.own = {(row[0], row[1]): [Decimal(str(price)) for price in row[2:]] for row in cursor.fetchall()}

    def cost(self, call: dict[str, Any]) -> Decimal | None:
        """Return the cost of one call; None if its model has no known price or the provider reported no tokens."""
        provider, model = call["provider"], call["model"]
        tokens_in, tokens_out = call.get("input_tokens") or 0, call.get("output_tokens") or 0
        if not (tokens_in or tokens_out or call.get("images")):
            return None
        if own := self.own.get((provider, model)):
            input_price, output_price, image_price = own
            tokens = input_price * tokens_in + output_price * tokens_out
            return tokens / PER_MILLION + image_price * call.get("images", 0)
        if provider in FREE:
            return Decimal(0)
        return list_price(
            provider, model, tokens_in, tokens_out, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        )


@lru_cache(maxsize=10_000)
def list_price(provider: str, model: str, tokens_in: int, tokens_out: int, hour: datetime) -> Decimal | None:
    """Return the cost by the public price list, in which some prices depend on the hour."""
    try:
        return calc_price(
            Usage(input_tokens=tokens_in, output_tokens=tokens_out),
            model_ref=model,
            provider_id=PRICE_LIST_NAMES.get(provider, provider),
            genai_request_timestamp=hour,
        ).total_price
    except LookupError:
        return None
    except ValueError:  # a usage that contradicts the rules of the price list
        logger.warning("the price of a call of %s %s is unknown", provider, model)
        return None
