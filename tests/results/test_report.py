"""The report as a file: what it says without a browser, and what it never does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from results.page import build
from results.page.build import page_data
from results.page.data import PageData
from results.page.facts import facts
from results.page.render import json_text
from results.page.summary import summary
from results.records import read
from results.report import main
from tests.results.factory import TASKS, record, write

HOSTILE = "</script><script>alert(1)</script>"


def grid(**changed: Any) -> list[dict[str, Any]]:
    """ITMC, two baselines and a reference on two tasks with two seeds; the second is better."""
    accuracies = {"source_only": 50.0, "itmc": 80.0, "kd": 77.0, "tcp": 81.5}
    return [
        record(
            method,
            task,
            seed=seed,
            compression=0.0 if method == "source_only" else 0.5,
            accuracy=accuracy + seed,
            **changed,
        )
        for method, accuracy in accuracies.items()
        for task in TASKS[:2]
        for seed in range(2)
    ]


def report(out: Path, *made: dict[str, Any], arguments: tuple[str, ...] = ()) -> str:
    """The page of these records."""
    runs = write(out / "runs", *made)
    assert main([str(runs), "--out", str(out / "page"), *arguments]) == 0
    return (out / "page" / "index.html").read_text(encoding="utf-8")


def data(out: Path, *made: dict[str, Any]) -> PageData:
    """The data of the page of these records."""
    return page_data(read([write(out, *made)]), None, "overall")


def embedded(page: str) -> Any:
    """What the page's scripts read."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def text_of(page: str) -> str:
    """What a reader without JavaScript sees, on one line."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = 0
            self.words: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.hidden += tag in ("script", "style", "title")

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag in ("script", "style", "title")

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                self.words += data.split()

    reader = Reader()
    reader.feed(page)
    return " ".join(reader.words)


def plan(out: Path, name: str, *made: dict[str, Any], written: str = "2026-11-22") -> None:
    """A plan that asks for these runs."""
    shared = {key: made[0][key] for key in ("suite", "protocol", "network")}
    content = {
        "schema": 1,
        "command": ["python", "-m", "suites.run", "digits"],
        "written": written,
        "shared": {**shared, "dataset": made[0]["dataset"]},
        "methods": {one["method"]["name"]: {"method": one["method"]} for one in made},
        "tasks": {one["task"]["name"]: {"task": one["task"]} for one in made},
        "runs": [
            {
                "run": one["run"],
                "config": one["run"],
                "method": one["method"]["name"],
                "task": one["task"]["name"],
                "seed": one["seed"],
                "compression": one["compression"]["asked"],
            }
            for one in made
        ],
    }
    (out / "plans").mkdir(parents=True, exist_ok=True)
    (out / "plans" / f"{name}.json").write_text(json.dumps(content))


def test_the_command_writes_one_page_and_prints_its_path(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", *grid())
    out = tmp_path / "new" / "page"
    command = [sys.executable, "-m", "results.report", str(runs), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{out / 'index.html'}\n"
    assert [path.name for path in out.iterdir()] == ["index.html"]


def test_the_same_records_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    made = grid()
    first = report(tmp_path / "a", *made)
    assert first == report(tmp_path / "b", *reversed(made))
    assert str(tmp_path) not in first


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    page = report(tmp_path, *grid())
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert not re.findall(
        r"url\(|@import|\bimport\b.*\bfrom\b|fetch\(|https?://(?!www\.w3\.org/2000/svg)", page
    )
    assert "default-src &#39;none&#39;" in page
    assert not re.findall(r"\son[a-z]+=[\"']", page)


def test_the_summary_names_best_second_and_the_place_of_itmc(tmp_path: Path) -> None:
    (of_setting,) = summary(data(tmp_path, *grid()))
    (lead,) = of_setting.leads
    assert lead.compression == "50 % of MACs to be removed"
    assert (lead.best.label, lead.best.accuracy) == ("tcp", "82.0 ± 0.7 (n = 2)")
    assert lead.second is not None and lead.second.label == "ITMC"
    assert (lead.lead, lead.place) == ("1.5", "2 of 3")
    page = text_of(report(tmp_path / "page", *grid()))
    assert "tcp 82.0 ± 0.7 (n = 2) ITMC 80.5 ± 0.7 (n = 2) 1.5 ITMC" in page
    assert "ITMC is a reconstruction" in page and "finished 16" in page


def test_accuracies_that_print_alike_share_a_place(tmp_path: Path) -> None:
    made = [
        record(method, TASKS[0], accuracy=accuracy)
        for method, accuracy in (("itmc", 80.01), ("kd", 80.04), ("tcp", 70.0))
    ]
    (lead,) = summary(data(tmp_path, *made))[0].leads
    assert lead.place == "1 of 3" and lead.lead == "0.0"


def test_a_setting_without_any_average_says_so(tmp_path: Path) -> None:
    made = [record("itmc", TASKS[0], seed=0), record("kd", TASKS[1], seed=0)]
    assert "No average yet" in report(tmp_path, *made)


def test_each_number_leads_to_just_the_runs_behind_it(tmp_path: Path) -> None:
    made = grid()
    shown = data(tmp_path, *made)
    for entry in shown.entries:
        runs = [shown.runs[place] for place in entry.runs]
        tasks = set(TASKS[:2]) if entry.task == "average" else {entry.task}
        assert {(run.task, run.seed) for run in runs} == {
            (task, seed) for task in tasks for seed in entry.seeds
        }
        name = shown.methods[entry.method].name
        assert {shown.texts[run.command] for run in runs} == {
            f"python -m suites.run digits --methods {name} --seeds {seed}" for seed in entry.seeds
        }


def test_averages_of_two_settings_with_equal_accuracies_keep_their_own_runs(
    tmp_path: Path,
) -> None:
    other = {"backbone": "resnet50", "weights": "none", "bottleneck": 64}
    shown = data(tmp_path, *grid(), *grid(network=other))
    backbones = [setting.backbone for setting in shown.settings]
    assert sorted(backbones) == ["digits_convnet", "resnet50"]
    behind = [set(entry.runs) for entry in shown.entries if entry.task == "average"]
    assert len(behind) == 8
    assert sum(map(len, behind)) == len(set.union(*behind)) == 32


def test_averages_over_two_versions_of_the_data_keep_their_own_runs(tmp_path: Path) -> None:
    older = [record("itmc", task, accuracy=60.0) for task in TASKS[:2]]
    newer = [
        record("itmc", task, accuracy=70.0, dataset={"name": "digits", "digest": "sha256:1"})
        for task in TASKS[:2]
    ]
    shown = data(tmp_path, *older, *newer)
    newest, other = (setting.title for setting in shown.settings)
    assert other == f"{newest}, data of 1 version ago"
    runs = {entry.mean: set(entry.runs) for entry in shown.entries if entry.task == "average"}
    assert set(runs) == {60.0, 70.0} and not runs[60.0] & runs[70.0]


def test_rows_stand_best_first_within_setting_compression_and_task(tmp_path: Path) -> None:
    shown = data(tmp_path, *grid())
    averages = [entry for entry in shown.entries if entry.task == "average"]
    assert [shown.methods[entry.method].name for entry in averages] == [
        *("source_only", "tcp", "itmc", "kd"),
    ]


def test_what_is_not_a_number_is_null_in_the_page(tmp_path: Path) -> None:
    content = embedded(report(tmp_path, record(seed=3)))
    entries = content["entries"]
    (average, _) = entries["rows"]
    assert average[entries["columns"].index("sd")] is None
    assert average[entries["columns"].index("seeds")] == [3]


def test_curves_have_accuracy_events_and_stages(tmp_path: Path) -> None:
    (curve,) = data(tmp_path, record(accuracy=80.0)).curves
    assert curve.accuracy == (60.0, 68.0, 74.0, 71.0, 76.0, 80.0)
    assert curve.events == (3, 4)
    assert curve.starts == (("adapt", 0), ("itmc", 3))


def test_a_record_without_history_has_no_curve(tmp_path: Path) -> None:
    assert data(tmp_path, record(history=None)).curves == ()


def test_curves_of_whole_methods_are_left_out_where_room_is_short_and_itmc_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MOST_CURVES", 9)
    shown = data(tmp_path, *grid())
    named = {shown.texts[shown.runs[curve.run].command].split()[5] for curve in shown.curves}
    assert named == {"itmc", "source_only"} and len(shown.curves) == 8
    assert shown.curves_left_out == 8
    assert "curves of 8 runs are not in this page" in report(tmp_path / "page", *grid())


def test_plans_count_what_is_finished_failed_unfinished_and_to_come(tmp_path: Path) -> None:
    finished, failed, started, waiting = made = [record(seed=seed) for seed in range(4)]
    runs = write(tmp_path, finished)
    plan(runs, "first", *made)
    for one in (failed, started):
        (runs / one["run"]).mkdir()
        (runs / one["run"] / "config.yaml").write_text("")
    reason = {"title": "itmc, seed 1", "reason": "OSError: disk <full>"}
    (runs / failed["run"] / "failure.json").write_text(json.dumps(reason))
    found = facts(read([runs]), (runs,))
    (state,) = found.plans
    assert [(part.state, part.count) for part in state.parts] == [
        *(("finished", 1), ("failed", 1), ("unfinished", 1), ("to come", 1)),
    ]
    assert [(part.start, part.width) for part in state.parts] == [
        *((0, 25), (25, 25), (50, 25), (75, 25)),
    ]
    page = report(tmp_path / "page", finished)
    assert "No plan stands beside the records" in page
    assert main([str(runs), "--out", str(tmp_path / "planned")]) == 0
    page = text_of((tmp_path / "planned" / "index.html").read_text())
    assert "1 finished 1 failed 1 unfinished 1 to come" in page
    assert f"{failed['run']} itmc, seed 1 OSError: disk <full>" in page
    assert waiting["run"] not in page


@pytest.mark.parametrize("content", ["", "[]", '{"reason": null}', "\x00", '{"reason": 3}'])
def test_a_failure_that_says_nothing_usable_is_still_listed(tmp_path: Path, content: str) -> None:
    runs = write(tmp_path, record())
    (runs / "broken").mkdir()
    (runs / "broken" / "failure.json").write_text(content)
    (failure,) = facts(read([runs]), (runs,)).failures
    assert failure.run == "broken" and failure.reason


def test_of_many_failures_the_first_are_listed_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results.page.facts.MOST_FAILURES", 2)
    for run in ("a", "b", "c"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "failure.json").write_text('{"reason": "why"}')
    page = text_of(report(tmp_path, record()))
    assert "failed 3" in page and "The first 2." in page and page.count("why") == 2


def test_left_out_records_are_listed_without_their_folder(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", record())
    (runs / "damaged").mkdir()
    (runs / "damaged" / "record.json").write_text("{")
    (line,) = facts(read([runs]), (runs,)).left_out
    assert line.startswith("damaged/record.json: not readable as JSON")
    assert str(tmp_path) not in report(tmp_path, record(seed=1))


def test_environments_are_told_apart_with_versions_and_dates(tmp_path: Path) -> None:
    environment = record()["environment"] | {"versions": {"torch": "2.6.0"}}
    other = environment | {"git_commit": "abc", "device": "NVIDIA H200", "core_version": None}
    made = [
        record(seed=0, environment=environment, finished="2026-11-20T10:00:00+00:00"),
        record(seed=1, environment=environment, finished="2026-11-22T10:00:00+00:00"),
        record(seed=2, environment=other),
    ]
    gpu, cpu = facts(read([write(tmp_path, *made)]), ()).environments
    assert (cpu.device, cpu.runs, cpu.code) == ("cpu", 2, "4")
    assert (cpu.first, cpu.last, cpu.versions) == ("2026-11-20", "2026-11-22", "torch 2.6.0")
    assert (gpu.device, gpu.commit, gpu.code) == ("NVIDIA H200", "abc", "not recorded")


def test_methods_that_share_a_citation_are_cited_once_with_all_names(tmp_path: Path) -> None:
    page = text_of(report(tmp_path, *grid()))
    assert "ITMC, kd, source only, tcp A paper." in page
    assert "commit 0" in page


def test_a_label_cannot_leave_its_place(tmp_path: Path) -> None:
    made = record()
    made["method"]["label"] = made["method"]["citation"] = HOSTILE
    page = report(tmp_path, made)
    assert HOSTILE not in page and page.count("<script") == 2
    assert HOSTILE in text_of(page)
    assert HOSTILE in embedded(page)["methods"]["rows"][0]


def test_json_in_the_page_has_no_markup_and_reads_back() -> None:
    value = {"<!--": ["</script>", "<script>", "\u2028", "ä"]}
    assert "<" not in json_text(value)
    assert json.loads(json_text(value)) == value


def test_a_name_with_half_a_character_does_not_keep_the_page_from_being_written(
    tmp_path: Path,
) -> None:
    failed = tmp_path / "runs" / "failed"
    failed.mkdir(parents=True)
    (failed / "failure.json").write_text(json.dumps({"title": "half \ud83d", "reason": "none"}))
    assert "half ?" in report(tmp_path, record())


def test_targets_without_labels_are_counted_beside_the_others(tmp_path: Path) -> None:
    page = text_of(report(tmp_path, record(), record(seed=1, labelled=False)))
    assert "1 run on targets without labels has no accuracies" in page
    assert "--by score" in page


def test_only_targets_without_labels_is_wrong_usage_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write(tmp_path / "runs", record(labelled=False))
    with pytest.raises(SystemExit) as ended:
        main([str(runs), "--out", str(tmp_path / "page")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no accuracies" in line
    assert not (tmp_path / "page").exists()


def test_a_selection_and_a_metric_may_be_chosen(tmp_path: Path) -> None:
    page = report(tmp_path, *grid(), arguments=("--select", "source_validation", "--mean-class"))
    assert "Every accuracy here is that of one selection: source validation." in text_of(page)
    content = embedded(page)
    assert content["metric"] == "target accuracy, mean over classes"
    means = {row[content["entries"]["columns"].index("mean")] for row in content["entries"]["rows"]}
    assert 79.5 in means  # ITMC: one below the overall accuracy, as the factory has it


def test_records_without_the_chosen_accuracy_leave_the_leaderboard_empty(tmp_path: Path) -> None:
    content = embedded(report(tmp_path, *grid(), arguments=("--select", "snd")))
    assert content["entries"]["rows"] == []
