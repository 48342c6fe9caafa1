"""Bring domains into the store, once: from the user's files, a download, or made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from itmc.config import digest
from itmc.domains import contents, digits, store
from itmc.domains.catalog import DatasetSpec
from itmc.domains.contents import Contents
from itmc.domains.folders import alone
from itmc.domains.layouts import AbsentError
from itmc.domains.origins import Origin, downloads, how_to_get, sweep
from itmc.domains.progress import Progress
from itmc.domains.store import (
    Domain,
    Kind,
    StoreError,
    is_prepared,
    open_domain,
    read_manifest,
)
from itmc.domains.write import write
from itmc.errors import UsageError


def prepare(
    spec: DatasetSpec,
    domains: Sequence[str],
    home: Path,
    progress: Progress,
    origin: Path | None = None,
    kind: Kind | None = None,
    mirrors: Sequence[str] = (),
) -> dict[str, Domain]:
    """Open ``domains`` from the store; prepare before what is not there.

    Args:
        spec: the dataset.
        domains: which of its domains.
        home: the dataset's folder in the store.
        progress: where to show what takes time, and differences from the official data.
        origin: the user's folder or archive. What was prepared from it is taken if it is unchanged;
            what was prepared from anything else is replaced. Without it, what is there is taken,
            and what is not is downloaded.
        kind: how to store images; whatever is there, else arrays, if ``None``.
        mirrors: addresses of folders to try before the official ones.

    Raises:
        UsageError: where images lack, are broken, or cannot be got or stored. Domains that nothing
            is wrong with are prepared before.
    """
    try:
        if origin is not None or not all(_is_there(home / name, kind) for name in domains):
            home.mkdir(parents=True, exist_ok=True)
            lock = home / ".lock"
            with alone(lock, f"another process prepares {spec.name}", progress):
                _Preparation(spec, home, progress, kind, mirrors).run(domains, origin)
    except OSError as error:
        raise StoreError(
            f"the image store {str(home.parent)!r} cannot be written ({error.strerror or error}); "
            "set ITMC_STORE to a folder that can"
        ) from error
    opened = {name: open_domain(home / name) for name in domains}
    for name, domain in opened.items():  # every time: whoever uses them now may not know
        for gap in domain.gaps:
            progress.say(f"warning: {spec.name}/{name}: {gap}")
    return opened


def duplicates(places: Sequence[Path]) -> list[tuple[str, str]]:
    """Images that are in two of the prepared domains ``places``, to the pixel, by their names.

    Raises UsageError where one of them is damaged.
    """
    found = []
    known = {place: _names_by_image(place) for place in places}
    for one, other in combinations(places, 2):
        shared = known[one].keys() & known[other].keys()
        if shared:
            found += sorted((known[one][image], known[other][image]) for image in shared)
    return found


def _names_by_image(place: Path) -> dict[bytes, str]:
    manifest = read_manifest(place)
    try:
        pixels = store.pixel_digests(place, manifest)
        names = store.file_names(place, manifest)
    except (OSError, ValueError) as error:
        raise store.damaged(place, error) from error
    return {image.tobytes(): name for image, name in zip(pixels, names, strict=True)}


def _kind(place: Path) -> Kind:
    """How a domain is stored that is to be replaced, or made anew."""
    try:
        return read_manifest(place).kind
    except UsageError:
        return "arrays"


def _is_there(place: Path, kind: Kind | None) -> bool:
    return is_prepared(place) and kind in (None, read_manifest(place).kind)


class _Preparation:
    def __init__(
        self, spec: DatasetSpec, home: Path, progress: Progress, kind: Kind | None,
        mirrors: Sequence[str],
    ) -> None:  # fmt: skip
        self._spec, self._home, self._progress = spec, home, progress
        self._kind, self._mirrors = kind, mirrors
        self._new: list[str] = []

    def run(self, domains: Sequence[str], origin: Path | None) -> None:
        if self._spec.embedded:
            self._draw(domains)
        elif origin is not None:
            try:
                self._take(domains, Origin(origin))
            except UsageError:
                sweep(self._home)
                raise
            sweep(self._home)  # not if it was killed: what is unpacked is of use then
        else:
            missing = [n for n in domains if not _is_there(self._home / n, self._kind)]
            if missing:
                self._download(missing)
                sweep(self._home)
        self._report_duplicates()

    def _draw(self, domains: Sequence[str]) -> None:
        """Make the embedded images; they are pinned, so it is said if these libraries differ."""
        if self._kind == "jpeg":
            raise UsageError(f"{self._spec.name} has no image files to keep; leave out --store")
        for name in domains:
            if self._is_unchanged(name, contents.DRAWN):
                continue
            self._write(contents.drawn(self._spec, name))
            if open_domain(self._home / name).digest != digits.DIGESTS[name]:
                self._progress.say(
                    f"warning: {self._spec.name}/{name} differs from the published images; install "
                    "the versions of constraints.txt to compare with published results"
                )

    def _take(self, domains: Sequence[str], origin: Origin) -> None:
        """Prepare ``domains`` from what is in ``origin``; what is wrong with one is said last."""
        wrong: list[UsageError] = []
        absent: list[str] = []
        for name in domains:
            try:
                self._take_one(name, origin)
            except UsageError as error:
                if isinstance(error, AbsentError):
                    absent.append(name)
                if len(absent) < 2 or absent[-1] != name:  # what is expected is said once
                    wrong.append(error)
        if wrong:
            full = any(isinstance(error, StoreError) for error in wrong)
            # One broken archive is the same trouble for all domains.
            text = "; ".join(dict.fromkeys(map(str, wrong)))
            text += f"; it has none of {', '.join(absent[1:])} either" if absent[1:] else ""
            raise (StoreError if full else UsageError)(text)

    def _take_one(self, name: str, origin: Origin) -> None:
        if origin.folder is not None:
            try:
                if self._has_same_arrays(name, origin.folder):
                    return
                found = self._contents(name, origin.folder)
            except AbsentError:
                if not origin.archives():
                    raise
            else:
                if not self._is_unchanged(name, found.origin):
                    self._write(found)
                return
        # Of archives it is known without unpacking them whether they have changed.
        identity = digest([origin.identity(), contents.identity(self._spec, [])])
        if self._is_unchanged(name, identity):
            return
        folder = origin.unpacked(self._home, self._progress)
        try:
            self._write(replace(self._contents(name, folder), origin=identity))
        except UsageError as error:  # said of what the user gave, not of where it lies for a while
            raise type(error)(str(error).replace(str(folder), str(origin.path))) from error

    def _has_same_arrays(self, name: str, folder: Path) -> bool:
        """Whether a domain made of arrays is there already, which take a while to read."""
        if self._spec.domains[name].format == "images":
            return False
        return self._is_unchanged(name, contents.arrays_identity(self._spec, name, folder))

    def _contents(self, name: str, folder: Path) -> Contents:
        if self._spec.domains[name].format == "images":
            return contents.of_images(self._spec, name, folder)
        if self._kind == "jpeg":
            raise UsageError(
                f"{self._spec.name}/{name} comes as arrays, not as image files; leave out --store"
            )
        return contents.of_arrays(self._spec, name, folder)

    def _download(self, missing: list[str]) -> None:
        spec = self._spec
        if not spec.sources:
            raise UsageError(
                f"{spec.name} has no address to download from; {how_to_get(spec, missing)}"
            )
        for origin, is_whole in downloads(spec, missing, self._home, self._mirrors, self._progress):
            # What comes in one piece is prepared in one piece, since the piece is not kept.
            wanted = missing
            if is_whole:
                there = [n for n in spec.domains if is_prepared(self._home / n)]
                wanted = [n for n in spec.domains if n in missing or n not in there]
            try:
                return self._take(wanted, origin)
            except StoreError:
                raise  # which another source would not mend
            except UsageError as error:
                self._progress.say(f"what was downloaded is of no use: {error}")
                sweep(self._home)
        raise UsageError(
            f"none of the {len(spec.sources)} sources of {spec.name} gave it; "
            f"{how_to_get(spec, missing)}"
        )

    def _write(self, found: Contents) -> None:
        place = self._home / found.domain
        self._progress.say(f"preparing {found.dataset}/{found.domain}, {len(found.labels)} images")
        write(found, place, self._kind or _kind(place), self._progress)
        self._new.append(found.domain)

    def _is_unchanged(self, name: str, identity: str) -> bool:
        place = self._home / name
        return _is_current(place, identity) and _is_there(place, self._kind)

    def _report_duplicates(self) -> None:
        """Say which images are in more than one domain, if a domain is new."""
        if not self._new:
            return
        places = [p for name in self._spec.domains if is_prepared(p := self._home / name)]
        try:
            found = duplicates(places)
        except UsageError as error:  # of another domain than those that are asked for
            self._progress.say(f"warning: {error}")
            return
        if found:
            one, other = found[0]
            self._progress.say(
                f"note: {len(found)} images of {self._spec.name} are in two domains, pixel for "
                f"pixel, such as {one} and {other}"
            )


def _is_current(place: Path, identity: str) -> bool:
    """Whether a domain is there, readable, and made from what ``identity`` says."""
    try:
        return is_prepared(place) and read_manifest(place).origin == identity
    except UsageError:
        return False
