"""Dashboard and alerts on a real Prometheus that reads a real daemon at work.

The figures under DCGM's names come from `tests.deploy.dcgm`: a real exporter, but of no real GPU.
"""

import math
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.dashboard import dashboard, filled, panels
from tests.deploy.dcgm import FIGURES
from tests.deploy.operated import Site, site
from tests.deploy.prometheus import needs_prometheus
from tests.deploy.test_alerts import RULES, needs_promtool
from tests.support.program import get, wait_until

PANELS = panels()
WORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "offset", "bool"}

pytestmark = [pytest.mark.process, needs_prometheus]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def exposition(live: Site) -> str:
    return get(live.metrics)[1] + get(live.forwarder)[1]


def metrics_of(expression: str) -> set[str]:
    """The names of metrics in an expression: what is no label, no function and no word of the language."""
    bare = re.sub(
        r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|on|without|ignoring|group_left|group_right) *\([^)]*\)', " ", expression
    )
    return set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*\b(?! *\()", bare)) - WORDS


@pytest.mark.parametrize("panel", PANELS, ids=[panel.title for panel in PANELS])
def test_every_panel_has_figures_while_a_daemon_works(panel, live):
    for expression in panel.expressions:
        wait_until(lambda: any(map(math.isfinite, live.prometheus.values(expression))), expression)  # noqa: B023 - now


@pytest.mark.parametrize("variable", dashboard()["templating"]["list"][1:], ids=lambda variable: variable["name"])
def test_a_variable_offers_what_there_is(variable, live):
    selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", filled(variable["query"]["query"])).groups()
    offered = live.prometheus.ask(f"label/{label}/values", **{"match[]": selector})
    assert offered == {"instance": ["127.0.0.1"], "stream": ["gate", "yard"]}[variable["name"]]


def test_a_daemon_and_its_gpu_go_by_one_name(live):
    on_both = 'count by (instance) (up{job="maskcast"}) and on (instance) DCGM_FI_DEV_GPU_UTIL'
    wait_until(lambda: live.prometheus.values(on_both) == [1])


def test_prometheus_works_out_every_alert_and_none_rings_for_a_daemon_that_is_well(live):
    rules = [rule for group in live.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
    assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}
    assert {rule["name"]: rule["alerts"] for rule in rules if rule["state"] == "firing"} == {}


def test_every_metric_that_dashboard_and_alerts_name_is_there(live, exposition):
    expressions = [expression for panel in PANELS for expression in panel.expressions]
    named = set[str]().union(*(metrics_of(text) for text in [*expressions, *(rule["expr"] for rule in RULES)]))
    served = set(re.findall(r"^(\w+)", exposition, re.MULTILINE)) | set(FIGURES) | {"up"}
    assert {"maskcast_frame_latency_seconds_bucket", "process_resident_memory_bytes", "up"} <= named
    assert named <= served, named - served


@needs_promtool
def test_prometheus_finds_nothing_to_better_in_the_metrics(live):
    for url in (live.metrics, live.forwarder):
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=get(url)[1], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
