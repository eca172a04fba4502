"""Switch something off inside a method and see what moves: a map, a head, a channel; masks and translations.

What a map shows need not be what a network uses. The test is to change the map where it is used (`Map.layer`) and to
look at the output: attention that can be replaced by its mean without any loss explains nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from xmod_lab.data.prepare import Prepared
from xmod_lab.errors import LabError
from xmod_lab.evaluate.overlap import overlap_scores
from xmod_lab.evaluate.runs import Case, network_for, probabilities_of, structures_of, test_volumes
from xmod_lab.evaluate.translators import translated, translations_of
from xmod_lab.maps import dealt, difference, matching, replace

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method

How = Callable[[Tensor], Tensor]
COLUMNS = ("patient", "modality", "measure", "of", "before", "after", "change")


def mean(x: Tensor) -> Tensor:
    """Each map by its mean: of (b, c, h, w) over the pixels of each channel, of (b, M, N) over the matrix of each slice
    (1/N where rows sum to 1). Raises LabError for other tensors."""
    if x.ndim not in (3, 4):
        raise LabError(f"{_shape(x)} is neither maps (b, c, h, w) nor a matrix a slice", where="mean")
    return x.mean(tuple(range(x.ndim - 2, x.ndim)), keepdim=True).expand_as(x).contiguous()


def uniform(x: Tensor) -> Tensor:
    """(b, M, N) -> 1/N everywhere: each query looks at all keys alike. Raises LabError for other tensors."""
    return torch.full_like(x, 1 / _pairwise(x, "uniform").shape[2])


def identity(x: Tensor) -> Tensor:
    """(b, N, N) -> the unit matrix: each query looks at itself alone. Raises LabError for other tensors."""
    if _pairwise(x, "identity").shape[1] != x.shape[2]:
        raise LabError(f"{_shape(x)} is not square", where="identity", mend="take uniform or shuffle")
    return torch.eye(x.shape[2], dtype=x.dtype, device=x.device).expand_as(x).contiguous()


def shuffled(x: Tensor, seed: int = 0) -> Tensor:
    """(b, M, N) with its rows in another order, the same for every slice and call: each query looks where another one
    of its slice looks, as sharply (`maps.dealt`). Raises LabError for other tensors."""
    rows = _pairwise(x, "shuffle").shape[1]
    return x[:, torch.from_numpy(dealt(rows, seed)).to(x.device)]


HOWS: dict[str, How] = {
    "zero": torch.zeros_like,
    "ones": torch.ones_like,
    "mean": mean,
    "uniform": uniform,
    "identity": identity,
    "shuffle": shuffled,
}
"""what can be put in the place of a tensor; the last three are for `pairwise` maps"""


@contextlib.contextmanager
def intervened(method: nn.Module, layer: str, how: str | How, index: int | None = None) -> Iterator[None]:
    """While the block runs, what the modules of `layer` give is changed; afterwards all is as before, bit for bit.

    layer   a name or pattern as `Map.layer` has it. A map of positions that a fused kernel else never makes is made
            while it is replaced (`models.dual_attention.PositionAttention`)
    how     of HOWS, or a function of a tensor that keeps its shape, such as one that returns another patient's map
    index   change this entry of the second axis alone: a channel or map of (b, c, h, w), a query of (b, M, N)

    Raises LabError for a layer that no module has or whose modules are never called, and when a call gives no tensor,
    or one that `how` or `index` does not fit.

    >>> with intervened(method, found["position/real/T2"].layer, "identity"):
    ...     method.segment(image, "T2")
    """
    if isinstance(how, str) and how not in HOWS:
        raise LabError(f"no way {how!r} to intervene", where="intervened", mend=f"known: {', '.join(HOWS)}")
    fn = HOWS[how] if isinstance(how, str) else how
    for name, module in matching(method, layer).items():
        if type(module).forward is nn.Module.forward:  # a container, or a whole method
            raise LabError(f"{name} is never called", where=layer, mend=f"name modules within it: {name}.*")
    with replace(method, layer, lambda output: _changed(output, fn, index, layer)):
        yield


def effects(
    method: Method,
    prepared: Prepared,
    layer: str,
    how: str | How,
    index: int | None = None,
    patients: Sequence[str] | None = None,
) -> pd.DataFrame:
    """What `intervened` moves on the test volumes, all or those of some `patients`: one row a patient, modality,
    measure and what it is `of`.

    dice         of each structure that the task scores, on the volume's own grid: `before`, `after`, and `change`, the
                 one minus the other, -1 to 1
    probability  of all classes: `change` is the mean of |p' - p| over the c classes and the body's pixels, 0 to 2/c
    translation  of each target: `change` is the mean of |x' after - x' before| over channels and the body's pixels, in
                 the recipe's range

    The body is the slices' foreground and all that has a label; `before` and `after` of the last two are NaN. A change
    of exactly 0 everywhere says that the layer takes no part (a critic's), or that the network ignores it. Raises
    LabError as `intervened` does, for a patient who is not among the test's, and for a method that does neither.
    """
    import pandas as pd

    method.eval()
    segments = bool(prepared.classes) and callable(getattr(method, "segment", None))
    if not segments and not translations_of(method, prepared):
        raise LabError("it neither segments nor translates", where=type(method).__name__)
    if patients is not None:
        if strange := [name for name in patients if name not in prepared.split.test]:
            raise LabError(f"{strange[0]} is no test patient", mend=f"known: {', '.join(prepared.split.test)}")
        prepared = dataclasses.replace(prepared, split=dataclasses.replace(prepared.split, test=list(patients)))
    rows: list[dict[str, Any]] = []
    for modality in prepared.task.tested:
        for case in test_volumes(prepared, modality):
            before = _outputs(method, prepared, case, segments)
            with intervened(method, layer, how, index):
                after = _outputs(method, prepared, case, segments)
            where = {"patient": case.patient, "modality": modality}
            rows += [where | row for row in _moved(prepared, case, before, after)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _outputs(method: Method, prepared: Prepared, case: Case, segments: bool) -> dict[str | None, Tensor]:
    """Translations (D, k, S, S) by target, and under None the class probabilities (D, c, S, S)."""
    found: dict[str | None, Tensor] = {}
    found |= {t: translated(method, case, t) for s, t in translations_of(method, prepared) if s == case.modality}
    if segments:
        network = network_for(method, case.modality)
        seen = probabilities_of(method, case, lambda image: method.segment(image, network))  # type: ignore[operator]
        found[None] = torch.from_numpy(seen)
    return found


def _moved(
    prepared: Prepared, case: Case, before: dict[str | None, Tensor], after: dict[str | None, Tensor]
) -> Iterator[dict[str, Any]]:
    """The rows of `effects` of one volume."""
    body = case.slices.foreground | torch.from_numpy(case.geometry.forward(case.truth, "nearest") > 0)
    for name, image in before.items():
        change = difference(after[name], image)[body].mean().item()  # NaN where there is no body
        measure, of = ("probability", "all classes") if name is None else ("translation", name)
        yield {"measure": measure, "of": of, "change": change}
        if name is None:
            first, then = _dice(prepared, case, image), _dice(prepared, case, after[name])
            for structure, dice in first.items():
                both = {"before": dice, "after": then[structure], "change": then[structure] - dice}
                yield {"measure": "dice", "of": structure} | both


def _dice(prepared: Prepared, case: Case, probabilities: Tensor) -> dict[str, float]:
    """By structure, of the whole volume; by the rule of `overlap_scores` for missing ones."""
    labels, found = case.geometry.labels(probabilities.numpy()), {}
    for structure, members in structures_of(prepared).items():
        ours, theirs = np.isin(labels, members), np.isin(case.truth, members)
        counts = (int((ours & theirs).sum()), int(ours.sum()), int(theirs.sum()))
        found[structure] = overlap_scores(*counts, labels.size)["dice"]
    return found


def _changed(output: Any, fn: How, index: int | None, layer: str) -> Tensor:
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise LabError(f"it gives a {kind}, not a tensor", where=layer, mend="name a module within it, such as a tap")
    made = fn(output)
    if made.shape != output.shape:
        raise LabError(f"what comes back is {_shape(made)}, not {_shape(output)}", where=layer)
    if index is None:
        return made
    if output.ndim < 3 or not 0 <= index < output.shape[1]:
        raise LabError(f"{_shape(output)} has no entry {index} of its second axis", where=layer)
    result = output.clone()
    result[:, index] = made[:, index]
    return result


def _pairwise(x: Tensor, where: str) -> Tensor:
    if x.ndim != 3:
        raise LabError(f"{_shape(x)} is no matrix of queries and keys (b, M, N)", where=where)
    return x


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape))
