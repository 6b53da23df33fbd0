"""Settings: file, environment and flags make one frozen tree, and what is wrong is said in one line."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from daemon import settings as settings_module
from daemon.cli_streams import stream_name, streams_of
from daemon.settings import Settings, load
from stages.errors import ConfigError

EXAMPLE = Path(__file__).parents[1] / "deploy" / "maskcast.toml"
GATE = """
[[streams]]
name = "gate"
source = "rtsp://user:hunter2@camera.local/1"
prompts = ["person"]
"""


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration but the test's own."""
    monkeypatch.delenv("MASKCAST_CONFIG", raising=False)
    monkeypatch.setattr(settings_module, "DEFAULT_PATH", tmp_path / "etc.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "maskcast.toml"


def error_of(file: Path, text: str) -> str:
    """The one line that loading ``text`` ends in."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_example_file_shows_every_setting_at_its_default() -> None:
    written = tomllib.loads(EXAMPLE.read_text())
    streams = written.pop("streams")
    assert written == Settings().model_dump(exclude={"streams"})
    assert [stream.name for stream in load(EXAMPLE).streams] == [stream["name"] for stream in streams]


def test_example_file_comments_on_each_table_of_a_stream() -> None:
    text = EXAMPLE.read_text()
    for section in ("models", "detection", "tracking", "classification", "publish", "http", "record", "limits"):
        assert f"[{section}]" in text


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
    monkeypatch.setenv("MASKCAST_STREAMS", '[{"name": "a", "source": "a.mp4", "prompts": ["dog"]}]')
    settings = load()
    assert settings.publish.frames is False
    assert settings.models.device == "cuda:1"
    assert settings.streams[0].prompts == ("dog",)


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


def test_stream_may_set_a_key_back_to_its_default(file: Path) -> None:
    file.write_text(f"[detection]\nevery = 7\n{GATE}detection.every = 30\n")
    settings = load(file)
    assert settings.streams[0].resolved(settings).detection.every == 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[detection]\nevry = 1", "unknown setting detection.evry; did you mean detection.every?"),
        ("[detecton]\nevery = 1", "unknown setting detecton; did you mean detection?"),
        ("[detection]\nwindow = 1", "unknown setting detection.window; did you mean tracking.window?"),
        ("every = 1", "unknown setting every; did you mean detection.every?"),
        ("[http]\nxyz = 1", "unknown setting http.xyz; known here: listen, token"),
        (
            GATE + "detection.evry = 1",
            'setting streams["gate"].detection.evry; did you mean streams["gate"].detection.',
        ),
        (
            GATE.replace("source", "sorce"),
            'unknown setting streams["gate"].sorce; did you mean streams["gate"].source?',
        ),
    ],
)
def test_unknown_key_is_an_error_with_the_nearest_valid_name(file: Path, text: str, expected: str) -> None:
    error = error_of(file, text)
    assert error.startswith(f"{file}: ")
    assert expected in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[detection]\nevery = 'often'", 'detection.every = "often" should be a valid integer'),
        ("[detection]\nevery = '30'", 'detection.every = "30" should be a valid integer'),
        ("[detection]\nevery = true", "detection.every = true should be a valid integer"),
        ("[detection]\nevery = 2.5", "detection.every = 2.5 should be a valid integer"),
        ("[publish]\nframes = 1", "publish.frames = 1 should be a valid boolean"),
        ("[models]\ndetector = 1", "models.detector = 1 should be a valid string"),
        ("detection = 1", "detection = 1 should be a valid table"),
        ("streams = 1", "streams = 1 should be a valid list"),
        (GATE.replace('["person"]', '"person"'), 'streams["gate"].prompts = "person" should be a valid list'),
        (GATE.replace('name = "gate"\n', ""), "streams[0].name is missing"),
    ],
)
def test_wrong_type_is_an_error_that_shows_key_and_value(file: Path, text: str, expected: str) -> None:
    assert error_of(file, text) == f"{file}: {expected}"


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("[detection]\nevery = 0", "detection.every = 0", "greater than or equal to 1"),
        ("[detection]\nbox_threshold = 1.5", "detection.box_threshold = 1.5", "less than or equal to 1"),
        ("[detection]\ntext_threshold = -0.1", "detection.text_threshold = -0.1", "greater than or equal to 0"),
        ("[detection]\nbox_threshold = nan", "detection.box_threshold = NaN", "equal to"),
        ("[tracking]\nwindow = 0", "tracking.window = 0", "greater than or equal to 1"),
        ("[tracking]\nmax_objects = 0", "tracking.max_objects = 0", "greater than or equal to 1"),
        ("[tracking]\nlost_after = -1", "tracking.lost_after = -1", "greater than or equal to 1"),
        ("[classification]\nevery = 0", "classification.every = 0", "greater than or equal to 1"),
        ("[classification]\ntarget = 'all'", 'classification.target = "all"', "'frame' or 'objects'"),
        ("[publish]\njpeg_quality = 101", "publish.jpeg_quality = 101", "less than or equal to 100"),
        ("[publish]\njpeg_quality = 0", "publish.jpeg_quality = 0", "greater than or equal to 1"),
        ("[publish]\nsend_hwm = 0", "publish.send_hwm = 0", "greater than or equal to 1"),
        ("[publish]\nwait_for = -1", "publish.wait_for = -1", "greater than or equal to 0"),
        ("[publish]\nwhen_full = 'block'", 'publish.when_full = "block"', "'drop' or 'wait'"),
        ("[publish]\nmask_encoding = 'png'", 'publish.mask_encoding = "png"', "'rle' or 'counts'"),
        ("[publish]\nendpoint = '5555'", 'publish.endpoint = "5555"', 'must be "tcp://HOST:PORT" or "ipc://PATH"'),
        ("[publish]\nendpoint = 'tcp://host'", 'publish.endpoint = "tcp://host"', "tcp://HOST:PORT"),
        ("[publish]\nendpoint = 'tcp://*:70000'", 'publish.endpoint = "tcp://*:70000"', "to 65535"),
        ("[http]\nlisten = '9109'", 'http.listen = "9109"', "HOST:PORT"),
        ("[http]\nlisten = 'localhost:99999'", 'http.listen = "localhost:99999"', "to 65535"),
        ("[models]\ndevice = 'gpu'", 'models.device = "gpu"', '"auto", "cuda", "cuda:1" or "cpu"'),
        ("[models]\nprecision = 'int8'", 'models.precision = "int8"', "'auto', 'float32' or 'bfloat16'"),
        ("[models]\ndetector = ''", 'models.detector = ""', "at least 1 character"),
        ("[limits]\ngpu_memory = '80'", 'limits.gpu_memory = "80"', '"80%" or "12GiB"'),
        ("[limits]\ngpu_memory = '120%'", 'limits.gpu_memory = "120%"', "at most 100%"),
        ("[limits]\ngpu_memory = '0GiB'", 'limits.gpu_memory = "0GiB"', "more than nothing"),
        (GATE + "detection.every = 0", 'streams["gate"].detection.every = 0', "greater than or equal to 1"),
        (GATE.replace('"gate"', '"gate/1"'), '"gate/1"', "1 to 64 letters, digits, dots, dashes and underscores"),
        (GATE.replace('"gate"', '"the gate"'), '"the gate"', "1 to 64 letters"),
        (GATE.replace('"gate"', '".."'), '".."', "1 to 64 letters"),
        (GATE.replace('"gate"', '""'), '""', "1 to 64 letters"),
    ],
)
def test_value_out_of_range_is_an_error_that_says_what_is_allowed(
    file: Path, text: str, key: str, allowed: str
) -> None:
    error = error_of(file, text)
    assert key in error
    assert allowed in error


@pytest.mark.parametrize(
    "text",
    [
        "[publish]\nendpoint = 'tcp://*:5555'",
        "[publish]\nendpoint = 'tcp://[::1]:0'",
        "[publish]\nendpoint = 'tcp://127.0.0.1:*'",
        "[publish]\nendpoint = 'ipc:///run/maskcast/masks'",
        "[http]\nlisten = '[::1]:9109'",
        "[http]\nlisten = 'localhost:0'",
        "[http]\nlisten = '0.0.0.0:9109'\ntoken = 't'",
        "[limits]\ngpu_memory = '0.5GiB'",
        "[limits]\ngpu_memory = '512MiB'",
        "[detection]\nbox_threshold = 1",
        GATE.replace('"gate"', '"Küche_2.links-oben"'),
    ],
)
def test_what_the_documentation_allows_is_accepted(file: Path, text: str) -> None:
    file.write_text(text)
    assert load(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GATE + GATE, 'two streams are named "gate"'),
        (GATE.replace('["person"]', "[]"), 'stream "gate" has no prompts'),
        (GATE.replace('["person"]', '["person", " . "]'), "prompt ' . ' names nothing"),
        (GATE + "record.frames = true", "has no folder; set record.dir"),
        (GATE + "publish.endpoint = 'tcp://*:1'", "cannot set endpoint for one stream; only frames, jpeg_quality"),
        (GATE + "models.device = 'cpu'", 'unknown setting streams["gate"].models'),
        ("[http]\nlisten = '0.0.0.0:9109'", "needs a token, because 0.0.0.0:9109 can be reached from other machines"),
    ],
)
def test_settings_that_do_not_fit_together_are_an_error(file: Path, text: str, expected: str) -> None:
    assert expected in error_of(file, text)


def test_stream_without_prompts_is_fine_for_classifying_frames(file: Path) -> None:
    silent = GATE.replace('["person"]', "[]")
    file.write_text(f"[models]\nclassifier = 'best.pt'\n{silent}")
    assert load(file).streams[0].prompts == ()
    error = error_of(file, f"[models]\nclassifier = 'best.pt'\n{silent}classification.target = 'objects'\n")
    assert "has no prompts" in error


def test_more_than_one_problem_is_counted(file: Path) -> None:
    assert error_of(file, "[detection]\nevery = 0\nbox_threshold = 2").endswith(" (and 1 more)")


def test_error_names_where_the_value_was_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("")
    with pytest.raises(ConfigError, match=r"command line: detection.every = -1 should be"):
        load(file, {"detection": {"every": -1}})
    monkeypatch.setenv("MASKCAST_DETECTION__EVERY", "often")
    with pytest.raises(ConfigError, match=r'environment: detection.every = "often" should be a valid integer'):
        load(file)


@pytest.mark.parametrize("name", ["MASKCAST_DETECTION__EVRY", "MASKCAST_DETECTION_EVERY", "MASKCAST_DETECTON__EVERY"])
def test_misspelt_variable_is_an_error_with_the_nearest_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigError, match=f"unknown setting {name}; did you mean MASKCAST_DETECTION__EVERY"):
        load()


def test_variables_of_a_kubernetes_service_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKCAST_PORT_5555_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASKCAST_SERVICE_PORT_HTTP", "9109")
    assert load() == Settings()


def test_list_in_the_environment_that_is_not_json_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKCAST_STREAMS", "gate")
    with pytest.raises(ConfigError, match=r'"streams".*written as JSON'):
        load()


def test_broken_toml_is_an_error_with_file_and_line(file: Path) -> None:
    error = error_of(file, "[detection]\nevery = = 1\n")
    assert error.startswith(f"{file}: not valid TOML: ")
    assert "line 2" in error


def test_file_that_is_not_text_is_an_error(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a UTF-8 text file"):
        load(file)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; name the configuration with --config"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="is a directory; name"):
        load(tmp_path)


def test_no_text_of_the_settings_shows_a_secret(file: Path) -> None:
    file.write_text(f"[http]\ntoken = 'hunter2'\n{GATE}")
    settings = load(file)
    resolved = settings.streams[0].resolved(settings)
    assert "hunter2" not in f"{settings!r} {settings} {resolved!r} {settings.http}"
    assert settings.http.token == "hunter2"
    assert "hunter2" in resolved.source


@pytest.mark.parametrize(
    "text", ["[http]\ntoken = ['hunter2']", GATE.replace('"rtsp', '["rtsp').replace("/1", '/1"] #'), GATE + "x = 1"]
)
def test_no_error_shows_a_secret(file: Path, text: str) -> None:
    assert "hunter2" not in error_of(file, text)


def test_every_table_refuses_unknown_keys_and_changes() -> None:
    tables = [getattr(Settings(), name) for name in Settings.model_fields if name != "streams"]
    for table in tables:
        assert isinstance(table, BaseModel)
        assert table.model_config["extra"] == "forbid"
        assert table.model_config["frozen"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("videos/gate.mp4", "gate"),
        ("my holiday (2).mkv", "my-holiday-2"),
        ("rtsp://user:secret@camera.local:554/stream1", "camera.local"),
        ("testsrc://shapes?seed=1", "shapes"),
        ("v4l2:///dev/video0", "video0"),
        ("udp://@:5000", "5000"),
        ("rtsp://[fe80::1]/a", "fe80-1"),
        ("rtsp://[broken/a", "a"),
        ("/", "stream"),
        ("a" * 100 + ".mp4", "a" * 56),
    ],
)
def test_source_on_the_command_line_names_its_stream(source: str, name: str) -> None:
    assert stream_name(source) == name


def test_streams_of_the_command_line_have_unique_names_and_the_same_prompts() -> None:
    overrides = streams_of(["a/gate.mp4", "b/gate.mp4", "gate-2.mp4"], ["person", "car"])
    streams = load(None, overrides).streams
    assert [stream.name for stream in streams] == ["gate", "gate-2", "gate-2-2"]
    assert {stream.prompts for stream in streams} == {("person", "car")}


def test_prompt_without_a_source_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--prompt needs a SOURCE"):
        streams_of([], ["person"])
