"""``python -m suites.tune SUITE``: choose hyper-parameters by the suite's protocol, for all alike.

No label of a trial's target takes part: trials run on tasks that the suite does not report, and are
compared by a label-free validator. (A domain that is the source of a trial may be the target of a
task that is reported.) What was chosen is for the suite's YAML.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from itmc.errors import UsageError
from itmc.files import write_atomic
from suites.command import DONE, FAILED, INTERRUPTED, Parser, exit_code
from suites.folders import PROGRESS, is_finished, recorded_failure
from suites.options import (
    add_jobs_option,
    add_suite_options,
    changes_of,
    jobs_of,
    places_of,
    refuse_unused,
    words,
)
from suites.outputs import check_place, check_writable

if TYPE_CHECKING:
    from itmc.training.method import Method
    from suites.config import RunConfig, SuiteConfig, TuningConfig

STOPPED = "stopped; the same command takes up where it stopped"


@dataclass(frozen=True)
class Trial:
    """One point of a method's grid, and the runs that judge it."""

    method: str
    values: Mapping[str, Any]
    runs: tuple[RunConfig, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return exit_code("suites.tune", lambda: _run(_parser().parse_args(arguments)), STOPPED)


def _run(options: argparse.Namespace) -> int:
    from itmc.training.method import selected
    from suites.config import load_suite
    from suites.display import display, show_plan
    from suites.execute import run_plan
    from suites.plan import plan, with_kernels

    suite = load_suite(options.suite, changes_of(options))
    tuning = _protocol(suite)
    chosen = _tunable(tuning, options.methods)
    refuse_unused(options, suite, chosen)
    _refuse_tuned(options.set, tuning)
    out = options.out or Path("runs") / f"{suite.name}-tuning"
    places = places_of(options, suite, out, "suites.tune")
    check_place(places.out)
    with display(show_accuracy=False) as screen:
        trials = _trials(suite, selected(list(tuning.grids)), places, screen)
        asked = [trial for trial in trials if trial.method in {method.name for method in chosen}]
        runs = [run for trial in asked for run in trial.runs]
        made = plan(runs)
        places = with_kernels(options.kernels, places, runs, screen)
        if options.dry_run:
            show_plan(made, places)
            return DONE
        check_writable(places.out)
        screen.begin(made, places)
        jobs = jobs_of(options.jobs, places.device, options.threads)
        outcome = run_plan(made, places, jobs, screen)
    if outcome.interrupted:
        print(STOPPED, file=sys.stderr)
        return INTERRUPTED
    told = _told(trials, asked, places.out)
    scores = [_score(trial, places.out, tuning.criterion) for trial in told]
    for path in _write(suite, told, scores, places.out):
        print(path)
    for title, reason in outcome.failures.items():
        print(f"FAILED {title}: {reason}", file=sys.stderr)
    return FAILED if outcome.failures else DONE


def _protocol(suite: SuiteConfig) -> TuningConfig:
    """The suite's, on tasks other than those that it reports."""
    if suite.tuning is None:
        raise UsageError(f"suite {suite.name!r} has no section 'tuning'; digits.yaml shows one")
    reported = suite.asked_tasks()
    common = [text for text in suite.tuning.tasks if suite.spec.task(text) in reported]
    if common:
        raise UsageError(
            f"suite {suite.name!r} reports {', '.join(common)}; hyper-parameters are chosen on "
            "tasks that it does not report"
        )
    return suite.tuning


def _tunable(tuning: TuningConfig, asked: str | None) -> list[type[Method]]:
    from itmc.training.method import selected

    chosen = selected(list(tuning.grids) if asked is None else words(asked))
    missing = [m.name for m in chosen if m.name not in tuning.grids]
    if missing:
        raise UsageError(
            f"there is no grid for {', '.join(missing)}; the suite has grids for: "
            f"{', '.join(tuning.grids)}"
        )
    return chosen


def _refuse_tuned(assignments: Sequence[str], tuning: TuningConfig) -> None:
    """Raise UsageError where ``--set`` fixes what is to be chosen."""
    for assignment in assignments:
        section, _, key = assignment.partition("=")[0].partition(".")
        if key in tuning.grids.get(section, {}):
            raise UsageError(f"--set {assignment!r}: {key} is in the grid of {section}")


def _trials(
    suite: SuiteConfig, methods: Sequence[type[Method]], places: Any, screen: Any
) -> list[Trial]:
    """All points of the grids of ``methods``, on what the suite sets for them otherwise."""
    from suites.plan import grid

    assert suite.tuning is not None
    named = suite.tuning.model_dump(include={"tasks", "compression", "seeds"})
    runs = grid(suite.model_copy(update=named), methods, places, screen)
    trials = []
    for name in (method.name for method in methods):
        own = [run for run in runs if run.method == name]
        for values in _points(suite.tuning.grids[name]) if own else ():
            knobs = _knobs(suite, name, values)
            changed = tuple(run.model_copy(update={"knobs": knobs}) for run in own)
            trials.append(Trial(name, values, changed))
    return trials


def _points(choices: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """All combinations of the values that each hyper-parameter has to choose from."""
    for point in itertools.product(*choices.values()):
        yield dict(zip(choices, point, strict=True))


def _knobs(suite: SuiteConfig, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """All hyper-parameters of a method with ``values`` on top of what the suite sets."""
    from itmc.training.method import knobs_of, settings_of

    settings = {**suite.methods, name: {**suite.methods.get(name, {}), **values}}
    return knobs_of(name, settings_of(name, settings)).model_dump(mode="json")


def _told(trials: Sequence[Trial], asked: Sequence[Trial], out: Path) -> list[Trial]:
    """Those of ``trials`` to report: the ``asked``, and the grids that earlier calls finished."""
    unfinished = {trial.method for trial in trials if not _is_over(trial, out)}
    told = {trial.method for trial in asked} | {trial.method for trial in trials} - unfinished
    return [trial for trial in trials if trial.method in told]


def _is_over(trial: Trial, out: Path) -> bool:
    """Whether each of its runs is finished or has failed."""
    return all(
        is_finished(out, run.key, is_run=True) or recorded_failure(out / run.key)
        for run in trial.runs
    )


def _score(trial: Trial, out: Path, criterion: str) -> float:
    """Mean of the criterion after the last epoch; NaN unless all runs have it."""
    found = []
    for run in trial.runs:
        if not is_finished(out, run.key, is_run=True):
            return math.nan
        last = (out / run.key / PROGRESS).read_text().splitlines()[-1]
        found.append(json.loads(last)["scores"].get(criterion, math.nan))
    return statistics.fmean(found)


def best(scores: Sequence[float]) -> int | None:
    """Index of the highest score, the first of equals; ``None`` where there is none."""
    usable = [index for index, score in enumerate(scores) if not math.isnan(score)]
    return max(usable, key=lambda index: (scores[index], -index), default=None)


def _write(
    suite: SuiteConfig, trials: Sequence[Trial], scores: Sequence[float], out: Path
) -> tuple[Path, ...]:
    """Print what was chosen; write all trials, and the suite with the chosen values."""
    from itmc.domains.own import OwnDataset

    assert suite.tuning is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "values", suite.tuning.criterion, "chosen"])
    settings = {name: dict(values) for name, values in suite.methods.items()}
    for name in dict.fromkeys(trial.method for trial in trials):
        own = [index for index, trial in enumerate(trials) if trial.method == name]
        winner = best([scores[index] for index in own])
        alike = len(own) - len({f"{scores[index]:.6f}" for index in own})
        if alike and not any(math.isnan(scores[index]) for index in own):
            print(f"note: {alike} of the {len(own)} trials of {name} are like another of them")
        for position, index in enumerate(own):
            mark = "*" if position == winner else ""
            values = json.dumps(trials[index].values)
            writer.writerow([name, values, f"{scores[index]:.4f}", mark])
            print(f"{name:18} {scores[index]:9.4f} {mark or ' '} {values}")
        if winner is not None:
            settings[name] = settings.get(name, {}) | dict(trials[own[winner]].values)
    tuned = suite.model_copy(update={"methods": settings}).model_dump(mode="json")
    if isinstance(suite.dataset, OwnDataset):  # else its path would be read as from ``out``
        tuned["dataset"]["path"] = str(suite.dataset.path.resolve())
    head = f"# By python -m suites.tune {suite.name}\n"
    paths = out / "trials.csv", out / "tuned.yaml"
    write_atomic(paths[0], text.getvalue().encode())
    write_atomic(paths[1], (head + yaml.safe_dump(tuned, sort_keys=False)).encode())
    return paths


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m suites.tune",
        description="Choose hyper-parameters by the suite's protocol: the same number of trials "
        "for each method, on tasks that the suite does not report, without target labels.",
    )
    add_suite_options(parser)
    add_jobs_option(parser)
    parser.add_argument("--methods", help="names and groups (default: all that have a grid)")
    parser.add_argument("--out", type=Path, help="where runs are kept (default: runs/SUITE-tuning)")
    parser.add_argument(
        "--dry-run", action="store_true", help="list runs, shared stages and estimated FLOPs"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
