"""A cue is trusted as far as it has told the objects of this stream apart, and motion likewise."""

import numpy as np
import pytest
import torch

from stages.tracking.identity.looks import CUES
from stages.tracking.identity.trust import CERTAIN, LIMIT, Trust

CUE = CUES.index("fine")


def pairs(rng: np.random.Generator, count: int, **larger: float) -> np.ndarray:
    """Distances of ``count`` pairs, about 0.3, of some cues ``larger`` times as much."""
    factors = np.array([larger.get(cue, 1.0) for cue in CUES])
    return (0.3 * factors * np.exp(rng.normal(0, 0.3, (count, len(CUES))))).astype(np.float32)


@pytest.fixture
def taught() -> Trust:
    """A stream in which ``fine`` alone tells objects apart: its distances are four times as large for two."""
    rng, trust = np.random.default_rng(0), Trust()
    for _ in range(60):
        trust.learn(pairs(rng, 4), pairs(rng, 4, fine=4.0))
    return trust


def test_the_cue_that_tells_objects_apart_decides(taught):
    near, far = np.full(len(CUES), 0.3, np.float32), np.full(len(CUES), 0.3, np.float32)
    far[CUE] = 1.2
    assert taught.log_ratio(near) > CERTAIN
    assert taught.log_ratio(far) < -CERTAIN


def test_a_cue_that_tells_nothing_has_hardly_a_say(taught):
    """Colours ten times as far apart as usual, in a stream whose objects all differ as much in colour."""
    near = np.full(len(CUES), 0.3, np.float32)
    other = near.copy()
    other[CUES.index("colour")] = 3.0
    assert abs(taught.log_ratio(near) - taught.log_ratio(other)) < 0.25 * LIMIT


def test_where_no_cue_tells_objects_apart_nothing_is_concluded():
    rng, trust = np.random.default_rng(1), Trust()
    for _ in range(100):
        trust.learn(pairs(rng, 4), pairs(rng, 4))
    assert np.abs(trust.log_ratio(pairs(rng, 50))).max() < 1


def test_two_cues_that_always_agree_do_not_count_twice():
    """One cue is copied to a second one: what both say together is about what the one says."""

    def ratio(copied: bool) -> float:
        rng, trust = np.random.default_rng(2), Trust()
        for _ in range(150):
            same, other = pairs(rng, 4), pairs(rng, 4, fine=2.0)
            if copied:
                for some in (same, other):
                    some[:, CUES.index("coarse")] = some[:, CUE]
            trust.learn(same, other)
        return float(trust.log_ratio(np.full(len(CUES), 0.3, np.float32)))

    assert 0 < ratio(copied=True) < 1.3 * ratio(copied=False)


def test_what_is_learned_long_ago_is_forgotten(taught):
    rng = np.random.default_rng(3)
    for _ in range(200):
        taught.learn(pairs(rng, 4), pairs(rng, 4, chromaticity=4.0))
    weights = taught.separation
    assert weights.argmax() == CUES.index("chromaticity")


def test_numbers_stay_finite_for_distances_of_zero_and_of_many_pairs():
    trust = Trust()
    for _ in range(100):
        trust.learn(np.zeros((300, len(CUES)), np.float32), np.zeros((300, len(CUES)), np.float32))
    assert np.isfinite(trust.log_ratio(np.zeros((2, len(CUES)), np.float32))).all()
    assert Trust.fits(trust.state_dict())


def test_motion_is_worth_less_where_objects_are_not_where_they_are_expected():
    """Known pairs of one object are in place no more often than those of two, as after a camera that jumps."""
    steady, jumping = Trust(), Trust()
    one = np.array([True, False] * 200)
    hidden = np.zeros(400, bool)
    steady.learn_motion(one, hidden, one)
    jumping.learn_motion(one, hidden, np.arange(400) % 4 < 2)
    assert steady.motion_ratio()[0] > 4 > 1 > jumping.motion_ratio()[0]
    assert jumping.motion_ratio()[1] == Trust().motion_ratio()[1]  # of tracks out of sight nothing was learned


def test_a_saved_trust_says_the_same(taught):
    other = Trust()
    other.load_state_dict(taught.state_dict())
    some = pairs(np.random.default_rng(4), 5)
    assert (other.log_ratio(some) == taught.log_ratio(some)).all()
    assert other.motion_ratio() == taught.motion_ratio()


def test_forged_numbers_are_noticed(taught):
    for name in ("means", "pairs", "near", "covariance"):
        state = taught.state_dict()
        state[name][..., 0] = torch.nan
        assert not Trust.fits(state)
