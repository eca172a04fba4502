"""Anatomy of a head's inside: folded cortex, white matter, deep nuclei, ventricles, cerebellum, brain stem.

Sulci are the sheets on which a smooth random field over the brain's hull vanishes, carried inwards to a random depth;
cortex is what lies within 3 mm of them. So folds branch, curve and differ from subject to subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import (
    Box,
    Canvas,
    Points,
    Shape,
    Space,
    Streams,
    Vector,
    blend,
    canvas,
    curve,
    ellipsoid,
    half_space,
    tube,
)

OUTSIDE, CSF, GREY, WHITE, NUCLEUS, STEM = range(6)
VENTRICLE, PALLIDUM = 6, 7

BRAIN_TISSUES = {
    OUTSIDE: Tissue(1000, 50, 0.0),
    CSF: Tissue(4070, 1200, 1.00, hu=8),
    GREY: Tissue(1188, 100, 0.82, hu=38),
    WHITE: Tissue(656, 72, 0.70, hu=29),
    NUCLEUS: Tissue(1000, 84, 0.78, hu=38),
    STEM: Tissue(760, 78, 0.73, hu=31),
    VENTRICLE: Tissue(4070, 1500, 1.00, hu=6),
    PALLIDUM: Tissue(800, 70, 0.74, hu=40),
}
"""1.5 T, after T1 of Rooney et al. 2007 (doi 10.1002/mrm.21122) and T2 of Stanisz et al. 2005 (doi 10.1002/mrm.20605),
rounded; the T2 of fluid is lowered for flow, that of grey matter raised within its spread; proton density: Tofts,
Quantitative MRI of the Brain, 2003; HU: usual values."""


@dataclass
class Brain:
    """What `draw` returns: the canvas with its tissue map, and depth below the hull (mm, positive inside the brain)."""

    canvas: Canvas
    depth: np.ndarray
    hindbrain: np.ndarray
    """distance to cerebellum and brain stem, mm, negative inside"""
    atrophy: float


def _hull(p: Points) -> np.ndarray:
    """Distance to the cerebrum's hull: an egg with a flat base and two temporal lobes, mm, negative inside."""
    x, y, z = p
    egg = (x * (1 + 0.0016 * y), y, z)
    top = ellipsoid((0, 0, 8), (66, 84, 60)).distance(egg)
    base = half_space((0, 0, -21), (0, -0.13, -1)).distance(p)
    top = -blend(-top, -base, 14.0)
    side = (np.abs(x), y, z)
    lobes = ellipsoid((42, 6, -24), (21, 45, 21), (0, 12, 8)).distance(side)
    return blend(top, lobes, 8.0)


def _sulci(rng: np.random.Generator, q: Points, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """At points `q` on the hull: distance to the nearest sulcus (mm) and that sulcus' depth (mm)."""
    from scipy.ndimage import map_coordinates

    lattice = Space((76, 84, 72), (2.5, 2.5, 2.5))
    waves = lattice.noise(rng, spread) + 0.35 * lattice.noise(rng, spread * 0.55)
    slope = np.sqrt(sum(g * g for g in np.gradient(waves, 2.5))) + 0.02
    depth = np.clip(18 + 6 * lattice.noise(rng, 18.0), 5, 30)
    at = np.stack([(q[k] / 2.5 + (lattice.shape[k] - 1) / 2) for k in range(3)])
    value, steep, deep = (map_coordinates(f, at, order=1, mode="nearest") for f in (waves, slope, depth))
    return np.abs(value) / steep, deep


def _cortex(streams: Streams, c: Canvas, depth: np.ndarray, atrophy: float) -> None:
    """Paint cerebrospinal fluid, cortex and white matter of the cerebrum."""
    rng = streams("cortex")
    inside = depth > -1.0
    c.tissue[depth > 0] = WHITE
    shell = inside & (depth < 34)
    x, y, z = (np.broadcast_to(v, c.tissue.shape)[shell] for v in c.p)
    d = depth[shell]
    k0 = np.sqrt((x / 66) ** 2 + (y / 84) ** 2 + ((z - 8) / 60) ** 2) + 0.05
    pull = (1 - k0) / k0 * 0.85 + 1  # towards the hull, not quite radially: sulci then lean
    wave = c.space.noise(rng, 14.0)[shell] * 2.0
    apart, deep = _sulci(rng, (x * pull + wave, y * pull - wave, (z - 8) * pull + wave), rng.uniform(7.6, 8.8))

    def gap(away: np.ndarray, beyond: np.ndarray, width: float) -> np.ndarray:
        open_by = width * (0.45 + atrophy / (1 + (d / 6) ** 2))
        return np.sqrt(away * away + np.maximum(beyond, 0) ** 2) - open_by

    radial = (1 - k0) * 70  # depth below the vault, also above the flat base
    pial = np.minimum(d, gap(apart, np.maximum(d, 0.8 * radial) - deep, 1.0))
    core = (1 - np.sqrt((y / 48) ** 2 + ((z - 4) / 21) ** 2)) * 21  # callosum and what lies below it
    pial = np.minimum(pial, gap(np.abs(x + 0.3 * wave), core, 1.1))
    sylvian = np.abs(z + 4 + 0.32 * (y - 8) + wave) * 0.95
    reach = np.maximum(36 - np.abs(x), np.abs(y - 6) - 36)
    pial = np.minimum(pial, gap(sylvian, reach, 1.8))
    thick = 2.8 + 0.3 * c.space.noise(rng, 9.0)[shell]
    c.tissue[shell] = np.where(pial <= 0, CSF, np.where(pial < thick, GREY, WHITE)).astype(np.uint8)


def _hindbrain(streams: Streams, c: Canvas) -> np.ndarray:
    """Paint cisterns, cerebellum with folia, and brain stem; returns the distance to their union (mm)."""
    rng = streams("hindbrain")
    side = (np.abs(c.p[0]), c.p[1], c.p[2])
    lobe = ellipsoid((21, -51, -35), (30, 29, 21), (0, 0, -12))
    d = blend(lobe.distance(side), ellipsoid((0, -52, -32), (14, 26, 22)).distance(c.p), 6.0)
    cistern = ellipsoid((0, -10, -22), (22, 22, 17)).distance(c.p) + 2.5 * c.space.noise(rng, 14.0)
    outside = (c.tissue == OUTSIDE) | (c.tissue == CSF)
    c.tissue[(cistern < 0) & outside] = CSF
    c.tissue[d < 1.2] = CSF
    x, y, z = (v[d < 0] for v in side)
    depth = -d[d < 0]
    leaf = np.sqrt((x * 0.7) ** 2 + (y + 20) ** 2 + (z + 34) ** 2 * 0.8) + 1.6 * c.space.noise(rng, 8.0)[d < 0]
    phase = np.abs(leaf / 4.2 - np.floor(leaf / 4.2) - 0.5) * 4.2  # 0 in the middle of a folium, 2.1 between two
    deep = depth + 2.5 * c.space.noise(rng, 9.0)[d < 0]
    tree = np.where((phase < 0.6) & (depth > 2.5), WHITE, np.where((phase > 1.85) & (deep < 6), CSF, GREY))
    tree[deep > 11] = WHITE
    c.tissue[d < 0] = tree.astype(np.uint8)
    stem = [
        *tube([(0, -18, -18, 11), (0, -22, -46, 11), (0, -28, -80, 8)]),
        ellipsoid((0, -12, -33), (18, 14, 13)),
        ellipsoid((0, -19, -10), (11, 8, 12)),
        *(ellipsoid((s * 9, -8, -10), (7.5, 12, 14), (0, 0, s * -24)) for s in (-1, 1)),
    ]
    c.fill(stem, STEM)
    c.fill([ellipsoid((0, -34, -34), (7, 5, 11)), ellipsoid((0, -19, -12), (1.4, 1.4, 14))], VENTRICLE)
    for shape in stem:
        box = c.box(shape)
        d[box] = np.minimum(d[box], shape.distance(c.at(box)))
    return np.minimum(d, np.maximum(cistern, -c.p[2] - 52))


def _both(points: list[tuple[float, float, float, float]]) -> list[list[tuple[float, float, float, float]]]:
    return [points, [(-x, y, z, r) for x, y, z, r in points]]


def _deep(streams: Streams, c: Canvas, atrophy: float) -> None:
    """Paint basal ganglia, thalamus and ventricles."""
    rng = streams("deep")
    wide = float(rng.uniform(0.75, 1.15) + 0.45 * atrophy)
    for sign in (-1, 1):
        solid = [
            ellipsoid((sign * 26, 4, 3), (5.5, 19, 12), (0, 0, sign * -10)),
            ellipsoid((sign * 12, -14, 7), (9.5, 15, 10), (0, 0, sign * 22)),
        ]
        c.fill(solid, NUCLEUS)
        pallidum = ellipsoid((sign * 20, 1, 1), (3.2, 9, 6), (0, 0, sign * -16))
        c.fill(pallidum, PALLIDUM)
    for path in _both([(14, 30, 4, 5), (15, 22, 9, 7), (17, 8, 16, 5), (19, -10, 21, 3)]):
        c.fill(tube(curve(path, 2)), NUCLEUS, only=[WHITE, GREY])
    horns = _both(
        [
            (9, 34, 2, 2.2),
            (8, 26, 6, 4.6),
            (8, 10, 15, 4.8),
            (10, -8, 20, 5.0),
            (17, -26, 17, 6.2),
            (24, -38, 8, 5.4),
            (22, -52, 4, 3.2),
            (19, -64, 3, 1.0),
        ]
    )
    for path in horns:
        path = [(x * (0.85 + 0.15 * wide), y, z, r * wide) for x, y, z, r in path]
        c.fill(tube(curve(path, 3), (1.25, 1, 0.8)), VENTRICLE)
    for path in _both([(25, -34, 6, 3.6), (33, -24, -10, 2.6), (34, -4, -22, 2.2)]):
        c.fill(tube([(x, y, z, r * wide) for x, y, z, r in path]), VENTRICLE)
    septum = ellipsoid((0, 12, 13), (0.9, 30, 14))
    c.fill(septum, WHITE, only=[VENTRICLE])
    c.fill(ellipsoid((0, -4, 0), (1.6 + 1.4 * wide, 15, 11)), VENTRICLE)


def draw(
    streams: Streams, space: Space, turn: Vector = (0, 0, 0), push: tuple[np.ndarray, float, float] | None = None
) -> Brain:
    """Paint one brain. `push` (centre, share, reach in mm) is a mass that displaces what surrounds it."""
    rng = streams("brain")
    size = rng.uniform([0.95, 0.94, 0.96], [1.04, 1.04, 1.03])
    c = canvas(space, rng, warp=1.4, scale=38.0, turn=turn, size=size, shift=(0, -2, -3))
    atrophy = float(rng.beta(1.6, 2.4))
    hull = _hull(c.p)
    if push is not None:
        centre, share, reach = push
        away = [c.p[k] - float(centre[k]) for k in range(3)]
        r2 = (away[0] ** 2 + away[1] ** 2 + away[2] ** 2) / (reach * reach)
        squeeze = 1 - share / (1 + r2 + r2 * r2)
        c.p = tuple(float(centre[k]) + away[k] * squeeze for k in range(3))  # type: ignore[assignment]
        c.slack += share * reach
    _cortex(streams, c, -hull, atrophy)
    hind = _hindbrain(streams, c)
    depth = -blend(hull, hind, 22.0)
    c.tissue[(depth > -1.0) & (c.tissue == OUTSIDE)] = CSF  # below the tentorium
    _deep(streams, c, atrophy)
    return Brain(c, depth, hind, atrophy)


def white_matter_lesions(brain: Brain, rng: np.random.Generator, load: float) -> list[tuple[Box, np.ndarray]]:
    """Boxes and weights (0-1) of ageing white matter: caps at the horns, bands, scattered foci. `load` 0-1."""
    c = brain.canvas
    found: list[tuple[Box, np.ndarray]] = []

    def add(shape: Shape, edge: float, strength: float) -> None:
        box = c.box(shape, 6.0)
        d = shape.distance(c.at(box))
        soft = np.clip(0.5 - d / edge, 0, 1).astype(np.float32) * np.float32(strength)
        found.append((box, soft * np.isin(c.tissue[box], (WHITE, STEM))))

    for sign in (-1, 1):
        for centre, radii in (((11, 38, 4), (8, 9, 9)), ((24, -50, 8), (9, 12, 8)), ((17, -4, 24), (9, 26, 6))):
            swell = rng.uniform(0.6, 1.1) + 0.7 * load
            add(
                ellipsoid((sign * centre[0], centre[1], centre[2]), [r * swell for r in radii]),
                5.0,
                float(rng.uniform(0.35, 0.8) * (0.4 + 0.6 * load)),
            )
    for _ in range(int(6 + 50 * load)):
        at = (rng.choice((-1, 1)) * rng.uniform(16, 44), rng.uniform(-55, 50), rng.uniform(0, 48))
        add(ellipsoid(at, rng.uniform(2.5, 6.0, 3), rng.uniform(-40, 40, 3)), 3.0, float(rng.uniform(0.5, 1.0)))
    return found
