"""``maskcast check``: one finding a line, each about something that was really tried."""

import json
import socket
from pathlib import Path

import pytest
import torch

from daemon.__main__ import main

EMBEDDED = ["--detector", "embedded", "--segmenter", "embedded", "--device", "cpu"]
FREE = ["--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"]


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the test's own, and one core."""
    monkeypatch.delenv("MASKCAST_CONFIG", raising=False)
    torch.set_num_threads(1)


def write(file: Path, *streams: tuple[str, str], extra: str = "") -> str:
    """A configuration with streams of these names and sources."""
    tables = [
        f'[[streams]]\nname = "{name}"\nsource = "{source}"\nprompts = ["red circle"]\n' for name, source in streams
    ]
    file.write_text("\n".join([extra, *tables]))
    return str(file)


def findings(printed: str) -> dict[str, tuple[bool, str]]:
    """What ``--json`` printed: ok and detail by subject."""
    summary = json.loads(printed)
    assert summary["ok"] == all(finding["ok"] for finding in summary["findings"])
    return {finding["subject"]: (finding["ok"], finding["detail"]) for finding in summary["findings"]}


def test_machine_that_can_do_it_all_is_all_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = "testsrc://shapes?frames=7&size=160x96&fps=12"
    config = write(tmp_path / "c.toml", ("shapes", shapes), extra=f"[record]\ndir = '{tmp_path / 'new' / 'out'}'")
    assert main(["check", "--config", config, *EMBEDDED, *FREE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop() == "all 10 checks passed"
    assert all(line.startswith("ok ") for line in lines)
    details = {subject: detail for _, subject, detail in (line.split(maxsplit=2) for line in lines)}
    assert list(details) == [
        "settings", "memory", "device", "detector", "prompts", "segmenter", "shapes", "publish", "http", "record",
    ]  # fmt: skip
    assert details["settings"] == "1 stream: shapes"
    assert details["prompts"] == "the detector reads 1 prompt"
    assert details["shapes"] == "160x96 at 12 FPS, 7 frames, decoded by software"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("tiles", "told"),
    [
        ("1", ", detected on as a whole"),
        ("4", ", detected on as a whole and in 4 tiles (2 x 2)"),
        ("auto", ", detected on as a whole"),
    ],
)
def test_the_tiles_of_a_source_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiles: str, told: str):
    config = write(tmp_path / "c.toml", ("shapes", "testsrc://shapes?frames=7&size=160x96"))
    assert main(["check", "--config", config, *EMBEDDED, *FREE, "--tiles", tiles, "--json"]) == 0
    assert findings(capsys.readouterr().out)["shapes"][1].endswith(f"decoded by software{told}")


def test_every_failure_is_found_and_none_hides_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no video")
    sources = (("gone", "gone.mp4"), ("text", str(tmp_path / "file")), ("refused", "rtsp://me:hunter2@127.0.0.1:9/x"))
    config = write(tmp_path / "c.toml", *sources, extra=f"[record]\ndir = '{tmp_path / 'file' / 'out'}'")
    models = ["--detector", str(tmp_path), "--segmenter", str(tmp_path / "file"), "--device", "cpu"]
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        masks, http = (f"127.0.0.1:{server.getsockname()[1]}" for server in (first, second))
        ports = ["--publish", f"tcp://{masks}", "--http", http]
        assert main(["check", "--config", config, *models, *ports, "--json"]) == 1
    shown = capsys.readouterr()
    failed = "detector, segmenter, gone, text, refused, publish, http, record"
    assert shown.err == f"maskcast: error: 8 of 11 checks failed: {failed}; stdout says why\n"
    found = findings(shown.out)
    well = {subject for subject, (ok, _) in found.items() if ok}
    assert well == {"settings", "memory", "device"}
    assert found["gone"][1].startswith(f"{config}:5: cannot open gone.mp4: no such file")
    assert found["text"][1].startswith(f"{config}:10: ")
    assert found["record"][1].startswith(f"{config}:2: ")
    assert found["detector"][1].startswith("detector "), "a flag has no line"
    assert "refused" in found["refused"][1]
    assert masks in found["publish"][1]
    assert http in found["http"][1]
    assert str(tmp_path / "file") in found["record"][1]
    assert "hunter2" not in str(found)


def test_wrong_configuration_is_the_only_finding_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "c.toml", extra="[detection]\nevry = 1")
    assert main(["check", "--config", config, "--json"]) == 2
    expected = f"{config}:2: unknown setting detection.evry; did you mean detection.every?"
    shown = capsys.readouterr()
    assert findings(shown.out) == {"settings": (False, expected)}
    assert shown.err == f"maskcast: error: {expected}\n"


def test_every_fault_of_the_configuration_is_listed_once_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "c.toml", ("gate", "a.mp4"), ("gate", "b.mp4"))
    with Path(config).open("a") as file:
        file.write("record.resume = true\n")
    assert main(["check", "--config", config]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f'fail  settings     {config}:7: stream "gate" resumes a recording but has no folder; set record.dir '
        "(--record DIR)",
        f'fail  settings     {config}:7: two streams are named "gate"; give each its own name',
    ]
    assert shown.err == "maskcast: error: 2 faults in the configuration; stdout has a line for each\n"


def test_every_misspelt_variable_is_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("DETECTION__EVRY", "TRACKING__WINDOWS"):
        monkeypatch.setenv(f"MASKCAST_{name}", "3")
    assert main(["check"]) == 2
    assert [line.split()[5] for line in capsys.readouterr().out.splitlines()] == [
        "MASKCAST_DETECTION__EVRY;",
        "MASKCAST_TRACKING__WINDOWS;",
    ]


def test_prompt_that_the_detector_cannot_read_and_one_port_for_two_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "c.toml", ("shapes", "testsrc://shapes?frames=1"))
    long = Path(config).read_text().replace('"red circle"', f'"{"red " * 200}circle"')
    Path(config).write_text(long)
    same = ["--publish", "tcp://127.0.0.1:9765", "--http", "127.0.0.1:9765"]
    assert main(["check", "--config", config, *EMBEDDED, *same, "--json"]) == 1
    found = findings(capsys.readouterr().out)
    assert found["shapes"] == (True, "256x256 at 30 FPS, 1 frame, decoded by software")
    assert found["prompts"][0] is False
    assert found["prompts"][1].startswith(f"{config}:5: stream shapes: prompt ")
    assert "has the port of http.listen, 127.0.0.1:9765" in found["publish"][1]


def test_device_that_is_not_there_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    device = f"cuda:{torch.cuda.device_count()}"
    assert main(["check", *EMBEDDED, *FREE, "--device", device, "--json"]) == 1
    found = findings(capsys.readouterr().out)
    assert found["device"] == (False, found["detector"][1])
    assert device in found["device"][1]
