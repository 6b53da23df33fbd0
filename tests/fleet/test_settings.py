"""fleet.toml, and the configuration that each daemon gets of it."""

import pytest

from daemon.fleet.settings import daemon_toml, load_fleet
from daemon.settings.load import load
from stages.errors import ConfigError

STREAM = """
[[streams]]
name = "gate"
source = "rtsp://user:secret@camera.local/1"
prompts = ["red car, person"]
site = "north"
weight = 2.0
tracking.max_fps = 10
"""


def test_a_daemon_gets_the_settings_without_streams_and_ports_of_its_own(file, bare_machine):
    file.write_text(f'[detection]\nevery = 12\n[http]\ntoken = "tökén \\"x\\""\n[publish]\ninsecure = true\n{STREAM}')
    settings = load_fleet(file)
    own = file.with_name("daemon.toml")
    own.write_text(daemon_toml(settings, "10.0.0.7", 1, settings.http.token))
    daemon = load(own)
    assert daemon.streams == ()
    assert daemon.detection.every == 12
    assert daemon.http.token == 'tökén "x"'
    assert daemon.http.listen == "10.0.0.7:9110"
    assert daemon.publish.endpoint == "tcp://10.0.0.7:5556"


@pytest.mark.parametrize(("number", "folder"), [(0, "/rec"), (1, "/rec/daemon-1")])
def test_each_daemon_of_a_node_records_into_a_folder_of_its_own(file, bare_machine, number, folder):
    file.write_text(f'[record]\ndir = "/rec"\n[http]\ninsecure = true\n{STREAM}')
    own = file.with_name("daemon.toml")
    own.write_text(daemon_toml(load_fleet(file), "127.0.0.1", number, "drawn"))
    assert load(own).record.dir == folder


def test_without_a_token_a_daemons_http_stays_on_its_machine(file, bare_machine):
    file.write_text(STREAM)
    assert 'listen = "127.0.0.1:9109"' in daemon_toml(load_fleet(file), "10.0.0.7", 0, "drawn")


def test_a_daemon_that_may_let_everybody_in_asks_for_no_token(file, bare_machine):
    file.write_text(f"[http]\ninsecure = true\n{STREAM}")
    text = daemon_toml(load_fleet(file), "10.0.0.7", 0, "drawn")
    assert 'listen = "10.0.0.7:9109"' in text
    assert "drawn" not in text


def test_a_stream_is_sent_to_its_daemon_as_it_was_written(file, bare_machine):
    file.write_text(STREAM)
    [stream] = load_fleet(file).streams
    assert stream.for_daemon() == {
        "name": "gate",
        "source": "rtsp://user:secret@camera.local/1",
        "prompts": ["red car", "person"],
        "tracking": {"max_fps": 10},
    }


def test_masks_leave_a_node_with_keys_or_to_everybody(file, bare_machine):
    file.write_text(STREAM)
    settings = load_fleet(file)
    settings.check_address("127.0.0.1")
    with pytest.raises(ConfigError, match=r"10\.0\.0\.7 publishes to other machines, which needs keys"):
        settings.check_address("10.0.0.7")
    for publish in ("insecure = true", 'curve_dir = "/etc/maskcast/curve"'):
        file.write_text(f'[publish]\n{publish}\n[fleet]\nendpoint = "tcp://0.0.0.0:5556"\n{STREAM}')
        load_fleet(file).check_address("10.0.0.7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STREAM + "replicas = 1\n", r'streams\["gate"\]\.replicas = 1'),
        (STREAM + "weigth = 1.0\n", r"did you mean"),
        (STREAM + '[fleet]\nlisten = "0.0.0.0:9110"\n', "token"),
        (
            STREAM + '[fleet]\nendpoint = "tcp://0.0.0.0:5556"\n',
            r"fleet\.endpoint .* needs keys; set publish\.curve_dir",
        ),
        (STREAM + '[publish]\nendpoint = "ipc:///run/masks"\n', r"publish on tcp://"),
        (STREAM + "[fleet]\nfull = 0.0\n", r"fleet\.full"),
        (STREAM + '[state]\ndir = "kept"\n', r"state\.dir: daemons of a fleet keep nothing"),
    ],
)
def test_wrong_values_are_named(file, bare_machine, text, message):
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_fleet(file)
