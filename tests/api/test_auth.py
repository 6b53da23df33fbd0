"""Who may read and change what: by where the server listens, the token, and where a browser's request comes from."""

import pytest

from daemon.settings.schema import Http
from tests.api.site import Site, bearer

TOKEN = "lét me in; now"
READS = ("/metrics", "/healthz", "/readyz", "/api/streams", "/api/streams/gate/preview.mjpeg", "/openapi.json")
BEYOND = "127.1:0"  # loopback, written so that only the system knows: treated as any other address


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"other=1; maskcast_token={token}"}


ANYBODY: dict[str, str] = {}
OWNER, STRANGER = bearer(TOKEN), bearer("wrong")
PAGE = cookie("l%C3%A9t%20me%20in%3B%20now")  # as encodeURIComponent writes it


def served(listen: str, token: str) -> Site:
    site = Site(listen=listen, token=token)
    site.add()
    return site


def change(site: Site, **headers: str) -> int:
    asked = {"name": "yard", "source": "testsrc://shapes", "prompts": ["person"]}
    return site.ask("POST", "/api/streams", asked, **headers).status


@pytest.mark.parametrize(
    ("listen", "token", "who", "reading", "changing"),
    [
        ("127.0.0.1:0", "", ANYBODY, 200, 201),
        ("127.0.0.1:0", TOKEN, ANYBODY, 200, 401),
        ("127.0.0.1:0", TOKEN, STRANGER, 200, 401),
        ("127.0.0.1:0", TOKEN, PAGE, 200, 401),
        ("127.0.0.1:0", TOKEN, OWNER, 200, 201),
        (BEYOND, TOKEN, ANYBODY, 401, 401),
        (BEYOND, TOKEN, STRANGER, 401, 401),
        (BEYOND, TOKEN, bearer(""), 401, 401),
        (BEYOND, TOKEN, {"Authorization": "Basic eDp5"}, 401, 401),
        (BEYOND, TOKEN, cookie("wrong"), 401, 401),
        (BEYOND, TOKEN, cookie(""), 401, 401),
        (BEYOND, TOKEN, PAGE, 200, 401),
        (BEYOND, TOKEN, OWNER, 200, 201),
    ],
)
def test_changes_need_the_token_and_beyond_loopback_all_does(listen, token, who, reading, changing):
    """A cookie is good for reading alone: browsers send it along whoever makes them ask."""
    with served(listen, token) as site:
        for path in READS:
            assert site.ask("GET", path, **who).status == site.ask("HEAD", path, **who).status == reading, path
        assert change(site, **who) == changing
        for method, path, body in (
            ("PUT", "/api/streams/gate/prompts", {"prompts": ["person"]}),
            ("POST", "/api/streams/gate/objects", {"box": [1, 1, 5, 5]}),
            ("POST", "/api/streams/gate/objects/1/points", {"points": [{"x": 1, "y": 1}]}),
            ("DELETE", "/api/streams/gate/objects/1", None),
            ("DELETE", "/api/streams/gate", None),
        ):
            assert (site.ask(method, path, body, **who).status == 401) == (changing == 401)


def test_beyond_loopback_without_a_token_only_insecure_serves_and_then_everybody_but_other_sites():
    with pytest.raises(ValueError, match="needs a token"):
        Http(listen=BEYOND)
    with Site(listen=BEYOND, insecure=True) as site:
        site.add()
        assert site.ask("GET", "/api/streams").status == 200
        assert change(site, Origin="http://evil.example") == 400
        assert change(site) == 201


def test_a_refusal_says_which_header_is_missing_and_nothing_of_the_token():
    with served(BEYOND, TOKEN) as site:
        answer = site.ask("GET", "/api/streams")
        assert "Authorization: Bearer" in answer.error
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_page_itself_comes_without_the_token_so_that_it_can_ask_for_it():
    """It is the same on every machine; what it shows is not, and needs the token."""
    with served(BEYOND, TOKEN) as site:
        assert site.ask("GET", "/").status == 200
        assert site.ask("GET", "/web/index.html").status == 200
        assert site.ask("GET", "/web/../api/streams").status == 404
        assert site.ask("POST", "/").status == 401


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.8.8.8"])
def test_names_of_this_machine_are_its_own_also_through_a_forwarded_port(site, name):
    headers = {"Host": f"{name}:8080", "Origin": f"http://{name}:8080"}
    assert site.ask("GET", "/api/streams", **headers).status == 200
    assert change(site, **headers) == 201


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9109", "127.0.0.1.evil.example", "localhost.evil.example"]
)
@pytest.mark.parametrize("path", [*READS, "/"])
def test_a_name_that_somebody_pointed_to_loopback_is_refused(site, host, path):
    """DNS rebinding: a page of evil.example would be of the same origin as this server."""
    answer = site.ask("GET", path, Host=host)
    assert answer.status == 400
    assert "is not this machine" in answer.error


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "x"])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_another_sites_page_changes_nothing(origin, token):
    with served("127.0.0.1:0", token) as site:
        headers = {**bearer(token), "Origin": origin}
        assert change(site, **headers) == 400
        assert site.ask("DELETE", "/api/streams/gate", **headers).status == 400
        assert list(site.control.streams) == ["gate"]


def test_a_form_of_another_site_changes_nothing_even_without_an_origin(site):
    """Forms cannot send JSON as JSON, and only that is taken."""
    body = b'{"name": "yard", "source": "testsrc://shapes", "prompts": ["person"]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = site.ask("POST", "/api/streams", body, Content_Type=kind)
        assert answer.status == 422
        assert "Content-Type: application/json" in answer.error


def test_recordings_can_be_asked_for_only_by_who_has_a_token():
    """Without one every user of this machine could have the daemon write files in its own name."""
    asked = {"name": "yard", "source": "testsrc://shapes", "prompts": ["person"], "record": {"dir": "out"}}
    with served("127.0.0.1:0", "") as site:
        assert "record.dir" in site.ask("POST", "/api/streams", asked).error
    with served("127.0.0.1:0", TOKEN) as site:
        assert site.ask("POST", "/api/streams", asked, **OWNER).status == 201
        assert site.control.added[-1].record.dir == "out"
