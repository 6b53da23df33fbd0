"""Backgrounds of the wild worlds, indoors and out, with structure and clutter of the objects' colours."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.testsrc.bodies import COLOURS
from stages.types import Image

Colour = tuple[float, float, float]


def draw_scene(rng: np.random.Generator, width: int, height: int) -> Image:
    """uint8 (height, width, 3) RGB: a hall, a street or foliage."""
    draw = (_hall, _street, _foliage)[int(rng.integers(3))]
    image = np.ascontiguousarray(draw(rng, width, height))
    for _ in range(int(rng.integers(8, 24))):
        _clutter(rng, image)
    grain = rng.normal(0, rng.uniform(1, 6), (height, width, 1)).astype(np.float32)
    return _as_image(cv2.GaussianBlur(image, (0, 0), 0.7) + grain)


def draw_pillar(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """(height, width, 3): the surface of something that stands in front of the objects."""
    base = np.array(_muted(rng))
    across = np.linspace(-1, 1, width)[None, :, None]
    rows = 1 + 0.1 * np.sign(np.sin(np.arange(height) * rng.uniform(0.1, 0.4)))[:, None, None]
    surface: NDArray[np.float32] = np.clip(base * (1 - 0.4 * across**2) * rows, 0, 255).astype(np.float32)
    return surface


def _as_image(canvas: NDArray[np.float32]) -> Image:
    image: Image = np.clip(canvas, 0, 255).astype(np.uint8)
    return image


def _muted(rng: np.random.Generator, most: float = 0.35) -> Colour:
    colour = rng.uniform(25, 230, 3)
    red, green, blue = colour.mean() + (colour - colour.mean()) * rng.uniform(0, most)
    return float(red), float(green), float(blue)


def _vertical(first: Colour, second: Colour, width: int, height: int) -> NDArray[np.float32]:
    """A gradient from the top's colour to the bottom's."""
    blend = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = np.array(first, np.float32) * (1 - blend) + np.array(second, np.float32) * blend
    return np.repeat(column, width, 1)


def _rough(rng: np.random.Generator, width: int, height: int, cells: int, strength: float) -> NDArray[np.float32]:
    """Brightness differences (height, width, 1) of about ``cells`` bumps across the width."""
    small = rng.normal(0, strength, (max(2, cells * height // width), cells)).astype(np.float32)
    rough: NDArray[np.float32] = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return rough


def _hall(rng: np.random.Generator, width: int, height: int) -> Image:
    """A wall with panels, shelves and doors over a tiled floor in perspective."""
    canvas = _vertical(_muted(rng), _muted(rng), width, height) + _rough(rng, width, height, 12, 8)
    image = _as_image(canvas)
    horizon = int(height * rng.uniform(0.5, 0.7))
    tile, joint = _muted(rng), _muted(rng)
    cv2.rectangle(image, (0, horizon), (width, height), tile, -1)
    for x in np.linspace(-2 * width, 3 * width, int(rng.integers(20, 50))):
        cv2.line(image, (int(width / 2 + (x - width / 2) * 0.4), horizon), (int(x), height), joint, 1, cv2.LINE_AA)
    for depth in np.geomspace(1, height - horizon, int(rng.integers(5, 11))):
        cv2.line(image, (0, horizon + int(depth)), (width, horizon + int(depth)), joint, 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 5))):
        left, wide = int(rng.uniform(0, 0.85) * width), int(rng.uniform(0.08, 0.2) * width)
        top = int(rng.uniform(0.1, 0.35) * height)
        frame, boards = _muted(rng), int(rng.integers(2, 6))
        cv2.rectangle(image, (left, top), (left + wide, horizon), frame, -1)
        for board in np.linspace(top, horizon, boards + 1)[:-1]:
            for _ in range(int(rng.integers(2, 6))):
                x, deep = left + int(rng.uniform(0, 0.85) * wide), int((horizon - top) / boards)
                box = (x + int(rng.uniform(0.06, 0.2) * wide), int(board) + deep - 2)
                cv2.rectangle(image, (x, int(board + deep * rng.uniform(0.2, 0.6))), box, _muted(rng, 0.5), -1)
            cv2.line(image, (left, int(board)), (left + wide, int(board)), _muted(rng), 2)
    return image


def _street(rng: np.random.Generator, width: int, height: int) -> Image:
    """Sky, houses with windows, and a road with its markings."""
    sky = _vertical((rng.uniform(90, 170), rng.uniform(130, 200), rng.uniform(190, 245)), _muted(rng), width, height)
    image = _as_image(sky + _rough(rng, width, height, 6, 9))
    horizon = int(height * rng.uniform(0.5, 0.65))
    x = 0
    while x < width:
        wide, top = int(rng.uniform(0.06, 0.18) * width), int(horizon * rng.uniform(0.2, 0.75))
        cv2.rectangle(image, (x, top), (x + wide, horizon), _muted(rng), -1)
        pane, columns, rows = _muted(rng, 0.5), int(rng.integers(2, 6)), int(rng.integers(2, 7))
        for column in range(columns):
            for row in range(rows):
                left, upper = x + wide * (column + 0.25) / columns, top + (horizon - top) * (row + 0.25) / rows
                corner = (int(left + wide * 0.5 / columns), int(upper + (horizon - top) * 0.5 / rows))
                cv2.rectangle(image, (int(left), int(upper)), corner, pane, -1)
        x += wide + int(rng.uniform(0, 0.03) * width)
    road = rng.uniform(50, 120)
    cv2.rectangle(image, (0, horizon), (width, height), (road, road, road + 4), -1)
    image[horizon:] = _as_image(image[horizon:] + _rough(rng, width, height - horizon, 40, 6))
    for lane in rng.uniform(-0.5, 1.5, 4):
        for near in np.arange(0.05, 1, 0.16):
            ends = [
                (int(width * (0.5 + (lane - 0.5) * (0.3 + share))), int(horizon + (height - horizon) * share))
                for share in (near, near + 0.07)
            ]
            cv2.line(image, ends[0], ends[1], (200, 200, 190), 1 + int(3 * near), cv2.LINE_AA)
    return image


def _foliage(rng: np.random.Generator, width: int, height: int) -> Image:
    """Leaves and grass: blobs of many sizes in greens and browns, with trunks."""
    greens = np.array([(70, 95, 55), (95, 110, 70), (60, 75, 50), (110, 105, 75), (85, 80, 60)], float)
    base = _vertical(tuple(greens[0] * 1.4), tuple(greens[4]), width, height)
    image = _as_image(base + _rough(rng, width, height, 9, 14))
    for _ in range(int(rng.integers(2, 6))):
        x, thick = int(rng.uniform(0, width)), int(rng.uniform(0.01, 0.035) * width)
        colour = tuple(float(c) for c in greens[3] * rng.uniform(0.5, 0.9))
        cv2.line(image, (x, 0), (x + int(rng.uniform(-0.05, 0.05) * width), height), colour, thick, cv2.LINE_AA)
    for _ in range(350):
        colour = tuple(float(c) for c in greens[int(rng.integers(5))] * rng.uniform(0.6, 1.3))
        centre = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        axes = rng.uniform(0.004, 0.025, 2) * width + 1
        cv2.ellipse(image, centre, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    return image


def _clutter(rng: np.random.Generator, image: Image) -> None:
    """One bar, bow, arrow or blot, in half of the cases in a colour of the objects; none has the shape of one."""
    height, width = image.shape[:2]
    colour: Colour = _muted(rng)
    if rng.random() < 0.5:
        red, green, blue = np.clip(
            np.array(list(COLOURS.values())[int(rng.integers(6))]) * rng.uniform(0.7, 1.05), 0, 255
        )
        colour = float(red), float(green), float(blue)
    centre, size = rng.uniform(0.02, 0.98, 2) * (width, height), rng.uniform(0.02, 0.09) * height
    x, y = (int(value) for value in centre)
    angle = rng.uniform(0, 2 * np.pi)
    tip = (int(x + 2 * size * np.cos(angle)), int(y + 2 * size * np.sin(angle)))
    kind = int(rng.integers(4))
    if kind == 0:
        cv2.line(image, (x, y), tip, colour, max(2, int(size * rng.uniform(0.1, 0.3))), cv2.LINE_AA)
    elif kind == 1:
        thick = max(2, int(size * rng.uniform(0.12, 0.3)))
        start = np.degrees(angle)
        cv2.ellipse(
            image, (x, y), (int(size), int(size)), 0, start, start + rng.uniform(90, 200), colour, thick, cv2.LINE_AA
        )
    elif kind == 2:
        cv2.arrowedLine(image, (x, y), tip, colour, max(2, int(size * 0.15)), cv2.LINE_AA, tipLength=0.4)
    else:
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radii = size * rng.uniform(0.35, 1.0, 14) * (1, 0.45)[int(rng.integers(2))]
        blot = np.stack([x + 1.9 * radii * np.cos(angles), y + radii * np.sin(angles)], 1)
        cv2.fillPoly(image, [blot.astype(np.int32)], colour, cv2.LINE_AA)
