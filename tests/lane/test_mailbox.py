"""The bounded queue between the threads of a stream."""

import threading
import time

import pytest

from daemon.lane.mailbox import Mailbox
from tests.support.program import PATIENCE


def _start(target, *args) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def test_items_come_out_in_the_order_they_went_in():
    box: Mailbox[int] = Mailbox(3)
    assert [box.put(number) for number in range(3)] == [True] * 3
    assert [box.get(0) for _ in range(4)] == [0, 1, 2, None]


def test_a_full_mailbox_makes_the_sender_wait_and_loses_nothing():
    box: Mailbox[int] = Mailbox(2)
    sender = _start(lambda: [box.put(number) for number in range(100)])
    received = [box.get(PATIENCE) for _ in range(100)]
    sender.join(PATIENCE)
    assert received == list(range(100))


def test_a_full_mailbox_is_never_over_its_capacity():
    box: Mailbox[int] = Mailbox(2)
    sizes: list[int] = []
    sender = _start(lambda: [box.put(number) for number in range(50)])
    for _ in range(50):
        sizes.append(len(box.peek()))
        box.get(PATIENCE)
    sender.join(PATIENCE)
    assert max(sizes) <= 2


def test_dropping_the_oldest_hands_its_account_to_the_one_after_it():
    box: Mailbox[list[int]] = Mailbox(2)
    box.drop_oldest(lambda lost, following: lost + following)
    for number in range(5):
        assert box.put([number])
    assert [box.get(0), box.get(0)] == [[0, 1, 2, 3], [4]]


def test_a_mailbox_of_one_merges_into_the_item_that_comes():
    box: Mailbox[list[int]] = Mailbox(1)
    box.drop_oldest(lambda lost, following: lost + following)
    for number in range(3):
        box.put([number])
    assert box.get(0) == [0, 1, 2]


def test_who_waits_does_so_from_the_first_item_that_was_neither_taken_nor_dropped_before():
    box: Mailbox[int] = Mailbox(2)
    box.drop_oldest(lambda _, following: following)
    assert box.waiting_since is None
    box.put(0)
    first = box.waiting_since
    assert first is not None
    for number in (1, 2, 3):
        time.sleep(0.001)
        box.put(number)
    assert box.peek() == (2, 3)
    assert box.waiting_since == first
    box.get()
    assert box.waiting_since is not None
    assert box.waiting_since > first


def test_closing_releases_a_waiting_sender_without_taking_its_item():
    box: Mailbox[int] = Mailbox(1)
    box.put(1)
    taken: list[bool] = []
    sender = _start(lambda: taken.append(box.put(2)))
    box.close()
    sender.join(PATIENCE)
    assert taken == [False]
    assert box.get() == 1


def test_closing_releases_a_waiting_receiver_and_it_gets_none():
    box: Mailbox[int] = Mailbox(1)
    received: list[int | None] = []
    receiver = _start(lambda: received.append(box.get()))
    box.close()
    receiver.join(PATIENCE)
    assert received == [None]


def test_a_closed_mailbox_is_drained_only_when_what_waited_is_taken():
    box: Mailbox[int] = Mailbox(2)
    box.put(1)
    box.close()
    assert not box.drained
    assert not box.put(2)
    assert box.get() == 1
    assert box.drained


def test_closing_with_discard_throws_away_what_waits():
    box: Mailbox[int] = Mailbox(2)
    box.put(1)
    box.close(discard=True)
    assert box.drained
    assert box.get() is None


@pytest.mark.parametrize("act", [lambda box: box.put(1), lambda box: box.get(0), lambda box: box.close()])
def test_every_change_is_reported(act):
    told: list[int] = []
    box: Mailbox[int] = Mailbox(2, lambda: told.append(1))
    box.put(0)
    before = len(told)
    act(box)
    assert len(told) == before + 1


def test_a_sender_that_may_wait_loses_nothing_while_there_is_room_in_time():
    box: Mailbox[list[int]] = Mailbox(2)
    box.drop_oldest(lambda lost, following: lost + following)
    due = time.monotonic() + PATIENCE
    sender = _start(lambda: [box.put([number], due) for number in range(30)])
    received = [box.get(PATIENCE) for _ in range(30)]
    sender.join(PATIENCE)
    assert received == [[number] for number in range(30)]


def test_a_sender_that_has_waited_long_enough_drops_the_oldest():
    box: Mailbox[list[int]] = Mailbox(1)
    box.drop_oldest(lambda lost, following: lost + following)
    assert box.put([0], time.monotonic() + PATIENCE)
    assert box.put([1], time.monotonic() + 0.05)
    assert box.get(0) == [0, 1]


def test_closing_releases_a_sender_that_may_wait():
    box: Mailbox[list[int]] = Mailbox(1)
    box.drop_oldest(lambda lost, following: lost + following)
    box.put([0])
    taken: list[bool] = []
    sender = _start(lambda: taken.append(box.put([1], time.monotonic() + PATIENCE)))
    box.close()
    sender.join(PATIENCE)
    assert taken == [False]


def test_a_mailbox_is_bounded_by_the_sizes_of_its_items():
    box: Mailbox[str] = Mailbox(5, size=len)
    assert box.put("abc")
    assert (box.fits(2), box.fits(3)) == (True, False)
    assert box.put("de")
    box.drop_oldest(lambda lost, following: following)
    assert box.put("fgh")
    assert box.peek() == ("de", "fgh")
    assert box.put("ijklm")
    assert box.peek() == ("ijklm",)


def test_an_item_larger_than_the_mailbox_goes_into_an_empty_one():
    box: Mailbox[str] = Mailbox(2, size=len)
    assert box.put("abc")
    assert box.get() == "abc"


def test_waiting_items_are_taken_as_one_as_far_as_they_join():
    box: Mailbox[str] = Mailbox(9)
    for item in "abcde":
        box.put(item)

    def join(item: str, following: str) -> str | None:
        return item + following if len(item) < 3 else None

    assert box.get(join=join) == "abc"
    assert box.get(join=join) == "de"
    assert box.waiting_since is None
