"""Pictures of two images that ought to lie on each other: chequered, and by the histogram of their pairs of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.data.geometry import to_planes
from xmod_lab.data.recipes import Plane, recipe_of
from xmod_lab.errors import LabError
from xmod_lab.view.slices import montage
from xmod_lab.view.style import HEAT, colours_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xmod_lab.data.manifest import Dataset, Task

BONE = 300.0
"""Hounsfield units above which it is bone"""


def middle_slice(array: np.ndarray, plane: Plane = "axial") -> np.ndarray:
    """(x, y, z) -> its middle slice (h, w) as displayed, -1 to 1 from the volume's percentiles 0.5 to 99.5."""
    planes = to_planes(array, plane)
    low, high = np.percentile(array, (0.5, 99.5))
    return np.clip(2 * (planes[len(planes) // 2] - low) / max(high - low, 1e-6) - 1, -1, 1)


def registration_grid(data: Dataset, task: Task, patients: Sequence[str], *, title: str = "") -> Figure:
    """A row a patient: the image that stays, the other one as the files say that it lies and after registration; then
    both in one chequered picture, before and after.

    task: one that registers two modalities. The contour is the bone of the image that stays, where that is a CT. Raises
    LabError for another task, and as `registered` does.
    """
    from xmod_lab.data.places import places, seen_at
    from xmod_lab.data.registered import registered
    from xmod_lab.data.volume import load_image

    others = [m for m in task.modalities if m != task.register]
    if task.register is None or len(others) != 1:
        raise LabError(f"a task that does not register two modalities: {task.title}", where=f"data set {data.key}")
    fixed, (moving,), plane = task.register, others, recipe_of(task).plane
    rows, bones = {}, {}
    for patient in patients:
        still, other = (load_image(data, patient, m) for m in (fixed, moving))
        kept = registered(data, patient, moving, fixed).image.array
        stays, before, after = (
            middle_slice(array, plane) for array in (still.array, seen_at(other, places(still)), kept)
        )
        rows[patient] = {fixed: stays, f"{moving} as it lies": before, f"{moving} registered": after,
                         "as they lie": checkerboard(stays, before), "registered": checkerboard(stays, after)}
        planes = to_planes(still.array, plane)
        bone = (planes[len(planes) // 2] > BONE).astype(int)
        bones[patient] = dict.fromkeys(list(rows[patient])[:3], bone)
    is_ct = data.modalities[fixed].kind == "CT"
    classes = [f"bone of the {fixed}"] if is_ct else []
    return montage(rows, labels=bones if is_ct else None, classes=classes, title=title)


def checkerboard(first: np.ndarray, second: np.ndarray, fields: int = 6) -> np.ndarray:
    """Two images (h, w) of like range in one, by fields, `fields` of them on the longer edge, in turn."""
    edge = -(-max(first.shape) // fields)
    row, column = np.indices(first.shape) // edge
    return np.where((row + column) % 2 == 0, first, second)


def information_panels(
    joints: Mapping[str, tuple[np.ndarray, float]],
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    axes_named: tuple[str, str] = ("", ""),
    level: tuple[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Joint histograms side by side, and mutual information as a function of a shift.

    joints: name -> counts (m, n) and their mutual information in nats; rows go up, the first axis of `axes_named` is
    that of rows; brightness is the logarithm of the count, alike in all. curves: name -> shifts (mm) and information.
    level: name and height of a dotted line.
    """
    import matplotlib.pyplot as plt

    size = (2.9 * len(joints) + 4.6, 3.3)
    widths = [1.0] * len(joints) + [1.45]
    figure, axes = plt.subplots(1, len(joints) + 1, figsize=size, layout="constrained", width_ratios=widths)
    most = max(np.log1p(counts).max() for counts, _ in joints.values())
    for axis, (name, (counts, value)) in zip(axes, joints.items(), strict=False):
        painted = axis.imshow(np.log1p(counts), cmap=HEAT, vmin=0, vmax=most, origin="lower")
        axis.set(title=f"{name}: {value:.2f} nats", xlabel=axes_named[1], ylabel=axes_named[0], xticks=[], yticks=[])
    marks = [m for m in (1, 10, 100, 1000, 10_000, 100_000) if np.log1p(m) <= most]
    bar = figure.colorbar(painted, ax=list(axes[:-1]), shrink=0.8, pad=0.02, label="places")
    bar.set_ticks([0.0, *np.log1p(marks)], labels=["0", *map(str, marks)])
    for (name, (shifts, values)), colour in zip(curves.items(), colours_of(list(curves)).values(), strict=True):
        axes[-1].plot(shifts, values, color=colour, label=name)
    if level is not None:
        axes[-1].axhline(level[1], color="0.4", lw=1, ls=":", label=level[0])
    axes[-1].axvline(0, color="0.8", lw=0.8, zorder=0)
    axes[-1].set(xlabel="shift from the place found [mm]", ylabel="mutual information [nats]")
    axes[-1].legend(fontsize=8, loc="upper right")
    if title:
        figure.suptitle(title)
    return figure
