"""Named attention, affinity and feature maps: read (`record`) and change them (`replace`) without editing a model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.errors import LabError

TRAINED, UNTRAINED, SHUFFLED = "trained", "untrained", "shuffled query"
"""models that tables and views of maps set side by side: as trained; with the weights it began with; the first with its
rows dealt to other queries, so that what is left is no matter of who looks"""


@dataclass(frozen=True)
class Map:
    """What a method attends to, for one batch of one modality.

    kind        `stack`: values (b, K, h, w), K maps over the image; `pairwise`: (b, M, N), query by key;
                `mask`: (b, h, w), one value a pixel.
    span        smallest and largest value possible, None where unbounded
    comparable  True if values of different images and maps share one scale
    modality    the modality of the images it was computed on
    layer       where in the method it was taken: the name of the module whose output it shows or is made of, such as a
                tap, or a pattern of several; `record` and `replace` act on it
    grid        of a `pairwise` map whose queries and keys are positions over the image: their rows and columns. None
                where they are channels, classes or patches of a critic
    behind      of a `pairwise` map that compares maps: the two names of the stacks that its rows and its columns are of
    """

    kind: Literal["stack", "pairwise", "mask"]
    values: Tensor
    modality: str
    layer: str
    span: tuple[float, float] | None = None
    comparable: bool = True
    names: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    behind: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = {"stack": 4, "pairwise": 3, "mask": 3}[self.kind]
        if self.values.ndim != expected:
            raise LabError(f"a {self.kind} map has {expected} axes, not {self.values.ndim}", where=self.layer)
        if self.grid and (self.kind != "pairwise" or self.grid[0] * self.grid[1] not in self.values.shape[1:]):
            shape = "x".join(map(str, self.values.shape))
            raise LabError(f"a {self.kind} map of {shape} has no grid {self.grid}", where=self.layer)


def over_image(values: Tensor, image: Tensor) -> Tensor:
    """Maps (b, K, u, v) enlarged to the size of the images (b, k, h, w) that they are of: (b, K, h, w), bilinear."""
    return F.interpolate(values.float(), image.shape[2:], mode="bilinear", align_corners=False)


def difference(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| of two image batches (b, k, h, w), mean over channels: (b, h, w), in [0, 2] for images in [-1, 1]."""
    return (a.float() - b.float()).abs().mean(1)


def class_entropy(logits: Tensor) -> Tensor:
    r"""How undecided a segmenter is, :math:`-\sum_k p_k \ln p_k / \ln c` of logits (b, c, h, w): (b, h, w), in [0, 1].

    0 where one class has all, 1 where all c have the same.
    """
    log_p = logits.float().log_softmax(1)
    return (-(log_p.exp() * log_p).sum(1) / math.log(logits.shape[1])).clamp(0, 1)


def class_maps(
    logits: Tensor, modality: str, names: Sequence[str], layer: str, where: str = ""
) -> dict[str, Map]:
    """What a segmenter says of slices of `modality`, from its logits (b, c, h, w), `names` of its c classes and the
    `layer` that gives the logits.

    ``probability/<where>`` is a `stack` of the classes, ``entropy/<where>`` a `mask`: `class_entropy`. `where` is
    `modality` unless set.
    """
    where = where or modality
    p = Map("stack", logits.float().softmax(1), modality, layer, (0.0, 1.0), names=tuple(names))
    return {
        f"probability/{where}": p,
        f"entropy/{where}": Map("mask", class_entropy(logits), modality, layer, (0.0, 1.0)),
    }


def matching(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """Modules whose dotted name matches `pattern`, by name. Raises LabError listing the taps if there is none."""
    found = {name: module for name, module in model.named_modules() if name and fnmatchcase(name, pattern)}
    if not found:
        from xmod_lab.models.blocks import Tap

        taps = [name for name, module in model.named_modules() if isinstance(module, Tap)]
        raise LabError(
            f"no module matches {pattern!r}", where=type(model).__name__, mend=f"taps: {', '.join(taps) or 'none'}"
        )
    return found


@contextlib.contextmanager
def record(model: nn.Module, pattern: str) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the outputs of every module whose dotted name matches `pattern` (``*.taps.*``), detached, call by call.

    Hooks go when the block ends. Raises LabError listing the taps if nothing matches.

    >>> with record(model, "*encoder.taps.3") as seen:
    ...     model(x)
    >>> seen["net.encoder.taps.3"][0].shape
    """
    seen: dict[str, list[Tensor]] = {}
    with contextlib.ExitStack() as stack:
        for name, module in matching(model, pattern).items():
            seen[name] = []
            hook = module.register_forward_hook(
                lambda _m, _i, output, name=name: (
                    seen[name].append(output.detach()) if isinstance(output, Tensor) else None
                )
            )
            stack.callback(hook.remove)
        yield seen


@contextlib.contextmanager
def gone_through(model: nn.Module) -> Iterator[set[str]]:
    """The names of the modules of `model` that are called while the context is open."""
    seen: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda *_, name=name: seen.add(name)) for name, module in model.named_modules()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def replace(model: nn.Module, pattern: str, fn: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the output of every module that matches `pattern` through `fn` while the block runs (an intervention)."""
    with contextlib.ExitStack() as stack:
        for module in matching(model, pattern).values():
            hook = module.register_forward_hook(lambda _m, _i, output: fn(output))
            stack.callback(hook.remove)
        yield


def dealt(queries: int, seed: int = 0) -> np.ndarray:
    """(queries,) whose row each query gets in the null model SHUFFLED: a seeded permutation without a fixed point."""
    if queries < 2:
        return np.arange(queries)
    order = np.random.default_rng(seed).permutation(queries)
    found = np.empty(queries, np.int64)
    found[order] = np.roll(order, 1)  # one cycle through all: nobody keeps its own row
    return found
