"""Implicit anatomy: distances to ellipsoids, tubes and curves, smooth random fields, and a canvas to paint tissues on.

Everything is in millimetres, x to the patient's right, y anterior, z superior, origin at the centre of the volume.
Labels must be the same on every machine. Arrays of coordinates are float32 and only added, multiplied, divided and
rooted, which IEEE 754 fixes to the last bit; random fields are summed in float64 and rounded to float32 afterwards.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

Points = tuple[np.ndarray, np.ndarray, np.ndarray]
Box = tuple[slice, slice, slice]
Triple = tuple[float, float, float]
Vector = Sequence[float] | np.ndarray
FAR = np.float32(1e3)


@dataclass(frozen=True)
class Streams:
    """Independent random generators by purpose, so that a draw added to one purpose shifts no other."""

    name: str
    seed: int
    index: int

    def __call__(self, purpose: str) -> np.random.Generator:
        words = [zlib.crc32(text.encode()) for text in (self.name, purpose)]
        return np.random.default_rng([*words, self.seed, self.index])


def _spline_weights(at: np.ndarray, step: float) -> np.ndarray:
    """Cubic B-spline weights (points, knots) of the coordinates `at` (mm) over knots `step` mm apart."""
    u = (at - at[0]) / step
    knot = np.floor(u).astype(int)
    f = u - knot
    weights = np.zeros((len(at), int(knot[-1]) + 4))
    taps = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    for offset, tap in enumerate(taps):
        weights[np.arange(len(at)), knot + offset] = tap / 6
    return weights


@dataclass(frozen=True)
class Space:
    """A volume of `shape` voxels of `spacing` mm, sampled `over` times finer along each axis."""

    shape: tuple[int, int, int]
    spacing: Triple
    over: tuple[int, int, int] = (1, 1, 1)

    @property
    def fine(self) -> tuple[int, int, int]:
        return (self.shape[0] * self.over[0], self.shape[1] * self.over[1], self.shape[2] * self.over[2])

    def axis(self, k: int) -> np.ndarray:
        """Coordinates (mm, float64) of the fine samples along axis k."""
        n, step = self.fine[k], self.spacing[k] / self.over[k]
        return (np.arange(n) - (n - 1) / 2) * step

    @property
    def affine(self) -> np.ndarray:
        """NIfTI affine (4, 4) of the voxels, RAS, origin at the volume's centre."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(self.shape, self.spacing, strict=True)]
        return affine

    def points(self) -> Points:
        """Coordinates of the fine samples as three broadcastable float32 arrays."""
        x, y, z = (self.axis(k).astype(np.float32) for k in range(3))
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def noise(self, rng: np.random.Generator, scale: float) -> np.ndarray:
        """Smooth random field, float32, mean 0, variance about 1: cubic B-splines over white knots `scale` mm apart."""
        a, b, c = (_spline_weights(self.axis(k), scale) for k in range(3))
        knots = rng.standard_normal((a.shape[1], b.shape[1], c.shape[1]))
        wide = np.tensordot(a, np.tensordot(b, knots, (1, 1)), (1, 1))  # x, y, knots of z
        return (wide @ (3.0 * c.T)).astype(np.float32)

    def mean(self, fine: np.ndarray) -> np.ndarray:
        """Average of the fine samples of each voxel, float32: the partial-volume effect."""
        (nx, ny, nz), (a, b, c) = self.shape, self.over
        halves = fine.reshape(nx, a, ny, b, nz, c)
        return halves.mean(axis=(1, 3, 5), dtype=np.float32)

    def vote(self, fine: np.ndarray, values: Iterable[int]) -> np.ndarray:
        """uint8 label of each voxel: the value that most of its fine samples hold, the first listed of equals."""
        (nx, ny, nz), (a, b, c) = self.shape, self.over
        parts = fine.reshape(nx, a, ny, b, nz, c)
        best, result = np.zeros(self.shape, np.uint8), np.zeros(self.shape, np.uint8)
        for value in values:
            count = (parts == value).sum(axis=(1, 3, 5), dtype=np.uint8)
            result[count > best] = value
            best = np.maximum(best, count)
        return result


@dataclass(frozen=True)
class Shape:
    """A solid: `distance(points)` is negative inside, in mm near the surface; `low`, `high` bound it."""

    low: Triple
    high: Triple
    distance: Callable[[Points], np.ndarray]

    def grown(self, mm: float) -> Shape:
        """The solid with `mm` more all round."""
        low, high = tuple(v - mm for v in self.low), tuple(v + mm for v in self.high)
        return Shape(low, high, lambda p: self.distance(p) - mm)  # type: ignore[arg-type]

    def minus(self, other: Shape) -> Shape:
        return Shape(self.low, self.high, lambda p: np.maximum(self.distance(p), -other.distance(p)))

    def within(self, other: Shape) -> Shape:
        return Shape(self.low, self.high, lambda p: np.maximum(self.distance(p), other.distance(p)))


def rotation(degrees: Vector) -> np.ndarray:
    """Rotation matrix (3, 3) about x, then y, then z by `degrees`."""
    a, b, c = np.radians(np.asarray(degrees, float))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def turned(p: Points, centre: Vector, matrix: np.ndarray) -> Points:
    """Coordinates of `p` in the frame at `centre` whose axes are the rows of `matrix`."""
    shifted = [p[k] - float(centre[k]) for k in range(3)]
    found = []
    for row in matrix:  # most turns leave an axis alone, and each of these arrays has millions of points
        terms = [q if m == 1 else q * float(m) for m, q in zip(row, shifted, strict=True) if abs(m) > 1e-12]
        found.append(functools.reduce(np.add, terms))
    return found[0], found[1], found[2]


def ellipsoid(centre: Vector, radii: Vector, turn: Vector = (0, 0, 0)) -> Shape:
    """Ellipsoid turned by `turn` degrees about x, y, z (or by the rows of a matrix that are its axes)."""
    given = np.asarray(turn, float)
    matrix = given if given.ndim == 2 else rotation(given).T
    a, b, c = (float(r) for r in radii)
    scaled = matrix / np.asarray(radii, float)[:, None]
    reach = np.sqrt((matrix.T**2) @ (np.asarray(radii, float) ** 2))
    low, high = tuple(float(v) for v in centre - reach), tuple(float(v) for v in centre + reach)

    def distance(p: Points) -> np.ndarray:
        u, v, w = (q * q for q in turned(p, centre, scaled))
        k0 = np.sqrt(u + v + w)
        k1 = np.sqrt(u * (1 / (a * a)) + v * (1 / (b * b)) + w * (1 / (c * c))) + 1e-6
        return k0 * (k0 - 1) / k1

    return Shape(low, high, distance)  # type: ignore[arg-type]


def oval(p: Points, wide: float, deep: float) -> np.ndarray:
    """(|x| / wide)^2.5 + (|y| / deep)^2.5 of each point: 1 on the outline of a trunk, less inside."""
    u, v = np.abs(p[0]) / wide, np.abs(p[1]) / deep
    return u * u * np.sqrt(u) + v * v * np.sqrt(v)


def half_space(point: Vector, normal: Vector) -> Shape:
    """Everything behind the plane through `point`, away from `normal`."""
    n = np.asarray(normal, float) / np.linalg.norm(normal)
    offset = float(n @ np.asarray(point, float))
    a, b, c = (float(v) for v in n)
    return Shape((-1e3,) * 3, (1e3,) * 3, lambda p: a * p[0] + b * p[1] + c * p[2] - offset)


def curve(points: Sequence[Vector] | np.ndarray, pieces: int = 4) -> np.ndarray:
    """Catmull-Rom curve through `points` (n, any columns, radii may be one), `pieces` steps between neighbours."""
    p = np.asarray(points, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (np.arange(pieces) / pieces)[:, None]
    out = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*out, p[-2:-1]])


def tube(path: np.ndarray | Sequence[Vector], squash: Triple = (1, 1, 1)) -> list[Shape]:
    """Round tube along `path` (n, 4: x, y, z, radius), one solid a segment; `squash` > 1 flattens it along an axis."""
    path = np.asarray(path, float)
    s = [float(v) for v in squash]
    found = []
    for a, b in zip(path[:-1], path[1:], strict=True):
        radius = max(a[3], b[3])
        low = tuple(float(min(a[k], b[k]) - radius / s[k]) for k in range(3))
        high = tuple(float(max(a[k], b[k]) + radius / s[k]) for k in range(3))
        found.append(Shape(low, high, _segment(a, b, s)))  # type: ignore[arg-type]
    return found


def _segment(a: np.ndarray, b: np.ndarray, s: list[float]) -> Callable[[Points], np.ndarray]:
    along = (b[:3] - a[:3]) * s
    length = max(float(along @ along), 1e-6)
    u, v, w = (float(q) for q in along)
    start, ra, rb = [float(q) for q in a[:3]], float(a[3]), float(b[3])

    def distance(p: Points) -> np.ndarray:
        x, y, z = ((p[k] - start[k]) * s[k] for k in range(3))
        h = np.clip((x * u + y * v + z * w) / length, 0, 1)
        x, y, z = x - h * u, y - h * v, z - h * w
        return np.sqrt(x * x + y * y + z * z) - (ra + h * (rb - ra))

    return distance


def blend(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Union of two distances with a fillet of `width` mm (polynomial smooth minimum)."""
    h = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - h * h * (width * 0.25)


@dataclass
class Canvas:
    """Fine tissue map of a `space`; shapes are painted on coordinates that a smooth random warp has bent."""

    space: Space
    p: Points
    slack: float
    """no point is bent further than this, mm: bounding boxes are widened by it"""
    tissue: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.tissue = np.zeros(self.space.fine, np.uint8)

    def box(self, shape: Shape, margin: float = 0.0) -> Box:
        out = []
        for k in range(3):
            at = self.space.axis(k)
            reach = self.slack + margin
            out.append(slice(*(int(v) for v in np.searchsorted(at, [shape.low[k] - reach, shape.high[k] + reach]))))
        return tuple(out)  # type: ignore[return-value]

    def at(self, box: Box) -> Points:
        return self.p[0][box], self.p[1][box], self.p[2][box]

    def fill(
        self,
        shapes: Shape | Sequence[Shape],
        tissue: int,
        only: Sequence[int] | None = None,
        rough: np.ndarray | None = None,
    ) -> None:
        """Paint `tissue` inside the shapes, over the tissues in `only`; `rough` (mm, fine grid) moves the surface."""
        for shape in [shapes] if isinstance(shapes, Shape) else shapes:
            box = self.box(shape, 0.0 if rough is None else 8.0)
            if any(s.start >= s.stop for s in box):
                continue
            d = shape.distance(self.at(box))
            inside = d < (0 if rough is None else rough[box])
            if only is not None:
                inside &= np.isin(self.tissue[box], only)
            self.tissue[box][inside] = tissue


def canvas(
    space: Space,
    rng: np.random.Generator,
    *,
    warp: float,
    scale: float,
    turn: Vector = (0, 0, 0),
    size: Vector = (1, 1, 1),
    shift: Vector = (0, 0, 0),
) -> Canvas:
    """A canvas whose anatomy is bent by `warp` mm over `scale` mm, turned by `turn` degrees, sized and shifted (mm)."""
    matrix = rotation(turn).T / np.asarray(size, float)[:, None]
    p = turned(space.points(), shift, matrix)
    bent = tuple(q + np.clip(space.noise(rng, scale), -2.5, 2.5) * warp for q in p)
    corner = np.abs([space.axis(k)[0] for k in range(3)])
    motion = np.abs(matrix - np.eye(3)) @ corner + np.abs(matrix @ np.asarray(shift, float))
    return Canvas(space, bent, float(2.5 * warp + motion.max()))
