"""The ablation bars: sign, paired interval, order, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from results.differences import differences
from results.looks import look
from results.plots.ablations import ablations
from results.plots.subject import NoDataError
from tests.results.drawing import axes_of, grid, load, title
from tests.results.factory import TASKS, record


def runs(*worth: tuple[str, float], compressions: tuple[float, ...] = (0.5,)) -> list[dict]:
    """ITMC at 80, and ablations so much better or worse, a little differently in each seed."""
    return [
        record(name, task, seed=seed, compression=compression, accuracy=80 + gain * (1 + seed / 4))
        for name, gain in (("itmc", 0.0), *worth)
        for task in TASKS[:2]
        for seed in range(3)
        for compression in compressions
    ]


def test_a_bar_is_the_ablation_minus_itmc_with_the_paired_interval(tmp_path: Path) -> None:
    subject = load(tmp_path, *runs(("tkd_only", -4.0)))
    axes = axes_of(ablations(subject))
    (bar,) = axes.patches
    assert bar.get_width() == pytest.approx(-5.0)  # type: ignore[attr-defined]
    assert to_hex(bar.get_facecolor()) == look("tkd_only").colour.lower()
    ((_, (row,)),) = differences(subject.records)[0].blocks
    (interval,) = (line for line in axes.lines if len(set(line.get_xdata())) == 2)
    assert sorted(interval.get_xdata()) == pytest.approx(sorted((-row.high, -row.low)))
    assert max(interval.get_xdata()) < 0


def test_what_loses_most_is_on_top_in_all_panels(tmp_path: Path) -> None:
    made = runs(("itmc_b", 1.0), ("itmc_a", -4.0), ("tkd_only", -2.0), compressions=(0.5, 0.75))
    figure = ablations(load(tmp_path, *made))
    assert [axes.get_title() for axes in figure.axes] == ["compression 0.5", "compression 0.75"]
    first = figure.axes[0]
    shown = [label.get_text() for label in first.get_yticklabels()]
    assert shown == ["itmc a", "tkd only", "itmc b"]
    assert first.yaxis_inverted()
    assert figure.get_figwidth() == 6.9
    assert "n = 6 pairs" in title(figure)
    assert "negative: changing the part hurts" in title(figure)


def test_in_a_column_compressions_stand_one_above_the_other(tmp_path: Path) -> None:
    made = runs(("tkd_only", -2.0), compressions=(0.5, 0.75))
    figure = ablations(load(tmp_path, *made, size="column"))
    figure.draw_without_rendering()
    upper, lower = (axes.get_window_extent() for axes in figure.axes)
    assert upper.y0 > lower.y1 and upper.height > 0.1 * figure.dpi
    assert upper.x0 == pytest.approx(lower.x0)


def test_one_pair_is_a_bar_without_an_interval(tmp_path: Path) -> None:
    figure = ablations(load(tmp_path, record(), record("tkd_only", accuracy=70.0)))
    axes = axes_of(figure)
    (bar,) = axes.patches
    assert bar.get_width() == pytest.approx(-10.0)  # type: ignore[attr-defined]
    # The mark of the mean and the line at zero alone.
    assert len(axes.lines) == 2


def test_without_ablations_or_itmc_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="no ablations here"):
        ablations(load(tmp_path / "a", *grid()))
    with pytest.raises(NoDataError, match="no itmc"):
        ablations(load(tmp_path / "b", record("tkd_only"), record("kd")))
    with pytest.raises(NoDataError, match="in common with itmc"):
        ablations(load(tmp_path / "c", record(), record("tkd_only", seed=1)))
