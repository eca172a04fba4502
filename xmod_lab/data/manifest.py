"""`data_manifest.yaml`: every data set the lab knows, checked field by field.

The file lists data sets by key (`xmod_lab.data.schema` says what an entry holds). A reader's own data sets and hashes
locked at the first download live in ``user_manifest.yaml`` beside the data, never in the package's file; both are read
as one. The user's file has one reserved key, ``locked``: {data set: {path: {sha256, bytes}}}.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from xmod_lab import paths
from xmod_lab.data.schema import Dataset, LabelFiles, Modality, RemoteFile, Split, Task
from xmod_lab.errors import LabError
from xmod_lab.files import locked, write_text

__all__ = [
    "Dataset",
    "LabelFiles",
    "Modality",
    "RemoteFile",
    "Split",
    "Task",
    "add_entry",
    "dataset",
    "load_manifest",
    "lock_hash",
    "own_entry",
    "package_manifest",
    "parse",
    "user_manifest",
]

LOCKED = "locked"
HEADER = """# Your own data sets (xmod-lab data add FOLDER) and the hashes of what was downloaded first, under `locked`.
# The fields are those of data_manifest.yaml. Edit entries as you like; deleting a locked hash accepts a new download.
"""


def package_manifest() -> Path:
    """The manifest shipped with the package: beside it in a checkout, inside it in a wheel."""
    root = paths.checkout()
    return root / "data_manifest.yaml" if root else paths.PACKAGE / "data_manifest.yaml"


def user_manifest() -> Path:
    """The reader's own entries and locked hashes: ``user_manifest.yaml`` beside the data."""
    return paths.data_home() / "user_manifest.yaml"


def parse(text: str, where: str | Path, *, own: bool = False) -> dict[str, Dataset]:
    """Check manifest text; `where` names it in errors, `own` allows folders of the reader's own (access: own).

    Raises LabError naming data set and field.
    """
    found = {}
    for key, entry in _mapping(text, where).items():
        if key == LOCKED and own:
            continue
        if not isinstance(entry, dict):
            raise LabError(f"data set {key!r} must be a mapping", where=where)
        if entry.get("access") == "own" and not own:
            raise LabError(
                f"field {key}.access: 'own' is for {user_manifest().name} only", where=where, mend="move it there"
            )
        if "key" in entry:
            raise LabError(f"field {key}.key: the key is the entry's name", where=where, mend="remove that field")
        try:
            found[key] = Dataset(key=key, **entry)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in (key, *first["loc"]))
            reason = first["msg"].removeprefix("Value error, ")
            raise LabError(f"field {field}: {reason}", where=where, mend="correct that field") from error
    return found


def _mapping(text: str, where: str | Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise LabError(f"not valid YAML ({error})", where=where, mend="mend the line named") from error
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise LabError("must be a mapping from data set key to entry", where=where)
    return raw


@functools.lru_cache(maxsize=8)
def _read(path: Path, stamp: tuple[int, int], own: bool) -> dict[str, Dataset]:
    return parse(path.read_text(encoding="utf-8"), path.name, own=own)


def _entries(path: Path, *, own: bool) -> dict[str, Dataset]:
    if not path.is_file():
        return {}
    state = path.stat()
    return _read(path, (state.st_mtime_ns, state.st_size), own)


def load_manifest() -> dict[str, Dataset]:
    """All data sets by key: the package's, then the reader's own (which may not take a package's key).

    Hashes that the package leaves null are filled with those locked at the first download.
    """
    found = dict(_entries(package_manifest(), own=False))
    mine = _entries(user_manifest(), own=True)
    if clash := set(found) & set(mine):
        raise LabError(f"data set {sorted(clash)[0]!r} is defined twice", where=user_manifest(), mend="rename yours")
    found |= mine
    for key, hashes in _locked_hashes().items():
        if key in found:
            files = [
                file.model_copy(update=hashes[file.path]) if file.sha256 is None and file.path in hashes else file
                for file in found[key].files
            ]
            found[key] = found[key].model_copy(update={"files": files})
    return found


def dataset(key: str) -> Dataset:
    """The entry of `key`. Raises LabError listing the known keys."""
    known = load_manifest()
    if key not in known:
        raise LabError(f"no data set {key!r}", where="data_manifest.yaml", mend=f"known: {', '.join(sorted(known))}")
    return known[key]


def _user_file() -> dict[str, Any]:
    path = user_manifest()
    return _mapping(path.read_text(encoding="utf-8"), path) if path.is_file() else {}


def _locked_hashes() -> dict[str, dict[str, dict[str, Any]]]:
    hashes = _user_file().get(LOCKED) or {}
    if not isinstance(hashes, dict) or not all(isinstance(files, dict) for files in hashes.values()):
        raise LabError(
            f"field {LOCKED}: must be a mapping {{data set: {{path: {{sha256, bytes}}}}}}", where=user_manifest()
        )
    for key, files in hashes.items():
        for path, value in files.items():
            try:
                RemoteFile(path=path, urls=["locked"], **value)
            except (ValidationError, TypeError) as error:
                raise LabError(
                    f"field {LOCKED}.{key}.{path}: must hold sha256 and bytes",
                    where=user_manifest(),
                    mend="delete that line; the next download locks it again",
                ) from error
    return hashes


def lock_hash(key: str, path: str, sha256: str, size: int) -> None:
    """Remember the hash of a file downloaded for the first time, in the user's manifest."""
    with locked(user_manifest()):
        content = _user_file()
        content.setdefault(LOCKED, {}).setdefault(key, {})[path] = {"sha256": sha256, "bytes": size}
        _write_user_file(content)


def own_entry(key: str) -> dict[str, Any]:
    """The fields of an entry of the reader's own, as its file has them. Raises LabError if it has none called `key`."""
    entries = {name: entry for name, entry in _user_file().items() if name != LOCKED}
    if key not in entries:
        raise LabError(f"no data set of your own is called {key!r}", where=user_manifest(), mend="xmod-lab data add")
    found: dict[str, Any] = entries[key]
    return found


def add_entry(key: str, entry: dict[str, Any], *, replace: bool = False) -> Dataset:
    """Write an entry of the reader's own into the user's manifest and return it, checked.

    replace: one of the same folder may be there already; it is written anew. Raises LabError if the key is taken
    otherwise or a field is wrong; the file is then unchanged.
    """
    with locked(user_manifest()):
        mine, content = load_manifest().get(key), _user_file()
        same = mine is not None and mine.access == "own" and mine.location == entry.get("location")
        if key == LOCKED or (mine is not None and not (replace and same)):
            raise LabError(f"the key {key!r} is taken", where=user_manifest(), mend="choose another key, as with --key")
        data = parse(yaml.safe_dump({key: entry}, sort_keys=False), user_manifest(), own=True)[key]
        if content.get(key) != entry:
            _write_user_file(content | {key: entry})
    return data


def _write_user_file(content: dict[str, Any]) -> None:
    parse(text := yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), user_manifest(), own=True)
    write_text(user_manifest(), HEADER + text)
