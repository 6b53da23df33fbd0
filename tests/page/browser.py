"""Debian's Chromium in front of the real program's page."""

import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, sync_playwright

from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE, Program

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SEED, SIDE, FPS = 2, 256, 5
WORLD = ShapesWorld(SEED, SIDE, SIDE, fps=FPS)  # two red circles, and a large yellow one that is always in sight
SOURCE = f"testsrc://shapes?seed={SEED}&live=1&fps={FPS}&size={SIDE}x{SIDE}"
STREAM = ("--prompt", "red circle", "--window", "2", "--every", "5")


_opened: list[Browser] = []


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, without a window; within another call the same one, as Playwright can be started once only."""
    if _opened:
        yield _opened[0]
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=FLAGS)
        _opened.append(browser)
        yield browser
        _opened.clear()
        browser.close()


def _executable() -> str:
    for name in ("chromium-headless-shell", "chromium"):
        if path := shutil.which(name):
            return path
    if os.environ.get("MASKCAST_REQUIRE_TOOLS") == "1":
        pytest.fail("no Chromium: apt-get install chromium-headless-shell")
    pytest.skip("needs Chromium: apt-get install chromium-headless-shell")


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[tuple[Program, str]]:
    """The program and the address of its page."""
    program = Program(*arguments, **environment)
    try:
        yield program, program.address("metrics").removesuffix("/metrics")
    finally:
        program.process.kill()
        program.process.communicate()


class Visitor:
    """A page of the daemon, opened as ``context`` says, and what the browser complained about."""

    def __init__(self, browser: Browser, address: str, fragment: str = "", **context: Any) -> None:
        self.address = address
        self.context = browser.new_context(viewport=context.pop("viewport", {"width": 1280, "height": 800}), **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(f"{request.method} {request.url}"))
        self.page.goto(f"{address}/{fragment}", wait_until="commit")

    def until(self, condition: Callable[[], Any]) -> None:
        """Waits while the page goes on."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"it never happened; {self.complaints} {self.page.inner_text('body')}"
            self.page.wait_for_timeout(100)

    def rows(self) -> list[str]:
        """The tracks as the list has them, a line of words each."""
        return [" ".join(row.split()) for row in self.page.locator(".tracks .track").all_inner_texts()]

    def selected(self) -> Locator:
        return self.page.locator(".tracks .track[aria-pressed=true] .tag")

    def on_screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the picture is: the picture is whole and centred in its frame."""
        frame = self.page.locator(".overlay").bounding_box()
        assert frame
        scale = min(frame["width"], frame["height"]) / SIDE
        left = frame["x"] + (frame["width"] - SIDE * scale) / 2
        return left + x * scale, frame["y"] + (frame["height"] - SIDE * scale) / 2 + y * scale

    def picture(self) -> bytes:
        """The pixels that the canvas shows now."""
        url: str = self.page.locator(".frame").first.evaluate("canvas => canvas.toDataURL()")
        return url.encode()


@contextmanager
def visiting(browser: Browser, address: str, fragment: str = "", **context: Any) -> Iterator[Visitor]:
    visitor = Visitor(browser, address, fragment, **context)
    try:
        yield visitor
    finally:
        visitor.context.close()


def ask(address: str, path: str = "/api/streams/shapes", method: str = "GET", body: Any = None) -> Any:
    """What the API answers, past the page."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def remove_object(address: str, track: int) -> None:
    """Ends ``track``; it may have ended between the question and the request."""
    try:
        ask(address, f"/api/streams/shapes/objects/{track}", "DELETE")
    except urllib.error.HTTPError as refusal:
        if refusal.code != 404:
            raise


def place_of(address: str, label: str) -> tuple[float, float]:
    """The middle of what is called ``label`` on the last published frame, in the picture's pixels."""
    # the time stamp is the world's frame, the number is not: frames before the models were loaded have none
    truth = WORLD.render(ask(address)["pts"])[1]
    x0, y0, x1, y1 = truth.boxes[truth.labels.index(label)]
    return float(x0 + x1) / 2, float(y0 + y1) / 2


def overlap(address: str, track: int, label: str) -> float:
    """IoU of the box of ``track`` and the true box of ``label``, on the last published frame; 0 without a track."""
    view = ask(address)
    boxes = [other["box"] for other in view["tracks"] if other["id"] == track]
    if not boxes:
        return 0.0
    truth = WORLD.render(view["pts"])[1]
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = boxes[0], truth.boxes[truth.labels.index(label)]
    shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    return float(shared / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared))


def id_in(text: str) -> int:
    """``#7`` -> 7"""
    found = re.search(r"#(\d+)", text)
    assert found, text
    return int(found[1])
