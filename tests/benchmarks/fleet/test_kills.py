"""The benchmark of kills tells lost identities from kept ones, and from objects that went out of sight."""

from stages.testsrc.world import ShapesWorld
from tests.benchmarks.fleet.kills import SEEDS, Change, Cost, row
from tests.fleet.watcher import Seen, identities_around

FPS = 3


def message(world: ShapesWorld, frame: int, ids: dict[int, int]) -> Seen:
    """What a perfect tracker would say of a frame; ``ids`` by body."""
    truth = world.render(frame)[1]
    objects = [
        {"id": ids[int(body)], "prompt": label, "box": box.tolist()}
        for body, label, box, visible in zip(truth.ids, truth.labels, truth.boxes, truth.visible, strict=True)
        if visible > 0 and int(body) in ids
    ]
    return Seen(frame / FPS, {"pts": frame, "objects": objects})


def test_ids_before_and_after_are_those_of_bodies_that_stayed_in_sight():
    world = ShapesWorld(SEEDS[0], objects=2, fps=FPS)
    before = [message(world, frame, {1: 7, 2: 8}) for frame in range(12)]
    assert all(world.render(frame)[1].visible.min() > 0.9 for frame in range(11, 40))
    same = [message(world, frame, {1: 7, 2: 8}) for frame in range(24, 36)]
    other = [message(world, frame, {1: 8, 2: 9}) for frame in range(24, 36)]
    gone = [message(world, frame, {2: 8}) for frame in range(24, 36)]
    assert identities_around(before + same, 12, world) == {1: (7, 7), 2: (8, 8)}
    assert identities_around(before + other, 12, world) == {1: (7, 8), 2: (8, 9)}
    assert identities_around(before + gone, 12, world) == {1: (7, None), 2: (8, 8)}


def test_a_body_that_was_hidden_meanwhile_does_not_count():
    world = ShapesWorld(0, fps=FPS)
    hidden = next(
        (body, frame)
        for frame in range(12, 300)
        for body, visible in enumerate(world.render(frame)[1].visible, 1)
        if visible <= 0.5 < world.render(11)[1].visible[body - 1]
    )
    body, frame = hidden
    ids = {number: number for number in range(1, len(world.bodies) + 1)}
    messages = [message(world, at, ids) for at in (*range(12), *range(frame + 1, frame + 9))]
    assert body not in identities_around(messages, 12, world)


def test_a_row_tells_the_longest_gap_and_how_many_ids_were_kept():
    lost, kept = Cost("gate", 5.25, 16, [(1, 1), (2, 3)]), Cost("hall", 0.5, 1, [(4, 4), (5, None)])
    text = row("kill n0", [Change("kill n0", [lost], [kept]), Change("kill n1", [kept], [])])
    assert text == "| kill n0 | 2 | 5.25 | 16 | 2 of 4 | 0.50 | 1 of 2 |"
