"""A bounded queue between two threads, with a named policy for when it is full."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Bounded, first in, first out.

    When it is full, senders wait. After ``drop_oldest(merge)`` they wait no longer than they say; then it drops its
    oldest item instead and replaces the next one by ``merge(lost, next)``, so that the loss stays counted. ``changed``
    is called after every put, get and close, in the thread that did it. Any thread may call.
    """

    def __init__(self, capacity: int, changed: Callable[[], None] = lambda: None) -> None:
        self.capacity = capacity
        self._changed = changed
        self._items: deque[Item] = deque()
        self._merge: Callable[[Item, Item], Item] | None = None
        self._closed = False
        self._condition = threading.Condition()

    def drop_oldest(self, merge: Callable[[Item, Item], Item]) -> None:
        """From now on a full mailbox drops its oldest item when its sender can wait no longer."""
        self._merge = merge

    @property
    def lossless(self) -> bool:
        return self._merge is None

    @property
    def full(self) -> bool:
        return len(self._items) >= self.capacity

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
            return tuple(self._items)

    def put(self, item: Item, due: float = 0.0) -> bool:
        """Add an item; False when the mailbox is or gets closed, and the item is not taken.

        ``due``: monotonic seconds until which the sender waits for room before the oldest item is dropped.
        """
        with self._condition:
            while self.full and not self._closed:
                if self._merge is None:
                    self._condition.wait()
                elif not self._condition.wait(max(0.0, due - time.monotonic())):
                    break
            if self._closed:
                return False
            self._items.append(item)
            if self._merge is not None and len(self._items) > self.capacity:
                lost = self._items.popleft()
                self._items[0] = self._merge(lost, self._items[0])
            self._condition.notify_all()
        self._changed()
        return True

    def get(self, timeout: float | None = None) -> Item | None:
        """The oldest item; None when none came within ``timeout`` seconds or the mailbox is drained."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout)
            if not self._items:
                return None
            item = self._items.popleft()
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
