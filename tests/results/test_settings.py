"""What may stand in one table: protocols with their own choice of the epoch, teachers apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from results import plot
from results.aggregate import Table, tables
from results.comparison import comparisons
from results.records import read
from results.schema import SELECTIONS
from tests.results.factory import record, write

DENSENET = {"backbone": "densenet121", "weights": "densenet121.tv_in1k"}


def build(out: Path, *records: dict[str, Any], selection: str | None = None) -> tuple[Table, ...]:
    """The tables of these records."""
    return tables(read([write(out, *records)]), selection)


def both_protocols() -> list[dict[str, Any]]:
    """One run a protocol, whose last epoch is not its best."""
    made = []
    for protocol, last in (("strict", 60.0), ("paper", 70.0)):
        run = record(accuracy=last, protocol=protocol)
        run["accuracy"]["oracle"]["overall"] = last + 5
        made.append(run)
    return made


def test_each_protocol_chooses_the_epoch_in_its_own_way(tmp_path: Path) -> None:
    paper, strict = build(tmp_path, *both_protocols())
    assert (paper.setting.protocol, strict.setting.protocol) == ("paper", "strict")
    assert [cell.mean for cell in (*paper.cells(), *strict.cells())] == [75.0, 75.0, 60.0, 60.0]
    assert "selection: oracle" in paper.caption()
    assert "selection: last epoch" in strict.caption()


@pytest.mark.parametrize(("selection", "means"), [("last", [70, 60]), ("oracle", [75, 65])])
def test_a_selection_that_is_given_counts_for_all(
    tmp_path: Path, selection: str, means: list[float]
) -> None:
    shown = build(tmp_path, *both_protocols(), selection=selection)
    assert [next(iter(table.cells())).mean for table in shown] == means
    assert all(SELECTIONS[selection] in table.caption() for table in shown)


def test_plots_choose_the_epoch_as_tables_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(plot, "write_whole", lambda *_: None)
    monkeypatch.setattr(plot, "file_content", lambda figure, _: drawn.append(figure) or b"")
    records = read([write(tmp_path, *both_protocols())])

    def titles() -> list[tuple[bool, bool]]:
        figures: list[Figure] = list(dict.fromkeys(drawn))
        drawn.clear()
        return [
            ("protocol paper" in title, "oracle" in title)
            for title in (" ".join(figure.get_suptitle().split()) for figure in figures)
        ]

    plot.write(records, tmp_path)
    assert titles() == [(True, True)] * 4 + [(False, False)] * 4
    plot.write(records, tmp_path, "last")
    assert titles() == [(True, False)] * 4 + [(False, False)] * 4


def test_a_teacher_of_another_backbone_makes_another_method(tmp_path: Path) -> None:
    (table,) = build(
        tmp_path,
        record(accuracy=70.0),
        record(seed=1, accuracy=72.0),
        record(accuracy=80.0, teacher=DENSENET),
        record("kd", accuracy=60.0),
    )
    rows = {row.method: (row.label, row.group, row.cells[0].mean) for row in table.rows()}
    assert rows == {
        "itmc": ("ITMC", "itmc", 71.0),
        "itmc[teacher=densenet121]": ("ITMC (teacher densenet121)", "itmc", 80.0),
        "kd": ("kd", "baselines", 60.0),
    }


def test_a_teacher_is_named_also_where_every_run_has_it(tmp_path: Path) -> None:
    (table,) = build(tmp_path, record(teacher=DENSENET))
    assert [row.method for row in table.rows()] == ["itmc[teacher=densenet121]"]


def test_teachers_of_one_backbone_are_told_apart_by_their_weights(tmp_path: Path) -> None:
    others = DENSENET | {"weights": "densenet121.ra_in1k"}
    (table,) = build(tmp_path, record(teacher=DENSENET), record(teacher=others), record())
    assert [row.label for row in table.rows()] == [
        "ITMC",
        "ITMC (teacher densenet121 densenet121.ra_in1k)",
        "ITMC (teacher densenet121 densenet121.tv_in1k)",
    ]


def test_teacher_and_hyper_parameters_are_both_named(tmp_path: Path) -> None:
    made = [record(), record(teacher=DENSENET)]
    for run, tau in zip(made, (2, 4), strict=True):
        run["method"]["knobs"] = {"tau": tau}
    (table,) = build(tmp_path, *made)
    assert [(row.method, row.label) for row in table.rows()] == [
        ("itmc[tau=2]", "ITMC (tau=2)"),
        ("itmc[teacher=densenet121, tau=4]", "ITMC (teacher densenet121, tau=4)"),
    ]


def test_a_record_from_before_teachers_and_effort_still_reads(tmp_path: Path) -> None:
    old = record(accuracy=70.0)
    del old["teacher"]
    old["effort"] = {"training_macs": 1, "images_per_second": 3.0}
    records = read([write(tmp_path, old, record(seed=1, accuracy=72.0))])
    (found,) = comparisons(records.frame, records.missing)
    assert set(found.frame["method"]) == {"itmc"}
    (table,) = tables(records)
    assert next(iter(table.cells())).mean == 71.0


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ({"teacher": "densenet121"}, "teacher.backbone"),
        ({"teacher": {}}, "teacher.backbone"),
        ({"teacher": {"backbone": "densenet121"}}, "teacher.weights"),
        ({"teacher": {"backbone": 121, "weights": "none"}}, "teacher.backbone"),
        ({"effort": {"images": "many"}}, "effort.images"),
        ({"effort": {"forward_macs": 10**400}}, "effort.forward_macs"),
        ({"effort": {"backward_macs": [1]}}, "effort.backward_macs"),
    ],
)
def test_damage_is_named_and_left_out(tmp_path: Path, damage: dict[str, Any], word: str) -> None:
    write(tmp_path, record(), broken := record(seed=1))
    (tmp_path / broken["run"] / "record.json").write_text(json.dumps(broken | damage))
    records = read([tmp_path])
    assert list(records.frame["seed"]) == [0]
    (line,) = records.left_out
    assert word in line
