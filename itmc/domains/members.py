"""What archives say of their members, read one by one; nothing of it is trusted here or later."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from itmc.errors import UsageError

NAME_MOST = 1024
_CHUNK = 1 << 16  # small, as a zip member in xz gives thousands of times what is read at once
_HEADER_MOST = 16 << 20  # bytes that the headers of one member may take
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
DAMAGE = (*_BROKEN, EOFError, ValueError, OverflowError, NotImplementedError)
"""What reading a damaged archive raises, besides OSError without a number."""

_MAGIC = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\0": "tar.xz",
}


def kind_of(path: Path) -> str | None:
    """The format by the content: a zip, or something with the header of a tar within."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise UsageError(
            f"archive {str(path)!r} cannot be read ({error.strerror}); give one that can"
        ) from error
    with raw:
        start = raw.read(8)
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "tar")
        raw.seek(0)
        try:
            if kind != "zip":
                head = _decoded(kind, raw).read(tarfile.BLOCKSIZE)
                tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except (OSError, *DAMAGE) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            return None
    return kind


def _decoded(kind: str, raw: IO[bytes]) -> IO[bytes]:
    if kind == "tar.gz":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if kind == "tar.bz2":
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if kind == "tar.xz" else raw


@dataclass(frozen=True)
class Member:
    """One member."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    open: Callable[[], IO[bytes]]
    target: str = ""
    """Of a link, from the root of the archive."""


def read_members(
    kind: str, raw: IO[bytes], archive: str, count: Callable[[int], None]
) -> Iterator[Member]:
    """The members of ``raw``, an archive of ``kind`` that messages call ``archive``.

    Each is to be read before the next is asked for. ``count`` is told how many bytes have come out
    of the decoder of a tar archive so far. Raises UsageError for an encrypted zip.
    """
    return _zip(raw, archive) if kind == "zip" else _tar(kind, raw, count)


def _zip(raw: IO[bytes], archive: str) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as file:
        for info in file.infolist():
            name = _zip_name(info)
            if info.flag_bits & 0x2041:  # any of the kinds of encryption
                raise UsageError(
                    f"archive {archive!r} is encrypted (member {name!r}); only archives without a "
                    "password are allowed; unpack it yourself and hand over the folder"
                )
            yield _zip_member(file, info, name)


def _tar(kind: str, raw: IO[bytes], count: Callable[[int], None]) -> Iterator[Member]:
    with _decoded(kind, raw) as decoded:
        stream = _Forward(decoded, count)
        tar = tarfile.TarFile(
            fileobj=stream, tarinfo=_Header, encoding="utf-8", errors="surrogateescape"
        )
        while (info := tar.next()) is not None:
            vars(tar)["members"].clear()  # it would keep them all, a kilobyte each
            yield _tar_member(tar, info)
        while stream.read(_CHUNK):  # to the end, where the checksums of the packer are
            pass


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name; macOS writes UTF-8 without saying so."""
    if not info.flag_bits & 0x800:
        try:
            return info.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return info.filename


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Member:
    def content() -> IO[bytes]:
        return file.open(info)

    mode = stat.S_IFMT(info.external_attr >> 16)
    if name.endswith("/") or mode == stat.S_IFDIR:
        return Member(name, "folder", content)
    if mode == stat.S_IFLNK:
        with content() as source:
            target = source.read(NAME_MOST + 1).decode("utf-8", "surrogateescape")
        return Member(name, "link", content, _from_root(name, target))
    return Member(name, "file" if mode in (0, stat.S_IFREG) else "other", content)


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def content() -> IO[bytes]:
        source = tar.extractfile(info)
        assert source is not None  # it is a plain file
        return source

    if info.issym():
        return Member(info.name, "link", content, _from_root(info.name, info.linkname))
    if info.islnk():
        return Member(info.name, "link", content, info.linkname)
    other: Literal["folder", "other"] = "folder" if info.isdir() else "other"
    return Member(info.name, "file" if info.isreg() else other, content)


def _from_root(name: str, target: str) -> str:
    """Where a symbolic link points, seen from the root of the archive."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


class _Header(tarfile.TarInfo):
    """A header that is wrong is an error; tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the mark at the end
            raise tarfile.ReadError(str(error)) from error


class _Forward(io.BufferedIOBase):
    """What comes out of a decoder, read only forward, each byte counted, little at once."""

    def __init__(self, source: IO[bytes], count: Callable[[int], None]) -> None:
        self._source, self._count, self._done = source, count, 0

    def seekable(self) -> bool:
        """It is, forward."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self._done

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer at the end."""
        if size is None or not 0 <= size <= _HEADER_MOST:
            raise tarfile.ReadError("a header is too large")
        data = self._source.read(size)
        self._done += len(data)
        self._count(self._done)
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Go forward to ``position``, or to the end of the archive."""
        if whence != os.SEEK_SET or position < self._done:
            raise tarfile.ReadError("the members are out of order")
        while self._done < position and self.read(min(_CHUNK, position - self._done)):
            pass
        return self._done
