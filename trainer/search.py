"""The verb: train at every point of a grid, and keep a table and a plot. Optuna runs it and remembers what is done."""

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import GridSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from stages.errors import ConfigError, OutputError
from trainer.checkpoint import make_room, write_whole
from trainer.errors import TrainingError
from trainer.report.plots import draw_search

DATABASE, TABLE, PLOT = "search.db", "search.csv", "search.png"
COLUMNS = ("val_accuracy", "test_accuracy", "best_epoch", "seconds", "checkpoint", "failed")  # beside the parameters

Grid = Mapping[str, Sequence[float]]
Trainer = Callable[[dict[str, Any], Path], dict[str, Any]]  # parameters and folder -> summary with val_accuracy


def search(grid: Grid, settings: Mapping[str, Any], out: Path, train: Trainer) -> list[dict[str, Any]]:
    """Train at each point of ``grid`` that has no result in ``out`` yet; all rows of the table, the best one first.

    A point at which TrainingError is raised has failed, with its reason; every other error ends the search, which goes
    on from there the next time. ``settings`` are what all points share. Raises ConfigError when ``out`` has a search
    with other settings, OutputError, and what ``train`` raises.
    """
    make_room(out, 0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = GridSampler(grid, seed=0)
    study = _open(out, sampler)
    _check_same(study, settings, out)

    def objective(trial: optuna.Trial) -> float:
        values = {name: _suggest(trial, name, choices) for name, choices in grid.items()}
        summary = _known(study, values) or _train(trial, values, train, out)
        for name in COLUMNS:
            trial.set_user_attr(name, summary.get(name))
        return float(summary["val_accuracy"])

    def keep(study: optuna.Study, _: FrozenTrial) -> None:
        _keep(study, out)

    if not sampler.is_exhausted(study):
        with _stopping():
            study.optimize(objective, catch=(TrainingError,), callbacks=[keep])
    return _keep(study, out)


def _suggest(trial: optuna.Trial, name: str, choices: Sequence[float]) -> float:
    """The sampler's choice. As a range, because Optuna does not let a list of choices grow later."""
    low, high = min(choices), max(choices)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=True)


def points(grid: Grid) -> int:
    return len(list(itertools.product(*grid.values())))


def _open(out: Path, sampler: GridSampler) -> optuna.Study:
    url = URL.create("sqlite", database=str(out / DATABASE)).render_as_string()
    try:
        return optuna.create_study(
            storage=RDBStorage(url), sampler=sampler, study_name="search", load_if_exists=True, direction="maximize"
        )
    except (SQLAlchemyError, RuntimeError) as error:
        raise OutputError(f"cannot use {out / DATABASE}: {type(error).__name__}; choose another --out") from error


def _check_same(study: optuna.Study, settings: Mapping[str, Any], out: Path) -> None:
    before = study.user_attrs.get("settings")
    if before is None:
        study.set_user_attr("settings", dict(settings))
        return
    for name, value in settings.items():
        if before.get(name) != value:
            raise ConfigError(
                f"{out} has a search with {name} {before.get(name)}, not {value}; give the same, or another --out"
            )


def _known(study: optuna.Study, values: dict[str, Any]) -> dict[str, Any] | None:
    """What a trial of an earlier, smaller grid found at this point."""
    same = (trial for trial in _complete(study) if trial.params == values)
    return next((trial.user_attrs for trial in same), None)


class _Stopped(BaseException):
    """Carries an error past Optuna, which would count the trial as done for every Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _train(trial: optuna.Trial, values: dict[str, Any], train: Trainer, out: Path) -> dict[str, Any]:
    try:
        return train(values, out / ",".join(f"{name}={value:g}" for name, value in values.items()))
    except TrainingError as error:
        trial.set_user_attr("failed", str(error))
        raise
    except Exception as error:
        raise _Stopped(error) from error


@contextmanager
def _stopping() -> Iterator[None]:
    try:
        yield
    except _Stopped as stopped:
        raise stopped.error from None


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _keep(study: optuna.Study, out: Path) -> list[dict[str, Any]]:
    """Write the table, and the plot once there is something to compare; the rows."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    by_point = {tuple(sorted(trial.params.items())): _row(trial) for trial in done}
    rows = sorted(by_point.values(), key=lambda row: -(row["val_accuracy"] or 0.0))
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(out / TABLE, text.getvalue().encode())
    if len(complete := _complete(study)) > 1:
        write_whole(
            out / PLOT, draw_search([t.params for t in complete], [t.user_attrs["val_accuracy"] for t in complete])
        )
    return rows


def _row(trial: FrozenTrial) -> dict[str, Any]:
    return trial.params | {name: trial.user_attrs.get(name) for name in COLUMNS}
