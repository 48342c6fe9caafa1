"""What was submitted, as files: what is read is what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from itmc.errors import UsageError
from slurm import ledger, recall
from slurm.ledger import Array, Submission
from slurm.settings import ClusterSettings
from suites.planning import Planned
from tests.slurm.factory import array, entry, page

KEYS = st.lists(st.text("abc", min_size=1), min_size=1, unique=True)


def submission(asked: Planned) -> Submission:
    settings = ClusterSettings(time=90, sbatch={"exclude": "node7", "hold": True})
    return recall.new_submission(asked.plan.jobs, asked.places, ("x", "-y"), "slurm", settings)


def damage(asked: Planned, content: str) -> str:
    """How the command refuses a file with ``content``."""
    ledger.write(submission(asked))
    (path,) = (asked.places.out / "slurm").glob("*.json")
    path.write_text(content)
    with pytest.raises(UsageError) as refused:
        ledger.read(asked.places.out)
    said = str(refused.value)
    assert str(path) in said and "\n" not in said
    return said


def test_a_grid_comes_back_as_it_was_planned(asked: Planned) -> None:
    written = submission(asked)
    ledger.write(written)
    assert ledger.read(asked.places.out) == [written]
    (read,) = ledger.read(asked.places.out)
    jobs = recall.jobs_of(read, {job.key for job in asked.plan.jobs})
    assert tuple(jobs) == asked.plan.jobs
    for job in jobs:
        assert job.key in {job.run.key, *(job.run.stage_key(n) for n in job.run.recipe().walk())}
    assert recall.places_of(read) == asked.places
    some = {asked.plan.jobs[1].key, asked.plan.jobs[-1].key}
    assert [job.key for job in recall.jobs_of(read, some)] == [
        asked.plan.jobs[1].key, asked.plan.jobs[-1].key,
    ]  # fmt: skip


def test_what_all_runs_share_is_written_once(asked: Planned) -> None:
    written = submission(asked)
    assert "network" in written.shared and "method" not in written.shared
    for one in written.jobs:
        assert not one.run.keys() & written.shared.keys()


@given(KEYS, st.integers(0, 10**6) | st.none(), st.booleans())
def test_arrays_come_back(keys: list[str], number: int | None, is_run: bool) -> None:
    held = array("name", keys, [], number=None if number is None else str(number))
    made = page(Path("out"), [entry(key, keys, is_run) for key in keys], held)
    assert Submission.model_validate_json(made.model_dump_json()) == made


def test_an_array_takes_the_place_of_what_was_called_so(asked: Planned) -> None:
    first = ledger.with_array(submission(asked), array("a", ["k"], number=None))
    second = ledger.with_array(first, array("b", ["k"], number=None))
    ledger.with_array(second, array("a", ["k"], number="12"))
    (read,) = ledger.read(asked.places.out)
    assert {held.name: held.job for held in read.arrays} == {"a": "12", "b": None}


def test_the_logs_of_an_element() -> None:
    assert array("a", ["k"], ["l"], number="12").log(1) == "12_1"
    assert array("a", ["k"], number="12").log(0) == "12"  # a job that is no array


def test_submissions_come_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    for name in ("20260102-1", "20260101-2", "20260103-0"):
        ledger.write(page(tmp_path, [], name=name))
    assert [one.name for one in ledger.read(tmp_path)] == [
        "20260101-2", "20260102-1", "20260103-0",
    ]  # fmt: skip
    assert ledger.read(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "5", '{"schema_version": 1}'])
def test_a_damaged_file_is_named(asked: Planned, content: str) -> None:
    assert "is damaged; move it away" in damage(asked, content)


def test_a_file_of_another_version_is_named(asked: Planned) -> None:
    content = json.loads(submission(asked).model_dump_json()) | {"schema_version": 2}
    assert "schema 2, this one reads 1" in damage(asked, json.dumps(content))


def test_a_job_whose_name_has_changed_is_refused(asked: Planned) -> None:
    """As where the code has a new version of one of its stages."""
    made = submission(asked)
    last = made.jobs[-1].model_copy(update={"key": "0123456789abcdef"})
    changed = made.model_copy(update={"jobs": (*made.jobs[:-1], last)})
    with pytest.raises(UsageError, match=r"the code has changed.*submit it anew: x -y"):
        recall.jobs_of(changed, {last.key})


def test_an_array_knows_no_other_keys() -> None:
    with pytest.raises(ValueError, match="extra"):
        Array.model_validate(array("a", ["k"]).model_dump() | {"unknown": 1})
