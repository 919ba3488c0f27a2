"""Group commit: one transaction for the writes of concurrent requests, which wait until their own is stored."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from asgiref.sync import sync_to_async

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """A queue whose `await put(item)` returns when `write` has stored the item, or raises what `write` raised.

    An idle group writes at once. Items that arrive during a write are written together afterwards, so a busy server
    needs fewer transactions per item.
    """

    def __init__(self, write: Callable[[list[Item]], None]) -> None:
        self.write = sync_to_async(write)
        self.waiting: list[tuple[Item, asyncio.Future[None]]] = []
        self.writer: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> None:
        stored = asyncio.get_running_loop().create_future()
        self.waiting.append((item, stored))
        if self.writer is None or self.writer.done():
            self.writer = asyncio.create_task(self.write_waiting())
        await asyncio.shield(stored)  # a cancelled caller must not cancel the write

    async def write_waiting(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting, []
            try:
                await self.write([item for item, _ in batch])
            except Exception as error:
                outcome: Exception | None = error
            else:
                outcome = None
            for _, stored in batch:
                if stored.cancelled():
                    continue
                if outcome is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(outcome)
