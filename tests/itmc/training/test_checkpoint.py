"""Files of a training: whole or refused, with the checkpoint before the last one to go back to."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from itmc.errors import UsageError
from itmc.training import checkpoint
from itmc.training.checkpoint import (
    CHECKPOINT,
    FORMAT,
    PREVIOUS,
    PROGRESS,
    load_checkpoint,
    load_handover,
    progress_log,
    read_progress,
    remove_checkpoints,
    save_checkpoint,
    save_handover,
    write_progress,
)
from itmc.training.stage import Handover
from tests.itmc.training import tiny

FIRST: dict[str, Any] = {"stage": {"weight": torch.arange(64.0)}, "history": [], "epoch": {}}
SECOND: dict[str, Any] = {"stage": {"weight": torch.ones(64)}, "history": [{"n": 1}], "epoch": {}}


def is_same(found: dict[str, Any] | None, content: dict[str, Any]) -> bool:
    """Whether the checkpoint ``found`` holds ``content``, to the bit."""
    assert found is not None and found["format"] == FORMAT
    return found["history"] == content["history"] and torch.equal(
        found["stage"]["weight"], content["stage"]["weight"]
    )


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder where FIRST, and then SECOND was saved."""
    save_checkpoint(tmp_path, FIRST)
    save_checkpoint(tmp_path, SECOND)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_nothing_saved_is_nothing_to_say(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, pytest.fail) is None


def test_the_one_before_the_last_is_kept_and_both_are_removed(both: Path) -> None:
    assert is_same(load_checkpoint(both, pytest.fail), SECOND)
    assert names(both) == {CHECKPOINT, PREVIOUS}
    (both / CHECKPOINT).unlink()
    said: list[str] = []
    assert is_same(load_checkpoint(both, said.append), FIRST)
    assert said == [f"{both}: {CHECKPOINT} is missing; going on from {PREVIOUS}, the one before it"]
    save_checkpoint(both, SECOND)
    remove_checkpoints(both)
    assert names(both) == set()


def other_version() -> bytes:
    buffer = io.BytesIO()
    torch.save(SECOND | {"format": 2}, buffer)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "path": Path("code that would be run")}, buffer)
    return buffer.getvalue()


BAD = {
    "empty": (b"", "cut short"),
    "noise": (random.Random(0).randbytes(500), "cut short"),
    "version": (other_version(), f"it is of format 2, this version reads {FORMAT} only"),
    "code": (pickled(), "it is of another kind"),
    "cut": (other_version()[:-1], "cut short"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_checkpoint_is_refused_in_a_line_and_the_one_before_takes_its_place(
    kind: str, both: Path
) -> None:
    content, reason = BAD[kind]
    (both / CHECKPOINT).write_bytes(content)
    said: list[str] = []
    assert is_same(load_checkpoint(both, said.append), FIRST)
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith(f"{both}: {CHECKPOINT} is refused: ") and reason in said[0]
    assert said[0].endswith(f"; going on from {PREVIOUS}, the one before it")
    assert is_same(load_checkpoint(both, pytest.fail), FIRST)
    save_checkpoint(both, SECOND)  # killed while that was done, a whole one would have been there
    (both / CHECKPOINT).write_bytes(content)
    assert is_same(load_checkpoint(both, said.append), FIRST)


def test_where_both_are_damaged_it_says_so_and_starts_from_the_beginning(both: Path) -> None:
    (both / CHECKPOINT).write_bytes(other_version())
    (both / PREVIOUS).write_bytes(b"")
    said: list[str] = []
    assert load_checkpoint(both, said.append) is None
    assert len(said) == 1
    for part in (
        f"{CHECKPOINT} is refused: it is of format 2",
        f"{PREVIOUS} is refused",
        "starting",
    ):
        assert part in said[0]


def test_any_flipped_bit_and_any_cut_is_noticed_or_harmless(both: Path) -> None:
    """What torch itself takes for weights, for the most part."""
    path, draws = both / CHECKPOINT, random.Random(0)
    good = path.read_bytes()
    refused = 0
    for number in range(0, len(good), 3):
        bad = bytearray(good)
        bad[number] ^= 1 << draws.randrange(8)
        for content in (bytes(bad), good[:number]):
            path.write_bytes(content)
            try:
                assert is_same(checkpoint._checked(path), SECOND)
            except checkpoint._RefusedError:
                refused += 1
    assert refused > len(good) / 3  # each cut, and many bits


def test_a_file_that_cannot_be_read_is_an_error_and_costs_no_checkpoint(both: Path) -> None:
    (both / CHECKPOINT).unlink()
    (both / CHECKPOINT).mkdir()
    with pytest.raises(IsADirectoryError):
        load_checkpoint(both, pytest.fail)
    assert (both / PREVIOUS).exists()


@pytest.mark.parametrize("step", ["fsync", "chmod", "first rename", "second rename"])
def test_a_save_that_breaks_off_anywhere_leaves_a_whole_checkpoint(
    step: str, both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "replace" if "rename" in step else step
    original, calls = getattr(os, name), list[int]()

    def broken(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == (2 if step == "second rename" else 1):
            raise OSError("disk full")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, broken)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint(both, FIRST)
    assert is_same(load_checkpoint(both, lambda _: None), SECOND)
    assert names(both) <= {CHECKPOINT, PREVIOUS}


@pytest.fixture
def handed_over(tmp_path: Path) -> Path:
    """The folder of a finished stage."""
    context = tiny.context()
    handover = Handover(context.fresh_network(), {"weight": torch.arange(8.0)})
    save_handover(tmp_path, handover, context.network)
    return tmp_path


def test_a_finished_stage_is_loaded_as_it_was_saved(handed_over: Path) -> None:
    loaded = load_handover(handed_over, torch.device("cpu"))
    assert torch.equal(loaded.discrepancy["weight"], torch.arange(8.0))
    expected = tiny.context().fresh_network().state_dict()
    for name, tensor in loaded.network.state_dict().items():
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("name", ["discrepancy.pt", "student.safetensors", "student.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_finished_stage_that_is_damaged_is_refused_in_a_line(
    name: str, damage: str, handed_over: Path
) -> None:
    path = handed_over / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content if damage == "flipped" else content[:-20])
    if damage == "missing":
        path.unlink()
    with pytest.raises(UsageError, match=name) as caught:
        load_handover(handed_over, torch.device("cpu"))
    said = str(caught.value)
    assert str(handed_over) in said and "\n" not in said and "; " in said  # the remedy


EPOCHS = [{"epoch": 0, "losses": {"source_ce": 0.1}}, {"epoch": 1, "losses": {"source_ce": 1e-7}}]


def test_the_log_grows_by_a_line_an_epoch_and_begins_anew(tmp_path: Path) -> None:
    with progress_log(tmp_path, EPOCHS[:1]) as log:
        log(EPOCHS[1])
        assert read_progress(tmp_path) == EPOCHS  # at once, for those who watch
    with progress_log(tmp_path, EPOCHS[:1]) as log:
        assert read_progress(tmp_path) == EPOCHS[:1]
    lines = (tmp_path / PROGRESS).read_text().splitlines()
    assert [json.loads(line) for line in lines] == EPOCHS[:1]


def test_one_that_lost_the_folder_adds_nothing_to_the_log_of_the_other(tmp_path: Path) -> None:
    with progress_log(tmp_path, []) as lost, progress_log(tmp_path, EPOCHS[:1]) as log:
        lost(EPOCHS[0])
        log(EPOCHS[1])
        assert read_progress(tmp_path) == EPOCHS


def test_a_line_that_is_only_begun_is_left_out(tmp_path: Path) -> None:
    write_progress(tmp_path, EPOCHS)
    path = tmp_path / PROGRESS
    for cut in range(1, 20):
        path.write_bytes(path.read_bytes()[:-1])
        assert read_progress(tmp_path) == EPOCHS[:1], cut


@pytest.mark.parametrize(("content", "said"), [(None, "missing"), (b"{\n{}\n", "damaged")])
def test_a_log_that_is_no_log_is_refused_in_a_line(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / PROGRESS).write_bytes(content)
    with pytest.raises(UsageError, match=f"{PROGRESS} in .* is {said}"):
        read_progress(tmp_path)
