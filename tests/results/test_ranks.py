"""Ranks over tasks and seeds, and the diagram of them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from results.comparison import comparisons, method_order
from results.figure import file_content
from results.looks import looks
from results.plots.ranks import critical_difference
from results.plots.subject import Subject
from results.ranks import Ranks, ranks
from results.records import Records, read
from tests.results.factory import TASKS, record, write


def grid(leads: dict[str, float], seeds: int = 3, noise: float = 0.0) -> list[dict[str, Any]]:
    """Methods that lead by so much on three tasks."""
    draw = random.Random(0)
    return [
        record(method, task, seed=seed, accuracy=round(60 + lead + draw.gauss(0, noise), 2))
        for method, lead in leads.items()
        for task in TASKS[:3]
        for seed in range(seeds)
    ]


def subject(records: Records, **options: Any) -> Subject:
    """What the figure of the only setting is drawn of."""
    (comparison,) = comparisons(records.frame, records.missing)
    return Subject(
        comparison,
        comparison,
        records,
        "last",
        "overall",
        looks(method_order(comparison)),
        **options,
    )


def texts(figure: Figure) -> list[str]:
    """What stands beside the lines."""
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def test_blocks_are_tasks_with_seeds_and_the_best_is_first(tmp_path: Path) -> None:
    write(tmp_path, *grid({"itmc": 2, "kd": 3, "tcp": 1}), record("dan", compression=0.0))
    (made,) = ranks(read([tmp_path]))
    assert [(m.method, m.label, m.group, m.rank) for m in made.methods] == [
        ("kd", "kd", "baselines", 1.0),
        ("itmc", "ITMC", "itmc", 2.0),
        ("tcp", "tcp", "baselines", 3.0),
    ]
    assert (made.blocks, made.tasks, made.seeds, made.left_out) == (9, 3, 3, ())
    # Friedman of nine blocks that agree: chi2 is N (k - 1), and no p is below k!^(1 - N).
    assert made.p == pytest.approx(6.0**-8)
    assert made.critical == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 9)), rel=1e-3)
    # Each rank is a whole one from the next, which is less than the critical difference.
    assert made.critical > 1
    assert made.cliques == (range(2), range(1, 3))


def test_accuracies_that_differ_in_their_last_bits_share_a_rank(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(record("itmc", seed=seed, accuracy=70.4) for seed in (0, 1)),
        *(record("kd", seed=seed, accuracy=70.3 + 0.1) for seed in (0, 1)),
    )
    (made,) = ranks(read([tmp_path]))
    assert [method.rank for method in made.methods] == [1.5, 1.5]


def test_only_blocks_that_all_share_count_and_who_lacks_most_is_left_out(tmp_path: Path) -> None:
    made = grid({"itmc": 2, "kd": 3, "tcp": 1, "mobileda": 9})
    without = [
        run
        for run in made
        if not (run["method"]["name"] == "tcp" and run["seed"] == 2)
        and not (run["method"]["name"] == "mobileda" and run["seed"] > 0)
    ]
    (found,) = ranks(read([write(tmp_path, *without)]))
    assert [method.method for method in found.methods] == ["kd", "itmc", "tcp"]
    assert (found.blocks, found.tasks, found.seeds) == (6, 3, 2)
    assert found.left_out == ("mobileda",)


def test_who_has_half_of_the_blocks_stays(tmp_path: Path) -> None:
    # Two tasks by two seeds, of which TCP has two.
    made = [run for run in grid({"itmc": 2, "kd": 3, "tcp": 1}) if run["seed"] < 2]
    tasks = sorted({run["task"]["name"] for run in made})[:2]
    kept = [
        run
        for run in made
        if run["task"]["name"] in tasks
        and not (run["method"]["name"] == "tcp" and run["task"]["name"] == tasks[1])
    ]
    (found,) = ranks(read([write(tmp_path, *kept)]))
    assert {method.method for method in found.methods} == {"itmc", "kd", "tcp"}
    assert (found.blocks, found.left_out) == (2, ())


def test_two_methods_have_ranks_and_no_friedman(tmp_path: Path) -> None:
    write(tmp_path, *grid({"itmc": 2, "kd": 3, "tcp": 1}))
    (made,) = ranks(read([tmp_path]), methods=["itmc", "kd"])
    assert [method.rank for method in made.methods] == [1.0, 2.0]
    assert math.isnan(made.p)
    assert made.critical == pytest.approx(1.960 * math.sqrt(2 * 3 / (6 * 9)), rel=1e-3)


@pytest.mark.parametrize(
    "records",
    [
        grid({"itmc": 1}),
        [record(), record("kd")],
        [record(seed=0), record(seed=1), record("kd", seed=2), record("kd", seed=3)],
    ],
)
def test_without_two_methods_that_share_two_blocks_there_are_none(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    assert ranks(read([write(tmp_path, *records)])) == ()


def test_each_setting_and_compression_has_its_own(tmp_path: Path) -> None:
    both = [
        record(method, seed=seed, compression=compression, suite=suite, accuracy=70.0 + seed)
        for method in ("itmc", "kd")
        for seed in (0, 1)
        for compression in (0.5, 0.75)
        for suite in ("digits", "office31")
    ]
    made = ranks(read([write(tmp_path, *both)]))
    assert [(one.setting.suite, one.compression) for one in made] == [
        ("digits", 0.5),
        ("digits", 0.75),
        ("office31", 0.5),
        ("office31", 0.75),
    ]


def test_the_diagram_names_each_method_and_bars_stand_over_what_is_alike(tmp_path: Path) -> None:
    leads = {"itmc": 6, "kd": 5.5, "tcp": 2, "dkd": 1, "admp": 0.5}
    records = read([write(tmp_path, *grid(leads, noise=0.4))])
    (made,) = ranks(records)
    figure = critical_difference(made, subject(records))
    named = [text for text in texts(figure) if not text.startswith("CD") and not text.isdigit()]
    assert sorted(named) == sorted(method.label for method in made.methods)
    assert f"CD = {made.critical:.2f}" in texts(figure)
    (axes,) = figure.axes
    bars = [line for line in axes.lines if line.get_linewidth() == pytest.approx(2.2)]
    assert len(bars) == len(made.cliques) == 2
    title = figure.get_suptitle().replace("\n", " ")
    assert "9 blocks of 3 tasks and 3 seeds" in title
    assert "Friedman p < 0.001" in title


@pytest.mark.parametrize("size", ["column", "page"])
@pytest.mark.parametrize("count", [2, 3, 12, 30])
def test_nothing_overlaps_or_is_cut_off(tmp_path: Path, size: str, count: int) -> None:
    leads = {f"itmc_{'long_name_' * (place % 4)}{place}": place / 2.0 for place in range(count - 1)}
    records = read([write(tmp_path, *grid({"itmc": 0.0, **leads}, noise=1.0))])
    (made,) = ranks(records)
    figure = critical_difference(made, subject(records, size=size))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        # Boxes of text have some room within: two that only touch there do not overlap.
        assert not any(box.shrunk(0.9, 0.75).overlaps(other) for other in boxes[place + 1 :])


def test_the_same_records_give_the_same_picture(tmp_path: Path) -> None:
    records = read([write(tmp_path, *grid({"itmc": 1, "kd": 2, "tcp": 3}))])

    def draw() -> bytes:
        made: tuple[Ranks, ...] = ranks(records)
        return file_content(critical_difference(made[0], subject(records)), "pdf")

    assert draw() == draw()
