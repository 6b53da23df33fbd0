"""The keepers of other nodes as one worker uses them."""

import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError

REACH = 3.0  # seconds for a snapshot to reach its keeper, or to come from it: its node may have just died

log = logging.getLogger(__name__)


class Keepers:
    """Gives snapshots to keepers, by the ids of their nodes, and takes them back. Any thread may call."""

    def __init__(self) -> None:
        self._actors: dict[str, Any] = {}

    def learn(self, actors: Mapping[str, Any]) -> None:
        """The actors of some nodes."""
        self._actors |= actors

    def put(self, node: str, stream: str, fence: int, taken: float, data: bytes) -> bool:
        """Let the keeper of ``node`` have a snapshot (see `Keeper.put`); False when it does not take it in time."""
        try:
            ray.get(self._actors[node].put.remote(stream, fence, taken, data), timeout=REACH)
        except (RayError, KeyError) as error:
            log.warning("stream %s: its snapshot is not kept: %s", stream, type(error).__name__)
            return False
        return True

    def get(self, node: str, stream: str) -> bytes | None:
        """The stream's snapshot that the keeper of ``node`` has; None where it has none. Raises RayError."""
        actor = self._actors.get(node)
        found: bytes | None = ray.get(actor.get.remote(stream), timeout=REACH) if actor is not None else None
        return found
