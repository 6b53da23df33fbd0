"""/openapi.json says all there is, and schemathesis finds nothing that it says wrong."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.api.site import Site, bearer
from tests.events.made import event, opened, track
from tests.support.program import PATIENCE

ROUTES = {
    "/metrics": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/": {"get"},
    "/docs": {"get"},
    "/api/streams": {"get", "post"},
    "/api/streams/{name}": {"get", "delete"},
    "/api/streams/{name}/prompts": {"put"},
    "/api/streams/{name}/objects": {"post"},
    "/api/streams/{name}/objects/{id}": {"delete"},
    "/api/streams/{name}/objects/{id}/points": {"post"},
    "/api/streams/{name}/preview.mjpeg": {"get"},
    "/api/streams/{name}/frame.jpg": {"get"},
    "/api/streams/{name}/snapshot": {"get"},
    "/api/changes": {"get", "delete"},
    "/api/changes/{stream}": {"delete"},
    "/api/reload": {"post"},
    "/api/events": {"get"},
    "/api/events/counts": {"get"},
    "/api/events/{id}": {"get"},
    "/api/events/{id}/snapshot.jpg": {"get"},
    "/api/events/{id}/clip.mp4": {"get"},
    "/api/segments": {"get"},
    "/api/snapshots": {"post"},
    "/api/sources": {"post"},
    "/api/leases": {"put"},
    "/api/load": {"get"},
    "/api/drain": {"post"},
}
# what a schema cannot say: that a box lies within the picture, that a text names something
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "409", "422"]

# they take the parameters of /api/events
[[operations]]
include-path-regex = "^/api/(events/counts|segments)$"
[operations.phases.coverage]
enabled = false
"""


def description(**http: str) -> dict:
    with Site(**http) as site:
        return site.ask("GET", "/openapi.json", **bearer(site.token)).json


@pytest.fixture(scope="module")
def described() -> dict:
    return description(token="let-me-in")


def operations(described: dict) -> Iterator[tuple[str, str, dict]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_described(described):
    assert {path: set(methods) for path, methods in described["paths"].items()} == ROUTES
    for _, _, operation in operations(described):
        assert operation["summary"]
        assert operation["description"]


def test_every_refusal_has_the_one_shape(described):
    """But for /readyz, whose reason is text."""
    for path, _, operation in operations(described):
        assert "400" in operation["responses"]
        for status, answer in operation["responses"].items():
            if status >= "400" and (path, status) != ("/readyz", "503"):
                assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Refusal"), (path, status)


def test_examples_are_as_their_schemas_say(described):
    for name, schema in described["components"]["schemas"].items():
        whole = {**schema, "components": described["components"]}
        for example in schema.get("examples", []):
            jsonschema.validate(example, whole)
        for field, inner in schema.get("properties", {}).items():
            for example in inner.get("examples", []):
                jsonschema.validate(example, {**inner, "components": described["components"]}), (name, field)


@pytest.mark.parametrize(
    ("http", "reading", "changing"),
    [
        ({"listen": "127.0.0.1:0"}, None, None),
        ({"listen": "127.0.0.1:0", "token": "let-me-in"}, None, [{"bearer": []}]),
        ({"listen": "127.1:0", "token": "let-me-in"}, [{"bearer": []}, {"cookie": []}], [{"bearer": []}]),
    ],
)
def test_it_says_who_needs_the_token(http, reading, changing):
    found = description(**http)
    assert found["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, method, operation in operations(found):
        wanted = changing if method != "get" else None if path in ("/", "/docs") else reading
        assert operation.get("security") == wanted
        assert ("401" in operation["responses"]) == (wanted is not None)


def test_pictures_and_text_have_their_own_types(described):
    def types(path: str) -> set[str]:
        return set(described["paths"][path]["get"]["responses"]["200"]["content"])

    assert types("/api/streams/{name}/preview.mjpeg") == {"multipart/x-mixed-replace"}
    assert types("/healthz") == types("/readyz") == {"text/plain"}
    assert types("/metrics") == {"text/plain", "application/openmetrics-text"}
    assert types("/") == types("/docs") == {"text/html"}


@pytest.mark.process
def test_schemathesis_finds_nothing(tmp_path):
    """All its checks, over a real socket and where the token guards most, while metrics and health go on answering."""
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    statuses: set[int] = set()
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(0.2):
            statuses.update(site.ask("GET", path, **bearer(site.token)).status for path in ("/metrics", "/healthz"))

    records = [record for number in range(9) for record in (event(number), track(number))]
    with opened(tmp_path / "maskcast.db") as store, Site(listen="127.1:0", token="let-me-in") as site:
        site.control.store = store
        for record in records:
            store.add(record)
        site.add()
        scraper = threading.Thread(target=scrape)
        scraper.start()
        where = f"http://127.0.0.1:{site.port}/openapi.json"
        found = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                *("--config-file", tmp_path / "schemathesis.toml", "run", where),
                *("--header", "Authorization: Bearer let-me-in", "--generation-deterministic", "--no-color"),
                *("--max-examples", "5", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        done.set()
        scraper.join()
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"Tested: {sum(map(len, ROUTES.values()))}" in found.stdout
    assert statuses == {200}
