"""What every notebook of the series begins, checks and ends with.

    lab = start(profile, dataset, seed)                      one block: versions, device, data, seed
    check(lambda: f(2) == 4, "square x, do not double it")   used by students and by the series runner alike
    with expect_error(ValueError, "channels"): ...           an error shown on purpose
    show(fig, "what the picture says")                       a picture under every back end
    export("figures")                                        from here on keep pictures and tables as files, too
    record("dice/T2", 0.81, trivial=0.0, tolerance=0.1)      a number the series check compares

Imports are light: torch is loaded by `start`, numpy by the first number that is looked at.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xmod_lab import __version__, kept
from xmod_lab.errors import LabError
from xmod_lab.profiles import profile_of

SCORE_MIME = "application/vnd.xmod-lab.score+json"


class CheckFailed(AssertionError):
    """A check that did not pass. Its text is the hint, and a notebook shows nothing but the hint."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook: frames of this file would only distract a student
        return [f"Not yet: {self}"]


@dataclasses.dataclass(frozen=True)
class Lab:
    """What a notebook runs with. `source` is "phantom", "real" or "none"; `device` is "cpu" or "cuda"."""

    profile: str
    dataset: str | None
    seed: int
    device: str
    source: str
    demonstration: bool
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        fold = f", fold {self.more['fold']}" if "fold" in self.more else ""
        return f"{self.profile} profile, {self.dataset or 'no data set'}, seed {self.seed}{fold}"


_recorded: dict[str, object] = {}  # name -> execution that recorded it
_lab: Lab | None = None


def start(profile: str, dataset: str | None = None, seed: int = 0, *, device: str = "auto", **more: Any) -> Lab:
    """Seed everything, choose the device, set the picture style, and print one block that says what this is.

    profile: smoke, lesson, long, study or paper. Smoke is float32 on the CPU with one thread: its numbers repeat.
    dataset: key of the manifest, or None for a notebook without data. device: auto, cpu or cuda.
    more: further parameters of the notebook, printed with the others.
    Raises LabError for an unknown profile or data set, and for a GPU asked for and absent.
    """
    global _lab
    threads = profile_of(profile).threads
    import numpy
    import torch

    from xmod_lab.view import style

    where = _device(profile, device, torch)
    source, shown, demonstration = _data_source(dataset)
    numpy.random.seed(seed % 2**32)
    _make_repeatable(torch, seed, threads)
    style.use()
    _recorded.clear()
    if folder := os.environ.get("XMOD_EXPORT"):  # of the series runner
        export(folder)
    _lab = Lab(profile, dataset, seed, where, source, demonstration, more)
    python = ".".join(map(str, sys.version_info[:3]))
    rows = [f"xmod_lab {__version__} | torch {torch.__version__} | numpy {numpy.__version__} | Python {python}"]
    rows += [f"profile  {profile}", f"device   {_device_name(where, torch)}", f"data     {shown}", f"seed     {seed}"]
    rows += [f"{name:<8} {value}" for name, value in more.items()]
    print("\n".join(rows))
    return _lab


def _make_repeatable(torch: Any, seed: int, threads: int | None) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)  # a few CUDA kernels have no deterministic twin
    torch.utils.deterministic.fill_uninitialized_memory = False  # it would cost a fill of every torch.empty
    if threads:
        torch.set_num_threads(threads)


def _device(profile: str, wanted: str, torch: Any) -> str:
    if wanted not in ("auto", "cpu", "cuda"):
        raise LabError(f"no device {wanted!r}", mend="choose auto, cpu or cuda")
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise LabError("a GPU was asked for and PyTorch sees none", mend="use device='cpu', or install a CUDA build")
    if wanted == "auto":
        return "cuda" if present and profile != "smoke" else "cpu"
    return wanted


def _device_name(device: str, torch: Any) -> str:
    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu, {torch.get_num_threads()} thread(s)"


def _data_source(key: str | None) -> tuple[str, str, bool]:
    """source, the line about it, and whether no score of it counts."""
    if key is None:
        return "none", "none", False
    from xmod_lab.data import manifest

    entry = manifest.dataset(key)
    demonstration = entry.demonstration
    source = "phantom" if entry.access == "phantom" else "real"
    inside = "/".join(entry.folder.parts[-2:])  # the last two parts say which data without naming this machine
    kind = "phantom, drawn by a program: directions seen here are no evidence" if source == "phantom" else "real"
    line = f"{key} ({kind}), folder {inside}"
    if demonstration:
        line += "; DEMONSTRATION: too few patients, no score counts"
    return source, line, demonstration


def record(name: str, value: Any, *, trivial: float | None = None, tolerance: float | None = None) -> None:
    """Record a named number: shown here, kept in the notebook, compared by the series check.

    value: one finite number (int, float, 0-d array or tensor).
    trivial: what the trivial answer would score (an untrained network, a constant image).
    tolerance: how far a later run may be off; default 0 for whole numbers, else 1e-3 of the value. It must be
        narrower than |value - trivial|, or the comparison would also accept the trivial answer.
    Raises ValueError for anything else, and for a name recorded twice (running a cell again in a live notebook
    replaces its numbers). Where nothing is compared (real data, or other parameters than the notebook's own, which the
    series runner says with XMOD_COMPARE=0) a tolerance too wide is only noted.
    """
    number = _number(name, value)
    if tolerance is None:
        tolerance = 0.0 if isinstance(number, int) else 1e-3 * max(abs(number), 1e-3)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"score {name!r}: tolerance {tolerance} must be a finite number, 0 or more")
    note = ""
    if trivial is not None:
        trivial = float(_number(f"{name} (trivial)", trivial))
        if not tolerance < abs(number - trivial):
            note = f"tolerance {tolerance:g} is not narrower than the distance {abs(number - trivial):g} to the trivial"
            if os.environ.get("XMOD_COMPARE") != "0" and (_lab is None or _lab.source != "real"):
                raise ValueError(f"score {name!r}: {note} answer {trivial:g}; the check would accept that answer too")
            note = f"  [within the tolerance {tolerance:g} of the trivial answer {trivial:g}]"
    execution = _execution()
    if name in _recorded and (execution is None or _recorded[name] == execution):
        raise ValueError(f"score {name!r} is recorded twice; give each number a name of its own")
    _recorded[name] = execution
    row = {"name": name, "value": number, "trivial": trivial, "tolerance": float(tolerance)}
    if path := os.environ.get("XMOD_SCORES"):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
    text = f"{name} = {number:.6g}" if isinstance(number, float) else f"{name} = {number}"
    _display({SCORE_MIME: row, "text/plain": text + note}, text + note)


def _number(name: str, value: Any) -> int | float:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"score {name!r}: {value!r} is not one number")
    if not math.isfinite(value):
        raise ValueError(f"score {name!r} is {value}; record a finite number, and say what is missing in a count")
    return value


def _ipython() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _execution() -> int | None:
    """The number of the running cell in a live notebook; None under the series runner, where nothing runs twice."""
    shell = _ipython()
    return None if shell is None or os.environ.get("XMOD_SCORES") else shell.execution_count


def _display(bundle: dict[str, Any], plain: str, about: dict[str, Any] | None = None) -> None:
    if _ipython() is None:
        print(plain)
        return
    from IPython.display import display

    display(bundle, raw=True, metadata=about or {})


def show(figure: Any, alt: str = "") -> None:
    """Show a matplotlib figure once, as a PNG, whatever the back end, and close it. `alt` says what is to be seen."""
    import matplotlib.pyplot as plt

    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", facecolor="white")
    plt.close(figure)
    kept.figure(figure, alt)
    text = alt or "figure"
    picture = {"image/png": base64.b64encode(stream.getvalue()).decode("ascii"), "text/plain": text}
    _display(picture, text, {"image/png": {"alt": text}})


def export(folder: str | Path) -> None:
    """Keep every figure shown from now on as PNG and SVG below `folder`, every table as CSV, Markdown and LaTeX.

    Call it once after `start`; called again it counts from 1 again. `xmod-lab series run --export` does it for you.
    """
    kept.export(folder, _ipython())


def _asked(thing: Any, hint: str) -> Any:
    """`thing`, or what it returns if it is a function; an error inside (an unfinished exercise) becomes the hint."""
    if not callable(thing):
        return thing
    try:
        return thing()
    except Exception as error:
        raise CheckFailed(f"{hint} [{type(error).__name__}: {error}]") from error


def check(condition: bool | Callable[[], Any], hint: str) -> None:
    """Print "Correct", or raise CheckFailed with the hint.

    Give a function (``lambda: ...``) where the code under test may not be written yet: its errors become the hint.
    """
    got = _asked(condition, hint)
    if got is None or got is Ellipsis or not _asked(lambda: bool(got), hint):
        raise CheckFailed(hint)
    print("Correct.")


def check_close(got: Any, expected: Any, hint: str, rtol: float = 1e-5, atol: float = 1e-8) -> None:
    """Like `check`, for numbers, arrays and tensors of the same shape: every element within atol + rtol * |expected|.

    `got` may be a function. Prints your answer beside the expected one, whether they agree or not.
    """
    import numpy

    found = _array(_asked(got, hint))
    wanted = _array(expected)
    with numpy.printoptions(precision=4, threshold=12, edgeitems=3):
        sides = f"yours {found}, expected {wanted}"
    if found.dtype.kind not in "biufc":
        raise CheckFailed(f"{hint} [{sides}]")
    if found.shape != wanted.shape:
        raise CheckFailed(f"{hint} [yours has shape {found.shape}, expected {wanted.shape}]")
    if not numpy.allclose(found, wanted, rtol=rtol, atol=atol):
        raise CheckFailed(f"{hint} [{sides}]")
    print(f"Correct: {sides}.")


def _array(value: Any) -> Any:
    import numpy

    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return numpy.asarray(value)


@contextlib.contextmanager
def expect_error(kind: type[BaseException], text: str = "") -> Iterator[None]:
    """Show an error on purpose: print it and go on. Raises CheckFailed if it did not come or does not hold `text`."""
    try:
        yield
    except kind as error:
        if text not in str(error):
            raise CheckFailed(f"expected {text!r} in the {kind.__name__}, it says: {error}") from error
        print(f"{kind.__name__}, as expected: {error}")
    else:
        raise CheckFailed(f"expected a {kind.__name__}, and nothing was raised")
