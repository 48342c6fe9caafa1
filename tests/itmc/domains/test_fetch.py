"""Downloads: verified, resumed, from the next address where one fails, and never half there."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from itmc.domains import fetch as module
from itmc.domains.checksums import mismatch, parse_checksum
from itmc.domains.fetch import FetchError, File, fetch
from itmc.domains.progress import Said, Silent
from itmc.errors import UsageError
from tests.itmc.domains.server import (
    BAD,
    CASES,
    CHANGED,
    CONTENT,
    HALF,
    NAME,
    PAGE,
    REST,
    SCRIPT,
    SUM,
    Dying,
    Page,
    Server,
    dead_url,
    fail_once,
    visible,
    wanted,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server().running() as running:
        yield running


@pytest.mark.parametrize(
    "values",
    [
        *({"name": name} for name in ("a/b", "a\\b", "..", "")),
        *({"urls": (url,)} for url in ("ftp://a.org/a", "file:///etc/hosts", "http://", "a")),
        {"urls": ()},
        *({"checksum": f"sha256:{'0' * count}"} for count in (0, 63, 65)),
        *({"checksum": text} for text in ("0" * 64, "sha512:" + "0" * 128, "md5:" + "g" * 32)),
        {"mirror": "x"},
    ],
)
def test_a_file_that_is_described_wrongly_is_refused(values: dict[str, Any]) -> None:
    good = {"name": "a.zip", "urls": ("https://example.org/a.zip",), "checksum": None}
    File.model_validate(good)
    with pytest.raises(ValidationError):
        File.model_validate(good | values)


def test_a_checksum_may_be_written_in_capitals() -> None:
    assert wanted("http://a", checksum="MD5:" + "AB" * 16).checksum == "md5:" + "ab" * 16


def test_a_file_is_downloaded_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    path = fetch(wanted(server.serve("/f", Page(CONTENT))), tmp_path / "new" / "folder", Silent())
    assert path == tmp_path / "new" / "folder" / NAME
    assert path.read_bytes() == CONTENT
    assert visible(path.parent) == [NAME]


def test_it_is_asked_for_as_it_is(server: Server, tmp_path: Path) -> None:
    fetch(wanted(server.serve("/f", Page(CONTENT))), tmp_path, Silent())
    assert server.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("checksum", [SUM, None])
def test_a_file_that_is_there_is_not_downloaded_again(
    checksum: str | None, server: Server, tmp_path: Path
) -> None:
    file = wanted(server.serve("/f", Page(CONTENT)), checksum=checksum)
    fetch(file, tmp_path, Silent())
    assert fetch(file, tmp_path, Silent()).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_wrong_file_that_is_there_is_said_and_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"other")
    said = Said()
    path = fetch(wanted(server.serve("/f", Page(CONTENT))), tmp_path, said)
    assert path.read_bytes() == CONTENT
    assert len(said.lines) == 1 and "wrong checksum" in said.lines[0]


def test_a_wrong_file_stays_until_there_is_a_right_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"other")
    fail_once(server.serve("/f", Page(status=404)), tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"other"


def test_progress_goes_to_the_full_length(server: Server, tmp_path: Path) -> None:
    steps = []

    class Steps(Said):
        def step(self, what: str, done: int, total: int | None, unit: str) -> None:
            steps.append((what, done, total, unit))

    fetch(wanted(server.serve("/f", Page(CONTENT)), checksum=None), tmp_path, Steps())
    assert steps[0] == (f"downloading {NAME}", 0, len(CONTENT), "bytes")
    assert steps[-1] == (f"downloading {NAME}", len(CONTENT), len(CONTENT), "bytes")


def test_a_connection_closed_without_an_answer_is_tried_again(
    server: Server, tmp_path: Path
) -> None:
    url = server.serve("/f")
    server.pages["/f"] = Dying([Page(CONTENT)])
    assert fetch(wanted(url), tmp_path, Silent()).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_connection_that_is_always_cut_is_given_up_and_what_came_is_kept(
    server: Server, tmp_path: Path
) -> None:
    url = server.serve("/f", Page(CONTENT, cut=3000))
    with pytest.raises(FetchError, match="cut, at attempt 3 of 3"):
        fetch(wanted(url), tmp_path, Silent())
    assert server.ranges() == [None, "bytes=3000-", "bytes=6000-"]
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:9000]


def test_a_killed_process_leaves_a_part_that_is_resumed(server: Server, tmp_path: Path) -> None:
    large = CONTENT * 100
    checksum = f"sha1:{hashlib.sha1(large).hexdigest()}"
    url = server.serve("/f", Page(large, stall=600_000), Page(large))
    file, part = wanted(url, checksum=checksum), tmp_path / f"{NAME}.part"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, file.model_dump_json(), tmp_path])
    while process.poll() is None and not (part.exists() and part.stat().st_size >= 500_000):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    size = part.stat().st_size
    assert fetch(file, tmp_path, Silent()).read_bytes() == large
    assert server.ranges() == [None, f"bytes={size}-"]


def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
    large = CONTENT * 100
    checksum = f"sha256:{hashlib.sha256(large).hexdigest()}"

    class Impatient(Said):
        def step(self, what: str, done: int, total: int | None, unit: str) -> None:
            if done > 500_000:
                raise KeyboardInterrupt

    file = wanted(server.serve("/f", Page(large)), checksum=checksum)
    with pytest.raises(KeyboardInterrupt):
        fetch(file, tmp_path, Impatient())
    size = (tmp_path / f"{NAME}.part").stat().st_size
    assert size > 500_000
    assert fetch(file, tmp_path, Silent()).read_bytes() == large
    assert server.ranges() == [None, f"bytes={size}-"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("calls", [1, 2])
def test_a_cut_download_is_resumed_or_started_over(
    case: str, calls: int, server: Server, tmp_path: Path
) -> None:
    first, second, ranges, condition = CASES[case]
    url = server.serve("/f", first, second)
    if calls == 2:
        fail_once(url, tmp_path, checksum=None)
    path = fetch(wanted(url, checksum=None), tmp_path, said := Said())
    assert path.read_bytes() == CONTENT
    assert server.ranges() == ranges and said.lines == []
    assert server.headers[1].get("If-Range") == condition
    assert visible(tmp_path) == [NAME]


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"new"'},
        {"Content-Range": "bytes 4000-10239/10240"},
        {"Content-Range": "bytes 5000-10239/20480"},
        {"Content-Range": "bytes 5000-10000/10240"},
        {"Content-Range": "bytes 5000-10240/10240", "Content-Length": "5241"},
        {"Content-Range": "5000"},
        {"Content-Range": None},
    ],
    ids=str,
)
def test_a_partial_answer_that_does_not_fit_is_started_over(
    headers: dict[str, str | None], server: Server, tmp_path: Path
) -> None:
    url = server.serve(
        "/f", Page(CHANGED, cut=HALF), Page(CHANGED, headers=headers), Page(CONTENT)
    )  # fmt: skip
    assert fetch(wanted(url, checksum=None), tmp_path, Silent()).read_bytes() == CONTENT
    assert server.ranges() == [None, REST, None]


def test_a_rest_may_come_in_pieces(server: Server, tmp_path: Path) -> None:
    piece = Page(CONTENT[:8000], headers={"Content-Range": "bytes 5000-7999/10240"})
    url = server.serve("/f", Page(CONTENT, cut=HALF), piece, Page(CONTENT))
    assert fetch(wanted(url), tmp_path, Silent()).read_bytes() == CONTENT
    assert server.ranges() == [None, REST, "bytes=8000-"]


def test_a_part_without_a_readable_note_is_started_over(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(CHANGED, cut=HALF), Page(CONTENT))
    fail_once(url, tmp_path)
    (tmp_path / f"{NAME}.part.json").write_text('{"url": ')
    assert fetch(wanted(url), tmp_path, Silent()).read_bytes() == CONTENT
    assert server.ranges() == [None, None]


def test_a_part_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    fail_once(server.serve("/old", Page(CHANGED, cut=HALF)), tmp_path)
    new = wanted(server.serve("/new", Page(CONTENT)))
    assert fetch(new, tmp_path, Silent()).read_bytes() == CONTENT
    assert server.requests[-1] == ("/new", None)


def test_the_address_of_the_part_is_tried_first(server: Server, tmp_path: Path) -> None:
    second = server.serve("/second", Page(CONTENT, cut=HALF), Page(CONTENT))
    fail_once(second, tmp_path)
    fetch(wanted(server.serve("/first", Page(CONTENT)), second), tmp_path, Silent())
    assert server.requests[1:] == [("/second", REST)]


def test_a_part_that_is_whole_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(CONTENT, cut=HALF))
    fail_once(url, tmp_path)
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert fetch(wanted(url), tmp_path, Silent()).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_without_a_length_the_file_ends_with_the_connection(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(CONTENT, headers={"Content-Length": None}))
    assert fetch(wanted(url), tmp_path, Silent()).read_bytes() == CONTENT


def test_an_announced_length_that_never_comes_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(CONTENT, ranges=False, headers={"Content-Length": "20480"}))
    fail_once(url, tmp_path, checksum=None)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(("reason", "bad"), BAD)
def test_a_bad_address_is_said_and_the_next_one_is_taken(
    reason: str, bad: Page, server: Server, tmp_path: Path
) -> None:
    said = Said()
    file = wanted(server.serve("/bad", bad), server.serve("/good", Page(CONTENT)))
    assert fetch(file, tmp_path, said).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/bad", "/good"]
    assert len(said.lines) == 1 and reason in said.lines[0] and "/bad" in said.lines[0]


@pytest.mark.parametrize("kind", ["closed port", "unknown name"])
def test_an_address_that_does_not_answer_is_passed_over(
    kind: str, server: Server, tmp_path: Path
) -> None:
    said = Said()
    url = dead_url() if kind == "closed port" else "http://no-such-host.invalid/file"
    file = wanted(url, server.serve("/good", Page(CONTENT)))
    assert fetch(file, tmp_path, said).read_bytes() == CONTENT
    assert len(said.lines) == 1 and "no connection" in said.lines[0]


def test_a_server_that_says_nothing_is_passed_over(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.1)
    said = Said()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never answers
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        file = wanted(mute, server.serve("/good", Page(CONTENT)))
        assert fetch(file, tmp_path, said).read_bytes() == CONTENT
    assert len(said.lines) == 1 and "no answer within" in said.lines[0]


def test_a_page_does_not_cost_the_part(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(CONTENT, cut=HALF), Page(PAGE, ranges=False), Page(CONTENT))
    fail_once(url, tmp_path)
    fail_once(url, tmp_path)
    fetch(wanted(url), tmp_path, Silent())
    assert server.ranges() == [None, REST, REST]


def test_a_file_that_is_a_page_by_name_may_be_one(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(PAGE, headers={"Content-Type": "text/html"}))
    file = wanted(url, checksum=None, name="index.html")
    assert fetch(file, tmp_path, Silent()).read_bytes() == PAGE


def test_a_gzip_file_may_be_announced_as_gzip_encoded(server: Server, tmp_path: Path) -> None:
    url = server.serve("/f", Page(CONTENT, headers={"Content-Encoding": "x-gzip"}))
    assert fetch(wanted(url, name="a.tar.gz"), tmp_path, Silent()).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    fail_once(server.serve("/f", Page(CHANGED)), tmp_path)
    assert visible(tmp_path) == []


def test_when_all_fail_each_reason_is_given(server: Server, tmp_path: Path) -> None:
    urls = server.serve("/a", Page(status=404)), server.serve("/b", Page(PAGE))
    with pytest.raises(FetchError) as caught:
        fetch(wanted(*urls), tmp_path, Silent())
    reasons = caught.value.reasons
    assert [reason.partition(": ")[0] for reason in reasons] == list(urls)
    assert all(reason in str(caught.value) for reason in reasons)
    assert "\n" not in str(caught.value) and str(tmp_path / NAME) in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).reasons == reasons


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"


def test_a_full_disk_ends_the_call_and_not_the_part(server: Server, tmp_path: Path) -> None:
    file = wanted(server.serve("/a", Page(CONTENT)), server.serve("/b", Page(CONTENT)))
    command = [sys.executable, "-c", LIMITED + SCRIPT, file.model_dump_json(), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    free = shutil.disk_usage(tmp_path).free
    assert f"{NAME!r} does not fit into {str(tmp_path)!r}" in done.stdout
    assert free == 0 or "bytes are free" in done.stdout
    assert server.requests == [("/a", None)]
    assert fetch(file, tmp_path, Silent()).read_bytes() == CONTENT
    assert server.ranges()[1] == "bytes=4096-"


def test_a_folder_that_cannot_be_one_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="choose a folder that can be written"):
        fetch(wanted("http://a"), tmp_path / "taken" / "below", Silent())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_each_way_to_be_full_says_what_is_free(code: int, tmp_path: Path) -> None:
    error = module.unwritable("x", tmp_path / "not" / "there", OSError(code, os.strerror(code)))
    assert "bytes are free" in str(error) and os.strerror(code) in str(error)


def test_the_second_of_two_waits_and_finds_the_file(server: Server, tmp_path: Path) -> None:
    file = wanted(server.serve("/f", Page(CONTENT, stall=HALF)))
    first = threading.Thread(target=fetch, args=(file, tmp_path, Silent()))
    first.start()
    assert server.stalled.wait(10)

    class Second(Said):
        def say(self, text: str) -> None:
            super().say(text)
            server.go.set()  # the first one may go on

    said = Second()
    assert fetch(file, tmp_path, said).read_bytes() == CONTENT
    first.join()
    assert said.lines == [f"another process downloads {NAME}; waiting for it"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_each_kind_of_checksum_is_verified(algorithm: str, tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(CONTENT)
    right = hashlib.new(algorithm, CONTENT).hexdigest()
    wrong = hashlib.new(algorithm, CHANGED).hexdigest()
    assert mismatch(path, f"{algorithm}:{right.upper()}", Silent()) is None
    assert mismatch(path, None, Silent()) is None
    said = mismatch(path, f"{algorithm}:{wrong}", Silent())
    assert said == f"wrong checksum: expected {algorithm}:{wrong}, found {algorithm}:{right}"


def test_an_unknown_kind_of_checksum_is_refused() -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse_checksum("crc32:00000000")
