"""Runs parts of a network as CUDA graphs, one for each size of picture and caption that comes again."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from stages.graphs import Graphs, Tensors

MOST = 8  # kinds of arguments of one part that have graphs; of the full-size model, pictures of one size take 160 MB
_MOST_SEEN = 256  # kinds without a graph that are remembered


@dataclass(frozen=True, slots=True)
class _Arguments:
    """All of a call's arguments but the values of its tensors."""

    structure: TreeSpec
    formats: tuple[Hashable, ...]  # shape and dtype of a tensor, else the argument itself

    @classmethod
    def of(cls, leaves: list[Any], structure: TreeSpec) -> "_Arguments":
        tensor = torch.Tensor
        return cls(structure, tuple((x.shape, x.dtype) if isinstance(x, tensor) else x for x in leaves))


class GraphedPart:
    """Replaces the ``forward`` of a module that asks the device for no value and uploads none.

    Arguments of a kind (structure, shapes, types, and all that is no tensor) that come for the first time run as
    before; from the second time on they run as a graph, for the first ``MOST`` kinds. Batches of several pictures run
    as before: they keep a GPU busy without graphs, and need more memory. The thread that runs the model owns it.
    """

    def __init__(self, module: torch.nn.Module, name: str, graphs: Graphs) -> None:
        """``name``: what warnings call the part."""
        self._name, self._graphs = name, graphs
        self._run: Callable[..., Any] = module.forward
        self._seen: Counter[_Arguments] = Counter()  # how often those without a graph have come
        self._calls: dict[_Arguments, _Call] = {}
        module.forward = self._forward

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        arguments = _Arguments.of(leaves, structure)
        call = self._calls.get(arguments)
        if call is None and self._seen[arguments] and len(self._calls) < MOST:
            call = self._calls[arguments] = _Call(self._run, leaves, structure, self._name)
        if call is None:
            results = self._run(*args, **kwargs)
            if len(tensors[0]) == 1:
                self._note(arguments)
            return results
        with self._graphs.capturing():
            return call.results(self._graphs.run(call, 1, tensors, (), {}))

    def _note(self, arguments: _Arguments) -> None:
        """Count arguments that ran without a graph."""
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        self._seen[arguments] += 1
        if self._seen[arguments] == 2:
            self._graphs.leave_out(self._name, 1, f"{MOST} other kinds of pictures and captions have graphs")


class _Call:
    """A part with arguments of one kind, as a step of tensors; see `stages.graphs.Step`."""

    def __init__(self, run: Callable[..., Any], leaves: list[Any], structure: TreeSpec, name: str) -> None:
        self.__name__ = name
        self._run, self._structure = run, structure
        self._leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self._results: list[Any] = []  # the leaves of what it returns; None for a tensor
        self._result_places: list[int] = []
        self._result_structure: TreeSpec | None = None

    def __call__(self, tensors: Tensors, _: Tensors) -> Tensors:
        args, kwargs = tree_unflatten(_filled(self._leaves, self._places, tensors), self._structure)
        leaves, self._result_structure = tree_flatten(self._run(*args, **kwargs))
        self._results = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self._result_places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        return tuple(leaves[place] for place in self._result_places)

    def results(self, tensors: Tensors) -> Any:
        """What the part returns, of its tensors."""
        assert self._result_structure is not None
        return tree_unflatten(_filled(self._results, self._result_places, tensors), self._result_structure)


def _filled(leaves: list[Any], places: list[int], tensors: Tensors) -> list[Any]:
    filled = list(leaves)
    for place, tensor in zip(places, tensors, strict=True):
        filled[place] = tensor
    return filled
