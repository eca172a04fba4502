"""Execute one notebook in this process: ``python -m xmod_lab.series.one SPEC.json``, started by run.py.

A process of its own for each notebook, although papermill could run several in threads: papermill changes the working
folder and the environment of the whole process, a hanging kernel could not be ended from outside, and two notebooks
could not be given different thread counts, score files or runs folders. It costs about 1.5 s a notebook.

SPEC.json  {"source", "output", "parameters", "cwd", "parent", "cell_timeout", "kernel", "stdout", "stderr", "cell",
            "result"}
result     {"kind": "ok" | "error" | "timeout" | "dead" | "start" | "broken", "text": ...}
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

ATTEMPTS = 3


def execute(spec: dict[str, Any]) -> dict[str, str]:
    """Run the notebook of `spec` through papermill and say how it ended."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    import xmod_lab.series.light  # noqa: F401  before papermill imports nbformat

    started = False

    def on_cell(cell: Any, cell_index: int) -> None:
        nonlocal started
        started = True
        Path(spec["cell"]).write_text(str(cell_index + 1))

    for attempt in range(ATTEMPTS):
        try:
            with open(spec["stdout"], "w") as stdout, open(spec["stderr"], "w") as stderr:
                papermill.execute_notebook(
                    spec["source"],
                    spec["output"],
                    spec["parameters"],
                    kernel_name=spec["kernel"],
                    language="python",
                    progress_bar=False,
                    cwd=spec["cwd"],
                    start_timeout=120,
                    execution_timeout=spec["cell_timeout"],
                    stdout_file=stdout,
                    stderr_file=stderr,
                    on_cell_start=on_cell,
                )
            return {"kind": "ok", "text": ""}
        except papermill.PapermillExecutionError as error:
            return {"kind": "error", "text": f"{error.ename}: {error.evalue}"}
        except CellTimeoutError:
            return {"kind": "timeout", "text": f"a cell took longer than {spec['cell_timeout']:g} s"}
        except DeadKernelError:
            if started:
                return {"kind": "dead", "text": "the kernel died"}
        except RuntimeError as error:  # two kernels that start at once may choose the same port: start again
            if started or attempt == ATTEMPTS - 1:
                return {"kind": "broken", "text": f"{type(error).__name__}: {error}"}
    return {"kind": "start", "text": f"no kernel started in {ATTEMPTS} attempts"}


def _end_with(parent: int) -> None:
    """End this process when the series is gone (killed, not stopped); the kernel then ends too, by its own watch."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    threading.Thread(target=_end_with, args=(spec["parent"],), daemon=True).start()
    try:
        result = execute(spec)
    except Exception as error:
        result = {"kind": "broken", "text": f"{type(error).__name__}: {error}"}
    Path(spec["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
