"""`python -m results.compare RUNS`: one method against others by pairs, and ranks."""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence

from results.command import add_output, deliver, parser, run, say, split_names
from results.comparison import Comparison, comparisons
from results.differences import REFERENCE, Difference, Differences, differences
from results.ranks import Ranks, friedman_in_words, ranks
from results.records import Records, ResultsError, plural
from results.render import (
    SETTING_HEAD,
    begins_group,
    block_title,
    figure,
    plain,
    setting_fields,
)
from results.sheet import MISSING, Document, Line, Section, Sheet, Text
from results.statistics import CONFIDENCE

ALL, REFERENCES = "all", "references"
# Of the shares that an interval may cover; a bootstrap has nothing to say of rarer cases.
_HIGHEST = 0.999
_HEAD = (
    *SETTING_HEAD,
    *("selection", "metric", "confidence", "compression", "a", "b", "group_b"),
    *("pairs", "tasks", "seeds", "difference", "low", "high", "won", "tied", "lost"),
    *("p", "p_holm", "rank_a", "rank_b", "blocks", "friedman_p", "critical_difference"),
)


def document(shown: Sequence[Differences], ranked: Sequence[Ranks]) -> Document:
    """Differences in all formats, those of each setting followed by the ranks of its methods."""
    sheets = []
    for of_setting in shown:
        sheets.append(_difference_sheet(of_setting))
        there = [one for one in ranked if one.setting == of_setting.setting]
        if there:
            sheets.append(_rank_sheet(there, [compression for compression, _ in of_setting.blocks]))
    return Document(tuple(sheets), _csv(shown, ranked))


def _difference_sheet(shown: Differences) -> Sheet:
    sections = []
    for compression, rows in shown.blocks:
        begins = begins_group([row.group for row in rows])
        lines = (
            Line(row.label, tuple(map(Text, _texts(row))), begin)
            for row, begin in zip(rows, begins, strict=True)
        )
        sections.append(Section(block_title(compression), tuple(lines)))
    interval = f"{100 * shown.confidence:g} % interval"
    heads = ("pairs", "tasks", "seeds", "difference", interval, "won/tied/lost", "p", "p (Holm)")
    sign = f"Above 0, and won: {shown.label} is ahead."
    return Sheet(shown.caption(), heads, tuple(sections), (sign, *shown.notes))


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


def _rank_sheet(shown: Sequence[Ranks], compressions: Sequence[float]) -> Sheet:
    """The ranks of one setting, by compression; `compressions` that have none are noted."""
    sections = []
    notes = [
        "Block: a task with a seed. Friedman: p that all rank alike, by the F of Iman and "
        "Davenport. CD: Nemenyi's critical difference at level "
        f"{1 - shown[0].confidence:.3g}; methods that share a number under 'alike' differ by less."
    ]
    for one in shown:
        lines = (
            Line(method.label, (Text(figure(method.rank, ".2f")), Text(_alike(one, place))))
            for place, method in enumerate(one.methods)
        )
        sections.append(Section(_rank_title(one), tuple(lines)))
        if one.left_out:
            notes.append(
                f"{block_title(one.compression)}: without {', '.join(one.left_out)}, which more "
                "than half of the blocks lack."
            )
    notes += [
        f"{block_title(compression)}: no two methods share two blocks, so no ranks."
        for compression in sorted({*compressions} - {one.compression for one in shown})
    ]
    return Sheet(shown[0].caption(), ("average rank", "alike"), tuple(sections), tuple(notes))


def _rank_title(of: Ranks) -> str:
    parts = (
        block_title(of.compression),
        plural(of.blocks, "block"),
        friedman_in_words(of),
        f"CD = {of.critical:.2f}",
    )
    return ", ".join(part for part in parts if part)


def _alike(of: Ranks, place: int) -> str:
    """The numbers of the sets of methods that this one cannot be told apart from."""
    return " ".join(f"{number}" for number, c in enumerate(of.cliques, start=1) if place in c)


def _csv(shown: Sequence[Differences], ranked: Sequence[Ranks]) -> str:
    """One line a method `b` and compression, in a stable order; `difference` is a minus b."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for of in shown:
        shared = (*setting_fields(of.setting), of.selection, of.metric, f"{of.confidence:g}")
        for compression, rows in of.blocks:
            ranks_here = [
                one
                for one in ranked
                if one.setting == of.setting and one.compression == compression
            ]
            for row in rows:
                means = [plain(value, ".4f") for value in (row.mean, row.low, row.high)]
                tests = [plain(value, ".4g") for value in (row.p, row.holm)]
                counts = (row.won, row.tied, row.lost)
                writer.writerow(
                    [
                        *(*shared, f"{compression:g}", of.reference, row.method, row.group),
                        *(row.pairs, row.tasks, row.seeds, *means, *counts, *tests),
                        *_rank_fields(ranks_here, of.reference, row.method),
                    ]
                )
    return text.getvalue()


def _rank_fields(of: Sequence[Ranks], a: str, b: str) -> list[str]:
    """What the CSV says of the ranks of one compression, of which there may be none."""
    if not of:
        return [""] * 5
    (found,) = of
    by_method = {method.method: method.rank for method in found.methods}
    return [
        *(plain(by_method.get(method, math.nan), ".4f") for method in (a, b)),
        *(str(found.blocks), plain(found.p, ".4g"), plain(found.critical, ".4f")),
    ]


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _HIGHEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to {_HIGHEST:g}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the comparison; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.compare",
        "Accuracy of method a minus that of each b, paired over the tasks and seeds that both "
        "have: mean, bootstrap confidence interval, pairs won, tied and lost by a, p of Wilcoxon's "
        "signed-rank test, and p corrected by Holm. Below: average ranks of all of them, "
        "Friedman's test and Nemenyi's critical difference.",
        leaderboards=True,
    )
    built.add_argument(
        "--a",
        metavar="METHOD",
        default=REFERENCE,
        help="what the others are compared with (default: %(default)s)",
    )
    built.add_argument(
        "--b",
        metavar="METHODS",
        default=ALL,
        help="the others, between commas: names, all (that compress; the default), or references "
        "(all that do not: beside each compression, and without a rank)",
    )
    built.add_argument(
        "--confidence",
        metavar="SHARE",
        type=_confidence,
        default=CONFIDENCE,
        help="of the intervals, and 1 minus the level of the critical difference, above 0 and up "
        f"to {_HIGHEST:g} (default: %(default)s)",
    )
    add_output(built)
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    records.require_accuracies()
    found = comparisons(records.frame, records.missing)
    others = _chosen(arguments.a, arguments.b, found)
    options = (arguments.select, arguments.metric, arguments.confidence)
    shown = differences(records, arguments.a, *options, others)
    if not shown:
        raise ResultsError(
            f"--a {arguments.a} --b {arguments.b}: no setting has both; "
            "a needs another compressed method beside it, or a reference"
        )
    settings = {made.setting for made in shown}
    for comparison in found:
        if comparison.setting not in settings:
            where = f"{comparison.setting.suite}: {comparison.setting.describe()}"
            say(f"no differences from {arguments.a} in {where}")
    ranked = ranks(records, *options, [arguments.a, *others])
    deliver(document(shown, ranked), arguments)


def _chosen(a: str, b: str, found: Sequence[Comparison]) -> list[str]:
    """The names in `--b`, those of a group for the group.

    Raises:
        ResultsError: a is no compressed method or is among b, or b has a name of no method.
    """
    compressed = sorted({name for comparison in found for name in comparison.compressed()})
    others = sorted({name for comparison in found for name in comparison.uncompressed()})
    groups = {ALL: [name for name in compressed if name != a], REFERENCES: others}
    asked = [name for given in split_names(b) for name in groups.get(given, [given])]
    allowed = f"compressed are: {', '.join(compressed) or 'none'}"
    if a not in compressed:
        raise ResultsError(f"--a {a!r}: no such method; {allowed}")
    for name in asked:
        if name not in {*compressed, *others}:
            allowed += f"; references are: {', '.join(others) or 'none'}"
            raise ResultsError(f"--b {name!r}: no such method; {allowed}")
    if a in asked:
        raise ResultsError(f"--b {a!r}: the same as --a; give others, or {ALL}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
