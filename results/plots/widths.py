"""Channels kept, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from results.figure import (
    EDGE,
    LINE,
    SIZES,
    TYPE,
    add_legend,
    centre_names,
    frame,
    grow,
    handle,
    new_figure,
    panels,
    style,
)
from results.plots.histories import damaged_in_words, few
from results.plots.subject import NoDataError, Subject
from results.records import plural

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More layers than these are too many for a column.
_IN_COLUMN = 20
# Inches beside the axes.
_MARGIN = 0.6


def widths(subject: Subject) -> Figure:
    """Share of the outputs kept of each layer, in the order of the network: a panel a compression.

    A line a method: the mean over tasks and seeds, its band the standard deviation over these runs
    (how much widths differ, not how well their mean is known).

    Raises:
        NoDataError: no record of these methods has widths.
    """
    kept = _kept(subject)
    if kept.empty:
        raise NoDataError("no record of these methods has the widths of its student")
    layers = list(dict.fromkeys(kept["layer"]))
    shares = sorted(kept["compression"].unique())
    methods = [method for method in few(subject) if method in set(kept["method"])]
    usual = "column" if len(layers) <= _IN_COLUMN else "page"
    with style():
        figure = new_figure(subject, max(1.05 * len(shares), 1.4), usual)
        titles = [f"compression {share:g}" for share in shares]
        made = panels(figure, len(shares), 1, titles, sharex=True, sharey=True)
        for axes, share in zip(made, shares, strict=True):
            _draw(axes, subject, kept[kept["compression"] == share], layers, methods)
        _name_layers(made[-1], layers, SIZES[subject.size or usual])
        runs = kept.groupby(["method", "compression"])["run"].nunique()
        low, high = runs.min(), runs.max()
        n = plural(high, "run") if low == high else f"{low} to {high} runs"
        spread = "" if high == 1 else " with the standard deviation"
        tasks = plural(len(subject.comparison.tasks), "task")
        what = f"mean over {n} ({tasks}){spread}"
        frame(figure, subject, (what, damaged_in_words(subject)), "outputs kept (%)")
        add_legend(figure, [handle(subject, method) for method in methods])
        centre_names(figure)
    return figure


def _kept(subject: Subject) -> pd.DataFrame:
    """A row a layer of a run, with the share of its outputs that was kept, in percent."""
    runs = subject.comparison.frame
    runs = runs[runs["method"].isin(few(subject)) & (runs["compression"] > 0)]
    rows = []
    for run in runs.to_dict("records"):
        details = subject.details.get(run["path"])
        for layer, (kept, of) in ({} if details is None else details.layers).items():
            known = {name: run[name] for name in ("run", "method", "compression")}
            rows.append({**known, "layer": layer, "kept": 100 * kept / of})
    return pd.DataFrame(rows)


def _draw(
    axes: Axes,
    subject: Subject,
    kept: pd.DataFrame,
    layers: Sequence[str],
    methods: Sequence[str],
) -> None:
    import seaborn as sns

    there = [method for method in methods if method in set(kept["method"])]
    looks = subject.looks
    places = {layer: place for place, layer in enumerate(layers)}
    sns.lineplot(
        kept.assign(place=kept["layer"].map(places)),
        x="place",
        y="kept",
        hue="method",
        style="method",
        hue_order=there,
        style_order=there,
        palette={method: looks[method].colour for method in there},
        markers={method: looks[method].marker for method in there},
        dashes={method: looks[method].dash or "" for method in there},
        errorbar="sd",
        err_kws={"alpha": 0.12, "linewidth": 0},
        markersize=4 if len(layers) <= _IN_COLUMN else 3,
        markeredgewidth=EDGE,
        linewidth=LINE,
        legend=False,
        ax=axes,
    )
    axes.set(xlabel="", ylabel="", ylim=(0, 104))
    axes.margins(x=0.02)


def _name_layers(axes: Axes, layers: Sequence[str], width: float) -> None:
    """Upright names below, of every so many layers as there is room for."""
    room = (width - _MARGIN) * 72 / (TYPE + 1)
    every = max(1, -(-len(layers) // int(room)))
    # What all layers but the last few have in front of their names tells nothing.
    names = [layer.removeprefix("backbone.") for layer in layers]
    axes.set_xticks(range(0, len(layers), every), names[::every], rotation=90)
    if every > 1:
        axes.set_xticks(range(len(layers)), minor=True)
        axes.tick_params(axis="x", which="minor", length=1.2)
    grow(axes.figure, max(map(len, names)) / 2.3)  # type: ignore[arg-type]
