"""Downloads from a server that misbehaves."""

from __future__ import annotations

import errno
import gzip
import http.server
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import CONTENT, SHA, Server, serve

from xmod_lab.data import download as download_module
from xmod_lab.data.download import download
from xmod_lab.data.schema import RemoteFile
from xmod_lab.errors import LabError


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


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
    found = download(file, tmp_path / "a.bin", progress=lambda got, total: seen.append((got, total)))
    assert found == (SHA, len(CONTENT))
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
