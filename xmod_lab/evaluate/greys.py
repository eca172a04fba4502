"""How bright a translator makes each structure, beside what it was and what it should be, by patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.runs import test_volumes
from xmod_lab.evaluate.translators import translated, translations_of, true_slices

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method

REST = "rest of the body"
LEAST = 0.01
"""change of grey, of a range of 2, below which nobody can ask for a share of it"""
COLUMNS = ("patient", "source", "target", "structure", "given", "made", "truth")


def structure_greys(method: Method, prepared: Prepared) -> pd.DataFrame:
    """Mean grey of each structure in the image that is given, in its translation and in the true image of the target.

    One row a test patient, source, target and class, and one for REST, the body outside all classes; in the recipe's
    range, over the middle slices at the size that networks see. What a patient does not have is left out, as are
    translations whose truth nobody knows: the table may be empty.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    pairs = translations_of(method, prepared)
    for source in dict.fromkeys(s for s, _ in pairs):
        for case in test_volumes(prepared, source):
            labels, middle = case.geometry.forward(case.truth, "nearest"), case.slices.image.shape[1] // 2
            masks = {name: labels == value for value, name in enumerate(prepared.classes, start=1)}
            masks[REST] = case.slices.foreground.numpy() & (labels == 0)
            for target in [t for s, t in pairs if s == source]:
                truth = true_slices(prepared, case, target)
                if truth is None:
                    continue
                given, made = (x[:, middle].numpy() for x in (case.slices.image, translated(method, case, target)))
                rows += [
                    {"patient": case.patient, "source": source, "target": target, "structure": name}
                    | {"given": given[mask].mean(), "made": made[mask].mean(), "truth": truth[mask].mean()}
                    for name, mask in masks.items()
                    if mask.any()
                ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def share_table(greys: Mapping[str, pd.DataFrame], *by: str) -> pd.DataFrame:
    """`share_of_change` by system and direction (``A to B``), and by columns `by` of tables of `structure_greys`.

    The last of them is across, the others are down; empty where nobody knows the truth.
    """
    import pandas as pd

    shares = {
        (name, f"{source} to {target}", *rest): share_of_change(part)
        for name, table in greys.items()
        for (source, target, *rest), part in table.groupby(["source", "target", *by], sort=False)
    }
    return pd.Series(shares, dtype=float).unstack() if shares else pd.DataFrame()


def share_of_change(rows: pd.DataFrame) -> float:
    r"""How much of the change of grey that the truth asks for a translator makes, from rows of `structure_greys`.

    .. math:: \frac{\sum (m - g)(t - g)}{\sum (t - g)^2} \qquad g \text{ given}, m \text{ made}, t \text{ truth}

    1 where every structure gets its grey, 0 of a copy, negative where structures move the other way; above 1 they go
    too far. NaN where hardly anything has to change, less than LEAST in the root mean square.
    """
    asked, done = rows["truth"] - rows["given"], rows["made"] - rows["given"]
    if not len(rows) or float(np.square(asked).mean()) < LEAST**2:
        return float("nan")
    return float((done * asked).sum() / np.square(asked).sum())
