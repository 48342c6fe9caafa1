"""Archives unpacked without trust: into one folder, whole or not at all, within limits.

Names, links, sizes and types come from whoever made the archive. Members are written by this
file only, as plain files and folders below a temporary folder that is renamed at the end.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from itmc.domains.folders import alone, unwritable
from itmc.domains.members import DAMAGE, NAME_MOST, Member, kind_of, read_members
from itmc.domains.progress import Progress
from itmc.errors import UsageError, first_line

RATIO_FROM = 256 << 20  # bytes: what is smaller may be as compressible as it likes
_CHUNK = 1 << 16  # small, as a zip member in xz gives thousands of times what is read at once
_DEPTH_MOST = 64
_FORMATS = "zip, tar, tar.gz, tar.bz2 and tar.xz"
_DO = "download it again, or unpack it yourself and hand over the folder"
_NAME_TROUBLE = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)


@dataclass(frozen=True)
class Limits:
    """What an archive may become; beyond it is taken for a bomb."""

    files: int = 2_000_000
    """Members, folders included."""
    total_bytes: int = 512 << 30
    """Bytes of all members."""
    ratio: int = 200
    """Unpacked bytes over packed bytes, looked at beyond 256 MiB unpacked."""


_LIMITS = Limits()


def is_archive(path: Path) -> bool:
    """Whether the content of ``path`` begins like an archive that ``unpack`` reads."""
    return path.is_file() and kind_of(path) is not None


def unpack(archive: Path, into: Path, progress: Progress, limits: Limits = _LIMITS) -> None:
    """Unpack ``archive`` into the new folder ``into``, which is whole or absent afterwards.

    What macOS adds (``__MACOSX``, ``._*``, ``.DS_Store``) is left out; a link to a file earlier in
    the archive becomes a copy of it. Raises UsageError for an ``into`` that exists, an unknown or
    damaged archive, one that is more than ``limits``, one with a member that is no plain file or
    folder inside of it (nothing is unpacked then), and for a full disk. Another process that
    unpacks into the same folder is waited for, and its result is taken.
    """
    if into.exists():
        raise UsageError(f"folder {str(into)!r} exists already; delete it or choose another")
    if not archive.is_file() or (kind := kind_of(archive)) is None:
        raise UsageError(f"{str(archive)!r} is not one of {_FORMATS}, or is damaged; {_DO}")
    prefix = f".unpacking-{into.name}-"
    lock, other = into.with_name(f"{prefix[:-1]}.lock"), f"another process unpacks {archive.name}"
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with alone(lock, other, progress):
            if into.exists():
                return
            _sweep(into.parent, prefix)
            temporary = Path(tempfile.mkdtemp(dir=into.parent, prefix=prefix))
            try:
                (whole := temporary / "whole").mkdir(mode=0o755)  # the temporary one is private
                with archive.open("rb") as raw:
                    _Unpacking(archive, raw, whole, progress, limits).run(kind)
                whole.rename(into)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno is None:  # from the decoders of gzip and bzip2, not from the system
            raise _damaged(archive, error) from error
        raise unwritable(archive.name, into.parent, error) from error
    except DAMAGE as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> UsageError:
    return UsageError(
        f"archive {str(archive)!r} cannot be read ({first_line(error)}), so it is damaged, cut off "
        f"or of a rare kind; allowed are whole {_FORMATS} archives; {_DO}"
    )


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what killed calls left; the caller holds the lock, so none is alive."""
    left = re.compile(re.escape(prefix) + "[a-z0-9_]{8}")
    for entry in folder.iterdir():
        if left.fullmatch(entry.name) and entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)


def _parts(name: str) -> tuple[str, ...] | str:
    """The folders and the name of a member below the root, or what is wrong with its name."""
    if name.startswith("/"):
        return "has an absolute path"
    if re.match("[A-Za-z]:", name):
        return "has a path with a drive letter"
    if "\\" in name:
        return "has a backslash in its path"
    if "\0" in name:
        return "has a null character in its path"
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        return "has a path with '..'"
    if len(name) > NAME_MOST or len(parts) > _DEPTH_MOST:
        return f"has a path of over {NAME_MOST} characters or {_DEPTH_MOST} folders"
    return parts


def _added_by_macos(parts: tuple[str, ...]) -> bool:
    return parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or parts[-1].startswith("._")


@dataclass
class _Unpacking:
    """One archive on its way into the empty folder ``root``."""

    archive: Path
    raw: IO[bytes]
    root: Path
    progress: Progress
    limits: Limits
    files: int = 0
    written: int = 0
    seen: int = 0  # bytes of the archive, by where it was read last
    packed: int = field(init=False)
    current: str = ""  # the member at work, for messages

    def __post_init__(self) -> None:
        self.packed = os.fstat(self.raw.fileno()).st_size

    def run(self, kind: str) -> None:
        members = read_members(kind, self.raw, str(self.archive), self.check)
        for member in members:
            self.current = member.name
            self.files += 1
            if self.files > self.limits.files:
                raise self._bomb()
            parts = _parts(member.name)
            if isinstance(parts, str):
                raise self._refusal(parts)
            if parts and not _added_by_macos(parts):
                self._put(member, parts)
            elif not parts and member.kind != "folder":
                raise self._refusal("has no name")
            self._step()
        self.progress.step(f"unpacking {self.archive.name}", self.packed, self.packed, "bytes")

    def _put(self, member: Member, parts: tuple[str, ...]) -> None:
        path = self.root.joinpath(*parts)
        try:
            if member.kind == "folder":
                path.mkdir(mode=0o755, parents=True, exist_ok=True)
                return
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if member.kind == "file":
                with member.open() as source:
                    self._copy(source, path)
            elif member.kind == "link":
                self._copy_target(member.target, path)
            else:
                raise self._refusal("is no plain file")
        except OSError as error:
            if error.errno in _NAME_TROUBLE:
                raise self._refusal(f"cannot have this name ({error.strerror})") from error
            raise

    def _copy(self, source: IO[bytes], path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o644), "wb") as file:
            while chunk := source.read(_CHUNK):
                self.written += len(chunk)
                self.check(self.written)
                file.write(chunk)
                self._step()

    def _copy_target(self, target: str, path: Path) -> None:
        parts = _parts(target)
        if isinstance(parts, str):
            raise self._refusal(f"is a link to {target!r}, which {parts}")
        original = self.root.joinpath(*parts)
        if not original.is_file():
            raise self._refusal(f"is a link to {target!r}, which is no file before it")
        if original != path:
            with original.open("rb") as source:
                self._copy(source, path)

    def _step(self) -> None:
        self.seen = max(self.seen, self.raw.tell())
        self.progress.step(f"unpacking {self.archive.name}", self.seen, self.packed, "bytes")

    def check(self, unpacked: int) -> None:
        """Raise UsageError if ``unpacked`` bytes are more than the limits allow."""
        beyond = unpacked > RATIO_FROM and unpacked > self.limits.ratio * self.packed
        if beyond or unpacked > self.limits.total_bytes:
            raise self._bomb()

    def _bomb(self) -> UsageError:
        return UsageError(
            f"archive {str(self.archive)!r} seems to be a bomb: at member {self.current!r} it is "
            f"beyond {self.limits.files:,} files, {self.limits.total_bytes:,} bytes or "
            f"{self.limits.ratio} times its own size; if you trust it, unpack it yourself and "
            "hand over the folder"
        )

    def _refusal(self, wrong: str) -> UsageError:
        return UsageError(
            f"archive {str(self.archive)!r} is refused: member {self.current!r} {wrong}; only "
            "plain files and folders inside the archive are allowed; unpack it yourself and "
            "hand over the folder"
        )
