"""The fleet's page in a browser: it holds no data, asks for the token, and links the daemons' pages."""

import pytest
import requests

from daemon.fleet.api import FleetApi
from daemon.settings.schema import Http
from tests.fleet.test_api import TOKEN, Fleet
from tests.page.browser import visiting
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process


def test_who_has_the_token_sees_what_runs_where_and_the_daemons_pages(browser):
    fleet = Fleet()
    # 127.1 is this machine, but not by the name that the fleet trusts: so it asks everyone, as beyond loopback
    api = FleetApi(Http(listen="127.1:0", token=TOKEN), fleet)
    address = api.url.replace("127.1:", "127.0.0.1:")
    try:
        assert requests.get(f"{address}/fleet", timeout=PATIENCE).status_code == 401
        page = requests.get(f"{address}/", timeout=PATIENCE)
        assert page.status_code == 200
        assert "gate" not in page.text
        with visiting(browser, address) as visitor:
            dialog = visitor.page.locator("#token-dialog")
            visitor.until(dialog.is_visible)
            dialog.get_by_label("Token").fill(TOKEN)
            visitor.page.keyboard.press("Enter")
            link = visitor.page.get_by_role("link", name="<a>/0")
            visitor.until(link.is_visible)
            assert link.get_attribute("href") == "http://127.0.0.1:1/"
            assert visitor.page.locator("#streams td").all_inner_texts()[:3] == ["gate", "<a>", "up"]
            fleet.drain("<a>")
            visitor.until(lambda: "draining" in visitor.page.locator("#workers").inner_text())
            assert TOKEN not in " ".join(visitor.requests)
    finally:
        api.close()
