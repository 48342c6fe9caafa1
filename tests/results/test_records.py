"""Reading records: what is used, what is left out, and that it is said."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from results.records import ResultsError, read
from results.schema import SCHEMA
from tests.results.factory import SCORES, record, write


def test_one_row_a_run(tmp_path: Path) -> None:
    write(tmp_path, record(seed=0, accuracy=80.0), record(seed=1, accuracy=82.0))
    frame = read([tmp_path]).frame.set_index("seed")
    assert dict(frame["last.overall"]) == {0: 80.0, 1: 82.0}
    assert dict(frame["last.mean_class"]) == {0: 79.0, 1: 81.0}
    assert frame.loc[0, "student_macs"] == 1_800_000
    assert frame.loc[0, "compression"] == 0.5


def test_a_selection_that_was_not_made_is_missing(tmp_path: Path) -> None:
    write(tmp_path, record(), record(seed=1, accuracy=None), record(seed=2) | {"accuracy": None})
    frame = read([tmp_path]).frame.set_index("seed")
    assert frame.loc[0, "source_validation.overall"] == 80.0
    assert frame["entropy.overall"].isna().all()  # null in the record
    assert frame["dev.overall"].isna().all()  # not in the record
    assert frame.loc[[1, 2], "last.overall"].isna().all()


def _cut(made: dict[str, Any]) -> str:
    return json.dumps(made)[:-40]


def _without_seed(made: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in made.items() if key != "seed"})


def _seed_of_text(made: dict[str, Any]) -> str:
    return json.dumps(made | {"seed": "0"})


def _impossible_accuracy(made: dict[str, Any]) -> str:
    return json.dumps(made | {"accuracy": {"last": {"overall": 812.0}}})


def _infinite_accuracy(made: dict[str, Any]) -> str:
    return json.dumps(made | {"accuracy": {"last": {"overall": math.inf}}})


def _not_a_number(made: dict[str, Any]) -> str:
    return json.dumps(made | {"cost": {"student": {"macs": 10**400}}})


def _all_removed(made: dict[str, Any]) -> str:
    return json.dumps(made | {"compression": {"asked": 1.0}})


def _no_schema(made: dict[str, Any]) -> str:
    return json.dumps(made | {"schema": None})


def _list(made: dict[str, Any]) -> str:
    return json.dumps([made])


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (_cut, "JSON"),
        (_without_seed, "seed"),
        (_seed_of_text, "seed"),
        (_impossible_accuracy, "accuracy.last.overall"),
        (_infinite_accuracy, "accuracy.last.overall"),
        (_not_a_number, "cost.student.macs"),
        (_all_removed, "compression.asked"),
        (_no_schema, "schema"),
        (_list, "schema"),
    ],
)
def test_a_damaged_record_is_named_and_left_out(tmp_path: Path, damage: Any, word: str) -> None:
    broken = record(seed=1)
    write(tmp_path, record(seed=0), broken)
    (tmp_path / broken["run"] / "record.json").write_text(damage(broken))
    records = read([tmp_path])
    assert list(records.frame["seed"]) == [0]
    (line,) = records.left_out
    assert broken["run"] in line
    assert word in line
    assert "1 run left out" in records.gaps()


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    write(tmp_path, record(seed=0), broken := record(seed=1))
    (tmp_path / broken["run"] / "record.json").write_bytes(b"\xff\xfe\x00")
    assert len(read([tmp_path]).left_out) == 1


@pytest.mark.parametrize(
    ("where", "value", "word"),
    [
        ("command", 5, "command"),
        ("method.knobs", "x", "method.knobs"),
        ("method.knobs", [1], "method.knobs"),
        ("data", True, "data"),
        ("training", [], ""),  # empty is as none
        ("environment.versions", 3, "environment.versions"),
        ("compression.reached", 1e300, "compression.reached"),
        ("compression.reached", 1.5, "compression.reached"),
        ("compression.reached", -0.5, "compression.reached"),
        ("cost.student.macs", -5, "cost.student.macs"),
        ("cost.student.bytes", 1e30, "cost.student.bytes"),
        ("seed", 10**19, "seed"),
        ("method.name", "half \ud83d", "method.name"),
        ("task.name", "average", "task.name"),
        ("task.name", " \n", "task.name"),
        ("suite", 3, "suite"),
    ],
)
def test_a_field_that_cannot_be_right_is_damage_and_never_fatal(
    tmp_path: Path, where: str, value: object, word: str
) -> None:
    broken: dict[str, Any] = record(seed=1, data={}, training={})
    *parents, key = where.split(".")
    part = broken
    for parent in parents:
        part = part[parent]
    part[key] = value
    write(tmp_path, record(seed=0), broken)
    records = read([tmp_path])
    if not word:
        assert records.left_out == ()
        return
    (line,) = records.left_out
    assert f"record.json: {word}" in line
    assert "\n" not in line and line.isprintable()


def test_names_are_one_line_that_can_be_printed(tmp_path: Path) -> None:
    made = record()
    made["method"]["label"] = "a\nb\r\x1b[31m  c\u2028d"
    (label,) = read([write(tmp_path, made)]).frame["label"]
    assert label == "a b [31m c d"


def test_zero_has_no_sign(tmp_path: Path) -> None:
    made = record("dan", compression=-0.0, accuracy=-0.0)
    made["accuracy"] = {"last": {"overall": -0.0, "mean_class": 0.0}}
    (row,) = read([write(tmp_path, made)]).frame[["compression", "last.overall"]].values
    assert [math.copysign(1, value) for value in row] == [1, 1]


def test_what_cannot_be_looked_into_is_named_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, record(), closed := record(seed=1))
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if closed["run"] in path.parts:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    records = read([tmp_path])
    assert len(records.frame) == 1
    (line,) = records.left_out
    assert closed["run"] in line and "Permission denied" in line


def test_a_path_that_no_system_takes_is_wrong_usage_in_one_line() -> None:
    with pytest.raises(ResultsError) as raised:
        read([Path("x" * 5000)])
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("schema", [1, 2])
def test_an_older_record_is_read_as_what_it_was(tmp_path: Path, schema: int) -> None:
    old = record(seed=1, schema=schema, accuracy=71.0)
    for new in ("command", "history", *(["scores"] if schema == 1 else [])):
        del old[new]
    del old["method"]["unpruned"], old["compression"]["layers"]
    old["method"]["knobs"] = {"discrepancy": "jan"}
    write(tmp_path, record(seed=0), old)
    records = read([tmp_path])
    assert records.left_out == ()
    frame = records.frame.set_index("seed")
    assert frame.loc[1, "last.overall"] == 71.0
    assert frame.loc[1, "unpruned"] == "jan"
    assert frame.loc[1, "command"] == ""
    assert frame.isna().loc[1, "score.snd"] == (schema == 1)


def test_a_record_of_schema_3_was_trained_in_the_precision_of_its_environment(
    tmp_path: Path,
) -> None:
    """So it stands in one table with those that say it in their training, as they now do."""
    papers = {"mcc_temperature": 2.5, "mdd_margin": 4.0}
    new = record(seed=0, training={"epochs": 6, "precision": "fp32", **papers})
    write(tmp_path, new, record(seed=1, schema=3, training={"epochs": 6}))
    frame = read([tmp_path]).frame
    assert frame["conditions"].nunique() == 1
    assert '"precision": "fp32"' in frame["conditions"][0]


@pytest.mark.parametrize(
    ("name", "knobs", "said"),
    [
        ("mcc", {"weight": 1, "temperature": 1.5}, {"mcc_temperature": 1.5, "mdd_margin": 4.0}),
        ("mdd", {"weight": 1, "margin": 2.0}, {"mcc_temperature": 2.5, "mdd_margin": 2.0}),
        ("kd", {"temperature": 4.0}, {"mcc_temperature": 2.5, "mdd_margin": 4.0}),
    ],
)
def test_schema_4_had_what_a_discrepancy_depends_on_with_its_reference(
    tmp_path: Path, name: str, knobs: dict[str, Any], said: dict[str, float]
) -> None:
    """And the papers' values for all others; KD's temperature is another thing."""
    old = record(name, schema=4, training={"epochs": 6})
    old["method"]["knobs"] = knobs
    row = read([write(tmp_path, old)]).frame.iloc[0]
    assert json.loads(row["conditions"])["training"] == {"epochs": 6, **said}
    kept = {key: value for key, value in knobs.items() if name == "kd" or key == "weight"}
    assert json.loads(row["knobs"]) == kept


@pytest.mark.parametrize(
    ("name", "knobs", "compression", "unpruned"),
    [
        ("itmc", {"discrepancy": "mcc"}, 0.5, "mcc"),
        ("kd", {"teacher": "dan"}, 0.5, "dan"),
        ("cdan_student", {}, 0.5, "cdan"),
        ("mobileda", {"align": "coral"}, 0.5, ""),
        ("dan", {"discrepancy": "dan"}, 0.0, ""),
    ],
)
def test_what_a_student_of_schema_2_is_unpruned(
    tmp_path: Path, name: str, knobs: dict[str, Any], compression: float, unpruned: str
) -> None:
    old = record(name, schema=2, compression=compression)
    old["method"] |= {"knobs": knobs, "unpruned": "never said by schema 2"}
    assert list(read([write(tmp_path, old)]).frame["unpruned"]) == [unpruned]


def test_a_newer_schema_is_named_and_left_out_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, record(seed=0), record(seed=1, schema=SCHEMA + 1))
    records = read([tmp_path])
    assert list(records.frame["seed"]) == [0]
    (line,) = records.left_out
    assert f"schema {SCHEMA + 1}; this version reads up to schema {SCHEMA}: use the" in line


def test_where_no_record_can_be_read_the_error_says_why(tmp_path: Path) -> None:
    write(tmp_path, *(record(seed=seed, schema=SCHEMA + 1) for seed in (0, 1)))
    with pytest.raises(ResultsError, match=r"2 runs left out .*or a newer one") as raised:
        read([tmp_path])
    assert "\n" not in str(raised.value)


def test_scores_of_the_last_epoch_are_read_and_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, record(seed=0), record(seed=1, scores={"snd": 3.0}))
    frame = read([tmp_path]).frame.set_index("seed")
    assert {key: frame.loc[0, f"score.{key}"] for key in SCORES} == SCORES
    assert frame.loc[1, "score.snd"] == 3.0
    assert frame.isna().loc[1, "score.dev"]


def test_runs_without_target_labels_stand_apart(tmp_path: Path) -> None:
    write(tmp_path, record(seed=0), record(seed=1, labelled=False), record(seed=2, accuracy=None))
    records = read([tmp_path])
    # An accuracy that is missing is no target without labels.
    assert sorted(records.frame["seed"]) == [0, 2]
    assert list(records.unlabelled["seed"]) == [1]
    assert records.left_out == ()


def test_failed_and_unfinished_runs_are_counted(tmp_path: Path) -> None:
    finished = record()
    write(tmp_path, finished)
    # A record is the mark of a finished run, whatever an earlier attempt left behind.
    (tmp_path / finished["run"] / "failure.json").write_text("{}")
    for name, files in {"a": ["config.yaml", "failure.json"], "b": ["config.yaml"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    (tmp_path / "summary").mkdir()
    records = read([tmp_path])
    assert [path.name for path in records.failed] == ["a"]
    assert [path.name for path in records.unfinished] == ["b"]
    assert len(records.frame) == 1
    assert records.gaps() == "1 run failed, 1 run unfinished"


def test_several_directories_and_single_runs(tmp_path: Path) -> None:
    first, second = record(seed=0), record(seed=1)
    write(tmp_path / "a", first, second)
    write(tmp_path / "b", second)
    assert sorted(read([tmp_path / "a", tmp_path / "b"]).frame["seed"]) == [0, 1]
    assert list(read([tmp_path / "a" / first["run"]]).frame["seed"]) == [0]
    assert len(read([tmp_path / "a", tmp_path / "a" / first["run"]]).frame) == 2


def test_nothing_to_read_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="does not exist"):
        read([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="is not a directory"):
        read([tmp_path / "file"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "failure.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"no usable record under .*1 run failed"):
        read([tmp_path])
