"""Numbers that others published, from the CSV files of `published/`, to stand beside ours."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "published"
_DESCRIBING = ("backbone", "method", "label", "protocol", "source")


@dataclass(frozen=True)
class Published:
    """One row of a paper's table: target accuracy of an unpruned network.

    Attributes:
        accuracies: by task, in percent, as printed there; `AVERAGE` as the source states it.
        source: where the row was read.
    """

    dataset: str
    backbone: str
    method: str
    label: str
    protocol: str
    accuracies: dict[str, str]
    source: str


@dataclass(frozen=True)
class Claim:
    """What a paper claims of a compressed network, in its abstract's terms."""

    method: str
    dataset: str
    backbone: str
    claim: str
    source: str


@cache
def published(dataset: str) -> tuple[Published, ...]:
    """What is known of a dataset of the catalog, in the order of the file; nothing of others."""
    # No dataset is called as the two files of other content are.
    path = FOLDER / f"{dataset}.csv"
    if dataset in ("protocols", "claims") or path.parent != FOLDER or not path.is_file():
        return ()
    rows = []
    for row in _rows(path):
        described = {name: row.pop(name) for name in _DESCRIBING}
        accuracies = {task: value for task, value in row.items() if value}
        rows.append(Published(dataset=dataset, accuracies=accuracies, **described))
    return tuple(rows)


@cache
def protocols() -> dict[str, str]:
    """What each protocol of published numbers is, by its name."""
    return {row["protocol"]: row["meaning"] for row in _rows(FOLDER / "protocols.csv")}


def claims(dataset: str, methods: Collection[str]) -> tuple[Claim, ...]:
    """What papers claim of these methods on a dataset, or on several without saying which."""
    if not published(dataset):
        return ()
    found = (Claim(**row) for row in _rows(FOLDER / "claims.csv"))
    return tuple(c for c in found if c.dataset in (dataset, "several") and c.method in methods)


def architecture(backbone: str) -> str:
    """The name that papers have for a backbone: `timm/resnet50` is `resnet50`."""
    return backbone.rpartition("/")[2].partition(".")[0]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
