"""The state of an unfinished training, from which it goes on after it was cut off."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

EVERY = 100  # steps between two writes of the state
SUFFIX = ".training"
PARTS = ("model", "average", "optimizer")


class Progress:
    """A model in training: its weights, their moving average, the optimizer, and the number of steps done.

    It is written beside the result, as ``NAME.training``, every ``EVERY`` steps, and removed at the end.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, out: Path) -> None:
        self.model, self.average, self.optimizer = model, copy.deepcopy(model), optimizer
        self.step = 0
        self.further = False  # whether it began with a trained model
        self._path = out.with_name(out.name + SUFFIX)

    def start(self, path: Path | None, read: Callable[[Path], dict[str, torch.Tensor]]) -> None:
        """Begin with a trained model, whose weights ``read`` reads, or go on from an unfinished training."""
        if path is None:
            return
        if path.suffix == SUFFIX:
            state = torch.load(path, weights_only=True)
            for name in PARTS:
                getattr(self, name).load_state_dict(state[name])
            self.step, self.further = state["step"], state["further"]
        else:
            for model in (self.model, self.average):
                model.load_state_dict(read(path))
            self.further = True

    def advance(self, decay: float) -> None:
        """Count a step, move the average by ``1 - decay`` towards the model, and write the state when it is time."""
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1
        if self.step % EVERY == 0:
            partial = self._path.with_name(self._path.name + ".tmp")
            parts = {name: getattr(self, name).state_dict() for name in PARTS}
            torch.save({**parts, "step": self.step, "further": self.further}, partial)
            partial.replace(self._path)

    def finish(self) -> None:
        """Remove the state: the training is complete."""
        self._path.unlink(missing_ok=True)
