"""One file from one of several addresses: resumed, checked, and never half-written under its real name.

What requests and pooch give is used: connections, redirects, streaming, the hash check and the move into place. What
they lack is here: resuming with a validator, mirrors in order, a check of the free space, and errors a reader can mend.
"""

from __future__ import annotations

import errno
import gzip
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab.data.schema import RemoteFile
from xmod_lab.errors import LabError
from xmod_lab.files import read_json, sha256, write_json

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 14
"""small, since what a dropped line leaves of a chunk is lost"""
RESERVE = 64 << 20
"""bytes that a download leaves free"""
TIMEOUT = (15, 60)
RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Refused(Exception):
    """This address will not do; the text says why. The next one may."""


@dataclass
class _Download:
    """A pooch downloader: called with address and output file, fills the file through a part that survives failures."""

    part: Path
    size: int | None
    hashed: bool
    attempts: int
    pause: float
    progress: Callable[[int, int | None], None]

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        """Complete the part from `url`, retrying with growing pauses, then move it to `output_file`."""
        import requests

        failures, best = 0, _size(self.part)
        while True:
            try:
                self._attempt(url)
                break
            except requests.RequestException as error:
                reason, wait = _reason(error), _retry_after(error)
                if wait is None:
                    raise _Refused(reason) from error
            if _size(self.part) > best:  # it moves on, so keep at it however often the line drops
                failures, best = 0, _size(self.part)
            failures += 1
            if failures >= self.attempts:
                raise _Refused(f"{reason} ({failures} attempts)")
            time.sleep(max(wait, self.pause * 2 ** (failures - 1)))
        if not self.hashed:
            self._check_readable()
        shutil.move(self.part, output_file)
        _note(self.part).unlink(missing_ok=True)

    def _attempt(self, url: str) -> None:
        import requests

        start, headers = _resume_headers(self.part, url)
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # what we hold is not part of what is there now
                self._forget()
                raise requests.ConnectionError("the file changed on the server")
            answer.raise_for_status()
            announced = answer.headers.get("Content-Length")
            length = int(announced) if announced and announced.isdigit() else None
            if answer.status_code == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                self._forget()
                raise requests.ConnectionError("the server sent another range than asked for")
            if answer.status_code != 206:
                start = 0
            total = None if length is None else start + length
            if self.size is not None and total is not None and total != self.size:
                raise _Refused(f"the server offers {total} bytes, {self.size} are expected")
            self._check_space(total, start)
            _write_note(self.part, url, answer)
            self._receive(answer, start, total)

    def _receive(self, answer: requests.Response, start: int, total: int | None) -> None:
        import requests

        got = start
        with open(self.part, "r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                got += len(chunk)
                self.progress(got, total)
        if total is not None and got < total:
            raise requests.ConnectionError(f"the connection ended after {got} of {total} bytes")

    def _check_space(self, total: int | None, start: int) -> None:
        needed = (total or self.size or 0) - start
        free = shutil.disk_usage(self.part.parent).free
        if needed + RESERVE > free:
            raise LabError(
                f"the disk is full: {needed / 1e6:.0f} MB to download and {free / 1e6:.0f} MB free",
                where=self.part.parent,
                mend="free some space and run the same command again, it resumes",
            )

    def _check_readable(self) -> None:
        """Without a hash to compare, the size must fit and a packed file must open to its end."""
        try:
            if self.size is not None and _size(self.part) != self.size:
                raise EOFError(f"{_size(self.part)} bytes instead of {self.size}")
            if self.part.name.endswith((".gz", ".tgz")):
                with gzip.open(self.part) as stream:
                    while stream.read(1 << 20):
                        pass
            elif self.part.suffix == ".zip":
                with zipfile.ZipFile(self.part) as packed:
                    packed.namelist()
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            self._forget()
            raise _Refused(f"what came is truncated or another file ({type(error).__name__}: {error})") from error

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        _note(self.part).unlink(missing_ok=True)


def download(
    file: RemoteFile,
    target: Path,
    *,
    attempts: int = 5,
    pause: float = 1.0,
    progress: Callable[[int, int | None], None] = lambda got, total: None,
) -> tuple[str, int]:
    """Fetch `file` to `target` from the first of its addresses that serves it; return its sha256 and size in bytes.

    An interrupted download leaves ``.part-<name>`` beside `target` and continues from there. Attempts without progress
    are repeated after `pause`, 2 `pause`, ... seconds. Raises LabError saying what each address answered.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the caller says what is fetched
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".part-{target.name}"
    refusals = []
    for url in file.urls:
        fetcher = _Download(part, file.bytes, file.sha256 is not None, attempts, pause, progress)
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{file.sha256}" if file.sha256 else None,
                fname=target.name,
                path=target.parent,
                downloader=fetcher,
            )
            return sha256(target), target.stat().st_size
        except _Refused as error:
            refusals.append(f"{url}: {error}")
        except ValueError as error:
            if "hash" not in str(error).lower():
                raise
            refusals.append(f"{url}: the checksum differs from the manifest's")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise LabError(
                "the disk is full", where=target, mend="free some space and run again, it resumes"
            ) from error
    raise LabError(
        f"cannot download {target.name}: " + "; ".join(refusals),
        where=target.parent,
        mend="check the network and run the same command again, it resumes",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _resume_headers(part: Path, url: str) -> tuple[int, dict[str, str]]:
    """Where to continue, and the headers that make the server start over if its file has changed since."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "xmod-lab"}  # identity: lengths are those of the file
    size, note = _size(part), _note(part)
    if not size or not note.is_file():
        return 0, headers
    try:
        known = read_json(note)
    except LabError:
        return 0, headers
    if known.get("url") != url or not known.get("validator"):
        return 0, headers
    return size, headers | {"Range": f"bytes={size}-", "If-Range": known["validator"]}


def _write_note(part: Path, url: str, answer: requests.Response) -> None:
    tag = answer.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
    write_json(_note(part), {"url": url, "validator": validator})


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


def _retry_after(error: requests.RequestException) -> float | None:
    """Seconds to wait at least before the next attempt; None if another attempt is of no use."""
    import requests

    if isinstance(
        error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects)
    ):
        return None
    if error.response is None:
        return 0.0
    if error.response.status_code not in RETRY_STATUS:
        return None
    wanted = error.response.headers.get("Retry-After", "")
    return min(float(wanted), 60.0) if wanted.isdigit() else 0.0
