"""The curl examples of daemon/README.md do what it says, with a real daemon."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.program import Program, get, wait_until

pytestmark = pytest.mark.process

[SECTION] = re.findall(
    r"^## HTTP\n(.*?)^## ", (Path(__file__).parents[2] / "daemon/README.md").read_text(), re.DOTALL | re.MULTILINE
)
LINES = re.findall(r"^    (\S.*)$", SECTION.replace("\\\n", ""), re.MULTILINE)
LOOK, PROMPTS, ADD, REFINE, REMOVE, START, END, WITH_TOKEN = [line for line in LINES if line.startswith("curl ")]
[RUN] = [line for line in LINES if line.startswith("maskcast run ")]
TOKEN = "let-me-in"


class Daemon:
    """The chapter's command on free ports, and its curl examples."""

    def __init__(self, folder: Path, **environment: str) -> None:
        [source, prompt] = re.findall(r'"([^"]*)"', RUN)
        assert "--detector embedded --segmenter embedded" in re.sub(" +", " ", RUN)
        self._program = Program(source, "--prompt", prompt, **environment)
        self.url = self._program.address("metrics").removesuffix("/metrics")
        self._folder = folder
        (folder / ".curlrc").write_text("silent\nfail-with-body\n")
        wait_until(lambda: self.shapes["frame"] is not None)

    @property
    def shapes(self) -> dict[str, Any]:
        status, body = get(f"{self.url}/api/streams/shapes")
        assert status == 200, body
        shown: dict[str, Any] = json.loads(body)
        return shown

    def track(self, track: int) -> dict[str, Any] | None:
        return next((shown for shown in self.shapes["tracks"] if shown["id"] == track), None)

    def run(self, example: str, track: int = 7) -> Any:
        """What the example prints, as JSON; its port and the id of its object are this daemon's."""
        assert example.count("http://127.0.0.1:9109/") == 1
        line = example.replace("http://127.0.0.1:9109", self.url).replace("/objects/7", f"/objects/{track}")
        environment = {**os.environ, "CURL_HOME": str(self._folder)}
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout or "null")

    def close(self) -> None:
        self._program.process.terminate()
        assert self._program.end()[0] == 0


@pytest.fixture(autouse=True)
def curl() -> None:
    if shutil.which("curl") is None:
        assert not os.environ.get("MASKCAST_REQUIRE_TOOLS"), "curl is missing: apt-get install curl"
        pytest.skip("needs curl: apt-get install curl")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # what is added at a fixed place may show nothing: it must last until a busy machine has run the next example
    daemon = Daemon(tmp_path_factory.mktemp("curl"), MASKCAST_TRACKING__LOST_AFTER="100000")
    yield daemon
    daemon.close()


def test_a_stream_is_shown(daemon):
    shown = daemon.run(LOOK)
    assert (shown["name"], shown["state"], shown["width"]) == ("shapes", "up", 256)


def test_a_new_prompt_is_found_and_the_old_ones_track_goes_on(daemon):
    wait_until(lambda: daemon.shapes["tracks"])
    before = {track["id"] for track in daemon.shapes["tracks"]}
    assert daemon.run(PROMPTS)["prompts"] == ["yellow circle", "purple star"]
    wait_until(lambda: "purple star" in {track["prompt"] for track in daemon.shapes["tracks"]})
    kept = {track["id"] for track in daemon.shapes["tracks"] if track["prompt"] == "yellow circle"}
    assert kept == before


def test_an_object_is_added_corrected_and_removed(daemon):
    track = daemon.run(ADD)["id"]
    wait_until(lambda: daemon.track(track) is not None)
    assert daemon.track(track)["prompt"] is None
    assert daemon.run(REFINE, track) is None
    assert daemon.run(REMOVE, track) is None
    wait_until(lambda: daemon.track(track) is None)


def test_a_stream_is_started_and_ended(daemon):
    assert daemon.run(START)["name"] == "second"

    def names() -> list[str]:
        return [stream["name"] for stream in json.loads(get(f"{daemon.url}/api/streams")[1])["streams"]]

    assert names() == ["shapes", "second"]
    assert daemon.run(END) is None
    assert names() == ["shapes"]


def test_with_a_token_a_change_needs_it(tmp_path):
    assert f"Bearer {TOKEN}" in WITH_TOKEN
    daemon = Daemon(tmp_path, MASKCAST_HTTP__TOKEN=TOKEN)
    try:
        assert daemon.run(WITH_TOKEN)["prompts"] == ["yellow circle"]
        with pytest.raises(AssertionError, match="needs the header Authorization: Bearer"):
            daemon.run(PROMPTS)
    finally:
        daemon.close()


def test_the_preview_shows_pictures(daemon):
    """The chapter's address of it, as a player reads it."""
    assert "`/api/streams/shapes/preview.mjpeg`" in SECTION
    with av.open(f"{daemon.url}/api/streams/shapes/preview.mjpeg", format="mpjpeg") as video:
        picture = next(video.decode(video=0))
    assert (picture.width, picture.height) == (256, 256)
