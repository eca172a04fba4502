"""What an abdomen's organs lie in: skin, fat, muscle wall, ribs, spine, diaphragm, lung bases; and all its tissues."""

from __future__ import annotations

import numpy as np

from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import Canvas, ellipsoid, oval, tube

(AIR, SKIN, FAT, MUSCLE, BONE, MARROW, CORD, CSF, LUNG, GAS, FLUID, WALL) = range(12)
(STOOL, BLOOD, PORTAL, LIVER, SPLEEN, CORTEX_R, MEDULLA_R, CORTEX_L, MEDULLA_L) = range(12, 21)
(GALL, PANCREAS, ADRENAL, DISC) = range(21, 25)

_CORTEX, _MEDULLA = Tissue(966, 87, 0.86, hu=185), Tissue(1412, 95, 0.90, hu=150)
TISSUES = {
    AIR: Tissue(1000, 50, 0.0, hu=-1000),
    SKIN: Tissue(900, 35, 0.5, hu=30),
    FAT: Tissue(343, 58, 0.88, hu=-102),
    MUSCLE: Tissue(856, 30, 0.78, hu=60),
    BONE: Tissue(1000, 2, 0.2, hu=520),
    MARROW: Tissue(549, 49, 0.68, hu=210),
    CORD: Tissue(900, 80, 0.8, hu=40),
    CSF: Tissue(4070, 1000, 1.0, hu=12),
    LUNG: Tissue(1200, 25, 0.15, hu=-820),
    GAS: Tissue(1000, 50, 0.0, hu=-960),
    FLUID: Tissue(2800, 500, 0.98, hu=22),
    WALL: Tissue(1000, 60, 0.82, hu=85),
    STOOL: Tissue(700, 60, 0.6, hu=15),
    BLOOD: Tissue(1441, 290, 0.35, hu=155),
    PORTAL: Tissue(1441, 290, 0.35, hu=165),
    LIVER: Tissue(586, 46, 0.80, hu=112),
    SPLEEN: Tissue(1057, 79, 0.86, hu=122),
    CORTEX_R: _CORTEX,
    CORTEX_L: _CORTEX,
    MEDULLA_R: _MEDULLA,
    MEDULLA_L: _MEDULLA,
    GALL: Tissue(2400, 550, 0.98, hu=10),
    PANCREAS: Tissue(584, 50, 0.80, hu=98),
    ADRENAL: Tissue(800, 60, 0.80, hu=75),
    DISC: Tissue(1000, 55, 0.7, hu=85),
}
"""1.5 T, de Bazelaire et al. 2004 (doi 10.1148/radiol.2303021331); blood: Stanisz et al. 2005, proton density lowered
for flow void; HU: portal-venous phase, usual radiological values."""


def paint_trunk(c: Canvas, rng: np.random.Generator) -> tuple[float, float]:
    """Skin, fat, muscle wall, ribs, spine; returns the half width and half depth of the muscle wall (mm)."""
    x, y, z = c.p
    fat, wide, deep = float(rng.uniform(7, 26)), float(rng.uniform(126, 140)), float(rng.uniform(88, 100))
    outside = np.sqrt(oval(c.p, wide + fat, deep + 0.9 * fat))
    c.tissue[outside < 1] = SKIN
    c.tissue[outside < 1 - 2.8 / wide] = FAT
    ring = (np.sqrt(oval(c.p, wide, deep)) - 1) * (0.8 * wide)  # about mm outside the muscle wall
    c.tissue[ring < 0] = MUSCLE
    thin = 11 + 0.03 * np.abs(z)
    c.tissue[ring < -thin] = FAT
    layers = np.abs(ring + 5.5) < 0.7
    c.tissue[layers & (z < 0)] = FAT
    slope = (z - 0.55 * y + 0.0012 * x * x) / 27
    rib = np.abs(slope - np.floor(slope) - 0.5) * 27
    caged = (z > -40 - 0.3 * y) & (np.abs(ring + 7) < 4.2)
    c.tissue[caged & (rib < 6)] = BONE
    c.tissue[caged & (rib < 3.6) & (np.abs(ring + 7) < 2.4)] = MARROW
    _back(c, deep)
    return wide, deep


def _back(c: Canvas, deep: float) -> None:
    z = c.p[2]
    back = -deep + 44
    for sign in (-1, 1):
        c.fill(ellipsoid((sign * 33, back - 24, 0), (30, 20, 400), (0, 0, sign * 14)), MUSCLE)
        c.fill(
            tube([(sign * 26, back + 2, 30, 5), (sign * 34, back - 2, -40, 17), (sign * 44, back + 4, -110, 22)]),
            MUSCLE,
        )
        c.fill(tube([(sign * 12, back + 20, 90, 5), (sign * 9, back + 18, -20, 4)]), MUSCLE)  # crura
    level = z / 34.0
    phase = np.abs(level - np.floor(level) - 0.5) * 34
    for sign in (-1, 1):
        box_shape = ellipsoid((sign * 26, back - 18, 0), (26, 4.5, 400), (0, 0, sign * -12))
        box = c.box(box_shape)
        part = (box_shape.distance(c.at(box)) < 0) & (phase[box] < 8)
        c.tissue[box][part] = BONE
    body = ellipsoid((0, back, 0), (25, 19, 400))
    c.fill(ellipsoid((0, back - 24, 0), (17, 15, 400)), BONE)
    c.fill(ellipsoid((0, back - 44, 0), (4.5, 17, 400)), BONE)
    c.fill(body, BONE)
    c.fill(body.grown(-2.6), MARROW)
    disc = (phase > 13.2) & (np.abs(c.p[0]) < 27) & (np.abs(c.p[1] - back) < 20) & np.isin(c.tissue, (BONE, MARROW))
    c.tissue[disc] = DISC
    c.fill(ellipsoid((0, back - 23, 0), (11, 9, 400)), CSF)
    c.fill(ellipsoid((0, back - 24, 0), (5, 4, 400)), CORD)


def paint_lung_bases(c: Canvas, wide: float, deep: float) -> None:
    x, _, z = c.p
    for sign in (-1, 1):
        dome = ellipsoid((sign * 62, 0, 4), (wide - 50, deep + 2, 84 if sign > 0 else 78))
        cavity = (c.tissue == FAT) & (sign * x > 0) & (z > 20)
        ring = oval(c.p, wide - 11, deep - 11) < 1
        c.tissue[cavity & ring & (dome.distance(c.p) > 2.5)] = LUNG
        c.tissue[cavity & ring & (np.abs(dome.distance(c.p)) < 2.5)] = MUSCLE
