"""The dashboard as Grafana's own model of it reads it."""

import json
from itertools import combinations
from typing import Any

import pytest

from tests.deploy.dashboard import dashboard, panels

PANELS = panels()
TITLES = [panel.title for panel in PANELS]
ROWS = ["Streams", "Frames", "Latency", "Queues", "Tracks and identities", "GPU", "Host and subscribers", "Governor"]
ROWS += ["Fleet"]


def lost(before: Any, after: Any, at: str = "dashboard") -> list[str]:
    """What of ``before`` is not in ``after``."""
    if isinstance(before, dict):
        pairs = [(f"{at}.{key}", value, after.get(key)) for key, value in before.items()]
    elif isinstance(before, list) and len(before) == len(after or []):
        pairs = [(f"{at}[{i}]", *pair) for i, pair in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [f"{at}: {before!r} became {after!r}"]
    return [line for where, value, other in pairs for line in lost(value, other, where)]


def test_nothing_is_lost_on_the_way_through_grafanas_model():
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is in the extra test")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard())))
    assert lost(dashboard(), again) == []


def test_the_rows_are_those_that_an_operator_looks_for():
    assert list(dict.fromkeys(panel.row for panel in PANELS)) == ROWS


@pytest.mark.parametrize("panel", PANELS, ids=TITLES)
def test_a_panel_says_what_it_shows_in_which_unit(panel):
    assert len(panel.json["description"]) > 20
    assert panel.unit
    assert panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    assert all(panel.legends) or panel.json["type"] == "stat"


@pytest.mark.parametrize("panel", PANELS, ids=TITLES)
def test_a_panel_asks_the_chosen_prometheus_about_the_chosen_machines(panel):
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel.json["datasource"] == source
    for target in panel.json["targets"]:
        assert target["datasource"] == source
        assert 'instance=~"$instance"' in target["expr"]


def test_panels_have_their_own_ids_and_do_not_overlap():
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    places = [(panel["title"], panel["gridPos"]) for panel in everything]
    assert all(place["x"] + place["w"] <= 24 for _, place in places)
    for (one, a), (other, b) in combinations(places, 2):
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y, (one, other)
