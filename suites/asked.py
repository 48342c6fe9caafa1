"""What was asked for, as a command: who has a record can have its run again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from itmc.errors import UsageError
from itmc.training.method import knobs_of, method
from suites.config import Places, RunConfig
from suites.options import SECTIONS, assignment

_RUN = "suites.run"
# Options that determine results and that all runs of a grid share; `--set` is added run by run.
_SHARED = (
    *("backbone", "weights", "teacher", "teacher_weights", "epochs", "image_size", "protocol"),
)
# Those that say which runs the grid has. Of a run's own command the precision is what it came to.
_OWN = ("precision", "methods", "tasks", "compression", "seeds")


def asked(options: argparse.Namespace, module: str = _RUN) -> tuple[str, ...]:
    """Module, suite and options of a grid's command, for ``Places``.

    What tells the runs of the grid apart is left out, and what depends on this machine: jobs,
    device, places. A suite or weights that are a file stand as they were given.
    """
    return (module, options.suite, *_given(options, _SHARED), *_settings(options))


def whole_command(options: argparse.Namespace) -> tuple[str, ...]:
    """The command of a grid, without what depends on this machine (jobs, device, places).

    A suite or weights that are a file stand as they were given.
    """
    alone = ("--no-share",) if options.no_share else ()
    return ("python", "-m", *asked(options), *_given(options, _OWN), *alone)


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> Iterator[str]:
    given = vars(options)
    for name in names:
        if given.get(name) is not None:
            yield from (f"--{name.replace('_', '-')}", str(given[name]))


def _settings(options: argparse.Namespace) -> Iterator[str]:
    for text in options.set:
        yield from ("--set", text)


def command(run: RunConfig, places: Places) -> tuple[str, ...]:
    """The command that does ``run`` alone; empty where it was not asked for by one.

    The trials of ``suites.tune`` differ in what no option of ``suites.run`` says by itself: the
    command that did all of them is what does one again.
    """
    if not places.asked:
        return ()
    module, *shared = places.asked
    precision = ("--precision", run.training.precision)
    if module != _RUN:
        return ("python", "-m", module, *shared, *precision)
    chosen = method(run.method)
    own = [*precision, "--methods", run.method, "--tasks", run.task, "--seeds", str(run.seed)]
    if chosen.compressed:
        own += ["--compression", str(run.compression)]
    own += ["--no-share"] if run.alone else []
    return ("python", "-m", _RUN, *_concerning(shared, run), *own)


def _concerning(shared: list[str], run: RunConfig) -> Iterator[str]:
    """The shared words without options that ``suites.run`` would refuse of this method alone."""
    words = iter(shared)
    yield next(words)  # the suite
    for option, value in zip(words, words, strict=True):
        no_teacher = option.startswith("--teacher") and run.teacher is None
        if not no_teacher and (option != "--set" or _takes(run, value)):
            yield from (option, value)


def _takes(run: RunConfig, text: str) -> bool:
    """Whether an assignment of ``--set`` is one of this run's method, and not overridden by it."""
    section, key, value = assignment(text)
    chosen = method(run.method)
    if section in SECTIONS:
        return True
    if section not in (chosen.name, chosen.base) or key not in run.knobs:
        return False
    try:
        given = knobs_of(run.method, run.knobs | {key: value}).model_dump(mode="json")
    except UsageError:  # as of one knob that another of the method's own forbids
        return False
    return bool(given == run.knobs)
