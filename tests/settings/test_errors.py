"""Whatever is wrong with the settings is said in one line: where it was set, the key, the value, what is allowed."""

import re
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.settings.errors import Layer, SettingsError, explain
from daemon.settings.load import load
from stages.errors import ConfigError
from tests.settings.configuration import GATE

pytestmark = pytest.mark.usefixtures("bare_machine")


def error_of(file: Path, text: str) -> str:
    """The one line that loading ``text`` ends in."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[detection]\nevry = 1", "unknown setting detection.evry; did you mean detection.every?"),
        ("[detecton]\nevery = 1", "unknown setting detecton; did you mean detection?"),
        ("[detection]\nwindow = 1", "unknown setting detection.window; did you mean tracking.window?"),
        ("every = 1", "unknown setting every; did you mean detection.every?"),
        ("[http]\nxyz = 1", "unknown setting http.xyz; known here: listen, token, insecure"),
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
    assert re.match(rf"{file}:\d+: unknown setting", error)
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
        ("[models]\ncompile = 'maybe'", "models.compile = \"maybe\" should be 'auto' or should be a valid boolean"),
        ("[models]\ncompile = 1", "models.compile = 1 should be 'auto' or should be a valid boolean"),
        ("detection = 1", "detection = 1 should be a valid table"),
        ("streams = 1", "streams = 1 should be a valid list"),
        (GATE.replace('["person"]', '"person"'), 'streams["gate"].prompts = "person" should be a valid list'),
        (GATE.replace('name = "gate"\n', ""), "streams[0].name is missing"),
    ],
)
def test_wrong_type_is_an_error_that_shows_key_and_value(file: Path, text: str, expected: str) -> None:
    assert re.sub(r":\d+: ", ": ", error_of(file, text)) == f"{file}: {expected}"


@pytest.mark.parametrize(
    ("source", "transport", "expected"),
    [
        ("rtsp://cam.local/1", "sctp", "streams[\"gate\"].transport = \"sctp\" should be 'auto', 'tcp' or 'udp'"),
        ("gate.mp4", "udp", 'has transport = "udp", which only rtsp:// sources have; leave it out'),
        ("http://cam.local/1.mjpg", "tcp", 'has transport = "tcp", which only rtsp:// sources have'),
        ("rtsps://cam.local/1", "udp", 'has transport = "udp", but rtsps:// comes over TCP only'),
    ],
)
def test_a_transport_that_the_source_does_not_have_is_an_error(
    file: Path, source: str, transport: str, expected: str
) -> None:
    text = GATE.replace("rtsp://user:hunter2@camera.local/1", source) + f'transport = "{transport}"'
    assert expected in error_of(file, text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rtsp://user:hun/ter#2@s?ecret/x@camera.local/1", "write # as %23, / as %2F, ? as %3F, @ as %40"),
        ("rtsp://camera.local:hunter2/1", "rtsp://HOST:PORT/PATH, the port a number up to 65535"),
        ("rtsp://camera.local:66000/1", "the port a number up to 65535"),
        ("udp://239.0.0.1", "it needs udp://HOST:PORT"),
        ("rstp://user:hunter2@camera.local/1", "unknown scheme in rstp://camera.local/***"),
    ],
)
def test_an_address_that_can_never_be_opened_is_an_error_without_its_password(
    file: Path, source: str, expected: str
) -> None:
    error = error_of(file, GATE.replace("rtsp://user:hunter2@camera.local/1", source))
    assert 'streams["gate"].source is wrong: ' in error
    assert expected in error
    assert not re.search(r"hun|ter#2|s\?ecret", error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[detection]\nevery = 4\nleast = 5", "detection has least = 5 above every = 4; lower least or raise every"),
        ("[detection]\nleast = 40", "detection has least = 40 above every = 30; lower least or raise every"),
        (
            f"[detection]\nleast = 5\n{GATE}detection.every = 2",
            'detection of stream "gate" has least = 5 above every = 2; lower least or raise every',
        ),
    ],
)
def test_more_frames_between_keyframes_at_the_least_than_at_most_are_one_line(
    file: Path, text: str, expected: str
) -> None:
    assert re.sub(r":\d+: ", ": ", error_of(file, text)) == f"{file}: {expected}"


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("[detection]\nevery = 0", "detection.every = 0", "greater than or equal to 1"),
        ("[detection]\nleast = 0", "detection.least = 0", "greater than or equal to 1"),
        ("[detection]\nshare = 1.5", "detection.share = 1.5", "less than or equal to 1"),
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
        ("[record]\nkeep = '7 days ago'", 'record.keep = "7 days ago"', "must be a number with s, min, h or d, as in"),
        ("[record]\nkeep = '0d'", 'record.keep = "0d"', "must be at least 1s"),
        ("[record]\nbefore = ''", 'record.before = ""', "must be a number with s, min, h or d"),
        ("[record]\nkeep_bytes = '200'", 'record.keep_bytes = "200"', "must be a number with kB, MB, GB or TB, as in"),
        ("[record]\nkeep_bytes = '10kB'", 'record.keep_bytes = "10kB"', "must be at least 1MB"),
        ("[record]\nevents = ['track_begun']", "track_begun", "should be 'track_started', 'track_occluded'"),
    ],
)
def test_value_out_of_range_is_an_error_that_says_what_is_allowed(
    file: Path, text: str, key: str, allowed: str
) -> None:
    error = error_of(file, text)
    assert key in error
    assert allowed in error


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
        ("[http]\nlisten = '[::]:9109'\n[publish]\ninsecure = true", "set http.token, or http.insecure = true"),
        ("[publish]\nendpoint = 'tcp://*:5555'", "publish needs keys, because tcp://*:5555 can be reached from other"),
        (
            "[publish]\nendpoint = 'tcp://0.0.0.0:5555'",
            "set publish.curve_dir (maskcast keys new --dir DIR makes it), or",
        ),
        ("[publish]\nendpoint = 'tcp://[::]:1'\n[http]\ninsecure = true", "publish.insecure = true to let"),
        ("[publish]\nendpoint = 'tcp://gpu-host:5555'", "tcp://gpu-host:5555 can be reached from other machines"),
        (GATE + "publish.insecure = true", "cannot set insecure for one stream"),
        ("[record]\nmode = 'events'\nevents = []\n" + GATE, 'has record.mode = "events" but no record.events'),
        (GATE + "record.mode = 'events'\nrecord.segment = ''", 'has record.mode = "events" but no record.segment'),
    ],
)
def test_settings_that_do_not_fit_together_are_an_error(file: Path, text: str, expected: str) -> None:
    assert expected in error_of(file, text)


def test_more_than_one_problem_is_counted(file: Path) -> None:
    error = error_of(file, "[detection]\nevery = 0\nbox_threshold = 2")
    assert error.endswith(" (and 1 more; maskcast check lists them)")


FAULTS = """# a comment, and an empty line

[tracking]
window = 0
lost_after = 3
windw = 5

[[streams]]
name = "yard"
prompts = [
    "bus",
    7,
]
sorce = "yard.mp4"

[[streams]]
source = "gate.mp4"
name = "gate"
detection = { every = 2, box_threshold = "high" }
"""


def test_each_problem_is_listed_once_with_its_line(file: Path) -> None:
    """A misspelt key is one problem, not an unknown and a missing one."""
    file.write_text(FAULTS)
    with pytest.raises(SettingsError) as caught:
        load(file)
    numbers = [(line.removeprefix(f"{file}:").split(": ")[0], line.split(": ")[1]) for line in caught.value.problems]
    assert numbers == [
        ("6", "unknown setting tracking.windw; did you mean tracking.window?"),
        ("14", 'unknown setting streams["yard"].sorce; did you mean streams["yard"].source?'),
        ("4", "tracking.window = 0 should be greater than or equal to 1"),
        ("10", 'streams["yard"].prompts.1 = 7 should be a valid string'),
        ("19", 'streams["gate"].detection.box_threshold = "high" should be a valid number'),
    ]


def test_what_is_wrong_with_streams_as_a_whole_is_listed_with_their_lines(file: Path) -> None:
    file.write_text(GATE + "\n" + GATE.replace('["person"]', "[]") + "record.resume = true\n")
    with pytest.raises(SettingsError) as caught:
        load(file)
    line = 1 + (GATE + "\n" + GATE).splitlines().index("[[streams]]", GATE.count("\n"))
    assert [problem.partition("; ")[0] for problem in caught.value.problems] == [
        f'{file}:{line}: stream "gate" resumes a recording but has no folder',
        f'{file}:{line}: stream "gate" has no prompts',
        f'{file}:{line}: two streams are named "gate"',
    ]


def test_value_that_fits_no_member_of_a_union_is_one_problem() -> None:
    class Table(BaseModel):
        model_config = ConfigDict(strict=True)
        speed: bool | Literal["auto"] = True

    class Root(BaseModel):
        table: Table = Table()

    values = {"table": {"speed": 3}}
    with pytest.raises(ValidationError) as caught:
        Root(**values)
    [problem] = explain(caught.value, Root, [Layer("x.toml", values, "[table]\n\nspeed = 3")])
    assert problem == "x.toml:3: table.speed = 3 should be a valid boolean or should be 'auto'"


def test_file_of_an_editor_of_windows_is_read(file: Path) -> None:
    """It begins with a mark, and its lines end with two characters."""
    file.write_bytes(b"\xef\xbb\xbf[detection]\r\nevery = 17\r\n")
    assert load(file).detection.every == 17
    file.write_bytes(b"\xef\xbb\xbf[detection]\r\n\r\nevery = 0\r\n")
    with pytest.raises(ConfigError, match=rf"{file}:3: "):
        load(file)


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


def test_list_in_the_environment_that_is_not_json_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKCAST_STREAMS", "gate")
    with pytest.raises(ConfigError, match=r'"streams".*written as JSON'):
        load()


def test_broken_toml_is_an_error_with_file_and_line(file: Path) -> None:
    error = error_of(file, "[detection]\nevery = = 1\n")
    assert error.startswith(f"{file}:2: not valid TOML: ")
    assert "line 2, column 9" in error


def test_file_that_is_not_text_is_an_error(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a UTF-8 text file"):
        load(file)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; name the configuration with --config"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="is a directory; name"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text", ["[http]\ntoken = ['hunter2']", GATE.replace('"rtsp', '["rtsp').replace("/1", '/1"] #'), GATE + "x = 1"]
)
def test_no_error_shows_a_secret(file: Path, text: str) -> None:
    assert "hunter2" not in error_of(file, text)


@pytest.mark.parametrize("text", ["streams = ['rtsp://user:hunter2@cam/1']", "streams = 'rtsp://user:hunter2@cam/1'"])
def test_a_password_in_the_wrong_place_is_not_shown(file: Path, text: str) -> None:
    assert "hunter2" not in error_of(file, text)
