"""Archives, unpacked so that no member leaves its folder and a half-unpacked folder never carries the real name."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder

MEND = "the archive is not what it should be: do not use it, and tell whoever keeps it"
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def unpack(archive: str | Path, folder: str | Path, *, strip: int = 0) -> list[Path]:
    """Unpack a zip, tar (plain, gz, bz2, xz) or single .gz file into the new `folder`; return its files, relative.

    `strip` leading folders are dropped from the members' names. Links, devices and names that leave the folder are
    refused; the shadow files of macOS (``._name``, ``__MACOSX``) are left out. Raises LabError naming the member; then
    nothing is left of `folder`.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        raise LabError("the folder to unpack into is already there", where=folder, mend="move it away or delete it")
    written: list[Path] = []
    try:
        with atomic_folder(folder) as temporary:
            for name, size, stream in _members(archive):
                if (relative := _inside(name, archive, strip)) is None:
                    continue
                _check_space(temporary, size, archive)
                target = temporary / relative
                if target.exists():
                    raise LabError(f"member {name!r} is there twice", where=archive, mend=MEND)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as file:
                    shutil.copyfileobj(stream, file, 1 << 20)
                written.append(relative)
            if not written:
                raise LabError("the archive holds no files", where=archive, mend="fetch it again")
    except BROKEN as error:
        raise LabError(
            f"cannot be unpacked ({type(error).__name__}: {error}), it is truncated, encrypted or no archive",
            where=archive,
            mend="delete it and fetch it again",
        ) from error
    return sorted(written)


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and stream of every plain file. Raises LabError for a member of any other kind."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = info.external_attr >> 28  # the Unix file type, 0 where the archive was not made on Unix
                if kind not in (0, 0o10, 0o4):
                    raise LabError(
                        f"member {info.filename!r} is a link or device, not a file", where=archive, mend=MEND
                    )
                if info.is_dir():
                    _inside(info.filename, archive, 0)
                    continue
                with packed.open(info) as stream:
                    yield info.filename, info.file_size, stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isdir():
                    _inside(member.name, archive, 0)
                    continue
                stream_or_none = tar.extractfile(member) if member.isreg() else None
                if stream_or_none is None:
                    raise LabError(f"member {member.name!r} is a link or device, not a file", where=archive, mend=MEND)
                with stream_or_none:
                    yield member.name, member.size, stream_or_none
    else:
        with gzip.open(archive) as stream:
            yield archive.name.removesuffix(".gz"), 0, stream  # type: ignore[misc]


def _inside(name: str, archive: Path, strip: int) -> Path | None:
    """The member's path below the folder, None for one to leave out. Raises LabError if it would leave the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or "\0" in name:
        raise LabError(f"member {name!r} would leave its folder", where=archive, mend=MEND)
    if path.name.startswith("._") or "__MACOSX" in path.parts or len(path.parts) <= strip:
        return None
    return Path(*path.parts[strip:])


def _check_space(folder: Path, size: int, archive: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise LabError(
            f"the disk is full: a member needs {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free",
            where=archive,
            mend="free some space and run the same command again",
        )
