"""Files from the web: whole and verified under their name, or not there at all.

A download lives in ``<name>.part`` beside its place, with ``<name>.part.json`` about where it
comes from, so that a cut connection or a killed process costs only what was not written yet.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError, field_validator

from itmc.config import Frozen
from itmc.domains.checksums import mismatch, parse_checksum
from itmc.domains.folders import alone, unwritable
from itmc.domains.progress import Progress
from itmc.errors import UsageError, first_line
from itmc.files import write_atomic

if TYPE_CHECKING:
    import requests

# The client is imported where something is downloaded, as most commands download nothing.

PAUSE = 1.0  # seconds before the first resumption, doubled for each further one
CONNECT_SECONDS, READ_SECONDS = 20, 60
_CHUNK = 1 << 18
_HEAD = 512  # bytes at the beginning in which a web page shows itself


class File(Frozen):
    """A file to download."""

    name: str
    """File name it is stored under, without folders."""
    urls: tuple[str, ...]
    """Addresses (http or https), tried in turn."""
    checksum: str | None
    """``sha256:<hex>``, ``sha1:<hex>`` or ``md5:<hex>`` of the content; None if not known."""
    domain: str | None = None
    """The domain it is for; None for all."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"{name!r} is no file name; give one without / and \\, and not ..")
        return name

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("no address is given; give at least one http or https address")
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ValueError(f"{url!r} is no address; give one with http:// or https://")
        return urls

    @field_validator("checksum")
    @classmethod
    def _is_a_checksum(cls, checksum: str | None) -> str | None:
        return None if checksum is None else ":".join(parse_checksum(checksum))


class FetchError(UsageError):
    """No address gave the file; ``reasons`` has ``<url>: <reason>`` for each."""

    def __init__(self, text: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.reasons = reasons


def fetch(file: File, folder: Path, progress: Progress, attempts: int = 3) -> Path:
    """Download ``file`` into ``folder`` unless it is there already; returns its path.

    Each address gets ``attempts`` connections, which resume one another where the server lets
    them. A file that is there is trusted if its checksum is right, or if there is none to check.
    Raises FetchError when no address gives the file, and UsageError for a folder that is full or
    cannot be written.
    """
    target = folder / file.name
    try:
        if target.is_file() and mismatch(target, file.checksum, progress) is None:
            return target  # before the lock, for a folder that can only be read
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / f".{file.name}.lock"
        with alone(lock, f"another process downloads {file.name}", progress):
            if target.is_file():
                if (wrong := mismatch(target, file.checksum, progress)) is None:
                    return target
                progress.say(f"{str(target)!r} has a {wrong}; downloading it anew")
            _Download(file, folder, progress).run(attempts)
            return target
    except OSError as error:
        raise unwritable(file.name, folder, error) from error


class _Note(Frozen):
    """What is known about the file of which there is a part."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag, else the date."""
        weak = self.etag is None or self.etag.startswith("W/")
        return self.modified if weak else self.etag

    def contradicted(self, response: requests.Response) -> bool:
        """Whether ``response`` is about another version of the file."""
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        if self.etag and etag:
            return self.etag != etag
        return bool(self.modified and modified and self.modified != modified)


class _Cut(Exception):  # noqa: N818 - it never leaves this file
    """The connection ended too early: try again."""


class _Refused(Exception):  # noqa: N818 - it never leaves this file
    """This address does not give the file."""


class _Download:
    """One file on its way into its folder, whose lock is held."""

    def __init__(self, file: File, folder: Path, progress: Progress) -> None:
        self.file, self.progress = file, progress
        self.target = folder / file.name
        self.part = folder / f"{file.name}.part"
        self.note = folder / f"{file.name}.part.json"

    def run(self, attempts: int) -> None:
        reasons: list[str] = []
        started = note.url if (note := self._read_note()) else None
        # What is there of one address would be lost by starting with another.
        for url in sorted(self.file.urls, key=lambda url: url != started):
            try:
                return self._from(url, attempts)
            except _Refused as refusal:
                reasons.append(f"{url}: {refusal}")
                self.progress.say(f"{self.file.name} does not come from {reasons[-1]}")
        raise FetchError(
            f"{self.file.name} cannot be downloaded ({'; '.join(reasons)}); try again later, or "
            f"put the file at {str(self.target)!r} yourself",
            tuple(reasons),
        )

    def _from(self, url: str, attempts: int) -> None:
        for attempt in itertools.count(1):
            try:
                self._transfer(url)
                break
            except _Cut as cut:
                if attempt >= attempts:
                    raise _Refused(f"{cut}, at attempt {attempt} of {attempts}") from cut
                time.sleep(PAUSE * 2 ** (attempt - 1))
        self._finish()

    def _transfer(self, url: str) -> None:
        """Bring the part to its full length, from where it is or from the start."""
        note, size = self._resumable(url)
        if note and size == note.total:
            return
        with self._ask(url, note, size) as response:
            if response.status_code == 200:
                self._start(response, url)
                return
            if note is None or response.status_code not in (206, 416):
                raise _Refused(f"HTTP {response.status_code} {response.reason}")
            fits = self._continue(response, note, size)
        if not fits:  # the part is of another version of the file, or the server is confused
            self._discard()
            self._transfer(url)

    def _continue(self, response: requests.Response, note: _Note, size: int) -> bool:
        """Write what the part lacks; false if this answer does not fit to the part."""
        if response.status_code == 416:
            return _has_all(response, note, size)
        if end := _continued_end(response, note, size):
            self._append(_chunks(response), size, end)
        return end is not None

    def _resumable(self, url: str) -> tuple[_Note | None, int]:
        """The note and the length of a part that can be continued from ``url``."""
        note = self._read_note()
        size = self.part.stat().st_size if self.part.exists() else 0
        if note is None or note.url != url or not size:
            return None, 0
        comparable = note.etag or note.modified or note.total is not None
        return (note, size) if comparable else (None, 0)

    def _read_note(self) -> _Note | None:
        try:
            return _Note.model_validate_json(self.note.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _ask(self, url: str, note: _Note | None, size: int) -> requests.Response:
        import requests
        import urllib3

        headers = {"Accept-Encoding": "identity", "User-Agent": "itmc-bench"}
        if note:
            headers["Range"] = f"bytes={size}-"
            if validator := note.validator():
                headers["If-Range"] = validator
        seconds = (CONNECT_SECONDS, READ_SECONDS)
        try:
            return requests.get(url, headers=headers, stream=True, timeout=seconds)
        except requests.ConnectTimeout as error:
            raise _Refused(f"no connection within {CONNECT_SECONDS} s") from error
        except requests.Timeout as error:
            raise _Refused(f"no answer within {READ_SECONDS} s") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            cause = error.args[0] if error.args else None
            if isinstance(cause, urllib3.exceptions.ProtocolError):
                raise _Cut("the connection was closed without an answer") from error
            below = getattr(getattr(cause, "reason", None), "__cause__", None)
            if isinstance(below, OSError):
                raise _Refused(f"no connection ({below.strerror or below})") from error
            raise _Refused(first_line(error)) from error

    def _start(self, response: requests.Response, url: str) -> None:
        """Write the whole file anew; what there was is dropped once it is clear that this is it."""
        self._refuse_encoded(response)
        length = response.headers.get("Content-Length", "")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
        total = int(length) if re.fullmatch("[0-9]+", length) and not chunked else None
        chunks, head = _chunks(response), b""
        while len(head) < _HEAD and (chunk := next(chunks, b"")):
            head += chunk
        self._refuse_page(response, head)
        self._discard()
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        note = _Note(url=url, etag=etag, modified=modified, total=total)
        write_atomic(self.note, note.model_dump_json().encode())
        self._append(itertools.chain([head], chunks), 0, total)

    def _append(self, chunks: Iterator[bytes], done: int, total: int | None) -> None:
        what = f"downloading {self.file.name}"
        with self.part.open("ab") as part:
            self.progress.step(what, done, total, "bytes")
            for chunk in chunks:
                part.write(chunk)
                done += len(chunk)
                self.progress.step(what, done, total, "bytes")
            part.flush()
            os.fsync(part.fileno())
        if total is not None and done < total:
            raise _Cut("the connection was cut")

    def _finish(self) -> None:
        if wrong := mismatch(self.part, self.file.checksum, self.progress):
            self._discard()
            raise _Refused(wrong)
        os.replace(self.part, self.target)
        self.note.unlink(missing_ok=True)

    def _discard(self) -> None:
        self.note.unlink(missing_ok=True)  # first: a part without a note is never continued
        self.part.unlink(missing_ok=True)

    def _refuse_page(self, response: requests.Response, head: bytes) -> None:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        page = kind == "text/html" or start.startswith((b"<!doctype html", b"<html"))
        if page and not self.file.name.lower().endswith((".html", ".htm")):
            raise _Refused("a web page came instead of the file")

    def _refuse_encoded(self, response: requests.Response) -> None:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding in ("gzip", "x-gzip") and self.file.name.endswith((".gz", ".tgz")):
            return  # some servers announce so what the file is by itself
        if encoding != "identity":
            raise _Refused(f"it came encoded ({encoding}), though asked for as it is")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    import urllib3

    try:
        yield from response.raw.stream(_CHUNK, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise _Cut("the connection was cut") from error


def _continued_end(response: requests.Response, note: _Note, size: int) -> int | None:
    """The full length (bytes) if this partial answer goes on where the part ends, else None."""
    content = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)", content.strip().lower())
    if not found or int(found[1]) != size or note.contradicted(response):
        return None
    last, total = int(found[2]), None if found[3] == "*" else int(found[3])
    end = note.total or total or last + 1
    if last >= end or total not in (None, end):
        return None
    if response.headers.get("Content-Length") not in (None, str(last + 1 - size)):
        return None
    named = note.etag is not None and note.etag == response.headers.get("ETag")
    known = note.validator() or named or (total is not None and total == note.total)
    return end if known else None


def _has_all(response: requests.Response, note: _Note, size: int) -> bool:
    """Whether an answer that the range cannot be had says that the part is the whole."""
    content = response.headers.get("Content-Range", "").strip().lower()
    return content == f"bytes */{size}" and not note.contradicted(response)
