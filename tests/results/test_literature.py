"""Published values: facts with sources, beside ours, of the same network, never mixed or ranked."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from results import literature
from results.aggregate import tables
from results.literature import FOLDER, architecture, claims, protocols, published
from results.records import read
from results.render import document
from results.schema import AVERAGE
from tests.results.factory import record, write

DATASETS = ("office31", "office_home", "image_clef")
OFFICE_TASKS = [
    *("amazon->webcam", "dslr->webcam", "webcam->dslr"),
    *("amazon->dslr", "dslr->amazon", "webcam->amazon"),
]


def office(
    task: str = "amazon->webcam", backbone: str = "timm/resnet50", **changed: Any
) -> dict[str, Any]:
    """A record of Office-31."""
    made = record(changed.pop("method", "dan"), task, compression=changed.pop("compression", 0.0))
    source, target = task.split("->")
    made["suite"] = "office31"
    made["dataset"] = {"name": "office31", "digest": "sha256:1"}
    made["task"] = {"source": source, "target": target, "name": task, "index": 0}
    made["network"] = {"backbone": backbone, "weights": "resnet50.tv_in1k", "bottleneck": 256}
    return made | {"run": f"{task}{made['method']['name']}".replace(">", "")} | changed


def text(out: Path, *records: dict[str, Any], form: str = "terminal") -> str:
    return document(tables(read([write(out, *records)]))).text(form)


def lines_of(shown: str, label: str) -> list[list[str]]:
    """The cells of each row with this label, in order."""
    rows = (line for line in shown.splitlines() if line.strip().startswith(f"{label} "))
    return [line.split(label, 1)[1].split() for line in rows]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_row_has_a_source_a_known_protocol_and_an_average_that_adds_up(dataset: str) -> None:
    rows = published(dataset)
    assert rows
    assert len({(row.backbone, row.method, row.protocol) for row in rows}) == len(rows)
    for row in rows:
        assert row.source
        assert row.protocol in protocols()
        assert all(0 < float(value) <= 100 for value in row.accuracies.values())
        tasks = [float(value) for task, value in row.accuracies.items() if task != AVERAGE]
        # Rounded as printed; a slip of a digit in a column would show.
        assert float(row.accuracies[AVERAGE]) == pytest.approx(sum(tasks) / len(tasks), abs=0.15)


def test_tasks_are_those_of_the_catalog() -> None:
    """By the letters of the papers: a domain under another name would never be shown."""
    domains = Path(__file__).parents[2] / "itmc" / "domains" / "datasets"
    for dataset in DATASETS:
        declared = (domains / f"{dataset}.yaml").read_text()
        tasks = {task for row in published(dataset) for task in row.accuracies} - {AVERAGE}
        names = {name for task in tasks for name in task.split("->")}
        assert all(re.search(rf"^  {name}:$", declared, re.MULTILINE) for name in names)


def test_the_folder_holds_nothing_that_is_not_read() -> None:
    held = {path.stem for path in FOLDER.glob("*.csv")}
    assert held == {*DATASETS, "protocols", "claims"}
    for row in csv.DictReader((FOLDER / "claims.csv").open()):
        assert row["source"]


def test_published_values_stand_in_blocks_of_their_own_by_protocol(tmp_path: Path) -> None:
    shown = text(tmp_path, *(office(task) for task in OFFICE_TASKS))
    assert "Published, resnet50, protocol paper: as each paper reports" in shown
    assert "protocol tllib: best epoch by target accuracy" in shown
    (ours,) = lines_of(shown, "dan")
    paper, tllib = lines_of(shown, "DAN")
    assert ours[0] == "80.0"
    columns = shown.splitlines()[2].split()
    place = columns.index("amazon->webcam")
    assert (paper[place], tllib[place]) == ("80.5", "84.2")
    assert (paper[6], tllib[6]) == ("80.4", "83.7")  # the average, over all six tasks
    assert "not ranked" not in shown
    assert "results/published/office31.csv" in shown


def test_their_average_stands_only_where_all_their_tasks_do(tmp_path: Path) -> None:
    shown = text(tmp_path, office("amazon->webcam"), office("amazon->dslr"))
    (paper, _) = lines_of(shown, "DAN")
    assert paper[:3] in (["80.5", "78.6", "—"], ["78.6", "80.5", "—"])


def test_published_values_are_never_ranked_nor_in_the_csv(tmp_path: Path) -> None:
    runs = [
        office(method="itmc", compression=0.5, run="a"),
        office(method="kd", compression=0.5, run="b", accuracy={"last": {"overall": 60.0}}),
    ]
    shown = text(tmp_path, *runs, form="markdown")
    for line in shown.split("Published", 1)[1].splitlines():
        assert "**" not in line
        assert "<u>" not in line
    assert "80.5" not in text(tmp_path, form="csv")


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "timm/resnet50d", "resnet101"])
def test_with_another_network_they_are_only_pointed_to(tmp_path: Path, backbone: str) -> None:
    shown = text(tmp_path, office(backbone=backbone))
    assert "84.2" not in shown
    assert "Published values of this dataset are of resnet50" in shown


@pytest.mark.parametrize("name", ["digits", "protocols", "claims", "../published/office31", ""])
def test_of_another_dataset_there_is_nothing(tmp_path: Path, name: str) -> None:
    assert published(name) == ()
    assert claims(name, ["itmc", "tcp"]) == ()
    other = office(dataset={"name": name, "digest": "sha256:1"})
    assert "ublished" not in text(tmp_path, other)


def test_claims_stand_with_the_methods_that_are_shown(tmp_path: Path) -> None:
    shown = text(tmp_path, office(method="tcp", compression=0.5))
    assert "12% of FLOPs" in shown
    assert "arXiv 1904.02654" in shown
    assert "60% of channels" not in shown  # of ADMP, which is not in the table


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("timm/resnet50", "resnet50"), ("resnet50", "resnet50"), ("resnet50.tv_in1k", "resnet50")],
)
def test_architectures_are_known_by_the_papers_name(backbone: str, name: str) -> None:
    assert architecture(backbone) == name


def test_a_row_with_empty_cells_has_no_figure_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some.csv").write_text(
        "backbone,method,label,protocol,a->b,b->a,average,source\nnet,m,M,paper,50.1,,,a paper\n"
    )
    monkeypatch.setattr(literature, "FOLDER", tmp_path)
    (row,) = published("some")
    assert row.accuracies == {"a->b": "50.1"}
