"""The fleet's HTTP: access, refusals, targets and the page."""

import pytest
import requests

from daemon.fleet.api import FleetApi
from daemon.fleet.status import status
from daemon.settings.schema import Http
from tests.fleet.test_assignments import Assignments, Node, run, settings
from tests.support.program import PATIENCE

TOKEN = "let-me-in"


class Fleet:
    """A fleet of one worker with one stream, without a cluster."""

    def __init__(self) -> None:
        self.assignments = Assignments(settings({"name": "gate"}), 0.0)
        self.now = run([Node(self.assignments, "<a>")], 0.0, 10)
        self.ended = False

    def status(self):
        return status(self.assignments, {}, self.now)

    def move(self, stream: str, node: str) -> str:
        return self.assignments.move(stream, node, self.now)

    def drain(self, node: str) -> int:
        return self.assignments.drain(node)

    def down(self) -> None:
        self.ended = True


@pytest.fixture
def served():
    fleet = Fleet()
    api = FleetApi(Http(listen="127.0.0.1:0", token=TOKEN), fleet)
    yield fleet, api.url
    api.close()


def post(url: str, token: str = TOKEN, **body: str) -> tuple[int, str]:
    answer = requests.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
    return answer.status_code, answer.text


def test_everybody_on_this_machine_reads_and_who_has_the_token_changes(served):
    fleet, url = served
    assert [one["stream"] for one in requests.get(f"{url}/fleet", timeout=PATIENCE).json()["streams"]] == ["gate"]
    assert post(f"{url}/fleet/down", token="wrong")[0] == 401
    assert not fleet.ended
    assert post(f"{url}/fleet/drain", node="<a>") == (202, '{"streams":1}')
    assert post(f"{url}/fleet/down")[0] == 202
    assert fleet.ended


def test_refusals_are_one_line(served):
    _, url = served
    assert post(f"{url}/fleet/move", stream="gate", node="b") == (
        422,
        '{"error":"no node is named b; the fleet has: <a>"}',
    )
    assert post(f"{url}/fleet/move", stream="gate")[0] == 422


def test_prometheus_gets_a_list_of_targets(served):
    _, url = served
    answer = requests.get(f"{url}/fleet/targets", timeout=PATIENCE)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == [{"targets": ["127.0.0.1:1"], "labels": {"node": "<a>", "worker": "<a>/0"}}]
