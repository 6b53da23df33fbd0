"""The alerts as Prometheus' own tool reads them: each is silent while it should be and fires when it should."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.prometheus import DEPLOY
from tests.support.tools import needs_tool

RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]
needs_promtool = needs_tool("promtool", "prometheus")


def promtool(*arguments: str, folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def expectations() -> Iterator[dict[str, Any]]:
    for test in yaml.safe_load((DEPLOY / "alerts.test.yml").read_text())["tests"]:
        yield from test["alert_rule_test"]


@pytest.mark.process
@needs_promtool
@pytest.mark.parametrize("check", ["config prometheus.yml", "rules alerts.yml"])
def test_prometheus_accepts_the_files(check):
    done = promtool("check", *check.split())
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout
    assert done.stderr == ""


@pytest.mark.process
@needs_promtool
def test_every_alert_fires_and_is_silent_as_its_test_says():
    done = promtool("test", "rules", "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.process
@needs_promtool
@pytest.mark.parametrize("always", ["vector(0) == 1", "vector(1)"], ids=["silent", "firing"])
def test_alerts_that_never_or_always_fire_do_not_pass_their_tests(always, tmp_path):
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["expr"] = always
        rule.pop("for", None)
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "alerts.test.yml").write_text((DEPLOY / "alerts.test.yml").read_text())
    done = promtool("test", "rules", "alerts.test.yml", folder=tmp_path)
    assert done.returncode == 1
    assert set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_firing_and_not_firing(name):
    fires = {bool(expected["exp_alerts"]) for expected in expectations() if expected["alertname"] == name}
    assert fires == {True, False}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_how_urgent_it_is_what_happened_where_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 60
    assert set(rule["annotations"]) == {"summary", "description"}
