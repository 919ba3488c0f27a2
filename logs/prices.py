"""What a call of a provider cost, in US dollars."""

import logging
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price

from logs.models import ModelPrice

logger = logging.getLogger(__name__)

PER_MILLION = Decimal(1_000_000)
# Our slugs in the words of genai-prices, where they differ. Ollama and the bundled model run on the owner's machine.
PRICE_LIST_NAMES = {"claude": "anthropic", "xai": "x-ai"}
FREE = {"ollama", "local"}


class PriceBook:
    """The admin's own prices, read once for a batch of calls, over the public list prices."""

    def __init__(self) -> None:
        self.own = {(price.provider, price.model): price for price in ModelPrice.objects.all()}

    def cost(self, call: dict[str, Any]) -> Decimal | None:
        """US dollars for one call; None if its model has no known price or the provider reported no tokens."""
        provider, model = call["provider"], call["model"]
        tokens_in, tokens_out = call.get("input_tokens") or 0, call.get("output_tokens") or 0
        if own := self.own.get((provider, model)):
            tokens = own.input_price * tokens_in + own.output_price * tokens_out
            return tokens / PER_MILLION + own.image_price * call.get("images", 0)
        if provider in FREE:
            return Decimal(0)
        if not (tokens_in or tokens_out):
            return None
        try:
            price = calc_price(
                Usage(input_tokens=tokens_in, output_tokens=tokens_out),
                model_ref=model,
                provider_id=PRICE_LIST_NAMES.get(provider, provider),
            )
        except LookupError:
            return None
        except ValueError:  # a usage that the price list's rules contradict
            logger.warning("no price could be worked out for %s %s", provider, model)
            return None
        return price.total_price
