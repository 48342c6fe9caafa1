"""`python -m results.paired RUNS`: each method against a reference, paired over tasks and seeds."""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence

from results.command import add_output, deliver, parser, run
from results.comparison import comparisons
from results.differences import CONFIDENCE, REFERENCE, Difference, Differences, differences
from results.records import Records, ResultsError
from results.render import (
    SETTING_HEAD,
    begins_group,
    block_title,
    figure,
    plain,
    setting_fields,
)
from results.sheet import MISSING, Document, Entry, Line, Section, Sheet

_HEAD = (
    *SETTING_HEAD,
    *("selection", "metric", "reference", "confidence", "compression", "group", "method"),
    *("pairs", "tasks", "seeds", "difference", "low", "high", "won", "tied", "lost"),
    *("p", "p_holm"),
)


def document(shown: Sequence[Differences]) -> Document:
    """Differences in all formats."""
    return Document(tuple(_sheet(of_setting) for of_setting in shown), _csv(shown))


def _sheet(shown: Differences) -> Sheet:
    sections = []
    for compression, rows in shown.blocks:
        begins = begins_group([row.group for row in rows])
        lines = (
            Line(row.label, tuple(map(Entry, _texts(row))), begin)
            for row, begin in zip(rows, begins, strict=True)
        )
        sections.append(Section(block_title(compression), tuple(lines)))
    interval = f"{100 * shown.confidence:g} % interval"
    heads = ("pairs", "tasks", "seeds", "difference", interval, "won/tied/lost", "p", "p (Holm)")
    return Sheet(shown.caption(), heads, tuple(sections), shown.notes)


def _texts(row: Difference) -> list[str]:
    if row.pairs == 0:
        return ["0", *[MISSING] * 7]
    # "z": what rounds to zero is no negative zero.
    ends = [figure(end, "+z.2f") for end in (row.low, row.high)]
    return [
        *(f"{count}" for count in (row.pairs, row.tasks, row.seeds)),
        figure(row.mean, "+z.2f"),
        MISSING if math.isnan(row.low) else f"[{', '.join(ends)}]",
        f"{row.won}/{row.tied}/{row.lost}",
        *(_p(p) for p in (row.p, row.holm)),
    ]


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else figure(p, ".3f")


def _csv(shown: Sequence[Differences]) -> str:
    """One line a method and compression, in a stable order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for of in shown:
        shared = (
            *setting_fields(of.setting),
            *(of.selection, of.metric, of.reference, f"{of.confidence:g}"),
        )
        for compression, rows in of.blocks:
            for row in rows:
                means = [plain(value, ".4f") for value in (row.mean, row.low, row.high)]
                tests = [plain(value, ".4g") for value in (row.p, row.holm)]
                counts = (row.won, row.tied, row.lost)
                writer.writerow(
                    [
                        *(*shared, f"{compression:g}", row.group, row.method),
                        *(row.pairs, row.tasks, row.seeds, *means, *counts, *tests),
                    ]
                )
    return text.getvalue()


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the differences; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.paired",
        "Accuracy of each compressed method minus that of a reference, paired over the tasks and "
        "seeds that both have: mean, t confidence interval, pairs won, tied and lost, p of the "
        "paired t-test, and p corrected by Holm.",
    )
    built.add_argument(
        "--reference",
        metavar="METHOD",
        default=REFERENCE,
        help="what the others are compared with (default: %(default)s)",
    )
    built.add_argument(
        "--confidence",
        metavar="SHARE",
        type=_confidence,
        default=CONFIDENCE,
        help="of the intervals, between 0 and 1 (default: %(default)s)",
    )
    add_output(built)
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    records.require_accuracies()
    reference = arguments.reference
    found = comparisons(records.frame)
    there = sorted({name for comparison in found for name in comparison.compressed()})
    if reference not in there:
        names = ", ".join(there) or "none"
        raise ResultsError(f"--reference {reference}: no such method; compressed are: {names}")
    shown = differences(
        records, reference, arguments.select, arguments.metric, arguments.confidence
    )
    if not shown:
        raise ResultsError(f"--reference {reference}: no other compressed method beside it")
    settings = {made.setting for made in shown}
    for comparison in found:
        if comparison.setting not in settings:
            where = f"{comparison.setting.suite}: {comparison.setting.describe()}"
            print(f"no differences from {reference} in {where}", file=sys.stderr)
    deliver(document(shown), arguments)


if __name__ == "__main__":
    sys.exit(main())
