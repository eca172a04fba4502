"""Archives: what is sound is unpacked whole, what would leave its folder not at all."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from xmod_lab.data.unpack import unpack
from xmod_lab.errors import LabError


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def zip_of(members: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            packed.writestr(info, content)
    return buffer.getvalue()


def tar_of(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                packed.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("pack", [zip_of, tar_of, lambda members: tar_of(members, "w:gz")])
def test_plain_archives(pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    members = {"top/in/x.txt": b"x", "top/y.txt": b"yy", "top/._y.txt": b"mac", "readme": b"r"}
    (tmp_path / "a").write_bytes(pack(members))
    assert [str(path) for path in unpack(tmp_path / "a", tmp_path / "out", strip=1)] == ["in/x.txt", "y.txt"]
    assert (tmp_path / "out/y.txt").read_bytes() == b"yy"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]
    with pytest.raises(LabError, match="the folder to unpack into is already there"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_a_single_packed_file(tmp_path: Path) -> None:
    (tmp_path / "scan.img.gz").write_bytes(gzip.compress(b"voxels"))
    unpack(tmp_path / "scan.img.gz", tmp_path / "out")
    assert (tmp_path / "out/scan.img").read_bytes() == b"voxels"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:\\evil", "..\\evil", "\\\\host\\evil"])
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_member_that_would_leave_its_folder(pack: Callable[..., bytes], name: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(pack({"fine.txt": b"x", name: b"evil"}))
    with pytest.raises(LabError, match=r"would leave its folder: .*a.zip \(the archive is not what it should be"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.SYMTYPE, "fine.txt"),
        special("link", tarfile.LNKTYPE, "../fine.txt"),
        special("link", tarfile.CHRTYPE),
        special("link", tarfile.FIFOTYPE),
    ],
)
def test_links_and_devices_in_a_tar(member: tarfile.TarInfo, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of({"fine.txt": b"x", "link": member}))
    with pytest.raises(LabError, match="member 'link' is a link or device, not a file"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"link": b"/etc/passwd"}, {"link": 0o120777}))
    with pytest.raises(LabError, match="member 'link' is a link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("pack", [zip_of, lambda members: tar_of(members, "w:gz")])
def test_a_truncated_archive(pack: Callable[..., bytes], tmp_path: Path) -> None:
    content = pack({"x": bytes(range(256)) * 300, "y": b"y" * 100})
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    with pytest.raises(LabError, match=r"cannot be unpacked \(.*it is truncated, encrypted or no archive: .*fetch it"):
        unpack(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_name_twice_and_an_empty_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed, pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr("x", "1")
        packed.writestr("x", "2")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    with pytest.raises(LabError, match="member 'x' is there twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    (tmp_path / "b.zip").write_bytes(zip_of({}))
    with pytest.raises(LabError, match="the archive holds no files"):
        unpack(tmp_path / "b.zip", tmp_path / "out")


def test_unpacking_onto_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"x": b"x" * 1000}))
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10))
        with pytest.raises(LabError, match="the disk is full: a member needs 0.0 GB"):
            unpack(tmp_path / "a.zip", tmp_path / "out")
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: no_space())
    with pytest.raises(LabError, match=r"the disk is full: .*out \(free some space"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
