"""What lies around a heart: lungs with vessels, chest wall, ribs, breast bone, spine, windpipe, diaphragm and liver."""

from __future__ import annotations

import numpy as np

from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import Canvas, ellipsoid, oval, tube

AIR, LUNG, FAT, MUSCLE, BONE, MARROW, BLOOD, RIGHT_BLOOD, LIVER, CORD = range(10)

CHEST_TISSUES = {
    AIR: Tissue(1000, 50, 0.0, hu=-1000),
    LUNG: Tissue(1200, 25, 0.18, hu=-840),
    FAT: Tissue(343, 58, 0.85, hu=-95),
    MUSCLE: Tissue(1008, 44, 0.78, hu=58),
    BONE: Tissue(1000, 2, 0.20, hu=650),
    MARROW: Tissue(549, 49, 0.70, hu=190),
    BLOOD: Tissue(1441, 290, 0.95, hu=370),
    RIGHT_BLOOD: Tissue(1441, 230, 0.95, hu=300),
    LIVER: Tissue(586, 46, 0.75, hu=95),
    CORD: Tissue(900, 80, 0.80, hu=35),
}
"""1.5 T. Muscle and blood: Stanisz et al. 2005 (doi 10.1002/mrm.20605); fat, marrow, liver: de Bazelaire et al. 2004
(doi 10.1148/radiol.2303021331); lung: chosen; HU: usual radiological values."""


def paint_chest(c: Canvas, rng: np.random.Generator) -> None:
    """Paint everything but the heart and the great vessels."""
    x, y, z = c.p
    fat = float(rng.uniform(6, 20))
    deep = float(rng.uniform(96, 106))
    body = oval(c.p, 165 + fat, deep + fat)
    wall = oval(c.p, 158, deep)
    cage = oval((x, y + 2, z), 144, deep - 14)
    c.tissue[body < 1] = FAT
    c.tissue[wall < 1] = MUSCLE
    inside = cage < 1
    middle = ((x + 4) / (27 + 0.12 * np.maximum(-z, 0))) ** 2 + ((y + 8) / 112) ** 2  # mediastinum
    c.tissue[inside] = LUNG
    c.tissue[inside & (middle < 1)] = FAT
    ring = (cage >= 1) & (wall < 0.97)
    slope = (z + 0.45 * y + 0.0016 * x * x) / 26.0
    rib = np.abs(slope - np.floor(slope) - 0.5) * 26
    c.tissue[ring & (cage < 1.15) & (rib < 5.2)] = BONE
    c.tissue[ring & (cage > 1.03) & (cage < 1.11) & (rib < 3.2)] = MARROW
    sternum = ellipsoid((0, deep - 10, 5), (19, 6.5, 90))
    c.fill(sternum, BONE)
    c.fill(sternum.grown(-2.2), MARROW)
    _lung_vessels(c, rng)
    _diaphragm(c, rng)
    _spine(c, deep)
    c.fill(tube([(2, -30, 30, 9), (4, -34, 110, 9)]), MUSCLE)
    c.fill(tube([(2, -30, 34, 7.5), (4, -34, 110, 7.5)]), AIR)
    for sign in (-1, 1):
        c.fill(tube([(2, -32, 36, 7), (sign * 34, -38, 18, 5)]), MUSCLE, only=[FAT, LUNG])
        c.fill(tube([(2, -32, 36, 5.5), (sign * 34, -38, 18, 4)]), AIR)
    c.fill(tube([(-6, -46, 90, 6.5), (-8, -46, -20, 6.5), (-16, -38, -70, 7)]), MUSCLE, only=[FAT, LUNG])


def _lung_vessels(c: Canvas, rng: np.random.Generator) -> None:
    field = c.space.noise(rng, 12.0)
    other = c.space.noise(rng, 12.0)
    lung = c.tissue == LUNG
    near = np.sqrt(c.p[0] ** 2 * 0.6 + (c.p[1] + 20) ** 2 + (c.p[2] - 10) ** 2 * 0.5)
    thick = 0.16 * np.clip(1.5 - near / 90, 0.35, 1.3)
    c.tissue[lung & (field * field + other * other < thick * thick * 4)] = BLOOD


def _diaphragm(c: Canvas, rng: np.random.Generator) -> None:
    lift = float(rng.normal(0, 4))
    soft = [LUNG, FAT, BLOOD]
    inside = ellipsoid((62, -4, -92 + lift), (84, 88, 66))
    c.fill(inside.grown(3), MUSCLE, only=soft)
    c.fill(inside, LIVER, only=[MUSCLE, LUNG])
    left = ellipsoid((-70, -14, -104 + lift), (70, 78, 62))
    c.fill(left.grown(3), MUSCLE, only=soft)
    c.fill(left, FAT, only=[MUSCLE])
    c.fill(ellipsoid((-80, -42, -90 + lift), (36, 34, 40)), LIVER, only=[FAT])


def _spine(c: Canvas, deep: float) -> None:
    back = -deep + 38
    period = (c.p[2] + 8) / 27.0
    disc = np.abs(period - np.floor(period) - 0.5) * 27 < 3.0
    body = ellipsoid((0, back, 0), (19, 16, 400))
    around = ellipsoid((0, back - 26, 0), (44, 22, 400))
    c.fill(around, MUSCLE)
    for sign in (-1, 1):
        c.fill(ellipsoid((sign * 22, back - 16, 0), (20, 5, 400), (0, 0, sign * -24)), BONE)
    c.fill(ellipsoid((0, back - 36, 0), (4, 16, 400)), BONE)
    c.fill(ellipsoid((0, back - 20, 0), (14, 12, 400)), BONE)
    c.fill(body, BONE)
    c.fill(body.grown(-2.2), MARROW)
    c.tissue[disc & np.isin(c.tissue, (MARROW, BONE)) & (np.abs(c.p[0]) < 20) & (np.abs(c.p[1] - back) < 17)] = MUSCLE
    c.fill(ellipsoid((0, back - 19, 0), (9.5, 8, 400)), FAT)
    c.fill(ellipsoid((0, back - 19, 0), (6, 5, 400)), CORD)
