"""Settings: file, environment and flags make one frozen tree."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from daemon.settings.load import load
from daemon.settings.schema import Settings
from stages.detection.prompts import Prompt
from stages.errors import ConfigError
from tests.settings.configuration import GATE

EXAMPLE = Path(__file__).parents[2] / "deploy" / "maskcast.toml"
pytestmark = pytest.mark.usefixtures("bare_machine")


def test_example_file_shows_every_setting_at_its_default() -> None:
    written = tomllib.loads(EXAMPLE.read_text())
    streams = written.pop("streams")
    assert written == Settings().model_dump(mode="json", exclude={"streams"})
    assert [stream.name for stream in load(EXAMPLE).streams] == [stream["name"] for stream in streams]


def test_flag_wins_over_environment_wins_over_file_wins_over_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[detection]\nevery = 2\nbox_threshold = 0.2\ntext_threshold = 0.2\n")
    monkeypatch.setenv("MASKCAST_DETECTION__EVERY", "3")
    monkeypatch.setenv("MASKCAST_DETECTION__BOX_THRESHOLD", "0.3")
    detection = load(file, {"detection": {"every": 4}}).detection
    assert (detection.every, detection.box_threshold, detection.text_threshold) == (4, 0.3, 0.2)
    assert detection.auto_threshold is False


def test_environment_holds_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKCAST_PUBLISH__FRAMES", "false")
    monkeypatch.setenv("MASKCAST_MODELS__DEVICE", "cuda:1")
    monkeypatch.setenv("MASKCAST_MODELS__COMPILE", "true")
    monkeypatch.setenv("MASKCAST_STREAMS", '[{"name": "a", "source": "a.mp4", "prompts": ["dog"]}]')
    settings = load()
    assert settings.publish.frames is False
    assert settings.models.device == "cuda:1"
    assert settings.models.compile is True
    assert settings.streams[0].prompts == (Prompt("dog", "dog"),)


@pytest.mark.parametrize(("written", "value"), [('"auto"', "auto"), ("true", True), ("false", False)])
def test_compilation_is_automatic_on_or_off(file: Path, written: str, value: str | bool) -> None:
    file.write_text(f"[models]\ncompile = {written}\n")
    assert load(file).models.compile == value


@pytest.mark.parametrize(("written", "value"), [('"off"', "off"), ('"auto"', "auto"), ("1", 1), ("16", 16), ('"4"', 4)])
def test_tiles_are_off_automatic_or_a_number(file: Path, written: str, value: str | int) -> None:
    """Flags and the environment give the number as a text; a stream may have its own."""
    file.write_text(f"[detection]\ntiles = {written}\n{GATE}detection.every = 5\n")
    settings = load(file)
    assert settings.detection.tiles == settings.streams[0].resolved(settings).detection.tiles == value
    file.write_text(f"{GATE}detection.tiles = {written}\n")
    settings = load(file)
    assert (settings.detection.tiles, settings.streams[0].resolved(settings).detection.tiles) == ("off", value)
    assert load(file, {"detection": {"tiles": "2"}}).streams[0].detection.tiles == 2


@pytest.mark.parametrize("written", ["0", "17", "-1", '"many"', "true", "2.0", '"1e1"'])
def test_any_other_number_of_tiles_is_one_line_that_says_what_is_allowed(file: Path, written: str) -> None:
    file.write_text(f"[detection]\ntiles = {written}\n")
    allowed = 'must be "off", "auto" or a number of tiles from 1 to 16'
    with pytest.raises(ConfigError, match=allowed) as error:
        load(file)
    assert str(error.value) == f"{file}:2: detection.tiles = {written} {allowed}"


def test_file_is_found_by_argument_then_variable_then_default_path(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc.toml").write_text("[tracking]\nwindow = 1\n")
    assert load().tracking.window == 1
    (tmp_path / "named.toml").write_text("[tracking]\nwindow = 2\n")
    monkeypatch.setenv("MASKCAST_CONFIG", str(tmp_path / "named.toml"))
    assert load().tracking.window == 2
    file.write_text("[tracking]\nwindow = 3\n")
    assert load(file).tracking.window == 3


def test_settings_made_in_code_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKCAST_DETECTION__EVERY", "3")
    assert Settings().detection.every == 30


def test_settings_cannot_be_changed(file: Path) -> None:
    file.write_text(GATE)
    settings = load(file)
    for table, key in ((settings, "models"), (settings.detection, "every"), (settings.streams[0], "name")):
        with pytest.raises(ValidationError):
            setattr(table, key, None)


def test_stream_overrides_only_the_keys_that_it_sets(file: Path) -> None:
    file.write_text(
        f"[detection]\nevery = 7\nbox_threshold = 0.5\n[record]\ndir = 'all'\n{GATE}"
        "detection.every = 10\ntracking.max_objects = 3\npublish.jpeg_quality = 50\n"
    )
    settings = load(file)
    stream = settings.streams[0].resolved(settings)
    assert (stream.detection.every, stream.detection.box_threshold) == (10, 0.5)
    assert (stream.tracking.max_objects, stream.tracking.window) == (3, 8)
    assert (stream.publish.jpeg_quality, stream.publish.endpoint) == (50, settings.publish.endpoint)
    assert stream.record.dir == "all"
    assert stream.resolved(settings) == stream


def test_stream_may_choose_its_thresholds_by_itself(file: Path) -> None:
    file.write_text(f"{GATE}detection.auto_threshold = true\n")
    settings = load(file)
    assert settings.streams[0].resolved(settings).detection.auto_threshold
    assert not settings.detection.auto_threshold


def test_stream_may_be_classified_in_its_own_way(file: Path) -> None:
    own = "classification.target = 'objects'\nclassification.every = 5\n"
    file.write_text(f"[models]\nclassifier = 'best.pt'\n[classification]\nevery = 7\n{GATE}{own}")
    settings = load(file)
    stream = settings.streams[0].resolved(settings).classification
    assert (stream.target, stream.every, settings.classification.every) == ("objects", 5, 7)


def test_a_detection_reaches_both_thresholds(file: Path) -> None:
    file.write_text("[detection]\nbox_threshold = 0.4\n")
    assert load(file).detection.least_score == 0.4
    assert Settings().detection.least_score == 0.3


def test_stream_may_set_a_key_back_to_its_default(file: Path) -> None:
    file.write_text(f"[detection]\nevery = 7\n{GATE}detection.every = 30\n")
    settings = load(file)
    assert settings.streams[0].resolved(settings).detection.every == 30


@pytest.mark.parametrize(
    "text",
    [
        "[publish]\nendpoint = 'tcp://*:5555'\ncurve_dir = '/etc/maskcast/curve'",
        "[publish]\nendpoint = 'tcp://*:5555'\ninsecure = true",
        "[publish]\nendpoint = 'tcp://localhost:5555'",
        "[publish]\nendpoint = 'tcp://[::1]:0'",
        "[publish]\nendpoint = 'tcp://127.0.0.1:*'",
        "[publish]\nendpoint = 'ipc:///run/maskcast/masks'",
        "[http]\nlisten = '[::1]:9109'",
        "[http]\nlisten = 'localhost:0'",
        "[http]\nlisten = '0.0.0.0:9109'\ntoken = 't'",
        "[http]\nlisten = '0.0.0.0:9109'\ninsecure = true",
        "[limits]\ngpu_memory = '0.5GiB'",
        "[limits]\ngpu_memory = '512MiB'",
        "[detection]\nbox_threshold = 1",
        GATE.replace('"gate"', '"Küche_2.links-oben"'),
    ],
)
def test_what_the_documentation_allows_is_accepted(file: Path, text: str) -> None:
    file.write_text(text)
    assert load(file)


def test_stream_without_prompts_is_fine_for_classifying_frames(file: Path) -> None:
    silent = f"[models]\nclassifier = 'best.pt'\n{GATE}".replace('["person"]', "[]")
    file.write_text(silent)
    assert load(file).streams[0].prompts == ()
    file.write_text(f"{silent}classification.target = 'objects'\n")
    with pytest.raises(ConfigError, match='stream "gate" has no prompts'):
        load(file)


def test_variables_of_a_kubernetes_service_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKCAST_PORT_5555_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASKCAST_SERVICE_PORT_HTTP", "9109")
    assert load() == Settings()


def test_no_text_of_the_settings_shows_a_secret(file: Path) -> None:
    file.write_text(f"[http]\ntoken = 'hunter2'\n{GATE}")
    settings = load(file)
    resolved = settings.streams[0].resolved(settings)
    assert "hunter2" not in f"{settings!r} {settings} {resolved!r} {settings.http}"
    assert settings.http.token == "hunter2"
    assert "hunter2" in resolved.source


def test_the_fewest_frames_between_keyframes_give_way_to_a_smaller_most(file: Path) -> None:
    file.write_text(f"[detection]\nevery = 3\n{GATE}detection.every = 40\ndetection.least = 20\n")
    settings = load(file)
    assert (Settings().detection.fewest, settings.detection.fewest) == (5, 3)
    assert settings.streams[0].resolved(settings).detection.fewest == 20


def test_state_is_kept_in_the_chosen_folder_else_in_that_of_systemd_else_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert Settings().state.folder is None
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/maskcast:/var/lib/more")
    assert Settings().state.folder == Path("/var/lib/maskcast")
    assert Settings(state={"dir": "kept"}).state.folder == Path("kept")


def test_every_table_refuses_unknown_keys_and_changes() -> None:
    tables = [getattr(Settings(), name) for name in Settings.model_fields if name != "streams"]
    for table in tables:
        assert isinstance(table, BaseModel)
        assert table.model_config["extra"] == "forbid"
        assert table.model_config["frozen"]


def test_flags_and_environment_win_over_what_the_file_says_for_one_stream(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f"{GATE}detection.every = 15\ntracking.window = 4\n")
    monkeypatch.setenv("MASKCAST_TRACKING__WINDOW", "2")
    settings = load(file, {"detection": {"every": 5}})
    stream = settings.streams[0].resolved(settings)
    assert (stream.detection.every, stream.tracking.window) == (5, 2)
