"""Preprocessing recipes: how a volume becomes values in [-1, 1], and which part of it is body.

Sources are the papers and their code; what is corrected, and why:

P1     brain, UAGAN (Yuan et al. 2019). There: z-score, min-max, centre crop 200, resize 128, slices with under 9.8 %
       of non-zero pixels dropped. A z-score followed by min-max is min-max alone (the affine maps cancel), so only
       min-max is written here; its limits are the 0.1 and 99.9 percentile of the foreground, since a few bright voxels
       would else compress the brain. The crop is the foreground's box, because a fixed 200 suits the BraTS grid alone
       (``overrides: {crop: {centre: 200}}`` gives it back). Slices are dropped in training only, never in tests.
P2     heart, PnP-AdaNet, SIFA, SASAN: coronal, clip at the 2 and 98 percentile, z-score, [-1, 1]. The papers centre
       their crop on the labels, which leaks them; here the body's box is used. SIFA's fixed limits for the last step
       fit one release of one data set; here z-scores are clipped at 4 and divided by 4 for every modality, which needs
       no statistics of other patients.
P3     heart, CSA (Chen et al. 2020): centre crop 224, z-score of each slice. A nearly empty slice has almost no spread
       and would explode, so its standard deviation counts as at least 20 % of the volume's; clipped at 5, divided by 5.
P4     brain, SASAN (Tomar et al. 2021): clip at the 2 and 98 percentile, min-max.
chaos  abdomen, TarGAN (Chen et al. 2021). There: raw MR values under 50 set to 0, min-max of each slice, one DICOM
       window for CT. Slice-wise min-max hides brightness between slices and fails on constant ones, so MR is clipped at
       the volume's 0.5 and 99.5 percentile; CT has a fixed soft-tissue window; the body is what lies above a threshold,
       without small pieces, not "non-zero".
rire   head CT and MR, SASAN: 0.5 and 99.5 percentile; of CT only the inscribed circle counts, as the scanner fills the
       corners with a constant.
bigl   brain, BiGL (He et al.): z-score over the non-zero voxels (BraTS volumes are mostly zeros), clipped at 2.5 and
       divided by it. The background is 0, the brain's mean: at -1, the head's edge being the largest contrast of every
       image, critics took longer to tell T1 from T2.

Every recipe maps into [-1, 1], so that translators that end in tanh share it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from xmod_lab.data.manifest import Task
from xmod_lab.errors import LabError

Plane = Literal["axial", "coronal", "sagittal"]


@dataclass(frozen=True)
class Recipe:
    """One way to prepare volumes. A task may set single fields otherwise (`overrides` in the manifest)."""

    name: str
    plane: Plane = "axial"
    mr_clip: tuple[float, float] | None = (0.5, 99.5)
    """percentiles over the foreground between which MR is clipped; None: not clipped"""
    ct_clip: tuple[float, float] | None = None
    """percentiles for CT, used where `ct_window` is None"""
    ct_window: tuple[float, float] | None = (-160.0, 240.0)
    """lowest and highest HU"""
    scale: Literal["minmax", "zscore", "zscore_slice"] = "minmax"
    z_limit: float = 5.0
    """z-scores are clipped to plus/minus this and divided by it"""
    value_range: tuple[float, float] = (-1.0, 1.0)
    foreground: Literal["nonzero", "body", "all"] = "body"
    """nonzero: stripped images; body: above a threshold, holes filled; all: the field of view lies within the body.
    A mask in the data set goes before each."""
    blank: bool = False
    """voxels outside the foreground become `background`"""
    background: float = -1.0
    """of a blanked image, in `value_range`; see `outside`"""
    circle: bool = False
    """CT outside the inscribed circle of each axial slice is not image"""
    crop: Literal["none", "foreground"] | dict[str, float] = "foreground"
    """the square cut from each slice: the whole slice, the foreground's box, or ``{"centre": pixels}``"""
    margin: float = 0.03
    """border around the foreground's box, as a part of its side"""
    drop_below: float = 0.05
    """training leaves out slices whose foreground covers a smaller part than this"""
    flips: tuple[str, ...] = ("horizontal",)
    """directions in which augmentation may flip"""
    register: str | None = None
    """modality of a `same_subject` data set onto whose grid the patient's others are brought (`data.registered`)"""

    @property
    def outside(self) -> float | None:
        """What lies outside a volume; None: its lowest value."""
        return self.background if self.blank else None


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe("P1", mr_clip=(0.1, 99.9), foreground="nonzero", blank=True, drop_below=0.098,
           flips=("horizontal", "vertical")),
    Recipe("P2", plane="coronal", mr_clip=(2, 98), ct_window=None, ct_clip=(2, 98), scale="zscore", z_limit=4.0),
    Recipe("P3", mr_clip=None, ct_window=None, scale="zscore_slice", foreground="all", crop={"centre": 224}),
    Recipe("P4", mr_clip=(2, 98), foreground="nonzero", blank=True),
    Recipe("chaos"),
    Recipe("rire", ct_window=None, ct_clip=(0.5, 99.5), circle=True),
    Recipe("bigl", mr_clip=None, scale="zscore", z_limit=2.5, foreground="nonzero", blank=True, background=0.0),
)}


def recipe_of(task: Task) -> Recipe:
    """The recipe of `task` with its overrides. Raises LabError for an unknown recipe, field or value."""
    if task.recipe not in RECIPES:
        raise LabError(f"no recipe {task.recipe!r}", where=task.title, mend=f"known: {', '.join(RECIPES)}")
    fields = {field.name for field in dataclasses.fields(Recipe)} - {"name", "value_range"}
    if unknown := sorted(set(task.overrides) - fields):
        raise LabError(f"recipe {task.recipe!r} has no field {unknown[0]!r} to override", where=task.title,
                       mend=f"it has {', '.join(sorted(fields))}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in task.overrides.items()}
    recipe = dataclasses.replace(RECIPES[task.recipe], **values)
    _check(recipe, task.title)
    return recipe


def _check(recipe: Recipe, where: str) -> None:
    def within(value: Any, low: float, high: float) -> bool:
        return isinstance(value, int | float) and low <= value <= high

    def rising(pair: Any) -> bool:
        numbers = isinstance(pair, tuple) and len(pair) == 2 and all(within(v, -1e9, 1e9) for v in pair)
        return numbers and pair[0] < pair[1]

    crop = recipe.crop
    centred = isinstance(crop, dict) and set(crop) == {"centre"} and within(crop["centre"], 1, 1e5)
    for field, good in {
        "plane": recipe.plane in ("axial", "coronal", "sagittal"),
        "scale": recipe.scale in ("minmax", "zscore", "zscore_slice"),
        "foreground": recipe.foreground in ("nonzero", "body", "all"),
        "crop": centred or crop in ("none", "foreground"),
        "blank": isinstance(recipe.blank, bool),
        "background": within(recipe.background, *recipe.value_range),
        "circle": isinstance(recipe.circle, bool),
        "z_limit": within(recipe.z_limit, 0.1, 100),
        "drop_below": within(recipe.drop_below, 0, 0.99),
        "margin": within(recipe.margin, 0, 1),
        "register": recipe.register is None or isinstance(recipe.register, str),
        "flips": isinstance(recipe.flips, tuple) and set(recipe.flips) <= {"horizontal", "vertical"},
        **{name: getattr(recipe, name) is None or rising(getattr(recipe, name))
           for name in ("mr_clip", "ct_clip", "ct_window")},
    }.items():
        if not good:
            raise LabError(f"recipe field {field!r} cannot be {getattr(recipe, field)!r}", where=where,
                           mend="see xmod_lab/data/recipes.py")


def foreground(array: np.ndarray, recipe: Recipe, kind: str, mask: np.ndarray | None = None) -> np.ndarray:
    """Where the body is: boolean, shape of `array` (x, y, z). Labels are never looked at.

    `mask` is the data set's own mask (values above one half count; ones stored as 0.99999997 are common). Without it
    the recipe's rule decides: "nonzero" falls back to "body" where the zeros are not a stripped background, and a body
    that cannot be found is the whole image.
    """
    if mask is not None:
        found = mask > 0.5
        return found if found.any() else np.ones(array.shape, bool)
    if recipe.foreground == "all":
        return np.ones(array.shape, bool)
    if recipe.foreground == "nonzero" and kind == "MR":
        found = array != 0
        # where much of it is dark, the zeros come from elsewhere: the image was never stripped
        if found.mean() > 0.005 and (array[found] > _threshold(array, kind)).mean() > 0.7:
            return found
    return _body(array, kind)


def _threshold(array: np.ndarray, kind: str) -> float:
    """Value between background and tissue."""
    from skimage.filters import threshold_otsu

    if kind == "CT":
        return -400.0  # HU, between air or lung and soft tissue
    values = array.ravel()[::max(1, array.size // 400_000)]  # every so many voxels tell the histogram as well as all
    least, most = np.percentile(values, (1.0, 99.0))
    if least == most:  # a few bright voxels on a constant
        return float(least)
    # on a logarithmic scale, or Otsu would part bright tissue (fluid in T2) from dark tissue rather than from air
    unit = (most - least) / 50.0
    logarithm = np.log1p((np.clip(values, least, most) - least) / unit)
    return float(least + unit * np.expm1(threshold_otsu(logarithm)))


def _body(array: np.ndarray, kind: str) -> np.ndarray:
    """What is above the threshold, opened, without small pieces (the couch), gaps and holes of each slice filled.

    Pieces of a tenth of the largest stay: lungs may cut a chest in a small field of view.
    """
    from scipy.ndimage import label, maximum_filter, minimum_filter

    above = (array > _threshold(array, kind)).astype(np.uint8)
    # in plane only: slices are often thick, and a volume of one slice must not vanish
    opened = maximum_filter(minimum_filter(above, (3, 3, 1)), (3, 3, 1))
    parts, count = label(opened)
    if count == 0:
        return np.ones(array.shape, bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = (sizes >= 0.1 * sizes.max())[parts].astype(np.uint8)
    reach = max(1, round(0.02 * max(array.shape[:2])))  # closes gaps in the skin, so that what it encloses is filled
    padded = np.pad(body, ((reach + 1, reach + 1), (reach + 1, reach + 1), (0, 0)))
    window = (2 * reach + 1, 2 * reach + 1, 1)
    closed = minimum_filter(maximum_filter(padded, window), window)
    in_plane = np.zeros((3, 3, 3), int)
    in_plane[1, :, 1] = in_plane[:, 1, 1] = 1
    outside, _ = label(closed == 0, in_plane)  # every slice has its own background; what does not touch it is a hole
    is_outside = np.zeros(outside.max() + 1, bool)
    is_outside[outside[0, 0]] = True
    found = ~is_outside[outside][reach + 1:-reach - 1, reach + 1:-reach - 1]
    return found if found.mean() > 0.005 else np.ones(array.shape, bool)


def _circle(shape: tuple[int, ...]) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    return np.broadcast_to((x**2 + y**2 <= 1.0)[:, :, None], shape)


def normalise(array: np.ndarray, foreground: np.ndarray, recipe: Recipe, kind: str) -> np.ndarray:
    """`array` (x, y, z) in stored units -> float32 in ``recipe.value_range``; never NaN, whatever the volume.

    Statistics come from this volume alone, so that a slice's value does not depend on what else is in a batch.
    """
    array = array.astype(np.float32)
    low, high = recipe.value_range
    counted = foreground & _circle(array.shape) if recipe.circle and kind == "CT" else foreground
    body = array[counted] if counted.any() else array.ravel()
    limits = _limits(body, recipe, kind)
    if limits is not None:
        array, body = np.clip(array, *limits), np.clip(body, *limits)
    if recipe.scale == "minmax":
        least, most = limits if limits is not None else (float(body.min()), float(body.max()))
        unit = (array - least) / max(most - least, 1e-6)
        out = low + (high - low) * np.clip(unit, 0.0, 1.0)
    else:
        z = _zscore(array, counted, body, recipe)
        unit = 0.5 * (np.clip(z / recipe.z_limit, -1.0, 1.0) + 1.0)
        out = low + (high - low) * unit
    if recipe.circle and kind == "CT":
        out = np.where(_circle(array.shape), out, low)
    if recipe.blank:
        out = np.where(foreground, out, recipe.background)
    return out.astype(np.float32)


def outside_of(values: np.ndarray, recipe: Recipe) -> float:
    """What stands for the world outside a volume of normalised `values`: `Recipe.outside`, or else their lowest."""
    return float(values.min()) if recipe.outside is None else recipe.outside


def _limits(body: np.ndarray, recipe: Recipe, kind: str) -> tuple[float, float] | None:
    if kind == "CT" and recipe.ct_window is not None:
        return recipe.ct_window
    percentiles = recipe.mr_clip if kind == "MR" else recipe.ct_clip
    if percentiles is None:
        return None
    least, most = np.percentile(body, percentiles)
    if most <= least:  # a volume with a few bright voxels on a constant: its extremes are all there is
        least, most = body.min(), body.max()
    return float(least), float(most)


def _zscore(array: np.ndarray, counted: np.ndarray, body: np.ndarray, recipe: Recipe) -> np.ndarray:
    spread = max(float(body.std()), 1e-6)
    if recipe.scale == "zscore":
        return (array - float(body.mean())) / spread
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[recipe.plane]
    out = np.empty_like(array)
    for source, target in zip(np.moveaxis(array, axis, 0), np.moveaxis(out, axis, 0), strict=True):
        target[...] = (source - source.mean()) / max(float(source.std()), 0.2 * spread)
    return out
