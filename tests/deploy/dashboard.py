"""The dashboard's panels with their queries, as Grafana would send them."""

import json
from dataclasses import dataclass
from typing import Any

from tests.deploy.prometheus import DEPLOY, EVERY

FILE = DEPLOY / "grafana" / "maskcast.json"
VARIABLES = {"$instance": ".+", "$stream": ".+", "$__rate_interval": f"{4 * EVERY}s"}  # "All", and Grafana's own


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of the dashboard."""

    row: str
    title: str
    unit: str
    expressions: tuple[str, ...]
    legends: tuple[str, ...]
    json: dict[str, Any]


def dashboard() -> dict[str, Any]:
    """The parsed dashboard file."""
    parsed: dict[str, Any] = json.loads(FILE.read_text())
    return parsed


def panels() -> list[Panel]:
    """All panels except row headings, in order."""
    found, row = [], ""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        asked = [filled(target["expr"]) for target in panel["targets"]]
        legends = [target["legendFormat"] for target in panel["targets"]]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        found.append(Panel(row, panel["title"], unit, tuple(asked), tuple(legends), panel))
    return found


def filled(expression: str) -> str:
    """``expression`` with the variables set to all instances and all streams."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression
