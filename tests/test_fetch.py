"""Downloads against a local server that misbehaves, and archives that try to leave their folder."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xmod_lab.data import download as download_module
from xmod_lab.data import fetch as fetch_module
from xmod_lab.data.download import download
from xmod_lab.data.fetch import fetch
from xmod_lab.data.manifest import dataset, lock_hash, parse
from xmod_lab.data.schema import Dataset, RemoteFile
from xmod_lab.data.unpack import unpack
from xmod_lab.errors import LabError

CONTENT = bytes(range(256)) * 2000  # 512 000 bytes
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A server whose answer to a path is a function of the handler; it remembers the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range")))
                answer = server.answers.get(self.path)
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}{path}"

    def ranges(self, path: str) -> list[str | None]:
        return [asked for name, asked in self.requests if name == path]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def serve(content: bytes = CONTENT, *, etag: str | None = '"v1"', ranges: bool = True, cut: int | None = None,
          length: int | None = None, times: int = 10**6) -> Callable[[http.server.BaseHTTPRequestHandler], None]:  # fmt: skip
    """Answer with `content`; the first `times` answers end after `cut` bytes of body or announce another `length`."""
    left = [times]

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked, start = handler.headers.get("Range"), 0
        if ranges and asked and handler.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                handler.send_error(416)
                return
        left[0] -= 1
        misbehave = left[0] >= 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            handler.send_header("ETag", etag)
        announced = length if misbehave and length is not None else len(content) - start
        handler.send_header("Content-Length", str(announced))
        handler.end_headers()
        body = content[start:]
        handler.wfile.write(body[:cut] if misbehave and cut is not None else body)
        handler.close_connection = True

    return answer


def get(server: Server, tmp_path: Path, *names: str, sha256: str | None = SHA, size: int | None = None,
        attempts: int = 3, target: str = "a.bin") -> Path:  # fmt: skip
    file = RemoteFile(path=target, urls=[server.url(name) for name in names], sha256=sha256, bytes=size)
    download(file, tmp_path / target, attempts=attempts, pause=0.01)
    return tmp_path / target


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_plain_download(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = serve()
    seen: list[tuple[int, int | None]] = []
    file = RemoteFile(path="a.bin", urls=[server.url("/a")])
    assert download(file, tmp_path / "a.bin", progress=lambda got, total: seen.append((got, total))) == (SHA, len(CONTENT))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and left_behind(tmp_path) == ["a.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_server_that_cuts_off_is_resumed_where_it_stopped(server: Server, tmp_path: Path) -> None:
    step = 5 * download_module.CHUNK
    server.answers["/a"] = serve(cut=step)  # every answer, so seven are needed although three attempts are allowed
    assert get(server, tmp_path, "/a").read_bytes() == CONTENT
    assert server.ranges("/a") == [None, *(f"bytes={n * step}-" for n in range(1, 7))]
    assert left_behind(tmp_path) == ["a.bin"]


def test_a_second_run_resumes_what_the_first_left(server: Server, tmp_path: Path) -> None:
    half, dead, place = serve(cut=20 * download_module.CHUNK), serve(cut=0), 20 * download_module.CHUNK

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        server.answers["/a"] = dead
        half(handler)

    server.answers["/a"] = answer
    with pytest.raises(LabError, match=r"cannot download a.bin: .*attempts.*run the same command again, it resumes"):
        get(server, tmp_path, "/a")
    assert (tmp_path / ".part-a.bin").stat().st_size == place and not (tmp_path / "a.bin").exists()
    server.answers["/a"] = serve()
    assert get(server, tmp_path, "/a").read_bytes() == CONTENT
    assert server.ranges("/a")[-1] == f"bytes={place}-"


def test_a_file_that_changed_meanwhile_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".part-a.bin").write_bytes(b"old" * 1000)
    (tmp_path / ".part-a.bin.json").write_text(f'{{"url": "{server.url("/a")}", "validator": "\\"v0\\""}}')
    server.answers["/a"] = serve(etag='"v1"')
    assert get(server, tmp_path, "/a", sha256=None).read_bytes() == CONTENT


def test_a_part_without_validator_or_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = serve(etag=None, cut=100_000, times=1)
    server.answers["/b"] = serve()
    assert get(server, tmp_path, "/a").read_bytes() == CONTENT
    assert server.ranges("/a") == [None, None]
    (tmp_path / "a.bin").unlink()
    (tmp_path / ".part-a.bin").write_bytes(CONTENT[:5])
    (tmp_path / ".part-a.bin.json").write_text(f'{{"url": "{server.url("/a")}", "validator": "\\"v1\\""}}')
    assert get(server, tmp_path, "/b").read_bytes() == CONTENT
    assert server.ranges("/b") == [None]


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    place = 10 * download_module.CHUNK
    server.answers["/a"] = serve(ranges=False, cut=place, times=1)
    assert get(server, tmp_path, "/a").read_bytes() == CONTENT
    assert server.ranges("/a") == [None, f"bytes={place}-"]


def test_a_server_that_ignores_ranges_and_always_cuts_off_is_given_up(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = serve(ranges=False, cut=200_000)
    with pytest.raises(LabError, match=r"ended after|IncompleteRead|Connection.*\(3 attempts\)"):
        get(server, tmp_path, "/a")
    assert not (tmp_path / "a.bin").exists()


def test_a_part_that_is_longer_than_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".part-a.bin").write_bytes(CONTENT + b"more")
    (tmp_path / ".part-a.bin.json").write_text(f'{{"url": "{server.url("/a")}", "validator": "\\"v1\\""}}')
    server.answers["/a"] = serve()
    assert get(server, tmp_path, "/a").read_bytes() == CONTENT


def test_a_length_that_promises_more_than_comes(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = serve(length=len(CONTENT) + 10, times=1)
    server.answers["/lies"] = serve(length=len(CONTENT) + 10, etag=None)
    with pytest.raises(LabError, match=r"cannot download a.bin: .*/lies: .*\(3 attempts\)"):
        get(server, tmp_path, "/lies")
    assert not (tmp_path / "a.bin").exists()
    assert get(server, tmp_path, "/lies", "/a").read_bytes() == CONTENT


def test_a_length_that_promises_less_than_the_file(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = serve(length=1000)
    with pytest.raises(LabError, match="the checksum differs from the manifest's"):
        get(server, tmp_path, "/a")
    with pytest.raises(LabError, match="the server offers 1000 bytes, 512000 are expected"):
        get(server, tmp_path, "/a", sha256=None, size=len(CONTENT))
    packed = gzip.compress(CONTENT * 3)
    server.answers["/gz"] = serve(packed, length=500)
    with pytest.raises(LabError, match=r"what came is truncated or another file \(EOFError"):
        get(server, tmp_path, "/gz", sha256=None, target="a.nii.gz")
    assert left_behind(tmp_path) == []


def test_a_wrong_file_is_refused_and_the_mirror_asked(server: Server, tmp_path: Path) -> None:
    server.answers["/login"] = serve(b"<html>please log in</html>")
    server.answers["/mirror"] = serve()
    with pytest.raises(LabError, match=r"/login: the checksum differs from the manifest's"):
        get(server, tmp_path, "/login")
    assert left_behind(tmp_path) == []
    assert get(server, tmp_path, "/login", "/mirror").read_bytes() == CONTENT
    server.answers["/gz"] = serve(gzip.compress(CONTENT))
    with pytest.raises(LabError, match=r"what came is truncated or another file \(BadGzipFile"):
        get(server, tmp_path, "/login", sha256=None, target="b.nii.gz")
    assert get(server, tmp_path, "/login", "/gz", sha256=None, target="b.nii.gz").is_file()


def test_a_missing_file_goes_to_the_mirror_at_once(server: Server, tmp_path: Path) -> None:
    server.answers["/mirror"] = serve()
    assert get(server, tmp_path, "/gone", "/mirror").read_bytes() == CONTENT
    assert server.requests == [("/gone", None), ("/mirror", None)]
    with pytest.raises(LabError, match=r"/gone: the server answers 404 Not Found; .*/lost: the server answers 404"):
        get(server, tmp_path, "/gone", "/lost", target="b.bin")


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    good, count = serve(), [2]

    def busy(handler: http.server.BaseHTTPRequestHandler) -> None:
        count[0] -= 1
        if count[0] >= 0:
            handler.send_error(503)
        else:
            good(handler)

    server.answers["/a"] = busy
    assert get(server, tmp_path, "/a").read_bytes() == CONTENT and len(server.requests) == 3


def test_nobody_answers(tmp_path: Path) -> None:
    file = RemoteFile(path="a.bin", urls=["http://127.0.0.1:9/a", "gopher://x/a"], sha256=SHA)
    with pytest.raises(LabError, match=r"127.0.0.1:9/a: ConnectionError.*\(2 attempts\); gopher://x/a: InvalidSchema"):
        download(file, tmp_path / "a.bin", attempts=2, pause=0.01)


def test_a_disk_too_small_or_full(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/a"] = serve()
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
        with pytest.raises(LabError, match=r"the disk is full: 1 MB to download and 0 MB free.*it resumes"):
            get(server, tmp_path, "/a")
    with monkeypatch.context() as patch:
        patch.setattr(download_module._Download, "_receive", lambda *_: no_space())
        with pytest.raises(LabError, match=r"the disk is full: .*a.bin \(free some space and run again, it resumes\)"):
            get(server, tmp_path, "/a")
    assert not (tmp_path / "a.bin").exists()


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# --------------------------------------------------------------------------------------------------- data sets


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


def test_a_later_download_is_held_to_the_locked_hash(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dataset("brats13").files[0]
    lock_hash("brats13", real.path, SHA, len(CONTENT))
    assert dataset("brats13").files[0].sha256 == SHA
    server.answers["/a"] = serve(CONTENT[::-1])
    known(monkeypatch, [{"path": "a.bin", "urls": [server.url("/a")], "sha256": SHA, "bytes": len(CONTENT)}])
    with pytest.raises(LabError, match="the checksum differs"):
        fetch("set", progress=False, pause=0.01)


def test_a_damaged_file_that_is_there_is_fetched_again(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/a"] = serve()
    known(monkeypatch, [{"path": "a.bin", "urls": [server.url("/a")], "sha256": SHA}])
    (home / "set").mkdir(parents=True)
    (home / "set/a.bin").write_bytes(b"half")
    fetch("set", progress=False)
    assert (home / "set/a.bin").read_bytes() == CONTENT


def test_an_archive_is_unpacked_once_and_removed(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/a"] = serve(zip_of({"top/x.txt": b"x"}))
    known(monkeypatch, [{"path": "a.zip", "urls": [server.url("/a")], "unpack": True, "into": "raw", "strip": 1}])
    for _ in range(2):
        fetch("set", progress=False)
    assert (home / "set/raw/x.txt").read_bytes() == b"x" and not (home / "set/a.zip").exists()
    assert len(server.requests) == 1


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


# --------------------------------------------------------------------------------------------------- archives


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
    (tmp_path / "a").write_bytes(pack({"top/in/x.txt": b"x", "top/y.txt": b"yy", "top/._y.txt": b"mac", "readme": b"r"}))
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
    with pytest.raises(LabError, match=r"cannot be unpacked \(.*it is truncated, encrypted or no archive: .*fetch it again"):
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
