"""What many tests need: the embedded SAM 2, loaded once, and frames of the test source."""

import functools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from daemon.settings import load
from stages.sam2.load import load_segmenter
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Frame

if TYPE_CHECKING:
    from tests.api.site import Site

torch.set_num_threads(1)  # tests share the cores with the programs that they start


@pytest.fixture(scope="session")
def segmenter():
    return load_segmenter("embedded", torch.device("cpu"), torch.float32)


@pytest.fixture
def world() -> ShapesWorld:
    """Four shapes that all show on the first frame."""
    return ShapesWorld(4)


@pytest.fixture(scope="session")
def shapes_frame():
    """frame(world, t) -> Frame t of a ShapesWorld."""

    def frame(world: ShapesWorld, t: int) -> Frame:
        return Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, world.render(t)[0])

    return frame


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Grows with every graph that torch.compile makes; they run as they are."""
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        made.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return made


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration but the test's own."""
    monkeypatch.delenv("MASKCAST_CONFIG", raising=False)
    monkeypatch.setattr(load, "DEFAULT_PATH", tmp_path / "etc.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its configuration."""
    return tmp_path / "maskcast.toml"


@pytest.fixture
def site() -> "Iterator[Site]":
    """The HTTP server on loopback, without a token, in front of a daemon with one stream, "gate"."""
    from tests.api.site import Site  # tests on a machine without the web server's packages do without it

    with Site() as site:
        site.add()
        yield site
