"""A real daemon that reads its file again on SIGHUP, is killed, and comes back as it was changed over HTTP."""

import json
import re
import signal
import stat
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from daemon.changes.state_file import StateFile
from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE, Program, get, wait_until

pytestmark = pytest.mark.process

PROMPT = ShapesWorld(4).labels[0]
AWAY = "rtsp://user:hunter2@127.0.0.1:1/{}"  # a camera that is tried again and again costs nothing


def table(name: str, source: str, prompt: str = "blue star") -> str:
    return f'[[streams]]\nname = "{name}"\nsource = "{source}"\nprompts = ["{prompt}"]\n'


STAYS = "[detection]\nevery = 5\n" + table("stays", "testsrc://shapes?seed=4&live=1&fps=5", PROMPT)
BEFORE = STAYS + table("goes", AWAY.format("goes")) + table("moves", AWAY.format("there"))
AFTER = STAYS + table("moves", AWAY.format("elsewhere")) + table("comes", AWAY.format("comes"))


class Daemon:
    """The program with a configuration file, a log and a folder for its state."""

    def __init__(self, folder: Path) -> None:
        self.file, self.log, self.kept = folder / "maskcast.toml", folder / "log", folder / "state" / "changes.json"
        state = {"MASKCAST_STATE__DIR": str(folder / "state")}
        self.program = Program("--config", str(self.file), "--log", str(self.log), **state)
        self.url = self.program.address("metrics").removesuffix("/metrics")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or "null")

    def streams(self) -> dict[str, Any]:
        return {stream["name"]: stream for stream in self.ask("GET", "/api/streams")["streams"]}

    def tracks(self) -> set[int]:
        return {track["id"] for track in self.streams()["stays"]["tracks"]}

    def loading(self) -> list[str]:
        """How long each model took to load, as the metrics have it: another load would take another time."""
        return re.findall(r"^maskcast_model_load_seconds\{.*$", get(f"{self.url}/metrics")[1], re.MULTILINE)

    def kill(self) -> None:
        self.program.process.kill()
        self.program.process.communicate()


def test_a_hangup_changes_the_streams_that_the_file_changes_and_a_kill_loses_no_change(tmp_path):
    (tmp_path / "maskcast.toml").write_text(BEFORE)
    daemon = Daemon(tmp_path)
    try:
        wait_until(daemon.tracks)
        before, ids, loading = daemon.streams(), daemon.tracks(), daemon.loading()
        daemon.log.rename(tmp_path / "log.1")
        daemon.file.write_text(f"[models]\nprecision = 'float32'\n{AFTER}")
        daemon.program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log.exists() and "read again" in daemon.log.read_text())
        assert "the log file was opened again" in daemon.log.read_text()
        assert "read again: added comes; removed goes; changed moves" in daemon.log.read_text()
        assert "this counts from the next start on: models.precision" in daemon.log.read_text()
        after = daemon.streams()
        assert list(after) == ["stays", "moves", "comes"]
        assert after["stays"]["session"] == before["stays"]["session"]
        assert after["moves"]["session"] != before["moves"]["session"]
        wait_until(lambda: daemon.streams()["stays"]["frame"] > before["stays"]["frame"] + 5)
        assert daemon.tracks() & ids
        assert daemon.loading() == loading

        daemon.file.write_text(AFTER + "prompt = 1\n")
        with pytest.raises(urllib.error.HTTPError) as refused:
            daemon.ask("POST", "/api/reload")
        assert refused.value.code == 422
        assert re.fullmatch(r".*maskcast\.toml:\d+: unknown setting .*", json.loads(refused.value.read())["error"])
        daemon.file.write_text(AFTER)
        nothing = {"added": [], "removed": [], "changed": [], "restart": [], "failed": {}}
        assert daemon.ask("POST", "/api/reload") == nothing

        daemon.ask("POST", "/api/streams", {"name": "mine", "source": AWAY.format("mine"), "prompts": ["red square"]})
        daemon.ask("PUT", "/api/streams/comes/prompts", {"prompts": ["green circle"]})
        daemon.ask("DELETE", "/api/streams/moves")
        changes = daemon.ask("GET", "/api/changes")
        assert changes["kept"]
        assert [change["stream"] for change in changes["changes"]] == ["mine", "comes", "moves"]
        assert "hunter2" not in json.dumps(changes)
    finally:
        daemon.kill()
    assert stat.S_IMODE(daemon.kept.stat().st_mode) == 0o600
    daemon = Daemon(tmp_path)
    try:
        assert {name: stream["prompts"] for name, stream in daemon.streams().items()} == {
            "stays": [PROMPT],
            "comes": ["green circle"],
            "mine": ["red square"],
        }
        daemon.ask("DELETE", "/api/changes")
        assert list(daemon.streams()) == ["stays", "comes", "moves"]
        daemon.program.process.send_signal(signal.SIGTERM)
        assert daemon.program.end()[0] == 0
    finally:
        daemon.kill()


def test_a_second_daemon_on_the_same_folder_is_refused_in_one_line(tmp_path):
    first = StateFile(tmp_path)
    program = Program("--stay", MASKCAST_STATE__DIR=str(tmp_path))
    wrong = f"maskcast: error: state.dir {tmp_path}: another daemon keeps its changes there; name another one"
    assert program.end() == (2, "", [wrong])
    first.close()
