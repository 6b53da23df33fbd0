"""The contract of a detector: text prompts and images in, boxes out."""

from collections.abc import Sequence
from typing import Literal, Protocol

from stages.detection.prompts import Prompt
from stages.types import Detections, Image

Tiles = Literal["off", "auto"] | int  # how pictures are cut into tiles; see `stages.detection.tiles.choose_grid`
MOST_TILES = 16  # of one picture


class Detector(Protocol):
    """A loaded open-vocabulary detector. It holds no state of any stream."""

    @property
    def together(self) -> int:
        """Most pictures of one size that are detected faster by one call than by one call each; 1 for no gain."""

    @property
    def graph_fallbacks(self) -> int:
        """Shapes that run without a graph, though this detector has graphs."""

    def scale(self, height: int, width: int) -> float:
        """By which factor a picture of this size in pixels is resized; of two, for width and height, the smaller."""

    def passes(self, prompts: Sequence[Prompt]) -> int:
        """Number of forward passes that one image needs for ``prompts``.

        Raises ConfigError naming a prompt that this detector cannot read, or of which it knows no word.
        """

    def doubts(self, prompts: Sequence[Prompt]) -> list[str]:
        """A line for each prompt with a word that this detector does not know, which names the word.

        Raises ConfigError as `passes` does.
        """

    def detect(
        self, images: Sequence[Image], prompts: Sequence[Prompt], box_threshold: float, text_threshold: float
    ) -> list[Detections]:
        """Find ``prompts`` on each of ``images`` (uint8 (H, W, 3) RGB, sizes may differ); best scores first.

        A detection's score, in [0, 1], is at least ``box_threshold``. ``text_threshold`` is the least score, in [0, 1],
        with which the text of a prompt must match for the box to belong to it.

        Raises ConfigError as `passes` does, WindowError when the scores are not finite numbers.
        """
