"""Where images come from: the user's folder or archives, or addresses that have them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from itmc.config import digest
from itmc.domains.archives import is_archive, unpack
from itmc.domains.catalog import DatasetSpec, Source
from itmc.domains.fetch import FetchError, fetch
from itmc.domains.progress import Progress
from itmc.errors import UsageError

UNPACKED, DOWNLOADS = ".unpacked", ".downloads"
"""In a dataset's folder of the store, while it is prepared."""


@dataclass(frozen=True)
class Origin:
    """What the user has: a folder with images, with archives, or an archive."""

    path: Path

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):
            raise UsageError(f"{str(self.path)!r} does not exist; give a folder or an archive")
        if self.path.is_file() and not is_archive(self.path):
            raise UsageError(
                f"{str(self.path)!r} is no archive that can be read; give a folder, or a zip, tar, "
                "tar.gz, tar.bz2 or tar.xz file"
            )

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        return self.path if self.path.is_dir() else None

    def archives(self) -> tuple[Path, ...]:
        """The archive, or the archives in the folder."""
        if self.path.is_file():
            return (self.path,)
        return tuple(path for path in self._inside() if is_archive(path))

    def _lists(self) -> tuple[Path, ...]:
        """The image lists in the folder, if it is one."""
        return tuple(path for path in self._inside() if path.suffix == ".txt")

    def _inside(self) -> list[Path]:
        if self.folder is None:
            return []
        try:
            return sorted(path for path in self.path.iterdir() if path.is_file())
        except OSError as error:
            raise UsageError(
                f"{str(self.path)!r} cannot be read ({error.strerror}); make it readable"
            ) from error

    def identity(self) -> str:
        """Of the archives, and the lists beside them: another if one of them changes."""
        states = [(path, path.stat()) for path in (*self.archives(), *self._lists())]
        return digest([[str(p.resolve()), s.st_size, s.st_mtime_ns] for p, s in states])

    def unpacked(self, home: Path, progress: Progress) -> Path:
        """A folder below ``home`` with what is in the archive, or all archives and the lists."""
        root = home / UNPACKED / self.identity()[:16]
        root.mkdir(parents=True, exist_ok=True)
        for archive in self.archives():
            if not (root / archive.name).exists():
                unpack(archive, root / archive.name, progress)
        for path in self._lists():
            shutil.copyfile(path, root / path.name)
        return root if self.folder is not None else root / self.path.name


def downloads(
    spec: DatasetSpec, domains: Sequence[str], home: Path, mirrors: Sequence[str],
    progress: Progress,
) -> Iterator[tuple[Origin, bool]]:  # fmt: skip
    """What each source of ``spec`` in turn gives, downloaded, with the files of ``domains``.

    And whether all its files are common to all domains. A source that does not answer is passed
    over. ``mirrors``: addresses of folders that may have the files too, under their names.
    """
    for index, source in enumerate(spec.sources):
        folder = home / DOWNLOADS / f"source-{index}"
        files = [file for file in source.files if file.domain in (None, *domains)]
        try:
            for file in files:
                beside = tuple(f"{mirror.rstrip('/')}/{file.name}" for mirror in mirrors)
                fetch(file.model_copy(update={"urls": (*beside, *file.urls)}), folder, progress)
        except FetchError:  # which has said why
            progress.say(f"source {index + 1} of {len(spec.sources)} of {spec.name} gives nothing")
            continue
        yield Origin(folder), all(file.domain is None for file in source.files)


def how_to_get(spec: DatasetSpec, domains: Sequence[str]) -> str:
    """What a person can do who has to get the images: from where, and the command afterwards."""
    where = spec.homepage or "where you have it from"
    first = [] if not spec.sources else [_first(spec.sources[0], domains)]
    files = f"; its files are {', '.join(first[0])}" if first and first[0] else ""
    return (
        f"get {spec.title or spec.name} ({', '.join(domains)}) from {where}{files}; then hand over "
        f"the folder or archive: python -m suites.data prepare {spec.name} --from PATH"
    )


def _first(source: Source, domains: Sequence[str]) -> list[str]:
    return [file.name for file in source.files if file.domain in (None, *domains)]


def sweep(home: Path) -> None:
    """Remove what was only needed to prepare."""
    for name in (UNPACKED, DOWNLOADS):
        shutil.rmtree(home / name, ignore_errors=True)
