"""The public SAM 2 architectures agree with upstream's predictor, with random weights, each frame by itself.

A random network amplifies the rounding of what it remembers from frame to frame. So upstream's memories are copied into
the tracker after every frame, and each frame is compared by itself; test_parity.py lets trained weights run free.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch

from stages.sam2 import load as sam2_load
from stages.sam2.attention import LeanOptions
from stages.sam2.load import config_file, load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.sam2.split_attention import Splitting, attend_plainly
from stages.testsrc.world import ShapesWorld
from stages.tracking.memory.recall import Recall
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Image
from tests.sam2.parity import Act, Agreement, Ours, Upstream, compare
from tests.sam2.upstream import build_upstream

CLIP = Path(__file__).parents[3] / "shared" / "data" / "clips" / "driving.mp4"
STRIDE = 3  # frames of the clip from one to the next: more motion
LEAST_IOU, CLOSE = 0.999, 1e-2  # CLOSE is in standard deviations of the logits
EXACT = TrackerOptions(max_objects=4, gate=False, endless=False)

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A model, and when the fourth object joins, the first is corrected and the second removed."""

    version: str
    size: str
    image_size: int
    frames: int = 12
    joins: int = 5
    corrected: int = 7
    leaves: int = 9


CASES = [
    Case("2.1", "t", 1024, frames=3, joins=1, corrected=1, leaves=1),  # the size that they are made for
    Case("2.1", "t", 256),
    # more frames than the memory holds are the tracker's matter, not the architecture's: the smallest shows them
    Case("2.1", "s", 256, frames=5, joins=2, corrected=3, leaves=3),
    Case("2.1", "b+", 256, frames=5, joins=2, corrected=3, leaves=3),
    Case("2.1", "l", 256, frames=5, joins=2, corrected=3, leaves=3),
    Case("2", "t", 256),
]
SHORT = Case("2.1", "t", 256, frames=5, joins=2, corrected=3, leaves=3)
LEAN = LeanOptions(splitting=Splitting(attend_plainly, multiprocessors=132))  # attention as on a GPU


def images(count: int) -> list[Image]:
    """Frames of a real clip where there is one, else of the test source, at 1280 x 720."""
    if not CLIP.exists():
        return [ShapesWorld(0, 1280, 720).render(t)[0] for t in range(0, count * STRIDE, STRIDE)]
    with av.open(str(CLIP)) as container:
        decoded = zip(range(count * STRIDE), container.decode(video=0), strict=False)
        return [frame.to_ndarray(format="rgb24") for t, frame in decoded if t % STRIDE == 0]


def script(case: Case, height: int = 720, width: int = 1280) -> list[Act]:
    """Objects by box, by points and by mask on the first frame; one more later, one corrected, one removed."""
    mask = np.zeros((height, width), bool)
    mask[300:700, 700:1200] = True
    clicks = np.array([[250, 300], [600, 100]], np.float32), np.array([1, 0])
    more = [(np.array([place], np.float32), np.array([label])) for place, label in (((500, 400), 1), ((90, 90), 0))]
    return [
        Act(0, "add", 1, box=np.array([300, 150, 800, 600], np.float32)),
        Act(0, "add", 2, points=clicks),
        Act(0, "add", 3, mask=mask),
        Act(case.joins, "add", 4, box=np.array([500, 50, 900, 400], np.float32)),
        *(Act(case.corrected, "refine", 1, points=points) for points in more),
        Act(case.leaves, "remove", 2),
    ]


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Weights with which masks have a foreground and a background, and depend on the memories.

    Upstream's initial weights shrink what passes through, which leaves the masks to the biases.
    """
    for name, weights in model.named_parameters():
        if any(part in name for part in ("pos_embed", "tpos_enc", "no_mem", "no_obj")):
            weights.normal_(0, 0.5)
        elif "gamma" in name:
            weights.fill_(1)
        elif weights.ndim > 1 and not any(part in name for part in ("patch_embed", "token", "embeddings")):
            weights.normal_(0, weights[0].numel() ** -0.5)
            if "mask_decoder" in name and "k_proj" in name:
                weights.mul_(0.5)  # no attention there is a hard choice, which a last bit would decide
    model.memory_encoder.mask_downsampler.encoder[-1].weight.mul_(30)  # the mask counts beside the picture
    for network in model.sam_mask_decoder.output_hypernetworks_mlps:
        network.layers[-1].weight.mul_(4)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5)  # present


def load_both(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, lean: LeanOptions | None = None
) -> tuple[Upstream, Sam2Segmenter]:
    """Upstream's predictor, and ours read by the real loader from its checkpoint; they hold the same tensors."""
    torch.manual_seed(0)
    predictor = build_upstream(config_file(case.version, case.size), case.image_size)
    randomise(predictor)
    checkpoint = folder / "checkpoint.pt"
    torch.save({"model": predictor.state_dict()}, checkpoint)
    monkeypatch.setattr(sam2_load, "build", partial(sam2_load.build, image_size=case.image_size))
    segmenter = load_segmenter(str(checkpoint), torch.device("cpu"), torch.float32, lean=lean)
    checkpoint.unlink()
    predictor.load_state_dict(segmenter.state_dict(), assign=True)
    return Upstream(predictor, images(case.frames), folder), segmenter


def play(case: Case, theirs: Upstream, segmenter: Sam2Segmenter) -> Agreement:
    ours = Ours(Tracker(segmenter, EXACT), images(case.frames))
    agreement = compare(theirs, ours, script(case), case.frames, forced=True)
    print(
        f"SAM {case.version} {case.size} at {case.image_size}: {len(agreement.ious)} masks, least IoU "
        f"{min(agreement.ious):.5f}, logits within {agreement.relative:.1e} of their standard deviation, "
        f"foreground {min(agreement.shares):.2f} to {max(agreement.shares):.2f}, "
        f"IoU of different objects up to {max(agreement.alike):.3f}"
    )
    return agreement


RUNS = [*((case, None) for case in CASES), (SHORT, LEAN)]


@pytest.mark.parametrize(
    ("case", "lean"),
    RUNS,
    ids=[f"{c.version}-{c.size}-{c.image_size}{'-as on a GPU' if lean else ''}" for c, lean in RUNS],
)
def test_masks_of_the_public_architectures_equal_upstreams(case, lean, tmp_path, monkeypatch):
    """Every object on every frame has the same mask as upstream gives it from the same memories."""
    theirs, segmenter = load_both(case, tmp_path, monkeypatch, lean)
    agreement = play(case, theirs, segmenter)
    assert agreement.encoder < 1e-4
    assert min(agreement.ious) >= LEAST_IOU
    assert agreement.relative < CLOSE
    # the masks are worth comparing: none is empty, full or absent, or as good as another object's
    assert min(agreement.shares) > 0.01
    assert max(agreement.shares) < 0.99
    assert min(agreement.spreads) > 0
    assert max(agreement.alike) < LEAST_IOU


def test_the_comparison_notices_a_missing_key_mask(tmp_path, monkeypatch):
    """Negative control: the object that joins later reads memories that it does not have."""
    theirs, segmenter = load_both(SHORT, tmp_path, monkeypatch)
    read = Recall.__call__
    monkeypatch.setattr(Recall, "__call__", lambda recall, *of: replace(read(recall, *of), valid=None))
    agreement = play(SHORT, theirs, segmenter)
    assert min(agreement.ious) < LEAST_IOU
    assert agreement.relative > CLOSE
