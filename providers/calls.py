"""The one door through which providers are called: a limit on the time, and a usage record whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from django.conf import settings

from logs import usage as usage_log
from providers.base import Capability, Provider, Usage
from providers.prompt_text import clean
from providers.upstream_errors import EmptyAnswer, no_answer_in_time
from puffer.api.authentication import Caller
from puffer.api.errors import ApiError

CLIENT_LEFT = 499


@dataclass
class ProviderCall:
    """What a call reports about itself while it is under way; read when it has ended."""

    usage: Usage | None = None
    images: int = 0
    milliseconds: int = 0


def time_limit(capability: Capability) -> float:
    return settings.IMAGE_TIMEOUT if capability is Capability.IMAGE else settings.COMPLETION_TIMEOUT


@asynccontextmanager
async def provider_call(
    provider: Provider,
    capability: Capability,
    model: str,
    *,
    caller: Caller | None = None,
    chatbot_id: int | None = None,
) -> AsyncIterator[ProviderCall]:
    """Around the call of an adapter. `model` and who called go into the usage record, errors and cut-off calls too."""
    call = ProviderCall()
    started = time.perf_counter()
    status, error_code = 200, ""
    seconds = time_limit(capability)
    try:
        async with asyncio.timeout(seconds):
            yield call
    except TimeoutError as error:
        status, late = 504, no_answer_in_time(provider, capability, seconds)
        error_code = late.code
        raise late from error
    except ApiError as error:
        status, error_code = error.status, error.code
        if isinstance(error, EmptyAnswer):
            call.usage = error.usage
        raise
    except asyncio.CancelledError:
        status = CLIENT_LEFT
        raise
    except BaseException:
        status = 500
        raise
    finally:
        call.milliseconds = round((time.perf_counter() - started) * 1000)
        usage = call.usage
        usage_log.record(
            operation=capability.value,
            provider=provider.slug,
            model=clean(model)[:200],
            api_key_id=caller.key_id if caller else None,
            caller=caller.name if caller else "",
            chatbot_id=chatbot_id,
            input_tokens=usage.input_tokens if usage else None,
            # Some providers count the thinking only in the total. It is paid for like all that the model writes.
            output_tokens=max(usage.output_tokens, usage.total_tokens - usage.input_tokens) if usage else None,
            total_tokens=usage.total_tokens if usage else None,
            images=call.images,
            milliseconds=call.milliseconds,
            status=status,
            error_code=error_code,
        )
