"""Rigid registration of two images of one patient by mutual information (SASAN, section 5.1.1).

One convention throughout, that of the phantom's motion.json: a point at x (mm, RAS) in the fixed image lies at R x + t
in the moving one, R = Rz Ry Rx. Needs the extra "registration" (SimpleITK). What is found is kept by `data.registered`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xmod_lab.data.recipes import Recipe, foreground
from xmod_lab.data.volume import Volume
from xmod_lab.errors import LabError

VERSION = 1
"""raise it when the same files would give another image; what was kept is then left aside"""
LEVELS = ((6.0, 6.0, 4.0, 10_000), (3.0, 3.0, 2.0, 20_000), (1.5, 3.0, 1.0, 30_000), (0.0, 0.0, 0.5, 50_000))
"""coarse to fine: sigma of the smoothing (mm), spacing of the fixed image's grid (mm, 0: its own), the optimiser's
first step (mm), points that the histogram is made of"""
BINS, ITERATIONS, LAST_STEP, RELAXATION = 48, 200, 0.01, 0.8
"""of Mattes' histogram; steps a level; the optimiser's last step (mm); what a step is multiplied by when the gradient
turns round"""
WINDOW = {"CT": (-1000.0, 1500.0), "MR": (0.5, 99.5)}
"""what images are clipped at: HU of CT, percentiles of MR"""
RULES = (VERSION, LEVELS, BINS, ITERATIONS, LAST_STEP, RELAXATION, sorted(WINDOW.items()))
"""what the numbers depend on, for caches"""
PROBE, PEAK, LEAST_COVER = 15.0, 1.08, 0.4
"""a registration is believed if its mutual information is PEAK times that of the best neighbour PROBE mm away, and the
moving image shows this part of the fixed one's body at least. Measured: the phantom's heads 1.45 and above, with RIRE's
grids 1.15; noise 0.9, a head upside down 1.04 at most; one turned back to front may pass"""


class Rigid(NamedTuple):
    """x -> rotation x + translation, mm in RAS."""

    rotation: np.ndarray
    """(3, 3)"""
    translation: np.ndarray
    """(3,)"""

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) -> (n, 3)"""
        return points @ self.rotation.T + self.translation

    def inverse(self) -> Rigid:
        return Rigid(self.rotation.T, -self.rotation.T @ self.translation)

    @property
    def degrees(self) -> tuple[float, float, float]:
        """Angles about x, y and z, applied in this order."""
        r = self.rotation
        angles = np.arctan2(r[2, 1], r[2, 2]), np.arcsin(np.clip(-r[2, 0], -1, 1)), np.arctan2(r[1, 0], r[0, 0])
        x, y, z = map(float, np.degrees(angles))
        return x, y, z


AT_REST = Rigid(np.eye(3), np.zeros(3))


def rigid_of(degrees: Iterable[float], translation: Iterable[float]) -> Rigid:
    """From angles about x, y and z (degrees) and a translation (mm)."""
    from xmod_lab.data.phantoms.shapes import rotation

    return Rigid(rotation(np.array(list(degrees), float)), np.array(list(translation), float))


def registration_error(found: Rigid, true: Rigid, points: np.ndarray) -> tuple[float, float]:
    """Mean distance (mm) of where two motions carry `points` (n, 3), and the angle (degrees) between the rotations."""
    distance = np.linalg.norm(found(points) - true(points), axis=1).mean()
    cosine = (np.trace(found.rotation @ true.rotation.T) - 1) / 2
    return float(distance), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def body_points(volume: Volume, kind: str) -> np.ndarray:
    """Where the voxels of the body lie, (n, 3) mm RAS."""
    affine = affine_of(volume)
    return np.argwhere(_body(volume, kind)) @ affine[:3, :3].T + affine[:3, 3]


@dataclass(frozen=True)
class Registered:
    """A moving image brought onto the fixed one's grid."""

    image: Volume
    """outside what the moving image shows it is that image's air"""
    cover: np.ndarray
    """boolean (x, y, z): what the moving image shows"""
    motion: Rigid
    information: tuple[float, float]
    """mutual information in nats of the images as they lie, 0 where they do not meet, and after"""
    seconds: float


def register(fixed: Volume, moving: Volume, kinds: tuple[str, str], where: str = "") -> Registered:
    """Find the rigid motion that carries `fixed` into `moving`, both in mm, by Mattes' mutual information.

    kinds: CT or MR, of the fixed and of the moving image. The same numbers come out whatever the number of threads.
    Raises LabError without SimpleITK, for an affine that shears, and where the motion found cannot be believed:
    mutual information that did not rise, or has no peak there, or too little of the body in both images.
    """
    sitk, began = _simpleitk(), time.perf_counter()
    with _one_thread(sitk):
        return _found(sitk, fixed, moving, kinds, where, began)


def _found(
    sitk: Any, fixed: Volume, moving: Volume, kinds: tuple[str, str], where: str, began: float
) -> Registered:
    images = [_image(sitk, v, _clipped(v.array, kind)) for v, kind in zip((fixed, moving), kinds, strict=True)]
    body = _body(fixed, kinds[0])
    starts = _starts(fixed, moving, body, _body(moving, kinds[1]))
    try:
        levels = [_Level(sitk, images, *level) for level in LEVELS]
        starts = [start for start in starts if levels[0].information(start) > 0] or starts[-1:]  # where both meet
        coarse = [levels[0].optimised(start) for start in starts]
        motion = max(coarse, key=levels[0].information)
        for level in levels[1:]:
            motion = level.optimised(motion)
        judge = levels[1]
        before, after = judge.information(AT_REST), judge.information(motion)
        begun = max(map(judge.information, starts))
        around = max(judge.information(motion._replace(translation=motion.translation + step)) for step in _probes())
    except RuntimeError as error:  # what ITK raises: no overlap, too few slices
        reason = str(error).strip().splitlines()[-1].split("): ")[-1]
        raise LabError(f"registration fails: {reason}", where=where, mend="look at both images") from error
    image, cover = _resampled(sitk, fixed, moving, motion, kinds[1])
    seen = float(cover[body].mean())
    for good, what in (
        (after > begun - 0.01, f"mutual information fell from {begun:.3f} to {after:.3f}"),
        (after > PEAK * around, f"mutual information {after:.3f} has no peak, {PROBE:g} mm away it is {around:.3f}"),
        (seen > LEAST_COVER, f"the images share {seen:.0%} of the body only"),
    ):
        if not good:
            raise LabError(f"registration cannot be believed: {what}", where=where,
                           mend="look at both images; leave this patient out if they do not show the same")
    return Registered(image, cover, motion, (before, after), time.perf_counter() - began)


def needed() -> None:
    """Raise LabError where SimpleITK is not installed: before work that would end there."""
    _simpleitk()


def _simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise LabError("registration needs SimpleITK", mend='pip install "xmod-lab[registration]"') from error
    return SimpleITK


@contextlib.contextmanager
def _one_thread(sitk: Any) -> Iterator[None]:
    """Sums in one order: several threads change the last digits, and where the optimiser stops."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


class _Level:
    """Both images smoothed, the fixed one thinned out, and the metric between them."""

    def __init__(self, sitk: Any, images: list[Any], sigma: float, spacing: float, step: float, samples: int):
        smooth = [sitk.SmoothingRecursiveGaussian(image, sigma) if sigma else image for image in images]
        self.fixed = sitk.Shrink(smooth[0], [max(1, int(spacing // size)) for size in images[0].GetSpacing()])
        self.sitk, self.moving, self.exact, self.step, self.samples = sitk, smooth[1], not sigma, step, samples
        middle = [(n - 1) / 2 for n in images[0].GetSize()]
        self.centre = images[0].TransformContinuousIndexToPhysicalPoint(middle)

    def _metric(self, motion: Rigid) -> tuple[Any, Any]:
        sitk = self.sitk
        transform = sitk.Euler3DTransform()
        transform.SetComputeZYX(True)  # before the matrix, or ITK reads its angles in another order
        transform.SetCenter(self.centre)
        transform.SetMatrix(motion.rotation.ravel().tolist(), 1e-6)
        transform.SetTranslation((motion(np.array([self.centre]))[0] - self.centre).tolist())
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetInterpolator(sitk.sitkBSpline if self.exact else sitk.sitkLinear)
        if (count := self.fixed.GetNumberOfPixels()) > self.samples:
            # points off the grid: on it, interpolation favours steps of a voxel
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(self.samples / count, 1)
        method.MetricUseMovingImageGradientFilterOff()  # its smoothing costs time and a tenth of a millimetre
        method.SetInitialTransform(transform, True)
        return method, transform

    def information(self, motion: Rigid) -> float:
        """Mutual information in nats; 0 where the images do not meet."""
        try:
            found = -float(self._metric(motion)[0].MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:
            return 0.0
        return max(found, 0.0)

    def optimised(self, motion: Rigid) -> Rigid:
        method, transform = self._metric(motion)
        method.SetOptimizerAsRegularStepGradientDescent(self.step, LAST_STEP, ITERATIONS, RELAXATION, 1e-6)
        method.SetOptimizerScalesFromPhysicalShift()
        method.Execute(self.fixed, self.moving)
        matrix = np.array(transform.GetMatrix()).reshape(3, 3)
        centre = np.array(self.centre)
        return Rigid(matrix, np.array(transform.GetTranslation()) + centre - matrix @ centre)


def _starts(fixed: Volume, moving: Volume, body: np.ndarray, other: np.ndarray) -> list[Rigid]:
    """Translations to begin with: as the files say, middle upon middle, body upon body; each once."""
    (here, there) = (affine_of(volume) for volume in (fixed, moving))
    middles = [a[:3, :3] @ ((np.array(v.array.shape) - 1) / 2) + a[:3, 3] for a, v in ((here, fixed), (there, moving))]
    bodies = [a[:3, :3] @ np.argwhere(mask).mean(0) + a[:3, 3] for a, mask in ((here, body), (there, other))]
    found: list[np.ndarray] = []
    for shift in (np.zeros(3), middles[1] - middles[0], bodies[1] - bodies[0]):
        if all(np.linalg.norm(shift - known) > 1.0 for known in found):
            found.append(shift)
    return [Rigid(np.eye(3), shift) for shift in found]


def _probes() -> list[np.ndarray]:
    return [sign * PROBE * axis for axis in np.eye(3) for sign in (-1, 1)]


def affine_of(volume: Volume) -> np.ndarray:
    """Of the canonical array: index (x, y, z) -> mm RAS."""
    import nibabel as nib

    if volume.unit != "mm":
        raise LabError("registration needs voxel sizes in mm", where=volume.path)
    affine = volume.grid.affine @ nib.orientations.inv_ornt_aff(volume.grid.orientation, volume.grid.shape)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise LabError("the affine shears, which no rigid motion undoes", where=volume.path, mend="resample the image")
    return np.asarray(affine)


def _image(sitk: Any, volume: Volume, array: np.ndarray) -> Any:
    """`array` on the grid of `volume` as ITK sees it. Its axes are called LPS there; nothing depends on the name."""
    affine = affine_of(volume)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(sizes.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / sizes).ravel().tolist())
    return image


def _clipped(array: np.ndarray, kind: str) -> np.ndarray:
    low, high = WINDOW["CT"] if kind == "CT" else np.percentile(array, WINDOW["MR"])
    return np.clip(array, low, high).astype(np.float32)


def _body(volume: Volume, kind: str) -> np.ndarray:
    return foreground(volume.array, Recipe("body"), kind)


def _resampled(sitk: Any, fixed: Volume, moving: Volume, motion: Rigid, kind: str) -> tuple[Volume, np.ndarray]:
    """The moving image on the fixed grid, by cubic splines within its own values, and where it shows something."""
    transform = sitk.AffineTransform(motion.rotation.ravel().tolist(), motion.translation.tolist())
    outside = ~_body(moving, kind)
    air = float(np.median(moving.array[outside])) if outside.any() else float(moving.array.min())
    grid = _image(sitk, fixed, np.zeros(fixed.array.shape, np.uint8))
    images = (_image(sitk, moving, moving.array), _image(sitk, moving, np.ones(moving.array.shape, np.uint8)))
    ways = ((sitk.sitkBSpline, air), (sitk.sitkNearestNeighbor, 0))
    found, cover = (
        sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, *way)).T
        for image, way in zip(images, ways, strict=True)
    )
    found = np.clip(found, moving.array.min(), moving.array.max())
    shown = Volume(np.ascontiguousarray(found, np.float32), fixed.spacing, fixed.unit, fixed.grid, moving.path)
    return shown, np.ascontiguousarray(cover > 0)
