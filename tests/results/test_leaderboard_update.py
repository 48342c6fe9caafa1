"""``python -m results.leaderboard RUNS --update FILE``: methods that ran anew take their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results.leaderboard import main
from results.leaderboard_records import read_leaderboards
from tests.results.factory import TASKS, record, write


def of(
    method: str,
    gain: float,
    compressions: Sequence[float] = (0.5,),
    tasks: Sequence[str] = TASKS[:2],
    seeds: Sequence[int] = (0, 1),
) -> list[dict[str, Any]]:
    """A run a task, seed and compression."""
    return [
        record(method, task, seed=seed, compression=share, accuracy=60.0 + gain + 2 * seed)
        for task in tasks
        for seed in seeds
        for share in compressions
    ]


def board(file: Path, *runs: dict[str, Any]) -> Path:
    """The leaderboard of these runs."""
    assert main([str(write(file.with_suffix(""), *runs)), "--out", str(file)]) == 0
    return file


def test_an_update_is_the_leaderboard_of_all_runs_with_the_new_ones_for_the_old(
    tmp_path: Path,
) -> None:
    kept = [*of("kd", 1, (0.5, 0.75)), *of("dan", 3, (0.0,)), *of("itmc", 5)]
    new = [*of("itmc", 9, (0.75,)), *of("admp", 2, (0.75,))]
    file = board(tmp_path / "board.csv", *kept, *of("itmc", 5, (0.75,)))
    runs = write(tmp_path / "new", *new)
    assert main([str(runs), "--update", str(file)]) == 0
    assert file.read_text() == board(tmp_path / "all.csv", *kept, *new).read_text()
    assert main([str(runs), "--update", str(file), "--out", str(tmp_path / "same.csv")]) == 0
    assert (tmp_path / "same.csv").read_bytes() == file.read_bytes()


def test_an_update_may_have_more_seeds_and_tasks_than_there_were(tmp_path: Path) -> None:
    file = board(tmp_path / "board.csv", *of("itmc", 5), *of("kd", 1))
    more = [*of("itmc", 9, seeds=range(3)), *of("kd", 2, seeds=range(3))]
    more += [*of("itmc", 9, tasks=TASKS[2:3]), *of("kd", 2, tasks=TASKS[2:3])]
    assert main([str(write(tmp_path / "new", *more)), "--update", str(file)]) == 0
    assert file.read_text() == board(tmp_path / "all.csv", *more).read_text()
    read_leaderboards([file])


@pytest.mark.parametrize(
    ("new", "lacking"),
    [
        (of("itmc", 9, tasks=TASKS[:1]), "hand->scene, print->hand"),
        (
            of("itmc", 9, tasks=TASKS[:3], seeds=[1]),
            "hand->print of seed 0, hand->scene of seed 0, print->hand of seed 0",
        ),
        (
            [*of("itmc", 9, tasks=TASKS[1:3]), *of("itmc", 9, tasks=TASKS[:1], seeds=[2])],
            "hand->print of seed 0 and 1",
        ),
    ],
)
def test_an_update_that_would_lose_tasks_or_seeds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], new: list[dict[str, Any]], lacking: str
) -> None:
    old = [*of("itmc", 5, tasks=TASKS[:3]), *of("kd", 1, tasks=TASKS[:3])]
    file = board(tmp_path / "board.csv", *old)
    words = (
        f": itmc at compression 0.5: these runs lack {lacking}, which FILE has; give all of them"
    )
    refused(write(tmp_path / "new", *new), file, words, capsys)


def test_an_update_that_no_table_could_be_made_of_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = board(tmp_path / "board.csv", *of("itmc", 5), *of("kd", 1))
    for place, tasks in enumerate((TASKS[:1], TASKS[:3])):
        runs = write(tmp_path / str(place), *of("admp", 2, tasks=tasks))
        refused(runs, file, "at compression 0.5 has an average of 2 seeds, where its", capsys)


def refused(runs: Path, file: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The update is, in one line, and the file stays as it was."""
    before = file.read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(runs), "--update", str(file)])
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert words in said
    assert said.count("\n") == 1
    assert file.read_bytes() == before
