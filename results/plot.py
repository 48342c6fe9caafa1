"""`python -m results.plot RUNS`: figures of run records, sized for a paper."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from results.command import parser, run, say, show, split_names, write_whole
from results.comparison import GROUPS, Comparison, comparisons, method_order
from results.figure import FORMATS, SIZES, file_content
from results.looks import looks
from results.plots.ablations import ablations
from results.plots.compression import accuracy_vs_compression, per_task
from results.plots.curves import curves
from results.plots.diagrams import rank_diagrams
from results.plots.guidance import guidance
from results.plots.histories import read_histories
from results.plots.pareto import accuracy_vs_latency, accuracy_vs_macs
from results.plots.subject import NoDataError, Subject
from results.plots.widths import widths
from results.records import Records, ResultsError

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        draw: the figures by the name of their file; raises NoDataError where there is nothing to
            draw.
        summarises: whether it is among those that a suite writes when its grid is done.
        details: whether it needs what records say besides their rows.
    """

    draw: Callable[[Subject], dict[str, Figure]]
    summarises: bool = True
    details: bool = False


def _single(draw: Callable[[Subject], Figure]) -> Callable[[Subject], dict[str, Figure]]:
    """A kind of one figure, whose file is called as the function that draws it."""
    return lambda subject: {draw.__name__: draw(subject)}


KINDS = {
    "compression": Kind(_single(accuracy_vs_compression)),
    "tasks": Kind(_single(per_task)),
    "macs": Kind(_single(accuracy_vs_macs)),
    "latency": Kind(_single(accuracy_vs_latency)),
    "curves": Kind(_single(curves), summarises=False, details=True),
    "guidance": Kind(_single(guidance), summarises=False, details=True),
    "widths": Kind(_single(widths), summarises=False, details=True),
    "ablations": Kind(_single(ablations)),
    "ranks": Kind(rank_diagrams, summarises=False),
}
_SUMMARY = tuple(name for name, kind in KINDS.items() if kind.summarises)


@dataclass(frozen=True)
class Request:
    """What is to be drawn.

    Attributes:
        kinds: keys of `KINDS`.
        selection: a key of `schema.SELECTIONS`; None for each protocol's own.
        metric: a key of `schema.METRICS`.
        methods: names and groups of methods; None for the usual ones.
        size: a key of `figure.SIZES`; None for what suits each figure.
    """

    kinds: tuple[str, ...]
    selection: str | None = None
    metric: str = "overall"
    methods: tuple[str, ...] | None = None
    size: str | None = None


@dataclass(frozen=True)
class Drawn:
    """Figures by the name of their file, and what there is none of, and why.

    Attributes:
        empty: the reason by kind, or kind and number of the setting.
        complete: kinds that have a figure of at least one setting.
        damaged: one line for each record whose history or widths cannot be used.
    """

    figures: dict[str, Figure]
    empty: dict[str, str]
    complete: set[str]
    damaged: tuple[str, ...]


def draw(records: Records, request: Request) -> Drawn:
    """The figures of each setting; with several each has a number behind its name.

    Raises:
        ResultsError: no method is called as one of those that are asked for.
    """
    found = comparisons(records.frame, records.missing)
    _check_methods(found, request.methods)
    drawn = Drawn({}, {}, set(), ())
    for number, whole in enumerate(found, start=1):
        suffix = f"_{number}" if len(found) > 1 else ""
        comparison = _of_methods(whole, request.methods)
        subject = Subject(
            whole=whole,
            comparison=comparison,
            records=records,
            selection=whole.setting.selection(request.selection),
            metric=request.metric,
            # Of all methods, so that none changes its look when others are not drawn.
            looks=looks(method_order(whole)),
            named=request.methods is not None,
            several=len(found) > 1,
            size=request.size,
        )
        if any(KINDS[kind].details for kind in request.kinds) and not records.leaderboards:
            details, damaged = read_histories(comparison)
            subject = replace(subject, details=details)
            drawn = replace(drawn, damaged=(*drawn.damaged, *damaged))
        for name in request.kinds:
            kind = KINDS[name]
            try:
                if kind.details and records.leaderboards:
                    raise NoDataError("a leaderboard has no histories or widths, runs have")
                for stem, figure in kind.draw(subject).items():
                    drawn.figures[f"{stem}{suffix}"] = figure
                drawn.complete.add(name)
            except NoDataError as reason:
                drawn.empty[f"{name}{suffix}"] = str(reason)
    return drawn


def write(
    records: Records, out: Path, selection: str | None = None, metric: str = "overall"
) -> tuple[Path, ...]:
    """The figures that sum up a suite, as PNG and PDF in `out`; returns their paths.

    Those for which there are data of accuracy against compression, over all tasks and by task,
    against MACs and latency, and of the ablations.

    Args:
        records: with one setting or several; those of several have numbers in their names, in the
            order of the tables.
        out: a folder.
        selection: how the epoch is chosen; None for each protocol's own.
        metric: a key of `schema.METRICS`.

    Raises:
        ResultsError: `out` cannot be written.
    """
    drawn = draw(records, Request(_SUMMARY, selection, metric))
    return _write(drawn, out, ("png", "pdf"))


def _write(drawn: Drawn, out: Path, formats: Sequence[str]) -> tuple[Path, ...]:
    paths = []
    for stem, figure in drawn.figures.items():
        for form in formats:
            path = out / f"{stem}.{form}"
            write_whole(path, file_content(figure, form))
            paths.append(path)
    return tuple(paths)


def _called(comparison: Comparison, method: str) -> set[str]:
    """By what a method can be asked for: its name, also without its variant, and its group."""
    return {method, method.partition("[")[0], comparison.describe(method)[1]}


def _check_methods(found: Collection[Comparison], asked: Sequence[str] | None) -> None:
    names = {name for comparison in found for name in method_order(comparison)}
    known = {call for of in found for method in method_order(of) for call in _called(of, method)}
    for name in asked or ():
        if name not in known:
            groups = [group for group in GROUPS if group in known]
            raise ResultsError(
                f"--methods {name!r}: no such method or group; there are: "
                f"{', '.join([*groups, *sorted(names)])}"
            )


def _of_methods(comparison: Comparison, asked: Sequence[str] | None) -> Comparison:
    """The runs of these methods; references stay, unless some are among those that are asked."""
    if asked is None:
        return comparison
    every = method_order(comparison)
    kept = {method for method in every if _called(comparison, method) & set(asked)}
    references = {method for method in every if comparison.describe(method)[1] == "references"}
    if not kept & references:
        kept |= references
    frame = comparison.frame
    return replace(comparison, frame=frame[frame["method"].isin(kept)].reset_index(drop=True))


def _several(allowed: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """The type of an argument that takes names with commas between them."""

    def names(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(text.split(",")))
        for name in given:
            if name not in allowed:
                raise argparse.ArgumentTypeError(
                    f"'{name}' is not one of: {', '.join(allowed)} (several with commas)"
                )
        return given

    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figures; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.plot",
        "Figures of run records: target accuracy against compression, by task, against MACs and "
        "latency with the Pareto front, and epoch by epoch; what teachers knew; widths by layer; "
        "ablations; ranks. Bands and bars are 95 % t intervals over seeds; those of widths are the "
        "standard deviation over runs, those of ablations paired bootstrap intervals.",
        leaderboards=True,
    )
    built.add_argument(
        "--kind",
        metavar="KIND,...",
        type=_several(KINDS),
        help=f"of {', '.join(KINDS)} (default: all for which there are data)",
    )
    built.add_argument(
        "--format",
        metavar="FORMAT,...",
        type=_several(FORMATS),
        default=("png", "pdf"),
        help=f"of {', '.join(FORMATS)} (default: png,pdf)",
    )
    built.add_argument(
        "--size",
        choices=list(SIZES),
        help="width: of a paper's column, or of both (default: a column, where that holds it)",
    )
    built.add_argument(
        "--methods",
        metavar="METHOD,...",
        type=split_names,
        help="names or groups of methods to draw, beside the references (default: all, without "
        "ablations where there are baselines)",
    )
    built.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="folder for the figures (default: the current one)",
    )
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    records.require_accuracies()
    drawn = draw(
        records,
        Request(
            kinds=arguments.kind or tuple(KINDS),
            selection=arguments.select,
            metric=arguments.metric,
            methods=arguments.methods,
            size=arguments.size,
        ),
    )
    for line in drawn.damaged:
        say(f"left out of curves and widths: {line}")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in drawn.empty.items())
    if set(arguments.kind or ()) - drawn.complete or not drawn.figures:
        raise ResultsError(f"nothing to draw of {reasons}")
    if reasons:
        say(f"not drawn: {reasons}")
    for path in _write(drawn, arguments.out, arguments.format):
        show(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
