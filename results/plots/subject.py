"""What a figure is drawn of: the runs of one setting, and how they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from results.comparison import Comparison
from results.details import Details
from results.looks import Look
from results.records import Records
from results.schema import SELECTIONS, accuracy_column


class NoDataError(Exception):
    """There is nothing to draw; the message says why."""


@dataclass(frozen=True)
class Subject:
    """What a figure is drawn of.

    Attributes:
        whole: the runs of one setting.
        comparison: those of them whose methods are asked for.
        records: what was read, of all settings.
        selection: a key of `schema.SELECTIONS`.
        metric: a key of `schema.METRICS`.
        looks: how each method is drawn, in all figures of the setting.
        named: whether the methods were asked for by name; else the usual ones are drawn.
        several: whether other settings have figures of their own, so that a title must tell which
            this is.
        size: a key of `figure.SIZES`; None for what suits the figure.
        details: by path of the record, where histories or widths are drawn; the runs whose details
            are damaged are not among them.
    """

    whole: Comparison
    comparison: Comparison
    records: Records
    selection: str
    metric: str
    looks: Mapping[str, Look]
    named: bool = False
    several: bool = False
    size: str | None = None
    details: Mapping[str, Details] = field(default_factory=dict)

    @property
    def accuracy(self) -> str:
        """The frame's column of the accuracy that counts."""
        return accuracy_column(self.selection, self.metric)

    def own_records(self) -> Records:
        """The records of the setting alone, of all methods."""
        runs = self.records.frame
        return replace(self.records, frame=runs[runs["run"].isin(self.whole.frame["run"])])

    def label(self, method: str) -> str:
        """How a method is called."""
        return self.comparison.describe(method)[0]

    def group(self, method: str) -> str:
        """The group that a method belongs to."""
        return self.comparison.describe(method)[1]

    def setting(self) -> str:
        """Suite, backbone and protocol; the rest too, where it tells several settings apart."""
        setting = self.comparison.setting
        if self.several:
            return f"{setting.suite}: {setting.describe()}"
        return f"{setting.suite}: {setting.backbone}, protocol {setting.protocol}"

    def selected(self) -> str:
        """How the epoch is chosen, in words."""
        return SELECTIONS[self.selection]

    def left_out(self) -> set[str]:
        """The ablations where there are baselines, unless methods were asked for by name.

        There are many of them and all near ITMC: beside baselines they would hide them, and the
        figure of the ablations tells more of them.
        """
        compressed = self.comparison.compressed()
        groups = {method: self.group(method) for method in compressed}
        if self.named or "baselines" not in groups.values():
            return set()
        return {method for method in compressed if groups[method] == "ablations"}

    def drawn(self) -> list[str]:
        """The compressed methods that are drawn, in the order of tables."""
        left_out = self.left_out()
        return [method for method in self.comparison.compressed() if method not in left_out]
