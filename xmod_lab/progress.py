"""Progress of a run: a bar and a loss plot in a notebook, a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from xmod_lab.methods.base import StepResult

PLOT_EVERY = 2.0
"""seconds between two drawings of the live plot"""


def in_notebook() -> bool:
    """True in a Jupyter kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """Context whose `step` follows the training loop (the `on_step` of xmod_lab.train.fit)."""

    def __init__(self, title: str, steps: int, *, shown: bool = True):
        self.title, self.steps, self.shown = title, steps, shown
        self.plot = shown and in_notebook()
        self.plain = shown and not self.plot and not sys.stderr.isatty()
        self.losses: list[tuple[int, dict[str, float]]] = []
        self.drawn = time.monotonic()
        self.bar: Any = None
        self.display: Any = None

    def __enter__(self) -> Progress:
        if self.shown and not self.plain:
            if self.plot:
                from tqdm.notebook import tqdm
            else:
                from tqdm import tqdm
            self.bar = tqdm(total=self.steps, desc=self.title, leave=True)
        elif self.plain:
            print(f"{self.title}: {self.steps} steps", flush=True)
        return self

    def step(self, step: int, result: StepResult) -> None:
        """Called after each training step."""
        self.losses.append((step, result.losses))
        if self.bar is not None:
            self.bar.update(step + 1 - self.bar.n)
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in list(result.losses.items())[:1]})
        if self.plain and (step + 1) * 5 // self.steps > step * 5 // self.steps:
            text = "  ".join(f"{name} {value:.4f}" for name, value in result.losses.items())
            print(f"  step {step + 1}/{self.steps}  {text}", flush=True)
        if self.plot and time.monotonic() - self.drawn > PLOT_EVERY:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display
        from matplotlib import pyplot as plt

        from xmod_lab.view.figures import loss_curves

        self.drawn = time.monotonic()
        figure = loss_curves(self.losses, title=self.title)
        if self.display is None:
            self.display = display(figure, display_id=True)
        else:
            self.display.update(figure)
        plt.close(figure)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.plot and self.losses and self.display is not None:
            self._draw()
        if self.bar is not None:
            self.bar.close()
