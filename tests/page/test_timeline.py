"""The timeline in a real browser, in front of a daemon that records, with older events in its database."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Locator

from tests.events.made import NOON, event, keep
from tests.page.browser import Visitor, ask, chromium, running, visiting
from tests.support.program import wait_until

pytestmark = pytest.mark.process

ZONE = ZoneInfo("Asia/Kathmandu")  # UTC+5:45: its midnight is no whole hour of UTC
VIEWER = {"locale": "en-GB", "timezone_id": str(ZONE)}
CARS, PEOPLE = 80, 5  # events; a page has 50
OLD = "#/?timeline&stream=gate"


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def daemon(browser, tmp_path_factory):
    """The address of a daemon that has recorded an object of "shapes", and remembers cars and people at a "gate"."""
    folder = tmp_path_factory.mktemp("kept")
    cars = [event(number * 60) for number in range(CARS)]
    keep(folder / "maskcast.db", [*cars, *(event(7200 + number, prompt="person") for number in range(PEOPLE))])
    source = "testsrc://shapes?seed=2&live=1&fps=5&size=128x128"
    segments = {"MASKCAST_RECORD__SEGMENT": "1s"}
    with running(source, "--prompt", "red circle", "--window", "2", "--record", str(folder), **segments) as (
        _,
        address,
    ):
        wait_until(lambda: recorded(address), "a clip")
        yield address


def recorded(address: str) -> list[int]:
    """The events of "shapes" that have a clip and a snapshot."""
    events = ask(address, "/api/events?stream=shapes&type=track_started")["events"]
    return [one["id"] for one in events if one["clip"] and one["snapshot"]]


def rows(visitor: Visitor) -> list[str]:
    """The events as the list names them, with the day and time of the viewer."""
    labels = "all => all.map(event => event.ariaLabel)"
    named: list[str] = visitor.page.locator(".event").evaluate_all(labels)
    return [re.sub(r" (GMT|UTC).*", "", label) for label in named]


def local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(ZONE)


def row(prompt: str, second: int) -> str:
    """What the row of an event that many seconds past noon says."""
    return f"{prompt}, #{second} appeared, gate, {local(NOON + second):%-d %b %Y, %H:%M:%S}"


def test_events_are_newest_first_by_the_viewers_clock_and_older_ones_are_loaded(browser, daemon):
    with visiting(browser, daemon, OLD, **VIEWER) as visitor:
        visitor.until(lambda: len(rows(visitor)) == 50)
        last = 7200 + PEOPLE - 1
        assert rows(visitor)[0] == row("person", last)
        shown = visitor.page.locator(".events h3, .event").all_inner_texts()[:2]
        assert shown[0].replace(",", "") == f"{local(NOON):%A %-d %B %Y}"
        assert shown[1].split() == ["person", f"{local(NOON + last):%H:%M:%S}", f"#{last}", "appeared", "gate"]
        visitor.page.get_by_role("button", name="Load older events").click()
        visitor.until(lambda: len(rows(visitor)) == CARS + PEOPLE)
        assert rows(visitor)[-1] == row("car", 0)
        assert visitor.page.get_by_role("button", name="Load older events").is_hidden()
        assert visitor.complaints == []


def test_events_are_filtered_by_prompt_and_type_and_a_reload_keeps_the_choice(browser, daemon):
    with visiting(browser, daemon, OLD, **VIEWER) as visitor:

        def choose(name: str) -> Locator:
            return visitor.page.get_by_role("combobox", name=name)

        visitor.until(lambda: len(rows(visitor)) == 50)
        choose("Prompt").select_option("person")
        visitor.until(lambda: len(rows(visitor)) == PEOPLE)
        visitor.page.reload()
        visitor.until(lambda: len(rows(visitor)) == PEOPLE)
        choose("Show").select_option("Gone")
        visitor.until(lambda: "Nothing that fits" in visitor.page.locator(".timeline").inner_text())
        choose("Show").select_option("Everything")
        choose("Prompt").select_option("All prompts")
        choose("Stream").select_option("shapes")
        visitor.until(lambda: any("Source up" in row for row in rows(visitor)))


def test_the_bar_of_a_day_has_what_was_seen_by_prompt_and_goes_to_a_time(browser, daemon):
    midnight = int(datetime.combine(local(NOON), datetime.min.time(), ZONE).timestamp())
    with visiting(browser, daemon, f"{OLD}&to={midnight + 86400}", **VIEWER) as visitor:
        bar = visitor.page.locator(".bar")
        visitor.until(bar.is_visible)
        assert visitor.page.locator(".legend li").all_inner_texts() == [f"car {CARS}", f"person {PEOPLE}"]
        assert len(set(bar.locator("rect").evaluate_all("all => all.map(one => one.getAttribute('fill'))"))) == 2

        quarters = (NOON + 900 - midnight) // 900  # the second quarter of an hour with cars, of the day's 96
        width = bar.bounding_box()["width"]
        bar.click(position={"x": width * (quarters + 0.5) / 96, "y": 40})
        visitor.until(lambda: len(rows(visitor)) == 30)
        assert rows(visitor)[0] == row("car", 29 * 60)

        slider = bar.get_by_role("slider")
        slider.focus()
        visitor.page.keyboard.press("ArrowLeft")
        visitor.until(lambda: len(rows(visitor)) == 15)
        assert slider.get_attribute("aria-valuetext") == f"{local(NOON):%H:%M}: 15 car"


def play(visitor: Visitor) -> str:
    """Choose the newest event, watch its clip, jump back in it; the address that it plays from."""
    page = visitor.page
    picture = page.locator(".event img[data-shown]").first
    visitor.until(picture.count)
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.locator(".event").first.focus()
    page.keyboard.press("Enter")
    video = page.locator("video")
    visitor.until(lambda: video.evaluate("video => video.currentTime > 0.4"))
    assert video.evaluate("video => video.error") is None
    video.evaluate("video => { video.pause(); video.currentTime = 0.1 }")
    visitor.until(lambda: video.evaluate("video => !video.seeking && video.currentTime < 0.2"))
    assert "red circle" in page.locator(".about").inner_text()
    source: str = video.evaluate("video => video.currentSrc")
    return source


def test_an_event_that_is_chosen_plays_its_clip_and_the_browser_seeks_in_it(browser, daemon):
    newest = recorded(daemon)[0]
    to = ask(daemon, f"/api/events/{newest}")["time"] + 0.001
    with visiting(browser, daemon, f"#/?timeline&stream=shapes&to={to}") as visitor:
        parts: list[int] = []
        visitor.page.on("response", lambda answer: "clip.mp4" in answer.url and parts.append(answer.status))
        assert re.fullmatch(rf"{daemon}/api/events/{newest}/clip.mp4", play(visitor))
        assert set(parts) == {206}
        assert visitor.complaints == []


def test_with_a_token_pictures_and_clips_are_fetched_with_it_on_a_phone_too(browser, daemon):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    to = ask(daemon, f"/api/events/{recorded(daemon)[0]}")["time"] + 0.001
    with visiting(browser, daemon, **phone) as visitor:
        visitor.page.evaluate("sessionStorage.setItem('maskcast-token', 'sésame')")
        visitor.page.evaluate(f"location.hash = '#/?timeline&stream=shapes&to={to}'")
        assert play(visitor).startswith(f"blob:{daemon}/")
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == 360
        assert visitor.complaints == []
