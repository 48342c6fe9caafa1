"""Rows that were read before: the same as read anew, and gone with what they were made of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from results import cache
from results.records import read
from tests.results.factory import record, write

NAME = ".records.json"


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_WORTH", 2)


def out(folder: Path, runs: int = 3) -> Path:
    return write(folder, *(record(seed=seed, accuracy=70.0 + seed) for seed in range(runs)))


def test_what_was_kept_is_what_is_read(tmp_path: Path) -> None:
    first = read([out(tmp_path)]).frame
    assert (tmp_path / NAME).exists()
    pd.testing.assert_frame_equal(read([tmp_path]).frame, first)


def test_what_was_kept_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read([out(tmp_path)])
    monkeypatch.setattr("results.records.row_of", None)
    assert len(read([tmp_path]).frame) == 3


def test_a_record_that_changed_is_read_anew(tmp_path: Path) -> None:
    made = record(seed=0, accuracy=70.0)
    write(tmp_path, made, record(seed=1))
    read([tmp_path])
    path = tmp_path / made["run"] / "record.json"
    before = path.stat()
    write(tmp_path, made | {"accuracy": {"last": {"overall": 60.0}}})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert read([tmp_path]).frame.set_index("seed").loc[0, "last.overall"] == 60.0


def test_a_record_that_is_new_or_gone(tmp_path: Path) -> None:
    made = record(seed=9)
    read([out(tmp_path)])
    write(tmp_path, made)
    assert len(read([tmp_path]).frame) == 4
    (tmp_path / made["run"] / "record.json").unlink()
    assert len(read([tmp_path]).frame) == 3
    assert len(json.loads((tmp_path / NAME).read_text())["rows"]) == 3


def test_another_reader_reads_all_anew(tmp_path: Path) -> None:
    read([out(tmp_path)])
    kept = json.loads((tmp_path / NAME).read_text())
    for entry in kept["rows"].values():
        entry[2]["last.overall"] = 1.0
    (tmp_path / NAME).write_text(json.dumps(kept | {"reader": "another"}))
    assert read([tmp_path]).frame["last.overall"].min() == 70.0


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"reader": 1}', '{"rows": {"a": 3}}', "[" * 100_000]
)
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: str) -> None:
    out(tmp_path)
    (tmp_path / NAME).write_text(damage)
    assert len(read([tmp_path]).frame) == 3


@pytest.mark.parametrize("entry", [[1], [1, 2, 3], [1, 2, {"seed": 0}], {"a": 1}])
def test_rows_of_another_form_are_not_used(tmp_path: Path, entry: object) -> None:
    read([out(tmp_path)])
    kept = json.loads((tmp_path / NAME).read_text())
    for run, value in kept["rows"].items():
        if isinstance(entry, list) and len(entry) == 3:
            kept["rows"][run] = [*value[:2], entry[2]]
        else:
            kept["rows"][run] = entry
    (tmp_path / NAME).write_text(json.dumps(kept))
    assert sorted(read([tmp_path]).frame["last.overall"]) == [70.0, 71.0, 72.0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("last.overall", 900.0),
        ("last.overall", "x"),
        ("compression", None),
        ("compression", 2.0),
        ("labelled", None),
        ("seed", "a"),
        ("seed", True),
        ("knobs", "{"),
        ("knobs", "3"),
        ("method", 5),
        ("conditions", "x"),
        ("finished", 5),
        ("student_macs", "x"),
    ],
)
def test_a_row_that_no_record_gives_is_not_used(tmp_path: Path, column: str, value: object) -> None:
    first = read([out(tmp_path)]).frame
    kept = json.loads((tmp_path / NAME).read_text())
    for entry in kept["rows"].values():
        assert column in entry[2]
        entry[2][column] = value
    (tmp_path / NAME).write_text(json.dumps(kept))
    pd.testing.assert_frame_equal(read([tmp_path]).frame, first)


def test_others_may_read_what_was_kept(tmp_path: Path) -> None:
    read([out(tmp_path)])
    assert (tmp_path / NAME).stat().st_mode & 0o044 == 0o044


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("results.cache.tempfile.mkstemp", refuse)
    assert len(read([out(tmp_path)]).frame) == 3
    assert not (tmp_path / NAME).exists()


def test_a_few_records_are_not_worth_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_WORTH", 4)
    read([out(tmp_path)])
    assert not (tmp_path / NAME).exists()
