"""The live page in a real browser, in front of the real daemon with its embedded models."""

import pytest

from tests.page.browser import Visitor, ask, id_in, overlap, place_of, remove_object, visiting

pytestmark = pytest.mark.process


def test_it_shows_the_moving_picture_and_the_tracks_of_the_stream_and_asks_nobody_else(browser, address):
    with visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        first = visitor.picture()
        visitor.until(lambda: visitor.picture() != first)
        size = visitor.page.locator(".frame").evaluate("canvas => [canvas.width, canvas.height]")
        visitor.until(lambda: any("red circle" in row for row in visitor.rows()))
        shown = {id_in(row) for row in visitor.rows()}
        visitor.until(lambda: shown & {track["id"] for track in ask(address)["tracks"]})
        assert size == [256, 256]
        assert visitor.page.locator(".status").inner_text() == "up"
        assert all(f" {address}/" in request for request in visitor.requests)
        assert visitor.complaints == []


def test_a_prompt_that_is_added_finds_its_object_and_one_that_is_removed_ends_its_tracks(browser, address):
    with visiting(browser, address) as visitor:
        visitor.page.get_by_label("Another prompt").fill("yellow circle")
        visitor.page.keyboard.press("Enter")
        visitor.until(lambda: any("yellow circle" in row for row in visitor.rows()))
        assert ask(address)["prompts"] == ["red circle", "yellow circle"]
        visitor.page.get_by_label("Stop looking for yellow circle").click()
        visitor.until(lambda: visitor.rows() and not any("yellow circle" in row for row in visitor.rows()))
        assert ask(address)["prompts"] == ["red circle"]


def test_what_differs_from_the_configuration_is_shown_and_taken_back(browser, address):
    with visiting(browser, address) as visitor:
        page = visitor.page
        page.get_by_label("Another prompt").fill("yellow circle")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Show").click()
        assert "1 stream differs from the configuration" in page.locator("#changes").inner_text()
        told = page.get_by_role("dialog").inner_text()
        assert "until the daemon ends: state.dir is not set" in told
        assert "prompts: red circle → red circle, yellow circle" in told
        page.get_by_role("button", name="Go back", exact=True).click()
        visitor.until(lambda: not page.locator("#changes").is_visible() and not page.get_by_role("dialog").count())
        assert ask(address)["prompts"] == ["red circle"]
        visitor.until(lambda: page.locator(".chip").count() == 1)
        assert visitor.complaints == []


def test_a_prompt_that_cannot_be_is_refused_in_the_words_of_the_daemon(browser, address):
    with visiting(browser, address) as visitor:
        visitor.page.get_by_label("Another prompt").fill("?!")
        visitor.page.keyboard.press("Enter")
        problem = visitor.page.locator(".panel .wrong")
        visitor.until(problem.is_visible)
        assert "'?!' names nothing" in problem.inner_text()
        assert visitor.page.locator(".chip").count() == 1


def add_yellow_circle(visitor: Visitor, tap: bool = False) -> int:
    """Click it; the id of the track that is then selected."""
    visitor.until(lambda: visitor.page.locator("[data-shown]").count())
    spot = visitor.on_screen(*place_of(visitor.address, "yellow circle"))
    (visitor.page.touchscreen.tap if tap else visitor.page.mouse.click)(*spot)
    visitor.until(lambda: visitor.selected().count())
    return id_in(visitor.selected().inner_text())


def test_an_object_that_is_clicked_is_tracked_refined_by_further_clicks_and_removed(browser, address):
    with visiting(browser, address) as visitor:
        track = add_yellow_circle(visitor)
        assert any(row.startswith(f"#{track} by hand") for row in visitor.rows())
        visitor.until(lambda: overlap(address, track, "yellow circle") > 0.5)

        x, y = place_of(address, "yellow circle")
        with visitor.page.expect_response("**/points") as refined:
            visitor.page.mouse.click(*visitor.on_screen(x, y))
        (point,) = refined.value.request.post_data_json["points"]
        assert refined.value.status == 204
        assert refined.value.url == f"{address}/api/streams/shapes/objects/{track}/points"
        assert point == {"x": pytest.approx(x, abs=1), "y": pytest.approx(y, abs=1), "inside": True}

        visitor.page.get_by_role("switch").check()
        with visitor.page.expect_response("**/points") as cut:
            visitor.page.mouse.click(*visitor.on_screen(5, 250))
        assert cut.value.request.post_data_json["points"][0]["inside"] is False

        visitor.page.get_by_label(f"Remove track {track}").click()
        visitor.until(lambda: all(id_in(row) != track for row in visitor.rows()))
        assert track not in {other["id"] for other in ask(address)["tracks"]}


def test_a_box_that_is_drawn_adds_an_object_of_the_chosen_prompt(browser, address):
    with visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        visitor.page.get_by_label("Follow it as").select_option("red circle")
        x, y = place_of(address, "yellow circle")
        with visitor.page.expect_response("**/objects") as added:
            visitor.page.mouse.move(*visitor.on_screen(x - 40, y - 40))
            visitor.page.mouse.down()
            visitor.page.mouse.move(*visitor.on_screen(x + 40, y + 40), steps=5)
            visitor.page.mouse.up()
        sent = added.value.request.post_data_json
        expected = [max(0, x - 40), max(0, y - 40), min(255, x + 40), min(255, y + 40)]
        assert added.value.status == 201
        assert sent.pop("frame") <= ask(address)["frame"]
        assert sent.pop("session") == ask(address)["session"]
        assert sent == {"prompt": "red circle", "box": pytest.approx(expected, abs=1)}
        remove_object(address, added.value.json()["id"])


def test_an_object_is_added_without_a_mouse(browser, address):
    with visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        visitor.page.locator(".overlay").focus()
        x, y = place_of(address, "yellow circle")
        for key, pixels in (("ArrowRight", x - 128), ("ArrowDown", y - 128)):
            opposite = {"ArrowRight": "ArrowLeft", "ArrowDown": "ArrowUp"}[key]
            for _ in range(round(abs(pixels) / 12.8)):
                visitor.page.keyboard.press(f"Shift+{key if pixels > 0 else opposite}")
        visitor.page.keyboard.press("Enter")
        visitor.until(lambda: visitor.selected().count())
        track = id_in(visitor.selected().inner_text())
        visitor.until(lambda: overlap(address, track, "yellow circle") > 0.5)
        visitor.page.keyboard.press("Escape")
        visitor.until(lambda: not visitor.selected().count())


def test_a_finger_on_a_phone_adds_an_object_and_nothing_is_wider_than_the_screen(browser, address):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with visiting(browser, address, **phone) as visitor:
        track = add_yellow_circle(visitor, tap=True)
        visitor.until(lambda: overlap(address, track, "yellow circle") > 0.5)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == 360


def test_what_comes_from_the_daemon_is_text_and_never_markup(browser, address):
    markup = "<img src=x onerror=document['title']='taken'> red circle"
    ask(address, "/api/streams/shapes/prompts", "PUT", {"prompts": [markup, "red circle"]})
    with visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator(".chip").count() == 2)
        assert visitor.page.locator(".chip span").first.inner_text() == markup
        assert visitor.page.title() == "shapes · maskcast"
        assert visitor.page.locator("main img").count() == 0


def test_where_no_events_are_kept_the_timeline_says_what_to_set_and_asks_no_more(browser, address):
    with visiting(browser, address, "#/?timeline") as visitor:
        visitor.until(lambda: "record.dir" in visitor.page.locator(".timeline").inner_text())
        assert visitor.page.locator(".day-bar, .filters, .stage").locator("visible=true").count() == 0
        asked = [request for request in visitor.requests if "/api/events" in request]
        visitor.page.clock.install()
        visitor.page.clock.fast_forward("01:00")
        with visitor.page.expect_response("**/api/streams"):
            visitor.page.clock.fast_forward("01:00")
        assert [request for request in visitor.requests if "/api/events" in request] == asked
        assert len(asked) == 1


def test_nothing_is_asked_for_while_the_page_is_hidden(browser, address):
    with visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count())
        turn = """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        visitor.page.evaluate(turn, True)

        def quiet(milliseconds: int) -> bool:
            before = len(visitor.requests), visitor.picture()
            visitor.page.wait_for_timeout(milliseconds)
            return (len(visitor.requests), visitor.picture()) == before

        visitor.until(lambda: quiet(1500))  # what was asked for before has arrived
        asked, still = len(visitor.requests), visitor.picture()
        visitor.page.wait_for_timeout(3000)
        assert (len(visitor.requests), visitor.picture()) == (asked, still)
        visitor.page.evaluate(turn, False)
        visitor.until(lambda: visitor.picture() != still)
