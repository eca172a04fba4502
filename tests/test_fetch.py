"""Data sets fetched whole: hashes locked, archives unpacked, nothing fetched twice, a reason where it cannot be."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import CONTENT, SHA, Server, serve

from xmod_lab.data import fetch as fetch_module
from xmod_lab.data.fetch import fetch
from xmod_lab.data.manifest import dataset, lock_hash, parse
from xmod_lab.data.schema import Dataset
from xmod_lab.errors import LabError


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    return tmp_path / "home" / "data"


def known(monkeypatch: pytest.MonkeyPatch, files: list[dict[str, Any]], **changes: Any) -> Dataset:
    """Put a data set called `set` into the lab."""
    import yaml

    entry = {
        "title": "t", "licence": "l", "citation": "c", "homepage": "h", "access": "open", "relation": "registered",
        "files": files, "modalities": {"T1": {"kind": "MR", "pattern": "{patient}.bin"}},
        "tasks": {"one": {"title": "t", "unlabelled": ["T1"], "recipe": "P1", "tested": ["T1"]}},
    }  # fmt: skip
    data = parse(yaml.safe_dump({"set": entry | changes}), "test")["set"]
    monkeypatch.setattr(fetch_module, "dataset", lambda key: data if key == "set" else dataset(key))
    return data


def test_the_first_download_locks_the_hash(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    server.answers["/a"] = serve()
    known(monkeypatch, [{"path": "a.bin", "urls": [server.url("/a")]}])
    lines: list[str] = []
    assert fetch("set", progress=False, say=lines.append) == home / "set"
    assert yaml.safe_load((home / "user_manifest.yaml").read_text()) == {
        "locked": {"set": {"a.bin": {"sha256": SHA, "bytes": len(CONTENT)}}}
    }
    assert lines == ["set: 1/1 a.bin", f"set: locked sha256 {SHA[:12]}... of a.bin"]
    fetch("set", progress=False)
    assert len(server.requests) == 1  # what is there is not fetched again


def test_a_later_download_is_held_to_its_hash(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dataset("brats13").files[0]
    lock_hash("brats13", real.path, SHA, len(CONTENT))
    assert dataset("brats13").files[0].sha256 == SHA
    server.answers["/a"] = serve(CONTENT[::-1])
    known(monkeypatch, [{"path": "a.bin", "urls": [server.url("/a")], "sha256": SHA, "bytes": len(CONTENT)}])
    with pytest.raises(LabError, match="the checksum differs"):
        fetch("set", progress=False, pause=0.01)


def test_a_damaged_file_is_fetched_again(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/a"] = serve()
    known(monkeypatch, [{"path": "a.bin", "urls": [server.url("/a")], "sha256": SHA}])
    (home / "set").mkdir(parents=True)
    (home / "set/a.bin").write_bytes(b"half")
    fetch("set", progress=False)
    assert (home / "set/a.bin").read_bytes() == CONTENT


def test_an_archive_is_unpacked_once_and_removed(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("top/x.txt", "x")
    server.answers["/a"] = serve(packed.getvalue())
    known(monkeypatch, [{"path": "a.zip", "urls": [server.url("/a")], "unpack": True, "into": "raw", "strip": 1}])
    for _ in range(2):
        fetch("set", progress=False)
    assert (home / "set/raw/x.txt").read_bytes() == b"x" and not (home / "set/a.zip").exists()
    assert len(server.requests) == 1


def test_an_interrupted_conversion_is_continued(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("x.txt", "x")
    server.answers["/a"] = serve(packed.getvalue())
    known(monkeypatch, [{"path": "a.zip", "urls": [server.url("/a")], "unpack": True, "into": "raw"}], convert="lgg")
    calls: list[Path] = []

    def convert(name: str, source: Path, folder: Path, *, say: Any) -> int:
        calls.append(source)
        (folder / f"p{len(calls)}.bin").touch()
        if len(calls) == 1:
            raise LabError("the disk is full")
        return 1

    monkeypatch.setattr(fetch_module, "convert", convert)
    with pytest.raises(LabError, match="the disk is full"):
        fetch("set", progress=False)
    fetch("set", progress=False)
    assert calls == [home / "set/raw"] * 2 and (home / "set/p2.bin").exists()
    shutil.rmtree(home / "set/raw")  # as the message invites to
    fetch("set", progress=False)
    assert len(calls) == 2 and len(server.requests) == 1


def test_data_sets_that_cannot_be_fetched(home: Path) -> None:
    with pytest.raises(LabError, match=r"'lgg' is behind a registration.*`xmod-lab data info lgg` lists the 5 steps"):
        fetch("lgg")
    with pytest.raises(LabError, match="is made, not fetched .*`xmod-lab data make whole_heart`"):
        fetch("whole_heart")


def test_what_lies_in_the_shared_folder_is_used(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shared/brats13").mkdir(parents=True)
    monkeypatch.setenv("XMOD_DATA", str(tmp_path / "shared"))
    lines: list[str] = []
    assert fetch("brats13", say=lines.append) == tmp_path / "shared/brats13"
    assert "never written to" in lines[0]
