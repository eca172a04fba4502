"""The explorer as a web page of its own, served by Voila: a kernel a visitor, ended when its page is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PAGE = """\
import os

from xmod_lab.view.explorer import Explorer

os.chdir({here!r})  # what is saved lies where the page was started
explorer = Explorer({chosen})
explorer.widget()
"""
IDLE = 300
"""seconds after which a kernel without a page is ended: a closed tab leaves its kernel"""


def notebook(folder: Path, run: str = "") -> Path:
    """A notebook of one cell that shows the explorer, written to `folder`."""
    import nbformat

    code = PAGE.format(here=os.getcwd(), chosen=f"run={run!r}" if run else "")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(code.strip(), id="explorer")]
    page = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "title": "xmod_lab explorer"})
    path = folder / "explorer.ipynb"
    nbformat.write(page, path)
    return path


def command(page: Path, port: int, *more: str) -> list[str]:
    """The command line that serves `page` on this machine alone."""
    return [
        sys.executable, "-m", "voila", str(page), f"--port={port}", "--Voila.ip=127.0.0.1", "--strip_sources=True",
        f"--MappingKernelManager.cull_idle_timeout={IDLE}", "--MappingKernelManager.cull_interval=30",
        "--MappingKernelManager.cull_connected=False", "--show_tracebacks=True", *more,
    ]  # fmt: skip


def serve(port: int = 8866, run: str = "", browser: bool = True, more: Sequence[str] = ()) -> int:
    """Serve the explorer until it is stopped; returns Voila's exit code."""
    with tempfile.TemporaryDirectory(prefix="xmod-lab-") as folder:
        flags = [*([] if browser else ["--no-browser"]), *more]
        return subprocess.run(command(notebook(Path(folder), run), port, *flags), env=os.environ).returncode
