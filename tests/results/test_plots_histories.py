"""Curves and widths: what is averaged, when students were pruned, which methods are shown."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D

from results.looks import look
from results.plots.curves import curves
from results.plots.guidance import guidance as drawn_guidance
from results.plots.histories import few
from results.plots.subject import NoDataError
from results.plots.widths import widths
from tests.results.drawing import axes_of, grid, load, title, xs, ys
from tests.results.factory import TASKS, guidance, record


def line_of(axes: Axes, method: str) -> Line2D:
    """The line of a method, by its colour."""
    (line,) = (line for line in axes.lines if line.get_color() == look(method).colour)
    return line


def events_of(axes: Axes) -> dict[float, float]:
    """Area of the markers by epoch, of all methods."""
    found: dict[float, float] = {}
    for drawn in axes.collections:
        if isinstance(drawn, PathCollection):
            places = np.asarray(drawn.get_offsets())[:, 0]
            found |= dict(zip(map(float, places), map(float, drawn.get_sizes()), strict=False))
    return found


def one_shot(run: dict[str, Any]) -> dict[str, Any]:
    """The run, pruned once before its last stage."""
    removed = run["compression"]["asked"]
    return run | {"history": {**run["history"], "removed": [0.0, 0.0, 0.0, *[removed] * 3]}}


def test_a_curve_is_the_mean_over_seeds_of_averages_over_tasks(tmp_path: Path) -> None:
    subject = load(tmp_path, *grid(("itmc",), compressions=(0.5,)))
    line = line_of(axes_of(curves(subject)), "itmc")
    assert xs(line) == [1, 2, 3, 4, 5, 6]
    # Accuracies at the end are 70 and 71; the history goes up to there.
    assert ys(line) == pytest.approx([70.5 + gain for gain in (-20, -12, -6, -9, -4, 0)])


def test_a_seed_that_lacks_a_task_is_not_in_a_curve(tmp_path: Path) -> None:
    made = grid(("itmc",), compressions=(0.5,))
    lacking = [
        run
        for run in made
        if (run["method"]["name"], run["seed"], run["task"]["name"]) != ("itmc", 1, TASKS[0])
    ]
    figure = curves(load(tmp_path, *lacking))
    assert ys(line_of(axes_of(figure), "itmc"))[-1] == pytest.approx(70.0)
    assert "n = 1, no interval" in title(figure)


def test_events_are_marked_where_macs_were_removed_by_how_much(tmp_path: Path) -> None:
    figure = curves(load(tmp_path, *grid(("itmc",), compressions=(0.5,))))
    marked = events_of(axes_of(figure))
    assert set(marked) == {4.0, 5.0}
    # 0.3 of the MACs, then 0.2.
    assert marked[4.0] > marked[5.0]
    assert "for looking only" in title(figure)


def test_each_compression_has_its_panel(tmp_path: Path) -> None:
    subject = load(tmp_path, *grid(compressions=(0.5, 0.75)))
    assert [axes.get_title() for axes in curves(subject).axes] == [
        "compression 0.5",
        "compression 0.75",
    ]
    assert [axes.get_title() for axes in widths(subject).axes] == [
        "compression 0.5",
        "compression 0.75",
    ]


def test_where_epochs_differ_a_panel_is_a_task(tmp_path: Path) -> None:
    made = grid(("itmc",), compressions=(0.5, 0.75), tasks=TASKS[:2])
    for run in made:
        if run["task"]["name"] == TASKS[1]:
            run["history"] = {name: column[1:] for name, column in run["history"].items()}
    figure = curves(load(tmp_path, *made))
    assert [axes.get_title().replace(" → ", "->") for axes in figure.axes] == list(TASKS[:2])
    assert "compression 0.75" in title(figure)
    lengths = [len(xs(line_of(axes, "itmc"))) for axes in figure.axes]
    assert lengths == [6, 5]


def test_shown_are_itmc_kd_and_what_prunes_in_steps_six_at_most(tmp_path: Path) -> None:
    names = ("kd", "tcp", "mobileda", *(f"step_{number}" for number in range(6)), "itmc")
    made = [record(name) for name in names]
    made = [one_shot(run) if run["method"]["name"] in ("kd", "mobileda") else run for run in made]
    subject = load(tmp_path, *made)
    assert few(subject) == ["kd", "step_0", "step_1", "step_2", "step_3", "itmc"]
    assert few(load(tmp_path / "b", one_shot(record("mobileda")))) == ["mobileda"]
    assert few(load(tmp_path, *made, named=True)) == [*sorted(names[:-1]), "itmc"]


def test_runs_of_damaged_history_are_left_out_and_counted(tmp_path: Path) -> None:
    made = grid(("itmc",), compressions=(0.5,), seeds=3)
    broken = next(run for run in made if run["method"]["name"] == "itmc" and run["seed"] == 2)
    broken["history"] = {"stage": ["adapt"], "overall": [], "mean_class": [], "removed": []}
    subject = load(tmp_path, *made)
    for figure in (curves(subject), widths(subject)):
        assert "without 1 run of damaged history" in title(figure)
    assert "n = 2" in title(curves(subject))


def test_records_without_histories_are_nothing_to_draw(tmp_path: Path) -> None:
    run = record()
    del run["history"], run["compression"]["layers"]
    subject = load(tmp_path, run)
    with pytest.raises(NoDataError, match="history with accuracies"):
        curves(subject)
    with pytest.raises(NoDataError, match="widths"):
        widths(subject)


def test_widths_are_the_mean_share_of_outputs_in_the_order_of_layers(tmp_path: Path) -> None:
    made = [record(seed=seed) for seed in (0, 1)]
    made[1]["compression"]["layers"]["features.0"] = [16, 16]
    figure = widths(load(tmp_path, *made))
    axes = axes_of(figure)
    assert ys(line_of(axes, "itmc")) == pytest.approx([75.0, 12.5, 100.0])
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown == ["features.0", "features.3", "head"]
    assert "mean over 2 runs (1 task) with the standard deviation" in title(figure)


def test_names_of_many_layers_are_thinned_until_none_covers_another(tmp_path: Path) -> None:
    layers = {f"backbone.block.{number}.conv": [4, 8] for number in range(120)}
    run = record()
    run["compression"]["layers"] = layers
    figure = widths(load(tmp_path, run))
    assert figure.get_figwidth() == 6.9
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes_of(figure).get_xticklabels()]
    assert 20 < len(boxes) < 120
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert axes_of(figure).get_xticklabels()[1].get_text().startswith("block.")


def judged(run: dict[str, Any]) -> dict[str, Any]:
    """The run, its teacher having been judged: a point better in the second seed."""
    beside = guidance(teacher=60.0 + run["seed"], agrees_wrong=30.0)
    return run | {"history": {**run["history"], **beside}}


def test_teachers_are_drawn_from_the_first_epoch_beside_one(tmp_path: Path) -> None:
    runs = grid(("itmc",), compressions=(0.5, 0.75))
    figure = drawn_guidance(load(tmp_path, *map(judged, runs)))
    teacher, wrong, *_ = figure.axes
    assert len(figure.axes) == 4
    assert teacher.get_title() == "the teacher's accuracy, compression 0.5"
    assert xs(line_of(teacher, "itmc")) == [1, 2, 3]
    assert ys(line_of(teacher, "itmc")) == pytest.approx([60.5, 61.5, 62.5])
    assert ys(line_of(wrong, "itmc")) == pytest.approx([30.0, 31.0, 32.0])


def test_without_a_judged_teacher_no_figure_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="--judge-teacher"):
        drawn_guidance(load(tmp_path, *grid(("itmc",), compressions=(0.5,))))
