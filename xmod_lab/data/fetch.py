"""`xmod-lab data fetch`: download a data set, unpack it, convert it, remember its hashes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from xmod_lab import paths
from xmod_lab.data.convert import convert
from xmod_lab.data.download import download
from xmod_lab.data.manifest import dataset, lock_hash
from xmod_lab.data.schema import Dataset, RemoteFile
from xmod_lab.data.unpack import unpack
from xmod_lab.data.volume import patients
from xmod_lab.errors import LabError
from xmod_lab.files import locked, sha256


def fetch(key: str, *, progress: bool = True, pause: float = 1.0, say: Callable[[str], None] = print) -> Path:
    """Bring data set `key` below XMOD_HOME/data as the manifest describes it, and return its folder.

    What is there already (below XMOD_DATA too) is not fetched again; an interrupted run continues. `say` gets a line
    per step. Raises LabError for a data set behind a registration (with the way to its steps), a phantom, an address
    that does not answer, a checksum that differs, a full disk.
    """
    data = dataset(key)
    if data.access == "joined":
        for part in data.parts:
            fetch(part, progress=progress, pause=pause, say=say)
        return data.folder
    if missing_modalities(data) == [] and data.access != "open":
        say(f"{key}: all modalities have files in {data.folder}")
        return data.folder
    _check_access(data)
    folder = paths.data_home() / key
    if data.folder != folder:
        say(f"{key}: found in {data.folder}, which is never written to")
        return data.folder
    with locked(folder / ".fetch"):
        for number, file in enumerate(data.files, 1):
            _fetch_file(data, file, folder, f"{number}/{len(data.files)}", progress, pause, say)
        if data.convert and (folder / "raw").is_dir() and convert(data.convert, folder / "raw", folder, say=say):
            say(f"{key}: converted; {folder / 'raw'} is no longer needed and may be deleted")
    return folder


def missing_modalities(data: Dataset) -> list[str]:
    """Modalities of which no patient has a file."""
    found = []
    for modality in data.modalities:
        try:
            patients(data, modality)
        except LabError:
            found.append(modality)
    return found


def _check_access(data: Dataset) -> None:
    if data.access == "registration":
        raise LabError(
            f"data set {data.key!r} is behind a registration and cannot be fetched",
            where=data.homepage,
            mend=f"`xmod-lab data info {data.key}` lists the {len(data.steps)} steps",
        )
    if data.access == "phantom":
        raise LabError(f"data set {data.key!r} is made, not fetched", mend=f"run `xmod-lab data make {data.key}`")
    if data.access == "own":
        raise LabError(
            f"data set {data.key!r} is your own folder, but it lacks files",
            where=data.folder,
            mend=f"`xmod-lab data verify {data.key}` says which",
        )


def _fetch_file(
    data: Dataset, file: RemoteFile, folder: Path, number: str, progress: bool, pause: float, say: Callable[[str], None]
) -> None:
    target = folder / file.path
    done = folder / file.into if file.unpack else target
    if done.exists() and (file.unpack or _matches(file, target)):
        return
    if data.convert and file.into and not missing_modalities(data):
        return  # converted before, and its raw files deleted since
    if not (target.is_file() and file.sha256 and _matches(file, target)):
        say(f"{data.key}: {number} {file.path}")
        if target.is_file():
            target.unlink()
        with _bar(file, progress) as advance:
            digest, size = download(file, target, pause=pause, progress=advance)
        if file.sha256 is None:
            lock_hash(data.key, file.path, digest, size)
            say(f"{data.key}: locked sha256 {digest[:12]}... of {file.path}")
    if file.unpack:
        unpack(target, done, strip=file.strip)
        target.unlink()


def _matches(file: RemoteFile, path: Path) -> bool:
    return path.is_file() and (file.sha256 is None or sha256(path) == file.sha256)


class _bar:
    """A progress bar that can be told where it stands, since a resumed or restarted download jumps."""

    def __init__(self, file: RemoteFile, shown: bool):
        from tqdm.auto import tqdm

        self._bar = tqdm(
            desc=Path(file.path).name,
            total=file.bytes,
            unit="B",
            unit_scale=True,
            disable=not shown,
            file=sys.stderr,
            leave=False,
        )

    def __enter__(self) -> Callable[[int, int | None], None]:
        return self._advance

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def _advance(self, got: int, total: int | None) -> None:
        self._bar.total = total or self._bar.total
        self._bar.update(got - self._bar.n)
