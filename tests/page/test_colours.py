"""What the page's files promise without a browser."""

import re
from pathlib import Path

import pytest

from stages.output.annotate import COLOURS

WEB = Path(__file__).parents[2] / "daemon" / "web"
PAIRS = (  # what is written on what
    *[(ink, ground) for ink in ("ink", "soft") for ground in ("paper", "card", "sunk", "tint")],
    *[(ink, ground) for ink in ("accent", "good", "warn", "bad") for ground in ("paper", "card")],
    ("on-accent", "accent"),
    ("paper", "warn"),
    ("paper", "bad"),
    ("bad", "bad-tint"),
)


def luminance(colour: str) -> float:
    """Of ``#rrggbb``, as WCAG 2 has it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_track_has_the_same_colour_in_the_list_as_in_the_picture():
    listed = re.search(r"const COLOURS = \[(.*?)\]", (WEB / "parts" / "format.js").read_text(), re.DOTALL)
    assert listed
    assert tuple(re.findall(r'"(#\w+)"', listed[1])) == COLOURS


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_as_wcag_aa_asks(scheme):
    light, dark, *_ = re.findall(r":root \{(.*?)\}", (WEB / "styles" / "base.css").read_text(), re.DOTALL)
    values = dict(re.findall(r"--([\w-]+): (#\w{6});", light))
    if scheme == "dark":
        values |= dict(re.findall(r"--([\w-]+): (#\w{6});", dark))
    for ink, ground in PAIRS:
        lighter, darker = sorted((luminance(values[ink]), luminance(values[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{ink} on {ground}"


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_script_or_style():
    for file in (path for path in WEB.rglob("*") if path.is_file()):
        text = file.read_text().replace("http://www.w3.org/", "")  # the name of SVG, which nobody loads
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|\beval\b", text), file
    for page in WEB.rglob("*.html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page.read_text()), page
