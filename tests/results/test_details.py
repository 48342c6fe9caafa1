"""A record's history and widths: as they were written, and damage named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.details import read_details
from results.schema import SCHEMA, DamagedRecordError
from tests.results.factory import guidance, history, record, write


def path_of(out: Path, made: dict[str, Any]) -> Path:
    return write(out, made) / made["run"] / "record.json"


def test_epochs_events_and_widths(tmp_path: Path) -> None:
    details = read_details(path_of(tmp_path, record(accuracy=80.0, compression=0.5)))
    assert details.stage == ("adapt", "adapt", "adapt", "itmc", "itmc", "itmc")
    assert details.accuracy["overall"] == (60.0, 68.0, 74.0, 71.0, 76.0, 80.0)
    assert details.removed == (0.0, 0.0, 0.0, 0.3, 0.5, 0.5)
    assert details.events() == (3, 4)
    assert list(details.layers) == ["features.0", "features.3", "head"]
    assert details.layers["features.3"] == (4, 32)


def test_a_student_that_is_small_from_the_start_has_its_event_there(tmp_path: Path) -> None:
    made = record()
    made["history"]["removed"] = [0.5] * 6
    assert read_details(path_of(tmp_path, made)).events() == (0,)


def test_a_teacher_that_was_judged_stands_beside_its_student(tmp_path: Path) -> None:
    assert read_details(path_of(tmp_path, record())).guidance == {}
    made = record()
    made["history"] |= guidance(teacher=60.0, agrees_wrong=30.0)
    details = read_details(path_of(tmp_path, made))
    assert details.guidance["teacher"] == (None, None, None, 60.0, 61.0, 62.0)
    assert details.guidance["agrees_wrong"] == (None, None, None, 30.0, 31.0, 32.0)


def test_rounding_is_no_event(tmp_path: Path) -> None:
    made = record()
    made["history"]["removed"] = [0.0, 0.00001, 0.00002, 0.5, 0.50001, 0.5]
    assert read_details(path_of(tmp_path, made)).events() == (3,)


def test_without_labels_there_are_epochs_but_no_accuracies(tmp_path: Path) -> None:
    details = read_details(path_of(tmp_path, record(labelled=False)))
    assert details.accuracy["overall"] == (None,) * 6
    assert details.events() == (3, 4)


def test_an_older_record_has_no_details(tmp_path: Path) -> None:
    old = record(schema=2)
    del old["history"], old["compression"]["layers"]
    details = read_details(path_of(tmp_path, old))
    assert (details.stage, details.removed, dict(details.layers)) == ((), (), {})
    assert details.events() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"history": 3},
        {"history": {"stage": []}},
        {"history": {"stage": ["a"], "overall": [], "mean_class": [], "removed": []}},
        {"history": history(70.0, 0.5) | {"teacher": [60.0]}},
        {"history": {"stage": ["a"], "overall": ["b"], "mean_class": [1], "removed": [1]}},
        {"compression": {"asked": 0.5, "layers": {"head": [1]}}},
        {"compression": {"asked": 0.5, "layers": [1]}},
        {"compression": None},
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    said = rf"history or compression\.layers is not as schema {SCHEMA} has it"
    with pytest.raises(DamagedRecordError, match=said):
        read_details(path_of(tmp_path, record() | change))


def test_what_cannot_be_read_is_damage(tmp_path: Path) -> None:
    path = path_of(tmp_path, record())
    path.write_text(json.dumps([1]))
    with pytest.raises(DamagedRecordError, match="not a run record"):
        read_details(path)
    path.unlink()
    with pytest.raises(DamagedRecordError, match="not readable"):
        read_details(path)
