"""Datasets downloaded through the command, from a server on this machine; no other is asked."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itmc.domains import fetch
from itmc.domains.catalog import dataset
from tests.itmc.domains.server import PAGE, Page, Server, dead_url
from tests.suites.conftest import REPOSITORY, Call
from tests.suites.pictures import fake

FIRST, LATER = "domain_adaptation_images.tar.gz", "OFFICE31.zip"
LOST = Page(status=404)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of other machines, none of which is resolved."""
    hosts: list[str] = []
    resolve = socket.getaddrinfo

    def refuse(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "127.0.0.1":
            return resolve(host, *arguments, **options)
        hosts.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    return hosts


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What sources of Office-31 and Office-Caltech have, by their names; the images are fake."""
    root = tmp_path_factory.mktemp("site")
    office31 = fake("office31", root / "office31", "{domain}/images/{group}")
    caltech = fake("office_caltech", root / "office-caltech", "{domain}/{group}")
    packed = {FIRST: office31, "office-caltech.tgz": caltech}
    packed |= {f"{name}.tgz": office31 / name for name in dataset("office31").domains}
    for name, folder in packed.items():
        with tarfile.open(root / name, "w:gz") as archive:
            archive.add(folder, folder.name)
    with zipfile.ZipFile(root / "image_list.zip", "w") as lists:
        lists.writestr("image_list/readme.md", "no lists")
    return {name: (root / name).read_bytes() for name in [*packed, "image_list.zip"]}


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[Server]:
    """A mirror at ``/`` with all but the second and the last source of Office-31."""
    with Server().running() as server:
        for name in ("office31.tar.gz", LATER):
            server.serve(f"/{name}", LOST)
        for name, content in files.items():
            server.serve(f"/{name}", Page(content))
        yield server


def url(server: Server, path: str = "/") -> str:
    """Address of a folder of ``server``."""
    return server.serve(path, LOST)


def requests(server: Server, name: str) -> list[str | None]:
    """The Range headers of the requests for a file."""
    return [ranges for path, ranges in server.requests if path == f"/{name}"]


def test_archives_without_a_checksum_are_taken_where_the_one_that_has_it_is_another(
    data: Call, server: Server, home: Path, files: dict[str, bytes]
) -> None:
    answer = data("prepare", "office31", "--domains", "A,W", "--mirror", url(server))
    assert answer.code == 0
    assert "office31/amazon: 31 images in " in answer.out
    expected = dataset("office31").sources[0].files[0].checksum
    assert f"{FIRST} does not come from {url(server)}{FIRST}: wrong checksum: expected {expected}, "
    assert f"wrong checksum: expected {expected}, found sha1:" in answer.err
    assert "source 1 of 4 of office31 gives nothing" in answer.err
    assert requests(server, "dslr.tgz") == []  # nobody asked for it
    assert {path.name for path in (home / "office31").iterdir()} <= {".lock", "amazon", "webcam"}


def test_what_is_prepared_is_not_downloaded_again(data: Call, server: Server) -> None:
    ask = ("prepare", "office_caltech", "--mirror", url(server))
    assert data(*ask).code == 0
    count = len(server.requests)
    again = data(*ask)
    assert again.code == 0 and "preparing" not in again.err and len(server.requests) == count


def test_a_mirror_that_has_it_all_spares_the_official_address(
    data: Call, server: Server, asked: list[str]
) -> None:
    assert data("prepare", "office_caltech", "--mirror", url(server)).code == 0
    assert asked == []


def test_of_one_archive_all_domains_are_prepared_at_once(data: Call, server: Server) -> None:
    """The archive is not kept."""
    assert data("prepare", "office_caltech", "--domains", "D", "--mirror", url(server)).code == 0
    answer = data("prepare", "office_caltech")
    assert answer.code == 0 and "preparing" not in answer.err and len(server.requests) == 1


def test_a_download_that_is_cut_goes_on_where_it_was(
    data: Call, server: Server, files: dict[str, bytes]
) -> None:
    content = files["office-caltech.tgz"]
    server.serve("/office-caltech.tgz", Page(content, cut=5000), Page(content))
    assert data("prepare", "office_caltech", "--mirror", url(server)).code == 0
    assert requests(server, "office-caltech.tgz") == [None, "bytes=5000-"]


def test_the_next_command_goes_on_where_a_download_was_given_up(
    data: Call, server: Server, files: dict[str, bytes]
) -> None:
    content = files["office-caltech.tgz"]
    server.serve("/office-caltech.tgz", Page(content, cut=1000))
    ask = ("prepare", "office_caltech", "--mirror", url(server))
    answer = data(*ask)
    assert answer.code == 2 and "the connection was cut, at attempt 3 of 3" in answer.err
    server.serve("/office-caltech.tgz", Page(content))
    assert data(*ask).code == 0
    assert requests(server, "office-caltech.tgz")[-1] == "bytes=3000-"


def test_a_dead_mirror_is_said_and_the_next_is_asked(data: Call, server: Server) -> None:
    dead = dead_url()
    answer = data("prepare", "office_caltech", "--mirror", dead, "--mirror", url(server))
    assert answer.code == 0
    said = f"office-caltech.tgz does not come from {dead}/office-caltech.tgz: no connection (Conn"
    assert said in answer.err


@pytest.mark.parametrize(
    ("page", "why"), [(LOST, "HTTP 404"), (Page(PAGE), "a web page came instead of the file")]
)
def test_where_nothing_answers_it_is_said_what_to_get_and_the_command(
    page: Page, why: str, data: Call, server: Server, home: Path, asked: list[str]
) -> None:
    server.serve("/office-caltech.tgz", page)
    answer = data("prepare", "office_caltech", "--mirror", url(server))
    assert answer.code == 2 and answer.out == ""
    lines = answer.err.strip().splitlines()
    assert f"{url(server)}office-caltech.tgz: {why}" in lines[0]
    assert "https://cloud.tsinghua.edu.cn/f/eea518fa781a41d1b20e/?dl=1: no connection" in lines[1]
    assert lines[-1] == (
        "suites.data: none of the 1 sources of office_caltech gave it; get Office-Caltech (amazon, "
        "caltech, dslr, webcam) from https://github.com/jindongwang/transferlearning/tree/master/"
        "data#office-caltech10; its files are office-caltech.tgz; then hand over the folder or "
        "archive: python -m suites.data prepare office_caltech --from PATH"
    )
    assert set(asked) == {"cloud.tsinghua.edu.cn"}
    assert not list(home.rglob("manifest.json"))


@pytest.mark.parametrize("content", [b"no archive at all", b"\x1f\x8b\x08 cut off"])
def test_an_archive_of_no_use_is_refused_and_not_kept(
    content: bytes, data: Call, server: Server, home: Path, files: dict[str, bytes]
) -> None:
    server.serve("/office-caltech.tgz", Page(content))
    ask = ("prepare", "office_caltech", "--mirror", url(server))
    answer = data(*ask)
    assert answer.code == 2 and "what was downloaded is of no use: " in answer.err
    server.serve("/office-caltech.tgz", Page(files["office-caltech.tgz"]))
    assert data(*ask).code == 0


def test_ctrl_c_in_a_download_leaves_what_came_for_the_next_time(
    data: Call, server: Server, home: Path, files: dict[str, bytes]
) -> None:
    content = files["office-caltech.tgz"] + bytes(1 << 19)  # which unpackers pass over
    server.serve("/office-caltech.tgz", Page(content, stall=300_000), Page(content))
    ask = ["prepare", "office_caltech", "--mirror", url(server)]
    process = subprocess.Popen(
        [sys.executable, "-m", "suites.data", *ask], cwd=REPOSITORY, env=dict(os.environ),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stalled.wait(60)
    part = home / "office_caltech/.downloads/source-0/office-caltech.tgz.part"
    while not part.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "stopped; the same command takes up where it stopped\n"
    left = part.stat().st_size
    assert left > 0 and data(*ask).code == 0
    assert requests(server, "office-caltech.tgz") == [None, f"bytes={left}-"]


def test_list_has_no_trace_of_what_only_began(data: Call, server: Server) -> None:
    server.serve("/office-caltech.tgz", LOST)
    data("prepare", "office_caltech", "--mirror", url(server))
    answer = data("list")
    assert answer.code == 0
    assert len(re.findall("office_caltech/[a-z]+ .* not prepared", answer.out)) == 4
