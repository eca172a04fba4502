"""Scores of a translated image against the registered true image of the same patient.

Everything is computed on images mapped to [0, 1] by a FIXED range, the task's value range. A range taken from the image
(minimum to maximum) would hide a wrong brightness and make patients incomparable, so there is no such option.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.errors import LabError
from xmod_lab.paths import LPIPS_FILE, features_home

if TYPE_CHECKING:
    import torch

IMAGE_METRICS = ("mae", "rmse", "psnr", "ssim", "pcc", "nmse")
HIGHER_IS_BETTER = frozenset({"psnr", "ssim", "pcc"})
SIGMA, RADIUS = 1.5, 5
"""of SSIM's Gaussian window: 11 x 11 pixels (Wang et al. 2004, section III.B, with K1 = 0.01, K2 = 0.03)"""


def image_scores(
    pred: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray | Mapping[str, np.ndarray] | None = None,
    value_range: Sequence[float] = (-1.0, 1.0),
    *,
    slice_axis: int = 0,
) -> dict[str, float]:
    """MAE, RMSE, PSNR, SSIM, PCC and NMSE of one patient; with a `mask` also inside it (names in ``_masked``).

    Several masks go by name: ``{"body": mask}`` gives names in ``_body``.

    pred, truth: float images (h, w) or stacks of slices, e.g. (n, h, w), in `value_range`; `slice_axis` names the axis
    of the slices (2 for a volume x, y, z). mask: boolean, same shape; take it from the INPUT image, because a mask of
    the truth would tell the score where to look. With x, y the two images mapped to [0, 1]:

    ====  ===========================================================================================================
    mae   mean abs(x - y)
    rmse  sqrt(mean (x - y)^2), over all voxels of the patient at once
    psnr  20 log10(1 / rmse) dB; infinite for identical images
    ssim  mean of the structural similarity map, slice by slice: Gaussian window, sigma 1.5, 11 x 11, no padding
    pcc   Pearson correlation of the voxels; NaN where an image is constant
    nmse  sum (x - y)^2 / sum y^2 (Hi-Net calls it MSE); NaN where the truth is all zero
    ====  ===========================================================================================================

    Predictions beyond the range are scored as they are. Raises LabError for differing shapes, NaN, slices smaller than
    the window, and a truth that leaves `value_range`, which shows that the range is the wrong one.
    """
    x, y = _unit_range(pred, truth, value_range)
    masks = {} if mask is None else mask if isinstance(mask, Mapping) else {"masked": mask}
    inside = {name: _checked(one, y.shape) for name, one in masks.items()}
    similarity = _ssim_map(x, y, slice_axis)
    scores = _voxel_scores(x.ravel(), y.ravel()) | {"ssim": float(np.nanmean(similarity))}
    for name, where in inside.items():
        within = similarity[where]
        within = within[~np.isnan(within)]
        masked = _voxel_scores(x[where], y[where]) | {"ssim": float(within.mean()) if within.size else float("nan")}
        scores |= {f"{metric}_{name}": value for metric, value in masked.items()}
    return scores


def _unit_range(pred: np.ndarray, truth: np.ndarray, value_range: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    low, high = value_range
    if not low < high:
        raise LabError(f"value range {tuple(value_range)} is empty", mend="give (low, high), the task's value range")
    if pred.shape != truth.shape or truth.ndim not in (2, 3):
        raise LabError(f"prediction {pred.shape} and truth {truth.shape} must be (h, w) or a stack of slices, alike",
                       mend="score one patient at a time, on one grid")
    x, y = ((np.asarray(image, dtype=np.float64) - low) / (high - low) for image in (pred, truth))
    for name, image in (("prediction", x), ("truth", y)):
        if not np.isfinite(image).all():
            raise LabError(f"the {name} holds NaN or infinite values", mend="look at the step that made it")
    if y.min() < -1e-3 or y.max() > 1 + 1e-3:
        raise LabError(f"the truth runs from {truth.min():g} to {truth.max():g}, beyond the range {low:g} to {high:g}",
                       mend="pass the value range of the task's recipe")
    return x, y


def _checked(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if mask.dtype != bool or mask.shape != shape or not mask.any():
        raise LabError(f"the mask must be boolean, of shape {shape} and not empty; it is {mask.dtype} {mask.shape}",
                       mend="take it from the input image")
    return mask


def _voxel_scores(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    error = x - y
    rmse = float(np.sqrt(np.mean(error**2)))
    power = float(np.sum(y**2))
    dx, dy = x - x.mean(), y - y.mean()
    spread = float(np.sqrt(np.sum(dx**2) * np.sum(dy**2)))
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": rmse,
        "psnr": 20 * float(np.log10(1 / rmse)) if rmse else float("inf"),
        "pcc": float(np.sum(dx * dy)) / spread if spread > 1e-12 else float("nan"),
        "nmse": float(np.sum(error**2)) / power if power else float("nan"),
    }


def _ssim_map(x: np.ndarray, y: np.ndarray, slice_axis: int) -> np.ndarray:
    """Structural similarity at each voxel; NaN along the rim of RADIUS pixels, where the window leaves the slice."""
    from skimage.metrics import structural_similarity

    stack_x, stack_y = ((image[None] if image.ndim == 2 else np.moveaxis(image, slice_axis, 0)) for image in (x, y))
    if min(stack_x.shape[1:]) <= 2 * RADIUS:
        raise LabError(f"slices of {stack_x.shape[1:]} pixels are smaller than SSIM's window of {2 * RADIUS + 1}",
                       mend="check slice_axis")
    found = np.full(stack_x.shape, np.nan)
    core = (slice(RADIUS, -RADIUS),) * 2
    for k, (a, b) in enumerate(zip(stack_x, stack_y, strict=True)):
        _, full = structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=SIGMA,
                                        use_sample_covariance=False, full=True)
        found[k][core] = full[core]
    return found[0] if x.ndim == 2 else np.moveaxis(found, 0, slice_axis)


LPIPS_ABSENT = (
    "LPIPS is left out: it compares images by a pre-trained network, which the lab neither installs nor downloads. "
    "Export one where it can be had, as xmod_lab.evaluate.lpips_score says, into {path} of the lab's home"
)


def lpips_available() -> bool:
    """Whether a reader brought the network of LPIPS; `say_lpips_is_absent` where not."""
    from xmod_lab.evaluate.features import brought_lpips

    return brought_lpips() is not None


@functools.cache
def say_lpips_is_absent() -> None:
    """Print LPIPS_ABSENT, once."""
    print(LPIPS_ABSENT.format(path="/".join((features_home() / LPIPS_FILE).parts[-2:])))


def lpips_network(device: torch.device) -> Callable[..., Any] | None:
    """The network that a reader brought, for `lpips_score`; it works on `device`. None where there is none.

    Raises LabError for a file that is no exported program.
    """
    from xmod_lab.evaluate.features import brought_lpips, exported_program

    if (path := brought_lpips()) is None:
        return None
    network = exported_program(path, device)
    return lambda x, y: network(x.to(device), y.to(device))


def lpips_score(
    pred: np.ndarray,
    truth: np.ndarray,
    value_range: Sequence[float] = (-1.0, 1.0),
    *,
    network: Callable[..., Any] | None = None,
    slice_axis: int = 0,
) -> float:
    """Mean LPIPS over the slices of one patient (Zhang et al. 2018), the grey value copied to three channels.

    network: maps two float32 tensors (n, 3, h, w) in [-1, 1] to n distances; by default the one that a reader brought.
    It is made where the package lpips, torchvision and AlexNet's weights are, with the lab's version of PyTorch::

        network, pair = lpips.LPIPS(net="alex").eval(), (torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
        sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        torch.export.save(torch.export.export(network, pair, dynamic_shapes=(sizes, sizes)), "features/lpips.pt2")

    Raises LabError with LPIPS_ABSENT where there is no network, and for one that does not give a number a slice.
    """
    import torch

    network = network or lpips_network(torch.device("cpu"))
    if network is None:
        raise LabError(LPIPS_ABSENT.format(path=features_home() / LPIPS_FILE))
    batches = []
    for image in _unit_range(pred, truth, value_range):
        stack = image[None] if image.ndim == 2 else np.moveaxis(image, slice_axis, 0)
        tensor = torch.from_numpy(np.ascontiguousarray(2 * stack - 1, dtype=np.float32))
        batches.append(tensor[:, None].repeat(1, 3, 1, 1))
    with torch.no_grad():
        found = network(*batches)
    if found.numel() != len(batches[0]):
        raise LabError(f"LPIPS of {len(batches[0])} slices has the shape {tuple(found.shape)}",
                       mend="bring a network that gives one number a slice")
    return float(found.float().mean())
