"""What may stand in one table: the settings of the records, and the methods of each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import pandas as pd

from results.records import FINISHED, default_selection, plural
from results.schema import UNADAPTED
from results.statistics import mean

GROUPS = ("references", "baselines", "itmc", "ablations")


@dataclass(frozen=True)
class Setting:
    """What all runs of one table share; runs that differ in any of it are not compared.

    `dataset` is the name that the catalog has for the suite's data, empty where no record says.
    `conditions` is how images were prepared and networks trained, as JSON text (`{}` where only a
    leaderboard was read), and `key` 8 hex digits over it; `digest` is empty where the tasks of the
    suite have data digests of their own. `edition` counts versions of the data backwards: 0 is the
    newest.
    """

    suite: str
    dataset: str
    protocol: str
    backbone: str
    weights: str
    bottleneck: int | None
    image_size: int | None
    epochs: int | None
    conditions: str
    key: str
    edition: int
    digest: str

    def describe(self) -> str:
        """Backbone, protocol and weights, as a caption names them."""
        # Weights may be a file; where it lay on the machine that ran it does not matter.
        weights = PurePath(self.weights).name
        bottleneck = "" if self.bottleneck is None else f", bottleneck {self.bottleneck}"
        size = "" if self.image_size is None else f" at {self.image_size} px"
        epochs = "" if self.epochs is None else f", {plural(self.epochs, 'epoch')}"
        data = f", data of {plural(self.edition, 'version')} ago" if self.edition else ""
        return (
            f"{self.backbone}{size}{bottleneck}, weights {weights}{epochs}, "
            f"protocol {self.protocol}{data}"
        )

    def selection(self, given: str | None) -> str:
        """How the epoch is chosen: as given, or as the protocol does."""
        return default_selection(self.protocol) if given is None else given


@dataclass(frozen=True)
class Comparison:
    """The runs of one setting, one a (method, compression, task, seed).

    A method that ran with several hyper-parameters or teachers is several methods, named by what
    differs.

    Attributes:
        missing: what is known of the runs that a plan asks for and that have no record, with
            `state`; a cell that an older run fills is not among them.
        tasks: in the suite's order.
        superseded: how many older runs of the same cell and seed were left out.
    """

    setting: Setting
    frame: pd.DataFrame
    missing: pd.DataFrame
    tasks: tuple[str, ...]
    superseded: int

    @cached_property
    def asked(self) -> pd.DataFrame:
        """All runs, those besides that are missing: what of them does not exist is NaN."""
        return _stacked(self.frame, self.missing)

    @cached_property
    def _described(self) -> dict[str, tuple[str, str]]:
        first = self.asked.drop_duplicates("method")
        described = zip(first["label"], first["group"], strict=True)
        return dict(zip(first["method"], described, strict=True))

    def compressions(self) -> list[float]:
        """The compressions that were asked, ascending; 0 holds the uncompressed references."""
        return [float(value) for value in sorted(self.asked["compression"].unique())]

    def compressed(self) -> list[str]:
        """The methods that have a run at any compression above 0, in the order of tables."""
        names = set(self.frame.loc[self.frame["compression"] > 0, "method"])
        return [method for method in method_order(self) if method in names]

    def uncompressed(self) -> list[str]:
        """The methods that have runs at 0 alone, in the order of tables."""
        compressed = set(self.compressed())
        names = set(self.frame["method"]) - compressed
        return [method for method in method_order(self) if method in names]

    def describe(self, method: str) -> tuple[str, str]:
        """A method's label and group."""
        return self._described[method]


def comparisons(frame: pd.DataFrame, missing: pd.DataFrame) -> tuple[Comparison, ...]:
    """Split the frame of `records.read` into what may stand in one table, in a stable order.

    Args:
        frame: finished runs.
        missing: those that have no record: an average is of all tasks that are asked for. A
            setting that has nothing else is left out.
    """
    frame = _stacked(frame.assign(state=FINISHED), missing)
    frame = frame.assign(edition=_editions(frame))
    keys = ["suite", "protocol", "backbone", "weights", "bottleneck", "image_size", "setting"]
    keys.append("edition")
    found = []
    for _, runs in frame.groupby(keys, dropna=False, sort=True):
        if not (runs["state"] == FINISHED).any():
            continue
        first = runs.iloc[0]
        setting = Setting(
            suite=first["suite"],
            dataset=_only(runs["dataset"].dropna()),
            protocol=first["protocol"],
            backbone=first["backbone"],
            weights=first["weights"],
            bottleneck=whole(first["bottleneck"]),
            image_size=whole(first["image_size"]),
            epochs=whole(first["epochs"]),
            conditions=first["conditions"],
            key=first["setting"],
            edition=int(first["edition"]),
            digest=_only(runs["digest"]),
        )
        found.append(_comparison(setting, runs))
    return tuple(found)


def averaged_runs(comparison: Comparison, column: str) -> pd.DataFrame:
    """The runs behind the averages of a column: of the seeds that have it on all tasks."""
    runs = comparison.frame.dropna(subset=[column])
    tasks = runs.groupby(["method", "compression", "seed"])["task"].transform("size")
    return runs[tasks == len(comparison.tasks)]


def seed_averages(comparison: Comparison, column: str) -> pd.DataFrame:
    """Average over tasks for each seed that has them all.

    Returns:
        Columns `method`, `compression`, `seed` and `accuracy` (percent).
    """
    runs = averaged_runs(comparison, column)
    by_seed = runs.groupby(["method", "compression", "seed"])[column]
    return by_seed.agg(mean).rename("accuracy").reset_index()


def method_order(comparison: Comparison) -> list[str]:
    """Method names: by group, and by name within one; the unadapted reference comes first."""
    groups = comparison.asked.drop_duplicates("method").set_index("method")["group"]

    def position(method: str) -> tuple[int, str, bool, str]:
        group = str(groups[method])
        rank = GROUPS.index(group) if group in GROUPS else len(GROUPS)
        return rank, group, method != UNADAPTED, method

    return sorted((str(method) for method in groups.index), key=position)


def _stacked(finished: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([finished, missing], ignore_index=True) if len(missing) else finished


def whole(figure: float) -> int | None:
    """A count as an integer; None where no record tells."""
    return None if math.isnan(figure) else int(figure)


def _editions(frame: pd.DataFrame) -> pd.Series[int]:
    """Which version of its task's data each run is of: 0 the newest that was finished on.

    Tasks have data digests of their own; those whose data never changed are of the newest. Runs
    that are planned on data of which nothing has finished yet, where others have, are of -1.
    """
    task = ["suite", "task"]
    last = frame.groupby([*task, "digest"])["finished"].max().dropna().reset_index()
    last = last.sort_values(["finished", "digest"], ascending=False)
    last["edition"] = last.groupby(task).cumcount()
    known = pd.MultiIndex.from_frame(last[task])
    found = frame[[*task, "digest"]].merge(last, on=[*task, "digest"], how="left")["edition"]
    begun = pd.MultiIndex.from_frame(frame[task]).isin(known)
    return (
        found.fillna(pd.Series(begun).map({True: -1, False: 0})).astype(int).set_axis(frame.index)
    )


def _only(values: pd.Series[str]) -> str:
    return str(values.iloc[0]) if values.nunique() == 1 else ""


def _comparison(setting: Setting, runs: pd.DataFrame) -> Comparison:
    runs = pd.concat([_told_apart(method) for _, method in runs.groupby("method", sort=True)])
    cell = ["method", "compression", "task", "seed"]
    # What is missing has not finished at any time, and so comes before what has.
    newest = runs.sort_values(["finished", "run"], na_position="first")
    newest = newest.drop_duplicates(cell, keep="last").sort_values(cell, ignore_index=True)
    tasks = (
        newest.groupby("task")["task_index"].min().reset_index().sort_values(["task_index", "task"])
    )
    finished, missing = (
        newest[(newest["state"] == FINISHED) == there].reset_index(drop=True)
        for there in (True, False)
    )
    superseded = int((runs["state"] == FINISHED).sum()) - len(finished)
    return Comparison(setting, finished, missing, tuple(tasks["task"]), superseded)


def _told_apart(runs: pd.DataFrame) -> pd.DataFrame:
    """One method's runs, name and label extended by their teacher and by the knobs that differ.

    The bare name stays in `base`. What is only planned renames nothing that is finished.
    """
    newest = runs.sort_values(["finished", "run"], na_position="first").iloc[-1]
    # A label may be reworded between two versions of the code; the newest counts.
    base = runs["method"].str.partition("[")[0]  # a leaderboard has the names of variants
    runs = runs.assign(label=newest["label"], group=newest["group"], base=base)
    columns = ["knobs", "guide_backbone", "guide_weights"]
    parts = list(runs[columns].itertuples(index=False, name=None))
    names = _variants(parts)
    done = {part for part, state in zip(parts, runs["state"], strict=True) if state == FINISHED}
    names |= _variants(done)
    variants = pd.Series([names[part] for part in parts], runs.index, dtype=str)
    named = variants != ""
    words = variants.str.replace("^teacher=", "teacher ", regex=True)
    return runs.assign(
        method=runs["method"].where(~named, runs["method"] + "[" + variants + "]"),
        label=runs["label"].where(~named, runs["label"] + " (" + words + ")"),
    )


def _variants(parts: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """A name for each of the knobs (as text), teacher and teacher's weights: what differs."""
    several = set(parts)
    knobs = {text: json.loads(text) for text, _, _ in several}
    differing = _differing(knobs.values())
    guides = [guide for guide, _ in {(guide, weights) for _, guide, weights in several}]
    names = {}
    for text, guide, weights in several:
        # Two teachers of one backbone are told apart by their weights.
        which = f" {weights}" if len(guides) > len(set(guides)) else ""
        teacher = [f"teacher={guide}{which}"] if guide else []
        values = (f"{name}={knobs[text].get(name)}" for name in differing)
        names[text, guide, weights] = ", ".join([*teacher, *values])
    return names


def _differing(knobs: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the hyper-parameters that are not the same in all."""
    several = list(knobs)
    names = sorted(set().union(*several))
    return [name for name in names if len({json.dumps(k.get(name)) for k in several}) > 1]
