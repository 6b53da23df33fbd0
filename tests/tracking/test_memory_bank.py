"""The bank gives back what was stored, with its age, and nothing older than its window."""

import numpy as np
import pytest
import torch

from stages.tracking.memory.bank import CONDITIONING, MemoryBank


@pytest.fixture
def bank(segmenter):
    return MemoryBank(segmenter, capacity=4, endless=False)


def memories(segmenter, count, value):
    """Every element of a memory and of its pointer is ``value``."""
    places, dim = segmenter.side**2, segmenter.memory_dim
    return torch.full((count, places, dim), float(value)), torch.full((count, segmenter.pointer_dim), float(value))


def read_row(segmenter, read, row):
    """The values of the valid spatial memories and pointers of a row."""
    valid = torch.ones(read.tokens.shape[:2], dtype=torch.bool) if read.valid is None else read.valid
    spatial = read.tokens.shape[1] - read.pointer_tokens
    places, per_pointer = segmenter.side**2, segmenter.pointer_dim // segmenter.memory_dim
    values = read.tokens[row, :, 0]
    seen = [float(values[i]) for i in range(0, spatial, places) if valid[row, i]]
    pointed = [float(values[i]) for i in range(spatial, len(values), per_pointer) if valid[row, i]]
    return sorted(seen), sorted(pointed)


def test_reading_a_row_gives_its_conditioning_frame_and_its_recent_frames(segmenter, bank):
    bank.append(0, *memories(segmenter, 1, 0))
    for frame in range(1, 31):
        bank.store(frame, *memories(segmenter, 1, frame), torch.tensor([True]))
    seen, pointed = read_row(segmenter, bank.stored(31, range(bank.count)).tokens, 0)
    assert seen == [0, *range(31 - segmenter.recent_memories, 31)]
    assert pointed == [0, *range(31 - segmenter.recent_pointers, 31)]


def test_rows_added_on_different_frames_read_only_their_own_memories(segmenter, bank):
    bank.append(0, *memories(segmenter, 1, 0))
    for frame in range(1, 5):
        bank.store(frame, *memories(segmenter, 1, frame), torch.tensor([True]))
    bank.append(4, *memories(segmenter, 1, 40))
    bank.store(5, *memories(segmenter, 2, 5), torch.tensor([True, True]))
    read = bank.stored(6, range(bank.count)).tokens
    assert read_row(segmenter, read, 0)[0] == [0, 1, 2, 3, 4, 5]
    assert read_row(segmenter, read, 1)[0] == [5, 40]


def test_a_frame_that_is_not_stored_does_not_displace_an_older_one(segmenter, bank):
    bank.append(0, *memories(segmenter, 1, 0))
    for frame in range(1, 5):
        bank.store(frame, *memories(segmenter, 1, frame), torch.tensor([frame != 3]))
    assert read_row(segmenter, bank.stored(5, range(bank.count)).tokens, 0)[0] == [0, 1, 2, 4]


def test_where_memories_age_by_time_a_frame_that_is_not_stored_lets_no_older_one_in(segmenter, bank):
    """Also once every slot has been written, and beside a row that has kept every frame."""
    bank.append(0, *memories(segmenter, 2, 0))
    for frame in range(1, 31):
        bank.store(frame, *memories(segmenter, 2, frame), torch.tensor([frame != 28, True]))
    bank.sync_counts(bank.written().tolist())
    read = bank.stored(31, range(bank.count)).tokens
    assert read_row(segmenter, read, 0)[0] == [0, 25, 26, 27, 29, 30]
    assert read_row(segmenter, read, 1)[0] == [0, *range(25, 31)]


def test_the_first_conditioning_frame_stays_and_the_latest_replaces_the_one_before(segmenter, bank):
    bank.append(0, *memories(segmenter, 1, 7))
    for frame in (10, 20):
        memory, pointer = memories(segmenter, 1, frame)
        bank.set_conditioning(0, frame, memory[0], pointer[0], clear=False)
    assert read_row(segmenter, bank.stored(21, range(bank.count)).tokens, 0) == ([7, 20], [7, 20])


def test_clearing_a_row_keeps_only_its_conditioning_frames(segmenter, bank):
    bank.append(0, *memories(segmenter, 1, 1))
    bank.store(1, *memories(segmenter, 1, 2), torch.tensor([True]))
    memory, pointer = memories(segmenter, 1, 3)
    bank.set_conditioning(0, 2, memory[0], pointer[0], clear=True)
    assert read_row(segmenter, bank.stored(3, range(bank.count)).tokens, 0)[0] == [1, 3]


def test_random_histories_read_what_a_plain_list_would_hold(segmenter, bank):
    """Objects start, skip frames and end at random; the bank agrees with a dictionary of lists on every frame."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, list[int]]] = []
    for frame in range(40):
        if rows and rng.random() < 0.1:
            gone = int(rng.integers(len(rows)))
            bank.remove(gone)
            rows[gone] = rows[-1]
            rows.pop()
        if rows:
            read = bank.stored(frame, range(bank.count)).tokens
            for row, history in enumerate(rows):
                near = [f for f in history["stored"] if frame - f <= segmenter.recent_memories]
                want = sorted(history["first"] + near[-segmenter.recent_memories :])
                assert read_row(segmenter, read, row)[0] == want
            store = torch.from_numpy(rng.random(len(rows)) < 0.8)
            bank.store(frame, *memories(segmenter, len(rows), frame), store)
            for history, kept in zip(rows, store.tolist(), strict=True):
                history["stored"] += [frame] if kept else []
        if len(rows) < bank.capacity and rng.random() < 0.2:
            bank.append(frame, *memories(segmenter, 1, frame))
            rows.append({"first": [frame], "stored": []})
    assert CONDITIONING == 2


def full_bank(segmenter, counts):
    """A bank that ages by rank; row i has stored ``counts[i]`` frames, and odd rows have two conditioning frames."""
    bank = MemoryBank(segmenter, capacity=len(counts))
    bank.append(0, *memories(segmenter, len(counts), 0))
    for row in range(1, len(counts), 2):
        memory, pointer = memories(segmenter, 1, row)
        bank.set_conditioning(row, 0, memory[0], pointer[0], clear=False)
    for frame in range(1, max(counts) + 1):
        stored = torch.tensor([frame <= count for count in counts])
        bank.store(frame, *memories(segmenter, len(counts), frame), stored)
    bank.sync_counts(bank.written().tolist())
    return bank


def test_rows_are_read_in_groups_full_ones_by_their_conditioning_frames_and_young_ones(segmenter):
    full = segmenter.recent_pointers
    bank = full_bank(segmenter, [full, 3, full + 2, full + 1, full, 0])
    assert bank.groups() == [[0, 2, 4], [3], [1, 5]]
    assert [bank.stored(40, rows).tokens.valid is None for rows in bank.groups()] == [True, True, False]


def test_rows_whose_memories_age_by_time_are_one_group(segmenter, bank):
    bank.append(0, *memories(segmenter, 2, 0))
    for frame in range(1, 31):
        bank.store(frame, *memories(segmenter, 2, frame), torch.tensor([True, True]))
    bank.sync_counts(bank.written().tolist())
    assert bank.groups() == [[0, 1]]


def test_a_group_reads_of_its_rows_what_a_read_of_all_rows_does(segmenter):
    bank = full_bank(segmenter, [segmenter.recent_pointers, 3, segmenter.recent_pointers, 20])
    whole = bank.stored(40, range(4)).tokens
    for rows in bank.groups():
        part = bank.stored(40, rows).tokens
        for number, row in enumerate(rows):
            assert read_row(segmenter, part, number) == read_row(segmenter, whole, row)


def test_full_rows_with_one_conditioning_frame_share_their_position_encodings(segmenter):
    """Their memories have the same ages, by rank; each row by itself gets the same encodings."""
    full = segmenter.recent_pointers
    bank = full_bank(segmenter, [full, full, full + 2, full + 3, full + 5])
    rows = bank.groups()[0]
    assert rows == [0, 2, 4]
    together = bank.stored(40, rows).tokens.positions
    assert together.shape[0] == 1
    assert all(torch.equal(together, bank.stored(40, [row]).tokens.positions) for row in rows)


def test_the_latest_conditioning_frame_has_the_age_of_its_own_row(segmenter):
    """Where there are two, the encodings of pointers differ from row to row."""
    full = segmenter.recent_pointers
    bank = full_bank(segmenter, [full, full, full, full])
    memory, pointer = memories(segmenter, 1, 5)
    bank.set_conditioning(1, full - 3, memory[0], pointer[0], clear=False)
    together = bank.stored(full + 1, [1, 3]).tokens.positions
    assert not torch.equal(together[0], together[1])
    for position, row in zip(together, (1, 3), strict=True):
        assert torch.equal(position, bank.stored(full + 1, [row]).tokens.positions[0])
