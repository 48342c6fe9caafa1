"""`python -m results.remake`: the tables and plots of `results/` again, from its leaderboards.

The exit code is 0 where each table was what its leaderboard gives, 1 where one was not (it is now),
and 2 for wrong usage. Plots are drawn anew and not compared: their bytes depend on matplotlib and
the fonts that are installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from results import compare, plot, table
from results.command import Parser, guarded, say
from results.leaderboard_file import read_file
from results.records import ResultsError


@dataclass(frozen=True)
class Made:
    """What is made of a leaderboard.

    Attributes:
        leaderboard: its name in `leaderboards/`, without the suffix.
        out: a Markdown file, or a folder of plots.
        command: what makes it, as a user would with these options.
        by_run: whether it shows what leaderboards of an older version lack: figures of each run.
    """

    leaderboard: str
    out: str
    command: Callable[[Sequence[str]], int]
    options: tuple[str, ...]
    by_run: bool = False

    def is_table(self) -> bool:
        """Whether it is text, which is compared."""
        return self.out.endswith(".md")


def _table(leaderboard: str, out: str) -> Made:
    columns = ("--columns", "macs,parameters,effort")
    return Made(leaderboard, out, table.main, (*columns, "--format", "markdown"), by_run=True)


def _comparison(leaderboard: str, out: str, *options: str) -> Made:
    return Made(leaderboard, out, compare.main, (*options, "--format", "markdown"))


def _plots(leaderboard: str, out: str, kinds: str) -> Made:
    return Made(leaderboard, out, plot.main, ("--kind", kinds, "--format", "png"))


_UNTUNED = "hand->scene,print->hand,scene->print"
# One more leaderboard is a few more lines here.
ALL = (
    _table("digits", "digits/table.md"),
    _comparison("digits", "digits/comparison.md"),
    # Those that no hyper-parameter was chosen on.
    _comparison("digits", "digits/comparison_untuned.md", "--tasks", _UNTUNED),
    _comparison("digits", "digits/comparison_references.md", "--b", "references"),
    _plots("digits", "digits", "compression,macs"),
    _comparison("ablation", "digits/ablation.md"),
    _plots("ablation", "digits", "ablations"),
    _table("office31_mobilenet_v2", "office31/mobilenet_v2.md"),
    _comparison("office31_mobilenet_v2", "office31/comparison.md"),
    _comparison("office31_mobilenet_v2", "office31/comparison_references.md", "--b", "references"),
    _plots("office31_mobilenet_v2", "office31", "macs"),
    _table("office31_densenet121", "office31/densenet121.md"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Make everything anew; the exit code is 0, 1 where a table was another, or 2."""
    built = Parser(
        prog="python -m results.remake",
        description="Make the tables and plots that are kept beside the leaderboards anew from "
        "these, and say which table was another.",
        epilog="Exit code: 0 each table was as it is made, 1 one was not, 2 wrong usage.",
    )
    built.add_argument(
        "results",
        metavar="RESULTS",
        nargs="?",
        type=Path,
        default=Path("results"),
        help="folder with leaderboards/ and what is made of them (default: %(default)s)",
    )
    folder: Path = built.parse_args(argv).results
    return guarded(built, lambda: _remake(folder))


def _remake(folder: Path) -> int:
    boards = {made.leaderboard: folder / "leaderboards" / f"{made.leaderboard}.csv" for made in ALL}
    for path in sorted((folder / "leaderboards").glob("*.csv")):
        if path not in boards.values():
            raise ResultsError(f"{path}: nothing is made of it; say what in results/remake.py")
    older = {name for name, path in boards.items() if not read_file(path)[0].figures}
    changed = 0
    for made in ALL:
        board, out = boards[made.leaderboard], folder / made.out
        if made.by_run and made.leaderboard in older:
            say(f"{out}: left as it is; {board} is of an older version, which has less")
            continue
        before = out.read_bytes() if out.is_file() else b""
        made.command([str(board), *made.options, "--out", str(out)])
        if made.is_table() and out.read_bytes() != before:
            say(f"{out}: was not what {board} gives; it is now")
            changed += 1
    return int(changed > 0)


if __name__ == "__main__":
    sys.exit(main())
