"""Settings for `serve` in which a request with an X-Block header blocks the event loop of its process."""

import time

from puffer.settings import *  # noqa: F403

API_MIDDLEWARE = ["tests.support.settings.blocking.blocking"]
EVENT_LOOP_TIMEOUT = 5


def blocking(get_response):
    async def block_event_loop(request):
        if "X-Block" in request.headers:
            time.sleep(600)
        return await get_response(request)

    return block_event_loop
