"""A volume with its labels to turn and cut in a notebook: ipyniivue, or plotly's surfaces in a frame of their own."""

from __future__ import annotations

import gzip
import html
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from xmod_lab.data.volume import Volume
from xmod_lab.errors import LabError
from xmod_lab.view.frame import Frame, Place, canonical, canonical_point
from xmod_lab.view.orthogonal import class_names, grey_window, placed, presence
from xmod_lab.view.planes import centre_of
from xmod_lab.view.solid import surfaces, surfaces_page
from xmod_lab.view.style import colours_of

OPACITY = {"image": 1.0, "truth": 0.45, "prediction": 1.0}
"""of the layers, before a hand sets them"""


def volume_widget(
    image: Volume | np.ndarray,
    place: Place | None = None,
    labels: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    classes: Sequence[str] = (),
    *,
    kind: str = "MR",
    at: Sequence[int] | None = None,
    window: tuple[float, float] | str | None = None,
    how: Literal["auto", "niivue", "plotly"] = "auto",
    height: int = 480,
    title: str = "",
) -> Any:
    """An ipywidgets box with three linked slices and a rendering of a volume, or with its surfaces.

    Arguments as in `orthogonal`. how: "niivue" draws image, labels (filled) and prediction (the border of its axial
    slices, a voxel wide) with sliders for their opacity; it needs a browser with WebGL2. "plotly" shows the surfaces of
    labels and prediction side by side with planes of the image and is content with WebGL. "auto" is niivue where
    ipyniivue is installed: Python cannot know what the browser can do, so a reader who sees an empty picture says
    ``how="plotly"``, and the line below the picture says so. Without any WebGL there are the still twins, `orthogonal`
    and `surface_views`, which a notebook draws in any case.

    Sliders and slices work without a kernel, so also in an exported page. Raises LabError as `orthogonal` does, for
    "niivue" without ipyniivue, and for "plotly" without labels and prediction.
    """
    if how not in ("auto", "niivue", "plotly"):
        raise LabError(f"no way {how!r} to show a volume", mend="auto, niivue or plotly")
    there = importlib.util.find_spec("ipyniivue") is not None
    if how == "niivue" and not there:
        raise LabError("ipyniivue is not installed", mend='python -m pip install ipyniivue, or say how="plotly"')
    if how != "plotly" and there:
        return _niivue(image, place, labels, prediction, classes, kind, at, window, height, title)
    figure = surfaces(labels, place, classes, prediction=prediction, image=image, kind=kind, at=at, window=window,
                      title=title)  # fmt: skip
    return framed(surfaces_page(figure.update_layout(height=height)), height + 20)


def framed(page: str, height: int) -> Any:
    """A page in a notebook: in a frame whose scripts reach neither the notebook nor its cookies."""
    import ipywidgets

    return ipywidgets.HTML(
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts allow-downloads" '
        f'style="width: 100%; height: {height}px; border: none"></iframe>'
    )


def _niivue(
    image: Volume | np.ndarray, place: Place | None, labels: np.ndarray | None, prediction: np.ndarray | None,
    classes: Sequence[str], kind: str, at: Sequence[int] | None, window: tuple[float, float] | str | None, height: int,
    title: str,
) -> Any:  # fmt: skip
    import ipywidgets
    from ipyniivue import MultiplanarType, NiiVue, ShowRender, SliceType
    from ipyniivue import Volume as Layer
    from ipyniivue.traits import LUT

    array, frame = placed(image, place)
    masks = {side: None if m is None else canonical(frame, m) for side, m in
             (("truth", labels), ("prediction", prediction))}  # fmt: skip
    names = class_names(classes, *masks.values())
    colours = colours_of(names)
    leading = next((m for m in masks.values() if m is not None and m.any()), np.zeros(array.shape, np.uint8))
    low, high = grey_window(array, kind, leading, window)
    point = centre_of(leading, frame.spacing) if at is None else canonical_point(frame, at)
    view = NiiVue(
        height=height, slice_type=SliceType.MULTIPLANAR, multiplanar_show_render=ShowRender.ALWAYS,
        multiplanar_layout=MultiplanarType.GRID, multiplanar_pad_pixels=12, is_radiological_convention=True,
        sagittal_nose_left=True, crosshair_color=(1.0, 1.0, 1.0, 0.8), font_color=(1.0, 1.0, 1.0, 1.0),
        show_all_orientation_markers=True, is_colorbar=False, show_legend=False, drag_and_drop_enabled=False,
    )  # fmt: skip
    sound = np.nan_to_num(array, nan=low, posinf=high, neginf=low)
    layers = [Layer(data=nifti(sound, frame), name="image.nii.gz", colormap="gray", cal_min=low, cal_max=high)]
    for side, mask in masks.items():
        if mask is not None:
            shown = mask if side == "truth" else border(mask)
            layers.append(Layer(data=nifti(shown.astype(np.uint8), frame), name=f"{side}.nii.gz", opacity=OPACITY[side],
                                colormap_label=LUT(**_table(colours))))  # fmt: skip
    view.load_volumes(layers)
    view.scene.crosshair_pos = _share(array.shape, point)
    sliders = []
    for side, layer in zip(["image", *(s for s, m in masks.items() if m is not None)], layers, strict=True):
        slider = ipywidgets.FloatSlider(OPACITY[side], min=0, max=1, step=0.05, description=side)
        ipywidgets.jslink((slider, "value"), (layer, "opacity"))  # in the page itself: needs no kernel
        sliders.append(slider)
    here = {side: None if m is None else set(np.unique(m).tolist()) for side, m in masks.items()}
    above, below = _legend(colours, here, (low, high), " HU" if kind == "CT" else "", title)
    return ipywidgets.VBox([above, view, ipywidgets.HBox(sliders), below])


def nifti(array: np.ndarray, frame: Frame) -> bytes:
    """A canonical array as a gzipped NIfTI: whole numbers in 16 bits or 8, others as float32."""
    import nibabel as nib

    if array.dtype != np.uint8:
        short = np.iinfo(np.int16)
        whole = np.array_equal(array, np.rint(array)) and short.min <= array.min() and array.max() <= short.max
        array = array.astype(np.int16 if whole else np.float32)
    image = nib.Nifti1Image(array, frame.affine)
    image.header.set_xyzt_units("mm" if frame.unit == "mm" else "unknown")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def border(labels: np.ndarray) -> np.ndarray:
    """Class indices (x, y, z) of voxels with a neighbour of another class in their axial slice, else 0."""
    closed = np.pad(labels, ((1, 1), (1, 1), (0, 0)))
    near = (closed[:-2, 1:-1], closed[2:, 1:-1], closed[1:-1, :-2], closed[1:-1, 2:])
    return np.where(np.any([other != labels for other in near], axis=0), labels, 0)


def _table(colours: Mapping[str, str]) -> dict[str, Any]:
    """niivue's look-up table of class 0, 1, 2 ...: red, green, blue and opacity up to 255; 0 lets the image through."""
    from matplotlib.colors import to_rgb

    entries = [0, 0, 0, 0]
    for colour in colours.values():
        entries += [*(round(255 * part) for part in to_rgb(colour)), 255]
    return {"lut": entries, "min": 0.0, "max": float(len(colours)), "labels": ["", *colours]}


def _share(shape: tuple[int, ...], at: Sequence[int]) -> list[float]:
    """Where the middle of a voxel lies along each axis, from 0 to 1: niivue's coordinates of the cross-hairs."""
    return [(i + 0.5) / n for i, n in zip(at, shape, strict=True)]


def _legend(
    colours: Mapping[str, str], here: Mapping[str, set[Any] | None], window: tuple[float, float], unit: str, title: str
) -> tuple[Any, Any]:
    """What stands above the picture, with every name escaped, and what stands below it."""
    import ipywidgets

    parts = []
    for value, (name, colour) in enumerate(colours.items(), start=1):
        state = [None if found is None else value in found for found in here.values()]
        parts.append(f'<span style="color: {colour}">■</span> {html.escape(presence(name, *state))}')
    said = [f"<b>{html.escape(title)}</b>"] if title else []
    said.append(f"grey {window[0]:.4g} to {window[1]:.4g}{unit}")
    shown = {"truth": "truth filled", "prediction": "prediction: the border of its axial slices"}
    said += [text for side, text in shown.items() if here.get(side) is not None]
    above = ipywidgets.HTML(" · ".join(said) + ("<br>" + " &ensp; ".join(parts) if parts else ""))
    below = ipywidgets.HTML("An empty picture means a browser without WebGL2: say <code>how=\"plotly\"</code>.")
    return above, below
