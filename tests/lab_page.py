"""JupyterLab in a headless browser: started on a folder of its own, a notebook run in it from first cell to last.

The page may speak to 127.0.0.1 only, and nothing may be left running.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
from chromium import BROWSER, FLAGS
from conftest import CHECKOUT

TOKEN = "for-this-test-only"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
"""without it JupyterLab asks which kernel to take"""
START = 90
"""seconds that the server may take to answer on a busy machine"""
FAILURE = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/api/status?token={TOKEN}")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def end(process: psutil.Popen) -> list[psutil.Process]:
    """Stop the server, its kernels and whatever they started; return what is still alive."""
    family = [process, *process.children(recursive=True)]
    process.terminate()  # the server ends its kernels, which sit in sessions of their own
    _, alive = psutil.wait_procs(family, timeout=20)
    for each in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    return psutil.wait_procs(alive, timeout=10)[1]


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """JupyterLab on `folder` with settings of its own; yields its address."""
    port, log = free_port(), folder.parent / "jupyterlab.log"
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(folder.parent / name) for name in names} | {"PYTHONPATH": str(CHECKOUT)}
    environment.pop("MPLBACKEND", None)  # the kernel draws inline, as for a reader
    with log.open("w") as stream:
        streams = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": subprocess.STDOUT}
        process = psutil.Popen(command, env=environment, **streams)
        try:
            latest = time.monotonic() + START
            while not answers(port):
                assert process.poll() is None and time.monotonic() < latest, log.read_text()[-3000:]
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            alive = end(process)
        assert alive == [], "the server left processes behind"


def smoke_notebook(name: str) -> Any:
    """A notebook of the series with the parameters of smoke."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = load_notebook_node(str(CHECKOUT / "notebooks" / name))
    notebook.metadata.kernelspec = KERNEL
    return parameterize_notebook(notebook, {"profile": "smoke"})


@contextlib.contextmanager
def ran(notebook: Any, place: Path, seconds: float, height: int = 3000) -> Iterator[Any]:
    """The page of a notebook that JupyterLab ran as a reader does, with Run All Cells. Fails if a cell fails or takes
    more than `seconds`, if the page asks anybody but this machine, or complains. height: so tall that every cell is
    rendered."""
    from playwright.sync_api import sync_playwright

    folder = place / "lab"
    folder.mkdir()
    nbformat.write(notebook, folder / "page.ipynb")
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    requests: list[str] = []
    complaints: list[str] = []
    with jupyterlab(folder) as address, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(place / "profile"), executable_path=BROWSER, headless=True, args=FLAGS,
            viewport={"width": 1400, "height": height},
        )  # fmt: skip
        try:
            page = context.new_page()
            context.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.set_default_timeout(20000)
            page.goto(f"{address}/lab/tree/page.ipynb?token={TOKEN}")
            page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
            # Only the status bar tells that the kernel is connected: a run asked for before that is dropped in silence.
            page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
            page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
            page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
            page.wait_for_function(
                """([cells, failure]) => {
                    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
                    const done = prompts.filter(prompt => /\\[\\d+\\]/.test(prompt.textContent)).length;
                    return done >= cells || document.querySelector(failure) !== null;
                }""",
                arg=[cells, FAILURE],
                timeout=seconds * 1000,
            )
            failures = page.locator(FAILURE).all_inner_texts()
            assert failures == [], "\n".join(failures)
            yield page
        finally:
            context.close()
    hosts = {urllib.parse.urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}, "the page asked somebody else"
    assert complaints == []
