"""What a training is asked for, and the state of an unfinished one, from which it goes on after it was cut off."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

EVERY = 100  # steps between two writes of the state
SUFFIX = ".training"
PARTS = ("model", "average", "optimizer")


@dataclass(frozen=True, slots=True)
class Run:
    """One training. Its result depends on ``steps``, ``seed``, ``start`` and ``factor``, not on the workers."""

    steps: int
    out: Path
    seed: int = 0
    start: Path | None = None  # a trained model to train further, or the state of a training that was cut off
    device: torch.device = torch.device("cpu")
    workers: int = 0  # processes that draw the pictures; 0: none but this one
    factor: int = 1  # times the pictures of a step, for a device that has room for them


class Progress:
    """A model in training: its weights, their moving average, the optimizer, and the number of steps done.

    It is written beside the result, as ``NAME.training``, every ``EVERY`` steps, and removed at the end.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> None:
        self.model, self.average, self.optimizer = model, copy.deepcopy(model), optimizer
        self.step = 0
        self.further = False  # whether it began with a trained model
        self._start, self._path = run.start, run.out.with_name(run.out.name + SUFFIX)
        self._schedule = {"steps": run.steps, "seed": run.seed, "factor": run.factor}

    def start(self, read: Callable[[Path], dict[str, torch.Tensor]]) -> None:
        """Begin with a trained model, whose weights ``read`` reads, or go on from an unfinished training.

        Exits with a line where that had another number of steps, seed or factor: its learning rate would jump.
        """
        path = self._start
        if path is None:
            return
        if path.suffix == SUFFIX:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["schedule"] != self._schedule:
                asked = " ".join(f"--{name} {value}" for name, value in state["schedule"].items())
                raise SystemExit(f"{path}: this training was begun with {asked}; give the same")
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
            rest = {"step": self.step, "further": self.further, "schedule": self._schedule}
            torch.save(parts | rest, partial)
            partial.replace(self._path)

    def finish(self) -> None:
        """Remove the state: the training is complete."""
        self._path.unlink(missing_ok=True)
