"""The images of datasets through the command: taken from the user, listed, verified, stopped."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itmc.domains import archives, write
from itmc.domains.catalog import dataset
from tests.shared import at_hand
from tests.suites.conftest import REPOSITORY, Answer, Call
from tests.suites.pictures import fake

SLOW = """
import sys, time
from itmc.domains import contents, write
from suites.data import main
write._SHARD = 4 * 256 * 256 * 3
def slow(*arguments, decode=contents.decode):
    time.sleep(0.05)
    return decode(*arguments)
contents.decode = slow
sys.exit(main(sys.argv[1:]))
"""
"""The command with four images a file, and slow enough to be stopped in the midst of it."""


@pytest.fixture(scope="module")
def office31(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Office-31's official layout; tests leave it as it is."""
    return fake("office31", tmp_path_factory.mktemp("fake") / "office31", "{domain}/images/{group}")


@pytest.fixture(scope="module")
def caltech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Office-Caltech, the smallest; tests leave it as it is."""
    return fake("office_caltech", tmp_path_factory.mktemp("fake") / "c10", "{domain}/{group}")


def pixels(home: Path, name: str) -> bytes:
    return (home / name / "pixels.npy").read_bytes()


def in_one_line(answer: Answer) -> str:
    """The message of a command that was refused."""
    assert answer.code == 2 and answer.out == ""
    lines = answer.err.strip().splitlines()
    assert [line for line in lines if not line.startswith("preparing ")] == lines[-1:]
    assert lines[-1].startswith("suites.data: ")
    return lines[-1]


def test_an_incomplete_copy_is_prepared_with_warnings_that_name_what_is_missing(
    data: Call, office31: Path
) -> None:
    answer = data("prepare", "office31", "--from", office31)
    assert answer.code == 0
    assert "office31/amazon: 31 images in " in answer.out
    missing = "warning: office31/amazon: 2786 official images are missing: back_pack/frame_0002.jpg"
    assert missing in answer.err
    altered = "warning: office31/dslr: 31 images are not as published: back_pack/frame_0001.jpg"
    assert altered in answer.err


def test_list_shows_what_is_there_with_its_gaps_and_what_is_not(data: Call, office31: Path) -> None:
    data("prepare", "office31", "--from", office31, "--domains", "W")
    answer = data("list")
    assert answer.code == 0
    assert re.search("office31/webcam +W +31 +6.1 +arrays +764 official images are", answer.out)
    assert re.search("office31/amazon +A +2817 +not prepared", answer.out)


@pytest.mark.parametrize("kind", ["gztar", "zip", "xztar"])
def test_an_archive_gives_the_same_images_as_the_folder(
    kind: str, data: Call, home: Path, office31: Path, tmp_path: Path
) -> None:
    archive = shutil.make_archive(str(tmp_path / "a"), kind, office31.parent, office31.name)
    data("prepare", "office31", "--from", office31, "--domains", "dslr")
    expected = pixels(home, "office31/dslr")
    shutil.rmtree(home)
    assert data("prepare", "office31", "--from", archive, "--domains", "dslr").code == 0
    assert pixels(home, "office31/dslr") == expected
    assert {path.name for path in (home / "office31").iterdir()} <= {".lock", "dslr"}


def test_a_folder_of_archives_one_for_each_domain_is_taken(
    data: Call, home: Path, office31: Path, tmp_path: Path
) -> None:
    for domain in dataset("office31").domains:
        with tarfile.open(tmp_path / f"{domain}.tgz", "w:gz") as archive:
            archive.add(office31 / domain, domain)
    assert data("prepare", "office31", "--from", tmp_path).code == 0
    assert {path.name for path in (home / "office31").iterdir()} >= {"amazon", "dslr", "webcam"}
    again = data("prepare", "office31", "--from", tmp_path)
    assert again.code == 0 and "preparing" not in again.err and "are missing" in again.err


def test_office_home_may_write_real_world_with_a_blank(
    data: Call, home: Path, tmp_path: Path
) -> None:
    root = fake("office_home", tmp_path / "OfficeHome", "{domain}/{group}", "{:05d}.jpg")
    (root / "Real_World").rename(root / "Real World")
    answer = data("prepare", "office_home", "--from", root, "--domains", "Rw")
    assert answer.code == 0 and "office_home/Real_World: 65 images in " in answer.out


def test_lists_tell_the_classes_of_images_in_one_folder(
    data: Call, home: Path, tmp_path: Path
) -> None:
    """As ImageCLEF-DA comes, where a list alone knows the class."""
    lines = []
    (tmp_path / "clef" / "p").mkdir(parents=True)
    for label in range(12):
        Image.new("RGB", (16, 16), (label, 0, 0)).save(tmp_path / "clef" / "p" / f"{label}.png")
        lines.append(f"p/{label}.png {11 - label}")
    (tmp_path / "clef" / "pList.txt").write_text("\n".join(lines))
    answer = data("prepare", "image_clef", "--from", tmp_path / "clef", "--domains", "P")
    assert answer.code == 0 and "it has 12 images, 600 are official" in answer.err
    files = (home / "image_clef/pascal/files.txt").read_text().splitlines()
    assert files[0].endswith("  p/11.png") and files[11].endswith("  p/0.png")


def test_what_is_prepared_from_a_changed_folder_is_prepared_anew(
    data: Call, home: Path, caltech: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(caltech, tmp_path / "mine")
    ask = ("prepare", "office_caltech", "--from", mine, "--domains", "D,W")
    assert data(*ask).code == 0
    before = pixels(home, "office_caltech/dslr")
    Image.new("RGB", (16, 16)).save(mine / "dslr" / "mug" / "frame_0001.jpg")
    answer = data(*ask)
    assert "preparing office_caltech/dslr" in answer.err
    assert "preparing office_caltech/webcam" not in answer.err
    assert pixels(home, "office_caltech/dslr") != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["office31", "--from", "nowhere"], "'nowhere' does not exist; give a folder or an arch"),
        (["office31", "--from", "README.md"], "'README.md' is no archive that can be read"),
        (["office31", "--from", "suites"], "'suites' has no images of office31/amazon; expected"),
        (["office31", "--from", "suites"], "deep; it has none of dslr, webcam either"),
        (["office31", "--from", "suites", "--mirror", "http://127.0.0.1"], "'suites' is taken, so"),
        (["office31", "--domains", "A,Q"], "office31 has no domain 'Q'; allowed: amazon (A), dslr"),
        (["office31", "--domains", ","], "--domains ',' names none; allowed: amazon, dslr, webcam"),
        (["nowhere"], "unknown dataset 'nowhere'; allowed: classic_digits, digits, domainnet"),
        (["digits", "--from", "suites"], "--from 'suites': digits needs no other images"),
        (["digits", "--store", "jpeg"], "digits has no image files to keep; leave out --store"),
        (["digits", "--mirror", "http://127.0.0.1/"], "digits makes its images; leave it out"),
        (["image_clef", "--mirror", "http://127.0.0.1/"], "has no files that could be downloaded"),
        (["office31", "--mirror", "mirror.org"], "--mirror 'mirror.org' is no address; give that"),
        (["image_clef"], "image_clef has no address to download from; get ImageCLEF-DA (imagenet,"),
        ([], "the following arguments are required: dataset"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    arguments: list[str], said: str, data: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert said in in_one_line(data("prepare", *arguments))


def test_an_image_store_that_cannot_be_written_is_told(
    data: Call, office31: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ITMC_STORE", str(tmp_path / "file" / "store"))
    said = in_one_line(data("prepare", "office31", "--from", office31))
    assert "file/store' cannot be written" in said and "set ITMC_STORE to a folder that" in said


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


ATTACKS = {
    "'../out.jpg' has a path with '..'": member("../out.jpg"),
    "'a/out.jpg' is a link to": member("a/out.jpg", tarfile.SYMTYPE, "/etc/passwd"),
    "'a/null' is no plain file": member("a/null", tarfile.CHRTYPE),
    "'/out.jpg' has an absolute path": member("/out.jpg"),
    "seems to be a bomb: at member 'zeros.jpg'": member("zeros.jpg"),
}


@pytest.mark.parametrize("said", ATTACKS)
def test_an_archive_that_would_do_harm_is_refused_whole(
    said: str, data: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM", 1 << 20)
    info = ATTACKS[said]
    info.size = 2 << 20 if info.name == "zeros.jpg" else 0
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as archive:
        archive.addfile(member("amazon/mug/1.jpg"))
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    before = sorted(tmp_path.iterdir())
    assert said in in_one_line(data("prepare", "office31", "--from", tmp_path / "bad.tgz"))
    assert sorted(path for path in tmp_path.iterdir() if path != home) == before
    assert [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"] in (
        [], [home / "office31" / ".lock"]
    )  # fmt: skip


def test_verify_of_unaltered_images_says_how_many(data: Call, caltech: Path) -> None:
    data("prepare", "office_caltech", "--from", caltech, "--domains", "D,W")
    answer = data("verify")
    assert answer.code == 0
    for domain in ("dslr", "webcam"):
        assert f"office_caltech/{domain}: 10 images as prepared\n" in answer.out


@pytest.mark.parametrize("kind", ["arrays", "jpeg"])
def test_verify_names_the_image_that_was_altered(
    kind: str, data: Call, home: Path, caltech: Path
) -> None:
    data("prepare", "office_caltech", "--from", caltech, "--domains", "D,W", "--store", kind)
    stored = next(home.glob("office_caltech/dslr/*-00000.*"))
    content = bytearray(stored.read_bytes())
    content[-100] ^= 255  # in the last image
    stored.write_bytes(content)
    for asked in ([], ["office_caltech"]):
        answer = data("verify", *asked)
        assert answer.code == 1
        assert "image 'dslr/projector/frame_0001.jpg' was altered" in answer.out
        assert "office_caltech/webcam: 10 images as prepared" in answer.out


def test_verify_of_what_is_not_prepared_says_how_to(data: Call) -> None:
    said = "office31 is not prepared; python -m suites.data prepare office31 does it"
    assert said in in_one_line(data("verify", "office31"))


def test_verify_of_an_empty_store_says_that_it_is(data: Call, home: Path) -> None:
    answer = data("verify")
    assert answer.code == 0 and answer.out == f"nothing is prepared in {home}\n"


@pytest.fixture
def slow(home: Path, caltech: Path) -> Iterator[subprocess.Popen[str]]:
    """A slow preparation in a process of its own that has begun and will not be done soon."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "prepare", "office_caltech", "--from", str(caltech)],
        cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(home.glob("office_caltech/.preparing-*/images-00000.npy.npz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    yield process
    process.kill()
    process.communicate()


def whole_files(home: Path) -> set[int]:
    """The files with images, by what is theirs alone, that are finished."""
    return {
        path.stat().st_ino
        for path in home.rglob("images-*.npy")
        if path.with_name(f"{path.name}.npz").exists() or (path.parent / "manifest.json").exists()
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_preparation_that_was_stopped_is_taken_up(
    how: signal.Signals, slow: subprocess.Popen[str], data: Call, home: Path, caltech: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    slow.send_signal(how)
    _, said = slow.communicate(timeout=60)
    if how == signal.SIGINT:
        assert slow.returncode == 130
        assert said.endswith("stopped; the same command takes up where it stopped\n")
        assert "Traceback" not in said
    finished = whole_files(home)
    assert finished
    monkeypatch.setattr(write, "_SHARD", 4 * 256 * 256 * 3)
    answer = data("prepare", "office_caltech", "--from", caltech)
    assert answer.code == 0
    assert finished < whole_files(home)
    assert not list(home.glob("office_caltech/.preparing-*"))
    assert data("verify").code == 0


def test_of_two_processes_one_waits_and_takes_what_the_other_made(
    slow: subprocess.Popen[str], data: Call, caltech: Path
) -> None:
    answer = data("prepare", "office_caltech", "--from", caltech)
    assert slow.wait(60) == 0 and answer.code == 0
    said, *gaps = answer.err.splitlines()
    assert said == "another process prepares office_caltech; waiting for it"
    assert [line.split(":")[0] for line in gaps] == ["warning"] * 4


@pytest.mark.shared
def test_all_of_office31_is_official_and_an_altered_image_of_it_is_named(
    data: Call, home: Path, tmp_path: Path
) -> None:
    copy, original = tmp_path / "office31", at_hand("data/office31")
    for path in original.glob("*/**/*.jpg"):
        place = copy / path.relative_to(original)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    answer = data("prepare", "office31", "--from", copy)
    assert answer.code == 0 and "warning" not in answer.err
    counts = [int(count) for count in re.findall(": ([0-9]+) images in", answer.out)]
    assert counts == [2817, 498, 795]
    for name in dataset("office31").domains:
        assert set(np.load(home / "office31" / name / "labels.npy")) == set(range(31))
    mug = next(copy.glob("dslr/**/mug/frame_0003.jpg"))
    content = mug.read_bytes()
    mug.unlink()
    mug.write_bytes(content + b"\0")  # the same pixels
    answer = data("prepare", "office31", "--from", copy, "--domains", "D")
    assert "warning: office31/dslr: 1 images are not as published: mug/frame_0003.jpg" in answer.err


@pytest.mark.shared
def test_mnist_and_usps_are_taken_from_their_official_files(data: Call, home: Path) -> None:
    answer = data("prepare", "classic_digits", "--domains", "M,U", "--from", at_hand("data/digits"))
    assert answer.code == 0 and "warning" not in answer.err
    assert [int(n) for n in re.findall(": ([0-9]+) images in", answer.out)] == [70000, 9298]
    for name, count in {"mnist": 10000, "usps": 2007}.items():
        assert np.load(home / "classic_digits" / name / "tested.npy").sum() == count
