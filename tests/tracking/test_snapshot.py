"""A tracker restored from a snapshot goes on as the one that made it; what does not fit is refused in a line."""

import dataclasses
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch

from stages.errors import ConfigError, SnapshotError
from stages.sam2.attention import LeanOptions
from stages.sam2.load import EMBEDDED, build, load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.testsrc.world import ShapesWorld
from stages.tracking import snapshot
from stages.tracking.memory.ring import Ring
from stages.tracking.track_table import TrackRecord
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, Result, TrackChange, Window

CPU = torch.device("cpu")
OPTIONS = TrackerOptions(max_objects=10, lost_after=6)
WINDOW, EVERY = 4, 12  # frames

# Each attribute of a tracker's state, by class. CARRIED goes with a snapshot; FIXED comes from the model and options,
# or follows from what is carried. An attribute that is in neither fails a test: carry it, and raise snapshot.VERSION.
CARRIED = {
    "Tracker": {"_state"},
    "TrackerState": {"bank", "cues", "gallery", "table", "clock", "frame", "masks", "_overlaps", "trust"},
    "MemoryBank": {"_memories", "_pointers", "count"},
    "Ring": {"_values", "frames", "_written"},
    "Cues": {"motion", "colours", "views"},
    "Gallery": {"_views", "records"},
    "Trust": {"means", "covariance", "pairs", "near"},
    "TrackTable": {"rows", "_next_id", "_events"},
    "TrackRecord": {"id", "prompt", "born", "last_seen", "score", "confirmed", "area", "detected_at"}
    | {"visible", "views", "misses", "away"},
}
FIXED = {
    "Tracker": {"_full_size", "_segmenter", "_options"}
    | {"_last", "_last_features", "_points", "_prompted"},  # the last picture's, and prompts by hand before it
    "TrackerState": {"_segmenter", "_options", "_rivals", "_away", "_away_rows", "_prompted", "parts"},
    "MemoryBank": {"_segmenter", "_endless", "_dtype", "_stored", "_conditioning", "_indices"},
    "Ring": {"_length", "_compact"},
    "Cues": {"moments"},
}


def found(world: ShapesWorld, t: int, twice: bool = False) -> Detections:
    """The clearly visible objects, all of prompt 0; ``twice``: the largest also of prompt 1."""
    truth = world.render(t)[1]
    seen = np.flatnonzero(truth.visible > 0.3)
    boxes, prompts = truth.boxes[seen], np.zeros(len(seen), np.int64)
    if twice:
        largest = truth.masks[seen].sum((1, 2)).argmax()
        boxes, prompts = np.concatenate([boxes, boxes[[largest]]]), np.append(prompts, 1)
    return Detections(boxes, np.linspace(0.9, 0.6, len(prompts)).astype(np.float32), prompts)


@pytest.fixture(scope="module")
def film(shapes_frame):
    """film(tracker, world, first, last, zero=0) -> results; frame ``zero`` of the world has the index 0."""

    def film(tracker: Tracker, world: ShapesWorld, first: int, last: int, zero: int = 0) -> list[Result]:
        results = []
        for start in range(first, last, WINDOW):
            frames = (shapes_frame(world, t) for t in range(start, min(start + WINDOW, last)))
            shown = tuple(dataclasses.replace(frame, index=frame.index - zero) for frame in frames)
            detections = found(world, start, twice=True) if start % EVERY == 0 or start == zero else None
            results += tracker.step(Window(0, shown, detections is not None), detections)
        return results

    return film


@pytest.fixture(scope="module")
def crowd() -> ShapesWorld:
    """Eight objects; from frame 20 on five are hidden, four end and three return."""
    return ShapesWorld(304, hard=True)


@pytest.fixture(scope="module")
def uninterrupted(segmenter, crowd, film):
    """The results of 60 frames, and the snapshots (full, not full) before each window, by its first frame."""
    tracker, results, snapshots = Tracker(segmenter, OPTIONS), [], {}
    for start in range(0, 60, WINDOW):
        snapshots[start] = tracker.snapshot(), tracker.snapshot(full=False)
        results += film(tracker, crowd, start, start + WINDOW)
    return results, snapshots


def restored(segmenter, data: bytes, options: TrackerOptions = OPTIONS, scale: float = 1.0) -> Tracker:
    tracker = Tracker(segmenter, options, scale)
    tracker.restore(data)
    return tracker


def told(results: list[Result]) -> list[object]:
    return [(result.frame.index, result.tracks, result.events) for result in results]


def same_masks(some: list[Result], others: list[Result]) -> bool:
    return all(torch.equal(a.masks, b.masks) for a, b in zip(some, others, strict=True))


def same_state(some: bytes, others: bytes) -> bool:
    """Whether two snapshots hold the same. Their bytes differ where equal texts are one object or two."""

    def same(one: object, other: object) -> bool:
        if isinstance(one, torch.Tensor):
            return torch.equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        return one == other

    return same(*(torch.load(io.BytesIO(data[32:]), weights_only=True) for data in (some, others)))


def mean_iou(some: list[Result], others: list[Result]) -> float:
    """Of the masks of the same tracks that both sides see."""
    ious = []
    for a, b in zip(some, others, strict=True):
        theirs = {track.id: mask > 0 for track, mask in zip(b.tracks, b.masks, strict=True) if (mask > 0).any()}
        mine = {track.id: mask > 0 for track, mask in zip(a.tracks, a.masks, strict=True) if (mask > 0).any()}
        ious += [float((mine[i] & theirs[i]).sum() / (mine[i] | theirs[i]).sum()) for i in mine.keys() & theirs.keys()]
    return float(np.mean(ious))


# what goes on


@pytest.mark.parametrize("cut", [20, 44])
def test_ids_events_and_masks_go_on_to_the_bit(cut, segmenter, crowd, film, uninterrupted):
    """While objects are hidden, end and return, and two tracks share an object."""
    results, snapshots = uninterrupted
    assert snapshot.load(snapshots[20][0], segmenter)[0]["overlaps"]
    assert {event.change for result in results[20:] for event in result.events} == set(TrackChange)
    after = film(restored(segmenter, snapshots[cut][0]), crowd, cut, 60)
    assert told(after) == told(results[cut:])
    assert same_masks(after, results[cut:])


@pytest.mark.slow
def test_masks_are_the_same_though_the_tracker_is_replaced_before_each_window(segmenter, crowd, film, uninterrupted):
    results, data = [], uninterrupted[1][0][0]
    for start in range(0, 60, WINDOW):
        tracker = restored(segmenter, data)
        results += film(tracker, crowd, start, start + WINDOW)
        data = tracker.snapshot()
    assert told(results) == told(uninterrupted[0])
    assert same_masks(results, uninterrupted[0])


def test_a_snapshot_of_a_restored_tracker_is_the_same(segmenter, uninterrupted):
    for data, less in (uninterrupted[1][12], uninterrupted[1][56]):
        assert same_state(restored(segmenter, data).snapshot(), data)
        for other in (data, less):
            assert same_state(restored(segmenter, other).snapshot(full=False), less)


def test_a_tracker_forgets_what_it_tracked_before(segmenter, crowd, film, uninterrupted):
    tracker = Tracker(segmenter, OPTIONS)
    film(tracker, ShapesWorld(7), 0, 16)
    tracker.restore(uninterrupted[1][32][0])
    after = film(tracker, crowd, 32, 40)
    assert told(after) == told(uninterrupted[0][32:40])
    assert same_masks(after, uninterrupted[0][32:40])


def owners(world: ShapesWorld, result: Result) -> dict[int, set[int]]:
    """The ids of the tracks whose masks are on each clearly visible object, by object."""
    truth, owner = world.render(result.frame.index)[1], {}
    for track, logits in zip(result.tracks, result.masks, strict=True):
        mask = torch.nn.functional.interpolate(logits[None, None], truth.masks.shape[1:], mode="bilinear")[0, 0] > 0
        for number in np.flatnonzero(truth.visible > 0.5):
            true = truth.masks[number]
            if (mask.numpy() & true).sum() > 0.5 * (mask.numpy() | true).sum():
                owner.setdefault(int(number), set()).add(track.id)
    return owner


@pytest.mark.slow
@pytest.mark.parametrize("seed", [300, 305])
def test_without_full_every_object_keeps_its_id(seed, segmenter, film):
    """By the truth of hard worlds: of objects in sight, hidden ones and ones that return after their end."""
    world, tracker = ShapesWorld(seed, hard=True), Tracker(segmenter, OPTIONS)
    before = film(tracker, world, 0, 32)
    ended = {event.track for result in before for event in result.events if event.change is TrackChange.ENDED}
    other = restored(segmenter, tracker.snapshot(full=False))
    checked = []
    for here, there in zip(film(tracker, world, 32, 52), film(other, world, 32, 52), strict=True):
        mine, theirs = owners(world, here), owners(world, there)
        checked += [mine[number] == theirs[number] for number in mine.keys() & theirs.keys()]
    assert ended
    assert len(checked) > 50
    assert all(checked)
    assert tracker.ids == other.ids


def test_masks_without_full_differ_hardly_and_only_for_some_frames(segmenter, crowd, film, uninterrupted):
    results, snapshots = uninterrupted
    after = film(restored(segmenter, snapshots[32][1]), crowd, 32, 48)
    assert not same_masks(after[:WINDOW], results[32 : 32 + WINDOW])
    assert mean_iou(after, results[32:48]) > 0.95


def read(tracker: Tracker, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The spatial memories (places of a memory at a time) and the pointers that the next frame reads of a row."""
    state = tracker._state
    stored = state.bank.stored(state.clock, [row]).tokens
    tokens, spatial = stored.tokens[0], stored.tokens.shape[1] - stored.pointer_tokens
    valid = torch.ones(len(tokens), dtype=torch.bool) if stored.valid is None else stored.valid[0]
    return tokens[:spatial][valid[:spatial]], tokens[spatial:][valid[spatial:]]


@pytest.mark.parametrize("static", [False, True])
def test_without_full_the_next_frame_reads_conditioning_frames_the_newest_memory_and_pointers(
    static, segmenter, uninterrupted, monkeypatch
):
    """Also where shapes are static, as on a GPU: there empty slots are masked."""
    monkeypatch.setattr(segmenter, "static", static)
    whole, less = (restored(segmenter, data) for data in uninterrupted[1][40])
    bank, places = whole._state.bank, segmenter.side**2
    assert max(bank.written().tolist()) > segmenter.recent_pointers
    for row in range(bank.count):
        (all_memories, all_pointers), (memories, pointers) = read(whole, row), read(less, row)
        conditioning = bank._conditioning[row] * places
        newest = all_memories[conditioning:][-places:]
        assert torch.equal(memories, torch.cat([all_memories[:conditioning], newest]))
        assert torch.equal(pointers, all_pointers)


def test_events_not_yet_told_are_told_once(segmenter, crowd, film, uninterrupted):
    tracker = restored(segmenter, uninterrupted[1][32][0])
    gone = tracker.ids[0]
    tracker.remove(gone)
    first, second, *_ = film(restored(segmenter, tracker.snapshot()), crowd, 32, 36)
    assert [(e.frame, e.reason) for e in first.events if e.track == gone] == [(31, "removed")]
    assert not [event for event in second.events if event.track == gone]


@pytest.mark.slow
def test_frames_that_are_counted_from_0_again_change_nothing_else(segmenter, crowd, film, uninterrupted):
    """Tracks end, return and get ids as if the count had gone on. An event that waited is on the first frame."""
    data = uninterrupted[1][36][0]
    same, anew = restored(segmenter, data), restored(segmenter, data)
    for tracker in (same, anew):
        tracker.remove(tracker.ids[0])
    here, there = film(same, crowd, 36, 60), film(anew, crowd, 36, 60, zero=36)
    assert {event.change for result in here for event in result.events} == set(TrackChange)
    for a, b in zip(here, there, strict=True):
        assert [track.id for track in a.tracks] == [track.id for track in b.tracks]
        assert [dataclasses.replace(event, frame=max(0, event.frame - 36)) for event in a.events] == list(b.events)
    assert same_masks(here, there)


def test_prompts_by_hand_wait_for_the_next_frame_and_removals_do_not(segmenter, crowd, film, uninterrupted):
    tracker = restored(segmenter, uninterrupted[1][32][0])
    first, second, *_ = tracker.ids
    point = np.array([[60, 60]], np.float32), np.array([1])
    with pytest.raises(ConfigError, match="no frame has been tracked yet"):
        tracker.add(box=np.array([10, 10, 60, 60], np.float32))
    with pytest.raises(ConfigError, match="no frame has been tracked yet"):
        tracker.refine(second, *point)
    with pytest.raises(ConfigError, match=r"no track 99; tracked now: \d"):
        tracker.refine(99, *point)
    tracker.remove(first)
    film(tracker, crowd, 32, 36)
    tracker.refine(second, *point)
    assert tracker.add(points=point) > max(uninterrupted[0][31].tracks, key=lambda track: track.id).id


# bytes


def test_a_snapshot_has_the_bytes_of_what_is_stored_and_no_more(segmenter, film):
    """Objects with one conditioning frame: 7 memories and 16 pointers with ``full``, 2 memories without."""
    world, tracker = ShapesWorld(4), Tracker(segmenter, TrackerOptions(max_objects=64))
    film(tracker, world, 0, 4)
    for track in tracker.ids[3:]:
        tracker.remove(track)
    for start in range(4, 40, WINDOW):
        if start % EVERY:  # without keyframes
            film(tracker, world, start, start + WINDOW)
    memory, pointer = 2 * segmenter.side**2 * segmenter.memory_dim, 4 * segmenter.pointer_dim
    pixels = (4 * segmenter.side) ** 2 // 8
    counted = {"memories": (1 + segmenter.recent_memories, 2), "pointers": (1 + segmenter.recent_pointers,) * 2}
    for full, rest in ((True, 0), (False, 1)):
        each = counted["memories"][rest] * memory + counted["pointers"][rest] * pointer + pixels
        assert 3 * each < len(tracker.snapshot(full)) < 3 * each + 16_000
    assert len(tracker.snapshot(full=False)) < 0.4 * len(tracker.snapshot())


@pytest.mark.slow
def test_the_bytes_do_not_grow_with_time(segmenter, crowd, film, uninterrupted):
    """Neither do they with tracks that have ended: the gallery is bounded."""
    bound = OPTIONS.max_objects / len(uninterrupted[0][8].tracks) * len(uninterrupted[1][12][0])
    tracker = restored(segmenter, uninterrupted[1][56][0])
    sizes = []
    for start in range(56, 80, WINDOW):
        film(tracker, crowd, start, start + WINDOW)
        sizes.append(len(tracker.snapshot()))
    assert max(sizes) < 1.6 * bound


# other trackers


@pytest.mark.slow
def test_another_precision_goes_on(segmenter, crowd, film, uninterrupted):
    """From bfloat16 to float32 and back: models and stored memories."""
    half = load_segmenter("embedded", CPU, torch.bfloat16)
    exact = dataclasses.replace(OPTIONS, memory_dtype=torch.float32)
    data = uninterrupted[1][32][0]
    expected = uninterrupted[0][32:40]
    for there, options in ((half, OPTIONS), (half, exact), (segmenter, exact)):
        tracker = restored(there, data, options)
        back = restored(segmenter, tracker.snapshot())
        for results in (film(tracker, crowd, 32, 40), film(back, crowd, 32, 40)):
            assert [[t.id for t in r.tracks] for r in results] == [[t.id for t in r.tracks] for r in expected]
            assert mean_iou(results, expected) > 0.97


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_snapshot_from_a_gpu_goes_on_on_the_cpu_and_back(segmenter, crowd, film, uninterrupted):
    """In bfloat16 with captured steps there, in float32 here."""
    cuda = load_segmenter("embedded", torch.device("cuda"), torch.bfloat16, graphs=True)
    tracker = restored(cuda, uninterrupted[1][32][0])
    film(tracker, crowd, 32, 36)
    for data in (tracker.snapshot(), tracker.snapshot(full=False)):
        for there in (segmenter, cuda):
            results = film(restored(there, data), crowd, 36, 48)
            assert [t.id for t in results[-1].tracks] == [t.id for t in uninterrupted[0][47].tracks]
            assert mean_iou(results, uninterrupted[0][36:48]) > 0.93


@pytest.mark.parametrize(
    ("made", "goes_on", "full"), [(0.5, 1.0, True), (0.5, 1.0, False), (1.0, 0.5, True), (0.5, 0.5, True)]
)
def test_pictures_of_another_size_go_on_as_after_a_rescale(made, goes_on, full, segmenter, film):
    """The restored tracker keeps its own size; the memories are resampled. At the same size masks are the same."""
    world, tracker = ShapesWorld(4), Tracker(segmenter, OPTIONS, made)
    film(tracker, world, 0, 12)
    other = restored(segmenter, tracker.snapshot(full), scale=goes_on)
    tracker.rescale(goes_on)
    here, there = film(tracker, world, 12, 20), film(other, world, 12, 20)
    assert there[0].masks.shape[-1] == 64 * goes_on
    assert other.nbytes == tracker.nbytes
    assert [[t.id for t in r.tracks] for r in here] == [[t.id for t in r.tracks] for r in there]
    assert mean_iou(here, there) > 0.93
    assert same_masks(here, there) == (full and made == goes_on)


def test_a_restored_tracker_may_change_its_sizes_before_its_first_frame(segmenter, crowd, film, uninterrupted):
    """As the daemon does before each window."""
    tracker = restored(segmenter, uninterrupted[1][32][0])
    tracker.rescale(0.5)
    tracker.resize(20)
    tracker.rescale(1.0)
    results = film(tracker, crowd, 32, 40)
    assert [[t.id for t in r.tracks] for r in results] == [[t.id for t in r.tracks] for r in uninterrupted[0][32:40]]


def test_of_too_many_objects_some_end_as_after_a_resize(segmenter, crowd, film, uninterrupted):
    """Those out of sight for longest, then those with the lowest scores; they stay in the gallery."""
    data = uninterrupted[1][36][0]
    resized, small = restored(segmenter, data), restored(segmenter, data, dataclasses.replace(OPTIONS, max_objects=3))
    resized.resize(3)
    assert len(small.ids) == 3
    here, there = film(resized, crowd, 36, 44), film(small, crowd, 36, 44)
    assert [event.reason for event in there[0].events].count("max_objects") >= 2
    assert told(here) == told(there)
    assert same_masks(here, there)


def test_only_the_newest_of_a_larger_gallery_stay(segmenter, crowd, uninterrupted):
    tracker = restored(segmenter, uninterrupted[1][56][0])
    tracker.forget([0, 1])
    ended = [record.id for record in tracker._state.gallery.records]
    small = restored(segmenter, tracker.snapshot(), dataclasses.replace(OPTIONS, max_objects=3))
    assert [record.id for record in small._state.gallery.records] == ended[-3:]


# refused


@pytest.fixture
def refused(segmenter, crowd, film, uninterrupted):
    """refused(data, text, model=the embedded one): a tracker refuses it in one line, and nothing has changed."""

    def refused(data: bytes, text: str, model: Sam2Segmenter = segmenter) -> None:
        tracker = restored(segmenter, uninterrupted[1][32][0])
        tracker._full_size = model
        before = tracker.snapshot()
        assert tracker.ids
        with pytest.raises(SnapshotError, match=text) as error:
            tracker.restore(data)
        assert "\n" not in str(error.value)
        assert same_state(tracker.snapshot(), before)

    return refused


def test_another_version_is_refused(refused, uninterrupted):
    changed = bytearray(uninterrupted[1][32][0])
    changed[19] += 1
    refused(bytes(changed), "version 3, but this maskcast reads version 2; run one release")


def test_other_weights_of_the_same_size_are_refused(refused, uninterrupted):
    torch.manual_seed(0)
    other = Sam2Segmenter(build(EMBEDDED / "segmenter.yaml"), CPU, torch.float32)
    refused(uninterrupted[1][32][0], r"another model \(.*weights .* than here \(.*weights", other)


def test_a_model_of_another_size_is_refused_by_its_numbers(refused, uninterrupted, segmenter, monkeypatch):
    data = uninterrupted[1][32][0]
    monkeypatch.setattr(segmenter, "memory_dim", 64)
    with pytest.raises(SnapshotError, match=r"memories of 32 channels.* than here .*memories of 64 channels"):
        snapshot.load(data, segmenter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lean", [None, LeanOptions()])
def test_the_same_weights_count_as_one_model(dtype, lean, segmenter):
    other = load_segmenter("embedded", CPU, dtype, lean=lean)
    assert snapshot.model_of(other) == snapshot.model_of(segmenter) == snapshot.model_of(other.scaled(0.5))


def test_a_change_in_any_layer_makes_another_model(segmenter):
    """Only the decoder, or only the encoder, may have been trained further."""
    for prefix in ("image_encoder", "sam_mask_decoder", "memory_encoder", "memory_attention", "obj_ptr_proj"):
        other = load_segmenter("embedded", CPU, torch.float32)
        for name, weights in other.state_dict().items():
            if name.startswith(prefix):
                weights.mul_(1.02)
        assert other.checksum != segmenter.checksum


def test_bytes_that_are_cut_off_or_changed_are_refused(refused, uninterrupted):
    data = uninterrupted[1][32][1]
    for length in (0, 10, 31):
        refused(data[:length], f"these {length} bytes are no snapshot of a tracker; take a new one")
    for length in (32, 200, len(data) // 2, len(data) - 1):
        refused(data[:length], r"cut off: [\d,]+ of [\d,]+ bytes; send it again")
    refused(data + b"\0", "damaged")
    for place in np.linspace(32, len(data) - 1, 12).astype(int):
        changed = bytearray(data)
        changed[place] ^= 4
        refused(bytes(changed), "damaged: its checksum is wrong; send it again")
    for other in (b"PK\3\4" + data[4:], b"{}" * 100):
        refused(other, "are no snapshot of a tracker")


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


def sealed(body: bytes) -> bytes:
    """A snapshot with this content, whatever it is."""
    return struct.pack(">16sIQI", b"maskcast tracker", snapshot.VERSION, len(body), zlib.crc32(body)) + body


def saved(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [{}, {"model": 1}, [], Evil(), {"state": Evil()}])
def test_a_forged_content_is_refused_and_runs_no_code(content, refused, capsys):
    refused(sealed(saved(content)), "snapshot: its content makes no sense; take a new one")
    assert "this ran" not in capsys.readouterr().out


def test_other_kinds_of_files_are_refused(refused, uninterrupted):
    """Also compressed ones, of which few bytes could become many, and those of torch before 1.6."""
    body, compressed = uninterrupted[1][32][1][32:], io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as file, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in file.infolist():
            packed.writestr(part.filename, file.read(part))
    old = saved({"model": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    for other in (b"", b"PK", compressed.getvalue(), old, old[:-3]):
        refused(sealed(other), "its content makes no sense")


@pytest.mark.parametrize("part", ["bank", "cues", "gallery", "table", "masks", "overlaps", "clock", "trust"])
def test_a_forged_state_is_refused(part, refused, uninterrupted, segmenter):
    state, _ = snapshot.load(uninterrupted[1][32][0], segmenter)
    for value in (None, {}, torch.zeros(3), [[1, 2]]):
        refused(snapshot.dump(state | {part: value}, segmenter, 256), "its content makes no sense")


@pytest.mark.parametrize("size", [0, -256, 256.5, 1 << 30, "256"])
def test_a_forged_image_size_is_refused(size, refused, uninterrupted, segmenter):
    state, _ = snapshot.load(uninterrupted[1][32][0], segmenter)
    refused(snapshot.dump(state, segmenter, size), "its content makes no sense")


def test_a_record_with_a_value_of_another_type_is_refused(refused, uninterrupted, segmenter):
    state, _ = snapshot.load(uninterrupted[1][32][0], segmenter)
    for forged in ({"id": "1"}, {"score": None}, {"id": 1 << 20}):  # the last is one that was never given
        table = state["table"] | {"rows": [state["table"]["rows"][0] | forged, *state["table"]["rows"][1:]]}
        refused(snapshot.dump(state | {"table": table}, segmenter, 256), "its content makes no sense")


def test_frames_that_were_not_tracked_are_refused(refused, uninterrupted, segmenter):
    """Their age is an index on the device, where a wrong one ends the whole process."""
    state, _ = snapshot.load(uninterrupted[1][32][0], segmenter)
    for name, place, frame in (("frames", 0, 32), ("frames", 0, -1), ("frames", 1, -2), ("written", ..., -1)):
        ring = {key: tensor.clone() for key, tensor in state["bank"]["memories"].items()}
        ring[name][0, place] = frame
        bank = state["bank"] | {"memories": ring}
        refused(snapshot.dump(state | {"bank": bank}, segmenter, 256), "its content makes no sense")


def test_few_bytes_that_stand_for_many_objects_are_refused(refused, uninterrupted, segmenter):
    """A tensor may repeat a number, and a list a record, without end."""
    state, _ = snapshot.load(uninterrupted[1][32][0], segmenter)
    table, rows = state["table"], 10_000
    frames = torch.tensor([[0, -1, -1]]).expand(rows, 3)
    rings = {
        name: {
            "frames": frames,
            "written": torch.zeros(1, dtype=torch.int64).expand(rows),
            "values": ring["values"][:1].clone().expand(rows, *ring["values"].shape[1:]),
        }
        for name, ring in state["bank"].items()
    }
    cues = {name: cue[:1].clone().expand(rows, *cue.shape[1:]) for name, cue in state["cues"].items()}
    masks = torch.zeros(1, dtype=torch.uint8).expand(rows * (4 * segmenter.side) ** 2 // 8)
    many = {"bank": rings, "cues": cues, "table": table | {"rows": table["rows"][:1] * rows}, "masks": masks}
    data = snapshot.dump(state | many, segmenter, 256)
    assert len(data) < 1 << 20
    refused(data, "its content makes no sense")


@pytest.mark.parametrize("call", [1, 2])
def test_without_memory_nothing_is_tracked_and_the_snapshot_can_be_restored_again(
    call, segmenter, crowd, film, uninterrupted, monkeypatch
):
    data, calls, load = uninterrupted[1][32][0], [], Ring.load_state_dict
    tracker = restored(segmenter, uninterrupted[1][12][0])

    def failing(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ring, "load_state_dict", failing)
        with pytest.raises(torch.OutOfMemoryError):
            tracker.restore(data)
    assert tracker.ids == ()
    assert [result.tracks for result in film(tracker, ShapesWorld(5), 1, 5)] == [()] * 4
    tracker.restore(data)
    after = film(tracker, crowd, 32, 40)
    assert told(after) == told(uninterrupted[0][32:40])
    assert same_masks(after, uninterrupted[0][32:40])


# nothing is forgotten


def attributes(thing: object) -> set[str]:
    return {f.name for f in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else vars(thing).keys()


def test_each_attribute_of_a_tracker_is_known_to_be_carried_or_fixed(segmenter, uninterrupted):
    tracker = restored(segmenter, uninterrupted[1][56][0])
    state = tracker._state
    parts = [tracker, state, state.bank, state.bank._memories, state.cues, state.gallery, state.table, state.trust]
    for part in (*parts, state.table.rows[0]):
        name = type(part).__name__
        assert attributes(part) == CARRIED[name] | FIXED.get(name, set())
    assert type(state.gallery.records[0]) is TrackRecord


def test_the_parts_of_a_snapshot_are_those_of_its_version(segmenter, uninterrupted):
    """A reader of this version needs all of them: another list is another version."""
    state, _ = snapshot.load(uninterrupted[1][56][0], segmenter)
    assert snapshot.VERSION == 2
    assert state.keys() == {"bank", "cues", "gallery", "table", "clock", "frame", "masks", "overlaps", "trust"}
    assert {name: part.keys() for name, part in state.items() if isinstance(part, dict)} == {
        "bank": {"memories", "pointers"},
        "cues": {"motion", "colours", "looks", "seen"},
        "gallery": {"records", "looks", "seen"},
        "trust": {"means", "covariance", "pairs", "near"},
        "table": {"rows", "next_id", "events"},
    }
    assert all(ring.keys() == {"values", "frames", "written"} for ring in state["bank"].values())
    assert all(
        record.keys() == CARRIED["TrackRecord"] for record in state["table"]["rows"] + state["gallery"]["records"]
    )
