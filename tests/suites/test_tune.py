"""``python -m suites.tune``: equal effort, no target label, and a choice that can be run."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from itmc.domains.prepare import prepare
from suites import tune
from suites.config import SUITES, load_suite
from suites.folders import record_failure
from tests.suites.conftest import Answer
from tests.suites.pictures import collection

TUNING = {
    "tasks": ["hand->print"],
    "compression": [0.5],
    "seeds": [3],
    "criterion": "entropy",
    "trials": 2,
    "grids": {"kd": {"alpha": [0.5, 0.9]}, "dan": {"weight": [0.0, 5.0]}},
}
Call = Callable[..., Answer]


def suite_file(folder: Path, **changes: Any) -> Path:
    """The digits for seconds, with these changes of its section on tuning."""
    content = yaml.safe_load((SUITES / "digits.yaml").read_text())
    content["training"] |= {"epochs": 1, "pretrain_epochs": 1, "steps_per_epoch": 3}
    content["tasks"] = ["hand->scene"]
    content["tuning"] = TUNING | changes
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        code = tune.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def tuned(call: Call, tmp_path: Path) -> tuple[Path, Answer]:
    """The out folder of a finished tuning, and what it said."""
    out = tmp_path / "out"
    return out, call(suite_file(tmp_path), "--out", out)


def last_scores(out: Path) -> dict[str, float]:
    """The criterion after the last epoch, by method and the value that its trial has."""
    found = {}
    for path in out.glob("*/record.json"):
        method = json.loads(path.read_text())["method"]
        value = method["knobs"]["alpha" if method["name"] == "kd" else "weight"]
        last = (path.parent / "progress.jsonl").read_text().splitlines()[-1]
        found[f"{method['name']} {value}"] = json.loads(last)["scores"]["entropy"]
    return found


def test_the_best_by_the_criterion_is_chosen_and_written_as_a_suite(
    tuned: tuple[Path, Answer],
) -> None:
    out, answer = tuned
    assert answer.code == 0, answer.err
    scores = last_scores(out)
    assert set(scores) == {"kd 0.5", "kd 0.9", "dan 0.0", "dan 5.0"}
    methods = load_suite(str(out / "tuned.yaml"), {}).methods
    for name, key, values in (("kd", "alpha", (0.5, 0.9)), ("dan", "weight", (0.0, 5.0))):
        assert methods[name][key] == max(values, key=lambda value: scores[f"{name} {value}"])
    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["dan", "dan", "kd", "kd"]
    for row in rows:
        (value,) = json.loads(row["values"]).values()
        assert float(row["entropy"]) == pytest.approx(scores[f"{row['method']} {value}"], abs=1e-4)
    assert [row["chosen"] for row in rows].count("*") == 2


def test_target_accuracy_neither_decides_nor_shows(
    tuned: tuple[Path, Answer], call: Call, tmp_path: Path
) -> None:
    out, first = tuned
    before = (out / "tuned.yaml").read_bytes(), (out / "trials.csv").read_bytes()
    for path in out.rglob("progress.jsonl"):
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        for entry in entries:
            entry["accuracy"] = "not to be read"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for path in out.glob("*/record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"accuracy": "not to be read"}))
    again = call(suite_file(tmp_path), "--out", out)
    assert again.code == 0, again.err
    assert before == ((out / "tuned.yaml").read_bytes(), (out / "trials.csv").read_bytes())
    assert "on target" not in first.err + first.out


def test_a_part_of_the_methods_loses_nothing_of_the_others(
    tuned: tuple[Path, Answer], call: Call, tmp_path: Path
) -> None:
    out, _ = tuned
    before = (out / "tuned.yaml").read_bytes(), (out / "trials.csv").read_bytes()
    assert call(suite_file(tmp_path), "--methods", "dan", "--out", out).code == 0
    assert before == ((out / "tuned.yaml").read_bytes(), (out / "trials.csv").read_bytes())
    # Of a grid that is not done nothing is chosen, unless a trial of it has failed.
    gone = next(path.parent for path in out.glob("*/record.json") if "alpha" in path.read_text())
    (gone / "record.json").unlink()
    assert "kd" not in call(suite_file(tmp_path), "--methods", "dan", "--out", out).out
    record_failure(gone, "a trial", "reason")
    assert "kd" in call(suite_file(tmp_path), "--methods", "dan", "--out", out).out


def test_the_data_are_prepared_once(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return prepare(*arguments)

    monkeypatch.setattr("suites.plan.prepare", counted)
    assert call(suite_file(tmp_path), "--dry-run", "--out", tmp_path / "out").code == 0
    assert len(calls) == 1


def test_images_of_ones_own_are_found_from_the_tuned_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    suite = load_suite("mine", {"tuning": TUNING | {"tasks": ["a->b"]}})
    _, written = tune._write(suite, [], [], tmp_path / "out")
    again = load_suite(str(written), {})
    assert again.spec.domains.keys() == {"a", "b"} and again.spec.own == suite.spec.own


def test_a_trial_without_all_its_runs_is_not_chosen(
    tuned: tuple[Path, Answer], call: Call, tmp_path: Path
) -> None:
    out, _ = tuned
    best = max(("kd 0.5", "kd 0.9"), key=lambda key: last_scores(out)[key])
    other = ({"kd 0.5", "kd 0.9"} - {best}).pop()
    trials = {
        f"kd {json.loads(path.read_text())['method']['knobs'].get('alpha')}": path
        for path in out.glob("*/record.json")
    }
    suite = load_suite(str(suite_file(tmp_path)), {})
    trials[best].unlink()
    scores = {
        key: tune._score(trial, out, "entropy")
        for key, trial in zip(("kd 0.5", "kd 0.9"), kd_trials(suite, out), strict=True)
    }
    assert math.isnan(scores[best]) and not math.isnan(scores[other])


def kd_trials(suite: Any, out: Path) -> list[tune.Trial]:
    from itmc.domains.progress import Silent
    from itmc.domains.store import default_store
    from itmc.training.method import method
    from suites.config import Places

    return tune._trials(
        suite, [method("kd")], Places(out=out, data=default_store() / "digits"), Silent()
    )


@given(st.lists(st.floats(-5, 5) | st.just(math.nan), max_size=6))
def test_best_is_the_first_of_the_highest(scores: list[float]) -> None:
    found = tune.best(scores)
    usable = [score for score in scores if not math.isnan(score)]
    if not usable:
        assert found is None
    else:
        assert found == scores.index(max(usable))


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"trials": 3}, (), "the grid of kd has 2 points; all have 3"),
        ({"tasks": ["hand->scene"]}, (), "reports hand->scene"),
        ({"criterion": "oracle"}, (), "tuning.criterion = 'oracle'"),
        ({"grids": {"kd": {"speed": [1, 2]}}}, (), "kd has no hyper-parameter 'speed'"),
        ({}, ("--methods", "itmc"), "no grid for itmc; the suite has grids for: kd, dan"),
        ({}, ("--set", "tcp.weight=2"), "tcp"),
        ({}, ("--set", "kd.alpha=0.3"), "alpha is in the grid of kd"),
        ({"tasks": []}, (), "tuning.tasks = []: at least one"),
        ({"seeds": [-1]}, (), "-1 is negative"),
        ({"compression": [1.5]}, (), "1.5 is outside [0, 1)"),
        ({"criterion": "dev"}, ("--set", "data.source_holdout=0"), "source held out"),
    ],
)
def test_wrong_usage_is_one_line(
    call: Call, tmp_path: Path, changes: dict[str, Any], options: tuple[str, ...], said: str
) -> None:
    answer = call(suite_file(tmp_path, **changes), *options, "--dry-run")
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("suites.tune: ") and said in line


def test_a_suite_without_a_protocol_is_refused(call: Call) -> None:
    answer = call("office31", "--dry-run")
    assert answer.code == 2 and "'office31' has no section 'tuning'" in answer.err


def test_the_protocol_of_the_digits_is_the_same_for_all() -> None:
    """And whatever is tuned there is what the suite then sets, from the grid."""
    from itmc.training.method import methods

    suite = load_suite("digits", {})
    assert suite.tuning is not None
    tunable = {
        name for name, known in methods().items()
        if known.group != "ablations" and known.Knobs.model_fields
    }  # fmt: skip
    assert set(suite.tuning.grids) == tunable
    assert not set(suite.tuning.tasks) & set(suite.tasks)
    for name, grid in suite.tuning.grids.items():
        for key, values in grid.items():
            assert suite.methods[name][key] in values
