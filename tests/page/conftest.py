"""One browser for all modules, and one daemon for those that share it: starting them takes longer than most tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.page.browser import SOURCE, STREAM, ask, chromium, remove_object, running
from tests.support.program import get, wait_until


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="package")
def daemon(browser: Browser) -> Iterator[str]:
    """The address of a daemon with one stream, "shapes", whose models are loaded: else it refuses prompts."""
    with running(SOURCE, *STREAM) as (_, address):
        wait_until(lambda: get(f"{address}/readyz")[0] == 200)
        yield address


@pytest.fixture
def address(daemon: str) -> Iterator[str]:
    """The same daemon, looking for nothing but red circles."""
    yield daemon
    for track in ask(daemon)["tracks"]:
        if track["prompt"] is None:
            remove_object(daemon, track["id"])
    ask(daemon, "/api/streams/shapes/prompts", "PUT", {"prompts": ["red circle"]})
