"""What the folder of a job says of a failure."""

from __future__ import annotations

from pathlib import Path

from itmc.errors import UsageError
from suites.folders import record_failure, recorded_failure


def test_a_failure_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert recorded_failure(folder) == ""
    assert record_failure(folder, "a run", ValueError("broken\nin two")) == "ValueError: broken"
    assert recorded_failure(folder) == "ValueError: broken"
    record_failure(folder, "a run", UsageError("no such thing"))
    assert recorded_failure(folder) == "no such thing"


def test_a_failure_from_before_a_time_does_not_count(tmp_path: Path) -> None:
    record_failure(tmp_path, "a run", "broken")
    assert recorded_failure(tmp_path, "2020-01-01T00:00:00+00:00") == "broken"
    assert recorded_failure(tmp_path, "2120-01-01T00:00:00+00:00") == ""


def test_the_first_failure_of_several_processes_is_kept(tmp_path: Path) -> None:
    record_failure(tmp_path, "a run", "out of memory", keep_first=True)
    record_failure(tmp_path, "a run", "connection closed by peer", keep_first=True)
    assert recorded_failure(tmp_path) == "out of memory"


def test_a_damaged_failure_is_none(tmp_path: Path) -> None:
    for content in ("", "[]", "{}", '{"reason": "broken"}'):
        (tmp_path / "failure.json").write_text(content)
        assert recorded_failure(tmp_path) == ""
