"""A user's own images through the command: a folder, or a folder and a short YAML."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from results.table import main as table
from tests.suites.conftest import Answer
from tests.suites.pictures import collection

TINY = (
    "--backbone", "digits_convnet", "--weights", "none", "--image-size", "32", "--epochs", "1",
    "--compression", "0.5",
    *(f"--set={assignment}" for assignment in (
        "network.bottleneck=16", "data.normalise=half", "training.pretrain_epochs=1",
        "training.steps_per_epoch=2", "training.batch_size=8", "training.discriminator=16",
    )),
)  # fmt: skip
BOTH = ("--methods", "source_only,itmc")
MINE = """\
extends: own
dataset:
  path: ../images
  name: My things
  domains: {b: B, a: A}
  classes: [z, x]
compression: [0.5]
network: {backbone: digits_convnet, weights: none, bottleneck: 16}
data: {image_size: 32, normalise: half}
training: {epochs: 1, pretrain_epochs: 1, steps_per_epoch: 2, batch_size: 8, discriminator: 16}
"""
Train = Callable[..., Answer]


@pytest.fixture
def train(here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """The command with a store and an out directory of the test's own, on tiny settings."""
    monkeypatch.setenv("ITMC_STORE", str(tmp_path / "store"))

    def call(suite: object, *arguments: object) -> Answer:
        settings = () if str(suite).endswith(".yaml") else TINY
        return here(suite, *settings, "--out", tmp_path / "out", *BOTH, *arguments)

    return call


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))]


def refused(answer: Answer) -> str:
    """The message of a command that was refused: its last line, and no traceback before."""
    assert answer.code == 2 and answer.out == ""
    lines = answer.err.strip().splitlines()
    assert [line for line in lines if not line.startswith("preparing ")] == lines[-1:]
    return lines[-1]


def test_a_folder_is_trained_on_in_all_directions_and_the_table_printed(
    train: Train, tmp_path: Path
) -> None:
    answer = train(collection(tmp_path / "fruit"), "--methods", "source_only")
    assert answer.code == 0
    header = next(line for line in answer.out.splitlines() if "average" in line)
    assert header.split()[:2] == ["a->b", "b->a"] and answer.out.startswith("fruit: target acc")
    assert {path.suffix for path in (tmp_path / "out/summary").glob("table.*")} == {
        ".md", ".csv", ".tex", ".html"
    }  # fmt: skip
    assert len(records(tmp_path / "out")) == 2
    for record in records(tmp_path / "out"):
        assert record["dataset"]["classes"] == ["x", "y", "z"]
        assert record["dataset"]["images"] == {"a": 24, "b": 24}
        assert 0 <= record["accuracy"]["last"]["overall"] <= 100


def test_names_may_have_blanks_quotes_and_letters_of_any_script(
    train: Train, tmp_path: Path
) -> None:
    root = collection(
        tmp_path / "Моя коллекция", ("домен один", "été & co"), ("кот", 'zero "0"', "日本")
    )
    answer = train(root, "--tasks", "домен один->été & co")
    assert answer.code == 0 and "домен один->été & co" in answer.out
    with (tmp_path / "out/summary/table.csv").open(newline="", encoding="utf-8") as file:
        assert {row["task"] for row in csv.DictReader(file)} >= {"домен один->été & co"}
    [record, _] = records(tmp_path / "out")
    assert set(record["dataset"]["classes"]) == {"кот", 'zero "0"', "日本"}


def test_a_short_yaml_says_where_the_images_are_and_what_to_take(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is meant from where it lies, wherever the command is given."""
    collection(tmp_path / "images", ("a", "b", "raw"))
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path / "suites")
    answer = train("mine.yaml", "--tasks", "B->A")
    assert answer.code == 0
    assert "warning: My things/a: y left out: no class of My things" in answer.err
    record, _ = records(tmp_path / "out")
    assert record["suite"] == "mine" and record["dataset"]["name"] == "My things"
    assert record["task"]["name"] == "b->a" and record["dataset"]["classes"] == ["z", "x"]
    assert record["dataset"]["images"] == {"a": 16, "b": 16}


def test_a_target_without_labels_is_scored_without_accuracies(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = train(collection(tmp_path / "fruit", unlabelled=["b"]))  # all that can be sources
    assert answer.code == 0
    assert "no labels on target, InfoMax " in answer.err and "b->a" not in answer.err
    assert "No target here has labels: there are no tables or plots of accuracies." in answer.out
    assert "label-free scores of the last epoch on a->b" in answer.out
    written = {path.name for path in (tmp_path / "out/summary").iterdir()}
    assert written == {"scores.md", "scores.csv", "scores.tex", "scores.html"}
    for record in records(tmp_path / "out"):
        assert record["accuracy"]["last"] is None and record["accuracy"]["oracle"] is None
        assert set(record["accuracy"]["infomax"]) == {"epoch", "score"}
        assert set(record["scores"]) >= {"infomax", "entropy", "snd", "source_validation"}
    assert table([str(tmp_path / "out")]) == 0
    assert "label-free scores of the last epoch on a->b" in capfd.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        table([str(tmp_path / "out"), "--by", "task"])
    assert "no accuracies: the targets of 2 runs have no labels" in capfd.readouterr().err


def test_a_source_without_labels_is_refused(train: Train, tmp_path: Path) -> None:
    root = collection(tmp_path / "fruit", unlabelled=["b"])
    said = refused(train(root, "--tasks", "b->a"))
    assert "task b->a: b has no labels, so it can be a target only" in said


def test_the_protocol_paper_needs_labels_of_the_target(train: Train, tmp_path: Path) -> None:
    root = collection(tmp_path / "fruit", unlabelled=["b"])
    said = refused(train(root, "--tasks", "a->b", "--protocol", "paper"))
    assert "b has no labels, by which the protocol paper chooses the epoch" in said


def test_classes_that_differ_are_named(train: Train, tmp_path: Path) -> None:
    root = collection(tmp_path / "fruit")
    (root / "b" / "z").rename(root / "b" / "w")
    said = refused(train(root))
    assert "the domains have not the same classes: a lacks w; b lacks z" in said
    assert "(dataset: {path: ..., classes: [...]})" in said


def test_broken_images_are_all_named(train: Train, tmp_path: Path) -> None:
    root = collection(tmp_path / "fruit")
    (root / "a/x/0_1.jpg").write_bytes(b"")
    (root / "b/y/1_2.jpg").write_bytes((root / "b/y/1_2.jpg").read_bytes()[:300])
    said = refused(train(root))
    assert f"'{root}/a/x/0_1.jpg' is empty (0 bytes)" in said
    assert f"'{root}/b/y/1_2.jpg' (" in said
    (root / "a/x/0_1.jpg").unlink()
    (root / "b/y/1_2.jpg").unlink()
    assert train(root, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks", "a->c"], "fruit has no domain 'c'; allowed: a, b"),
        (["--tasks", "a->a"], "task 'a->a' goes from a domain to itself"),
        (["--tasks", "ab"], "task 'ab' is not written SOURCE->TARGET, such as 'a->b'"),
        (["--data-root", "/"], "--data-root '/': the suite has its own images; leave it out"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], said: str, train: Train, tmp_path: Path
) -> None:
    assert said in refused(train(collection(tmp_path / "fruit"), *arguments))
    assert not (tmp_path / "store").exists()  # before anything is prepared


@pytest.mark.parametrize(
    ("domains", "classes", "unlabelled", "said"),
    [
        ("", "", "", "at least two domains are needed, as <domain>/<class>/*"),
        ("a", "xyz", "", "(a); at least two domains are needed, as <domain>/<class>/*"),
        ("ab", "x", "", "at least two classes are needed"),
        ("ab", "xy", "ab", "no domain has labels: the source needs folders <domain>/<class>/*"),
    ],
)
def test_a_folder_of_another_layout_is_refused(
    domains: str, classes: str, unlabelled: str, said: str, train: Train, tmp_path: Path
) -> None:
    root = tmp_path / "fruit"
    root.mkdir()
    assert said in refused(train(collection(root, domains, classes, unlabelled)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{path: nowhere}", "nowhere' does not exist or is no folder"),
        ("{path: images, colour: 3}", "unknown key 'dataset.colour'; allowed: path, name, domains"),
        ("{path: images, domains: [a, q]}", "has neither a folder 'q' nor a list 'q.txt'"),
        ("{path: images, classes: [x, q]}", "lacks 1 of 2 classes: q"),
        ("{path: images, classes: [x, x]}", "a class is there twice"),
        ("{path: images, name: a/b}", "dataset.name = 'a/b': a name is not empty, has no slash"),
        ("{path: images, domains: {a: A, b: A}}", "two domains have one letter"),
        ("{path: images, stored_size: 4}", "dataset.stored_size = 4: "),
        ("{name: mine}", "the key 'dataset.path' is missing"),
    ],
)
def test_a_yaml_that_is_wrong_is_told_what_is(
    line: str, said: str, train: Train, tmp_path: Path
) -> None:
    collection(tmp_path / "images")
    (tmp_path / "mine.yaml").write_text(MINE.split("dataset:")[0] + f"dataset: {line}\n")
    assert said in refused(train(tmp_path / "mine.yaml", "--dry-run", *TINY))


def test_an_unchanged_folder_is_taken_up_and_a_changed_one_is_run_anew(
    train: Train, tmp_path: Path
) -> None:
    root = collection(tmp_path / "fruit")
    ask = (root, "--tasks", "a->b", "--methods", "source_only")
    assert train(*ask).code == 0
    again = train(*ask)
    assert "1 runs (1 finished already)" in again.err and "preparing" not in again.err
    (root / "b/z/2_7.jpg").unlink()
    changed = train(*ask)
    assert "preparing fruit/b, 23 images" in changed.err and "fruit/a" not in changed.err
    first, second = records(tmp_path / "out")
    assert {r["dataset"]["images"]["b"] for r in (first, second)} == {24, 23}
    assert first["dataset"]["digests"]["a"] == second["dataset"]["digests"]["a"]
    assert first["dataset"]["digests"]["b"] != second["dataset"]["digests"]["b"]


def test_kept_files_train_the_same_network_as_arrays_bit_for_bit(
    train: Train, tmp_path: Path
) -> None:
    root = collection(tmp_path / "fruit")
    for kind in ("arrays", "jpeg"):
        ask = (root, "--tasks", "a->b", "--methods", "source_only", "--store", kind)
        assert train(*ask).code == 0
        manifests = list((tmp_path / "store").glob("*/*/manifest.json"))
        assert [json.loads(path.read_text())["kind"] for path in manifests] == [kind, kind]
        shutil.move(tmp_path / "out", tmp_path / kind)
    [arrays, files] = (
        next((tmp_path / kind).glob("*/student.safetensors")) for kind in ("arrays", "jpeg")
    )
    assert arrays.parent.name == files.parent.name  # one run, whatever its images are kept as
    weights, others = load_file(arrays), load_file(files)
    assert weights.keys() == others.keys()
    assert all(weights[name].tobytes() == others[name].tobytes() for name in weights)
