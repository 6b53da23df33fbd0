"""A queue between two threads that is bounded by size, with a named policy for when it is full."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """First in, first out. The sizes of its items, by ``size``, sum up to ``capacity`` at most, unless one is larger.

    When an item does not fit, its sender waits. After ``drop_oldest(merge)`` it waits no longer than it says; then the
    oldest item is dropped and the next one replaced by ``merge(lost, next)``, which counts the loss and has its place.
    ``changed`` is called after every put, get and close, in the thread that did it. Any thread may call.
    """

    def __init__(
        self, capacity: int, changed: Callable[[], None] = lambda: None, size: Callable[[Item], int] = lambda _: 1
    ) -> None:
        self.capacity = capacity
        self._changed, self._size = changed, size
        self._items: deque[tuple[float, Item]] = deque()  # each with the monotonic seconds at which it came
        self._merge: Callable[[Item, Item], Item] | None = None
        self._closed = False
        self._condition = threading.Condition()

    def drop_oldest(self, merge: Callable[[Item, Item], Item]) -> None:
        """From now on a full mailbox drops its oldest item when its sender can wait no longer."""
        self._merge = merge

    @property
    def lossless(self) -> bool:
        return self._merge is None

    def fits(self, size: int) -> bool:
        """Whether there is room for an item of this size."""
        with self._condition:
            return self._fits(size)

    def _fits(self, size: int) -> bool:
        return not self._items or self._held() + size <= self.capacity

    def _held(self) -> int:
        return sum(self._size(item) for _, item in self._items)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest waiting item came, or the first of those dropped before it; None when none waits.

        In monotonic seconds.
        """
        with self._condition:
            return self._items[0][0] if self._items else None

    @property
    def closed(self) -> bool:
        """It takes no more items."""
        return self._closed

    @property
    def drained(self) -> bool:
        """Closed and empty: no item will come out any more."""
        with self._condition:
            return self._closed and not self._items

    def peek(self) -> tuple[Item, ...]:
        """The waiting items, oldest first."""
        with self._condition:
            return tuple(item for _, item in self._items)

    def put(self, item: Item, due: float = 0.0) -> bool:
        """Add an item; False when the mailbox is or gets closed, and the item is not taken.

        ``due``: monotonic seconds until which the sender waits for room before the oldest item is dropped.
        """
        with self._condition:
            while not (self._closed or self._fits(self._size(item))):
                if self._merge is None:
                    self._condition.wait()
                elif not self._condition.wait(max(0.0, due - time.monotonic())):
                    break
            if self._closed:
                return False
            self._items.append((time.monotonic(), item))
            while self._merge is not None and len(self._items) > 1 and self._held() > self.capacity:
                (came, lost), (_, following) = self._items.popleft(), self._items.popleft()
                self._items.appendleft((came, self._merge(lost, following)))
            self._condition.notify_all()
        self._changed()
        return True

    def get(self, timeout: float | None = None, join: Callable[[Item, Item], Item | None] | None = None) -> Item | None:
        """The oldest item; None when none came within ``timeout`` seconds or the mailbox is drained.

        ``join`` gives the item that two waiting ones make together, or None: as many as it joins are taken as one.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout)
            if not self._items:
                return None
            item = self._items.popleft()[1]
            while join is not None and self._items and (joined := join(item, self._items[0][1])) is not None:
                item = joined
                self._items.popleft()
            self._condition.notify_all()
        self._changed()
        return item

    def close(self, discard: bool = False) -> None:
        """Take no more items; those that wait can still be taken out, unless ``discard``."""
        with self._condition:
            self._closed = True
            if discard:
                self._items.clear()
            self._condition.notify_all()
        self._changed()
