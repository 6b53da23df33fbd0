"""What the page draws itself: masks, labels, corners and thumbnails, all of the frame that it shows."""

import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import cv2
import numpy as np
import pytest

from stages.output import rle
from stages.output.annotate import OPACITY, PALETTE
from tests.page.browser import Visitor, id_in, visiting
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process


def test_the_page_reads_masks_as_they_are_and_its_outlines_hold_their_pixels(browser, address):
    random = np.random.default_rng(3)
    masks = [random.random((23, 17)) < share for share in (0.02, 0.3, 0.6, 1.0)]
    ring = np.zeros((40, 60), bool)
    ring[4:40, 10:60], ring[10:30, 20:50], ring[15:20, 30:33] = True, False, True
    cases = []
    for mask in (*masks, ring):
        (y0, x0), (y1, x1) = (edge(np.argwhere(mask), axis=0).tolist() for edge in (np.min, np.max))
        box = [x0, y0, x1 + 1, y1 + 1]
        cases += [{"mask": rle.encode(mask, "rle"), "box": box}, {"mask": rle.encode(mask, "counts"), "box": box}]
    inside = """async cases => {
        const { outline } = await import("/web/pictures/outline.js");
        const context = new OffscreenCanvas(1, 1).getContext("2d");
        return cases.map(({ mask, box }) => {
            const [height, width] = mask.size;
            const path = outline(mask, box);
            const inside = (x, y) => context.isPointInPath(path, x + 0.5, y + 0.5, "evenodd");
            const numbers = length => [...Array(length).keys()];
            return numbers(height).map(y => numbers(width).map(x => inside(x, y)));
        });
    }"""
    with visiting(browser, address) as visitor:
        drawn = visitor.page.evaluate(inside, cases)
    for case, pixels in zip(cases, drawn, strict=True):
        assert np.array_equal(np.array(pixels), rle.decode(case["mask"]))


@contextmanager
def headers(address: str) -> Iterator[dict[int, Any]]:
    """The headers of all frames that the preview shows from now on, by frame."""
    seen: dict[int, Any] = {}
    done = Event()
    url = f"{address}/api/streams/shapes/preview.mjpeg?plain=1"
    with urllib.request.urlopen(url, timeout=PATIENCE) as stream:

        def read() -> None:
            while not done.is_set() and (line := stream.readline()):
                if line.startswith(b'{"schema":"maskcast/v1/masks"'):
                    header = json.loads(line)
                    seen[header["frame"]] = header

        reader = Thread(target=read)
        reader.start()
        try:
            yield seen
        finally:
            done.set()
            reader.join()


def select_first(visitor: Visitor) -> int:
    """The id of the first track in the list, selected."""
    visitor.until(lambda: visitor.page.locator("[data-shown]").count() and visitor.rows())
    visitor.page.locator(".tracks .track").first.click()
    return id_in(visitor.rows()[0])


def test_corners_are_around_the_object_on_the_very_frame_that_is_shown(browser, address):
    look = """() => [Number(document.querySelector(".picture").dataset.frame),
        document.querySelector(".corners:not(.shade)").getAttribute("d")]"""
    with visiting(browser, address) as visitor, headers(address) as seen:
        track = select_first(visitor)
        looks: dict[int, str] = {}

        def enough() -> bool:
            frame, corners = visitor.page.evaluate(look)
            if corners and frame in seen:
                looks[frame] = corners
            return len(looks) >= 6

        visitor.until(enough)
        assert not visitor.complaints
    for frame, corners in looks.items():
        boxes = [shown["box"] for shown in seen[frame]["objects"] if shown["id"] == track and shown["area"]]
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", corners)]
        assert not boxes or boxes[0] == pytest.approx([numbers[place] for place in (2, 1, 6, 9)], abs=1)


def marks(visitor: Visitor, seen: dict[int, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn over the picture, uint8 (H, W, 4) BGRA, and where the masks of that frame are, bool (H, W)."""
    look = """() => [Number(document.querySelector(".picture").dataset.frame),
        document.querySelector(".marks").toDataURL()]"""
    looked: list[Any] = []

    def known() -> bool:
        looked[:] = visitor.page.evaluate(look)
        return looked[0] in seen and bool(seen[looked[0]]["objects"])

    visitor.until(known)
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(looked[1].partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    masks = [rle.decode(shown["mask"]) for shown in seen[looked[0]]["objects"]]
    side = min(drawn.shape[:2])
    top, left = (drawn.shape[0] - side) // 2, (drawn.shape[1] - side) // 2
    there = np.zeros(drawn.shape[:2], np.uint8)
    there[top : top + side, left : left + side] = cv2.resize(np.any(masks, axis=0).view(np.uint8), (side, side))
    return drawn, there > 0


def test_masks_are_drawn_at_the_screens_resolution_as_opaque_as_the_viewer_wants(browser, address):
    """The choice outlasts the visit, and labels are readable whatever it is."""
    with visiting(browser, address, device_scale_factor=2) as visitor, headers(address) as seen:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count() and visitor.rows())
        drawn, there = marks(visitor, seen)
        assert drawn.shape[1] == 2 * visitor.page.locator(".marks").evaluate("canvas => canvas.clientWidth")
        filled = np.abs(drawn[..., 3].astype(int) - OPACITY * 255) < 3
        assert filled[there].mean() > 0.8  # the rest are outlines and labels
        assert there[filled].mean() > 0.97
        hues = {tuple(colour) for colour in drawn[filled][:, 2::-1].tolist()}
        assert any(np.abs(np.array(hue) - PALETTE).max(axis=1).min() < 6 for hue in hues)

        visitor.page.get_by_label("Opacity of the masks").fill("0")
        for again in (False, True):
            if again:
                visitor.page.reload(wait_until="commit")
                visitor.until(lambda: visitor.page.locator("[data-shown]").count())
            drawn, there = marks(visitor, seen)
            assert set(np.unique(drawn[..., 3])) == {0, 255}  # nothing but labels, with sharp edges
            assert (drawn[there][:, 3] == 0).mean() > 0.6
        assert visitor.complaints == []


def test_the_list_shows_each_track_as_it_looks_in_the_picture(browser, address):
    centre = "canvas => [...canvas.getContext('2d').getImageData(40, 40, 16, 16).data]"
    with visiting(browser, address) as visitor:
        visitor.until(lambda: visitor.page.locator("[data-shown]").count() and visitor.rows())
        thumbnail = visitor.page.locator(".tracks canvas").first

        def red() -> bool:
            pixels = np.array(thumbnail.evaluate(centre)).reshape(-1, 4).mean(axis=0)
            return bool(pixels[3] == 255 and pixels[0] > 1.5 * pixels[1:3].max())

        visitor.until(red)  # prompted are red circles, whose middle is red


def test_full_screen_leaves_nothing_but_the_picture_and_what_goes_wrong_is_told_there(browser, address):
    with visiting(browser, address) as visitor:
        page = visitor.page
        visitor.until(lambda: page.locator("[data-shown]").count())
        page.get_by_role("button", name="Full screen").click()
        visitor.until(lambda: page.evaluate("document.fullscreenElement !== null"))
        visitor.until(lambda: (page.locator(".picture").bounding_box() or {})["width"] == 1280)
        assert page.get_by_role("button", name="Add stream").is_hidden()
        assert page.locator(".panel").is_hidden()
        page.route("**/objects", lambda route: route.abort())
        page.locator(".overlay").click(position={"x": 640, "y": 300})
        visitor.until(page.locator(".notice").is_visible)
        with page.expect_event("requestfailed"):
            page.locator(".overlay").click(position={"x": 640, "y": 200})
        assert page.locator(".notice").count() == 1  # what is said again is said once
        on_top = """node => { const box = node.getBoundingClientRect();
            return node.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)); }"""
        assert page.locator(".notice").evaluate(on_top)
        page.get_by_role("button", name="Leave full screen").click()
        visitor.until(lambda: page.evaluate("document.fullscreenElement === null"))
        assert page.locator(".panel").is_visible()

        page.evaluate("Element.prototype.requestFullscreen = undefined")  # as on an iPhone
        page.get_by_role("button", name="Full screen").click()
        visitor.until(page.locator(".panel").is_hidden)
        assert (page.locator(".picture").bounding_box() or {})["width"] == 1280
        page.keyboard.press("Escape")
        visitor.until(page.locator(".panel").is_visible)
