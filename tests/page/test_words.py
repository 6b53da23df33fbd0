"""What the page says beside the picture: once, where it can be read, and when it helps."""

import pytest

from tests.page.browser import ask, visiting

pytestmark = pytest.mark.process


def test_the_apis_page_is_whole_without_any_other_host(browser, address):
    with visiting(browser, address) as visitor:
        visitor.page.get_by_role("link", name="API").click()
        operation = visitor.page.locator(".opblock", has_text="/preview.mjpeg")
        visitor.until(operation.is_visible)
        operation.locator("button").first.click()
        visitor.until(lambda: "X-Frame" in operation.inner_text())
        assert all(f" {address}/" in request or " data:" in request for request in visitor.requests)
        assert visitor.complaints == []


def test_a_prompt_that_has_found_nothing_for_a_while_is_named_with_what_may_help(browser, address):
    ask(address, "/api/streams/shapes/prompts", "PUT", {"prompts": ["red circle", "blue star"]})
    with visiting(browser, address) as visitor:
        visitor.until(lambda: any("red circle" in row for row in visitor.rows()))
        hint = visitor.page.locator(".silence")
        assert hint.is_hidden()
        visitor.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 60_000; }")
        visitor.until(lambda: hint.is_visible() and "red circle" not in hint.inner_text())
        assert "Nothing found for a while: “blue star”." in hint.inner_text()
        assert "box_threshold" in hint.inner_text()


def test_a_figure_never_runs_into_its_curve(browser, address):
    overlap = """figures => figures.filter(figure => {
        const number = figure.querySelector("b");
        number.textContent = "999 ms";
        const [text, curve] = [number, figure.querySelector("svg")].map(node => node.getBoundingClientRect());
        return text.right > curve.left || curve.right > figure.getBoundingClientRect().right;
    }).length"""
    with visiting(browser, address) as visitor:
        for width in (1700, 1280, 1090, 800, 360):
            visitor.page.set_viewport_size({"width": width, "height": 800})
            figures = visitor.page.locator(".figure:has(svg)")
            visitor.until(lambda figures=figures: figures.count() == 2)
            assert figures.evaluate_all(overlap) == 0, width


def test_an_ended_source_is_said_to_have_ended_once(browser, address):
    ask(address, "/api/streams", "POST", {"name": "over", "source": "testsrc://shapes?frames=1&size=64x64"})
    try:
        with visiting(browser, address, "#/over") as visitor:
            cover = visitor.page.locator(".cover.ended")
            visitor.until(cover.is_visible)
            assert cover.inner_text().strip() == "The source has ended"
    finally:
        ask(address, "/api/streams/over", "DELETE")
