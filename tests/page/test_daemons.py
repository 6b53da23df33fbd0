"""The live page where the daemon has no stream, many streams, a token, or dies."""

import signal
from urllib.parse import unquote

import pytest

from tests.page.browser import SOURCE, STREAM, ask, running, visiting

pytestmark = pytest.mark.process


def test_a_stream_is_added_refused_by_name_and_removed(browser):
    with running(SOURCE, *STREAM) as (_, address), visiting(browser, address) as visitor:
        page = visitor.page
        page.get_by_role("button", name="Add stream").click()
        page.get_by_role("button", name="the built-in test source").click()
        page.locator("#add-dialog [type=submit]").click()
        problem = page.locator("#add-dialog .wrong")
        visitor.until(problem.is_visible)
        assert '"shapes"' in problem.inner_text()
        page.get_by_label("Name").fill("second")
        page.locator("#add-dialog [type=submit]").click()
        visitor.until(lambda: page.locator("h1").inner_text() == "second")
        assert [stream["name"] for stream in ask(address, "/api/streams")["streams"]] == ["shapes", "second"]
        assert page.locator("#switcher a").all_inner_texts() == ["All streams", "shapes", "second"]

        page.get_by_role("button", name="Remove stream").click()
        page.get_by_role("button", name="Keep it").click()
        page.get_by_role("button", name="Remove stream").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        visitor.until(lambda: page.locator("h1").inner_text() == "shapes")
        assert [stream["name"] for stream in ask(address, "/api/streams")["streams"]] == ["shapes"]
        page.get_by_role("button", name="Remove stream").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        visitor.until(lambda: page.locator("h1").inner_text() == "No streams yet")


def test_six_streams_all_show_a_picture_and_leave_the_browser_a_connection_to_ask_by(browser, file):
    small = "testsrc://shapes?seed={}&live=1&fps=2&size=64x64"
    table = '[[streams]]\nname = "camera{0}"\nsource = "{1}"\nprompts = ["red circle"]\n'
    file.write_text("".join(table.format(number, small.format(number)) for number in range(6)))
    with running("--config", str(file), "--window", "1") as (_, address), visiting(browser, address) as visitor:
        painted = "all => all.filter(canvas => canvas.width === 64).length"
        visitor.until(lambda: visitor.page.locator(".frame").evaluate_all(painted) == 6)
        failed: list[str] = []
        visitor.page.on("requestfailed", lambda request: failed.append(request.url))
        for _ in range(4):
            with visitor.page.expect_event("requestfinished", lambda request: request.url == f"{address}/api/streams"):
                pass
        assert f"{address}/api/streams" not in failed
        visitor.page.get_by_role("link", name="camera5").click()
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        assert visitor.page.locator("h1").inner_text() == "camera5"


def test_a_token_is_asked_for_and_kept_for_the_tab(browser):
    """Also one that no header can hold as it is."""
    # 127.1 is this machine, but not by the name that the daemon trusts: so it asks everyone, as beyond loopback.
    arguments = ("--http", "127.1:0")
    with (
        running(SOURCE, *STREAM, *arguments, MASKCAST_HTTP__TOKEN="sésame 门") as (_, address),
        visiting(browser, address.replace("127.1:", "127.0.0.1:")) as visitor,
    ):
        dialog = visitor.page.locator("#token-dialog")
        visitor.until(dialog.is_visible)
        assert visitor.page.locator(".stream").count() == 0
        dialog.get_by_label("Token").fill("wrong ✗")
        visitor.page.keyboard.press("Enter")
        visitor.until(lambda: "That token was refused." in dialog.inner_text())
        dialog.evaluate(
            "dialog => dialog.dispatchEvent(new Event('close'))"
        )  # of the first question, late as on a busy machine
        assert dialog.is_visible()
        dialog.get_by_label("Token").fill("sésame 门")
        visitor.page.keyboard.press("Enter")
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        visitor.page.get_by_label("Another prompt").fill("blue star")
        visitor.page.keyboard.press("Enter")
        visitor.until(lambda: visitor.page.locator(".chip").count() == 2)
        visitor.page.reload(wait_until="commit")
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        assert dialog.is_hidden()
        visitor.page.get_by_role("link", name="API").click()
        visitor.until(lambda: visitor.page.locator(".opblock").count())  # the API's page has the tab's token
        assert dialog.is_hidden()
        assert "same" not in unquote(" ".join(visitor.requests))


def test_a_daemon_that_is_gone_is_told_and_one_that_is_back_is_shown_by_itself(browser):
    with running(SOURCE, *STREAM) as (program, address), visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        program.process.send_signal(signal.SIGKILL)
        banner = visitor.page.locator("#banner")
        visitor.until(banner.is_visible)
        assert banner.inner_text() == "The daemon does not answer. Trying again every second."
        last = visitor.picture()
        with running(SOURCE, *STREAM, "--http", address.removeprefix("http://")):
            visitor.until(banner.is_hidden)
            visitor.until(lambda: visitor.picture() != last)
