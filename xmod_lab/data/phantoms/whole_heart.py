"""`whole_heart`: contrast-enhanced CT and MR of chests with all four chambers, each subject seen in one modality only.

Axial slices show every labelled structure. Labels as named in the manifest: 1 ascending aorta, 2 left atrium, 3 left
ventricle, 4 its myocardium. The MR is T1-weighted with black blood: blood is bright in one modality and dark in the
other. The right heart, the lung's vessels and the descending aorta carry the same blood.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xmod_lab.data.phantoms import physics
from xmod_lab.data.phantoms.chest import AIR, BLOOD, CHEST_TISSUES, FAT, LUNG, MUSCLE, RIGHT_BLOOD, paint_chest
from xmod_lab.data.phantoms.common import Subject, signal_of
from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import (
    Canvas,
    Shape,
    Space,
    Streams,
    canvas,
    curve,
    ellipsoid,
    half_space,
    rotation,
    tube,
)

SPACE = Space((128, 128, 24), (1.7, 1.7, 5.5), (2, 2, 2))
AORTA, ATRIUM, VENTRICLE, MYOCARDIUM, WALL = range(20, 25)
LABELS = {AORTA: 1, ATRIUM: 2, VENTRICLE: 3, MYOCARDIUM: 4}
MODALITIES = ("CT", "MR")

BLOOD_POOL = CHEST_TISSUES[BLOOD]
TISSUES = CHEST_TISSUES | {
    AORTA: BLOOD_POOL,
    ATRIUM: BLOOD_POOL,
    VENTRICLE: BLOOD_POOL,
    MYOCARDIUM: Tissue(1030, 40, 0.80, hu=105),
    WALL: Tissue(1030, 40, 0.80, hu=95),
}
"""1.5 T. Myocardium and blood: Stanisz et al. 2005 (doi 10.1002/mrm.20605); CT: as usual in coronary angiography."""


VOID = {k: replace(TISSUES[k], pd=0.10) for k in (BLOOD, RIGHT_BLOOD, AORTA, ATRIUM, VENTRICLE)}
"""The MR is a black-blood turbo spin echo: two inversion pulses have nulled the blood that flows in."""


def heart_axes(rng: np.random.Generator) -> np.ndarray:
    """Rows: from base to apex, towards the septum, and across, as unit vectors of one subject."""
    apex = np.array([-0.72, 0.52, -0.46])
    septum = np.array([0.55, 0.80, 0.05])
    long = apex / np.linalg.norm(apex)
    side = septum - (septum @ long) * long
    side /= np.linalg.norm(side)
    return np.stack([long, side, np.cross(long, side)]) @ rotation(rng.normal(0, 5, 3))


def _ventricles(c: Canvas, rng: np.random.Generator, base: np.ndarray, axes: np.ndarray) -> None:
    radius, length = float(rng.uniform(20, 26)), float(rng.uniform(68, 80))
    wall = float(rng.uniform(8.0, 11.5))
    long, side, _ = axes
    middle = base + 8 * long
    cavity = ellipsoid(middle, (length - 10, radius, radius), axes)
    outer = ellipsoid(middle, (length - 10 + wall, radius + wall, radius + wall), axes)
    valve = half_space(base, -long)
    right = ellipsoid(base + 10 * long + (radius + 9) * side, (length - 16, 27, radius + 12), axes)
    right_valve = half_space(base + 2 * long, -long)
    cut = outer.within(valve)
    c.fill(right.grown(3.5).within(right_valve), WALL)
    c.fill(right.within(right_valve), RIGHT_BLOOD)
    c.fill(cut, MYOCARDIUM)
    trabeculae = 1.6 * c.space.noise(rng, 7.0) - 0.6
    c.fill(cavity.within(valve), VENTRICLE, only=[MYOCARDIUM], rough=np.minimum(trabeculae, 0.8).astype(np.float32))
    for across, turn in ((0.45, -0.3), (-0.45, -0.35)):
        head = base + 30 * long + radius * (across * axes[2] + turn * side)
        foot = base + (length - 22) * long + radius * (0.75 * across * axes[2] + turn * side)
        c.fill(tube([(*head, 2.5), (*foot, 5.0)]), MYOCARDIUM, only=[VENTRICLE])


def _atria(c: Canvas, rng: np.random.Generator, base: np.ndarray, axes: np.ndarray) -> None:
    long, side, _ = axes
    size = float(rng.uniform(0.9, 1.15))
    left = base - 20 * size * long + np.array([6, -12, 6])
    right = base - 14 * long + 40 * side + np.array([14, -14, -8])
    wide = np.array([28, 22, 24]) * size
    chamber = ellipsoid(left, wide, (0, 0, float(rng.normal(10, 8))))
    c.fill(ellipsoid(right, np.array([23, 27, 31]) * size, (0, 0, 20)).grown(2), WALL)
    c.fill(ellipsoid(right, np.array([23, 27, 31]) * size, (0, 0, 20)), RIGHT_BLOOD)
    c.fill(chamber.grown(6), FAT, only=[LUNG])
    c.fill(chamber.grown(2.6), WALL, only=[FAT, LUNG, MUSCLE, RIGHT_BLOOD, AIR])
    for sign in (-1, 1):
        for up in (-7, 12):
            way = [
                (*(left + [sign * 14, -8, up * 0.6]), 8.5),
                (*(left + [sign * 38, -16, up]), 6.0),
                (*(left + [sign * 62, -20, up * 1.7]), 4.0),
            ]
            c.fill(tube(curve(way, 2)), BLOOD, only=[FAT, LUNG, WALL, MUSCLE])
    c.fill(chamber, ATRIUM, only=[FAT, LUNG, WALL, BLOOD, MUSCLE])
    ear = [(*(left + [-20, 12, 8]), 8), (*(left + [-36, 26, 14]), 5)]
    c.fill(tube(ear), ATRIUM, only=[FAT, LUNG, WALL, BLOOD])
    c.fill(
        tube(curve([(*(right + [0, 0, 26]), 10), (*(right + [2, 2, 50]), 9), (*(right + [2, 6, 90]), 9)], 2)),
        RIGHT_BLOOD,
    )
    c.fill(tube([(*(right + [-2, -6, -22]), 12), (*(right + [-4, -12, -60]), 12)]), RIGHT_BLOOD)


def _vessels(c: Canvas, rng: np.random.Generator, base: np.ndarray, axes: np.ndarray) -> None:
    _, side, _ = axes
    root = base + 14 * side + np.array([6, -4, 8])
    width = float(rng.uniform(12.5, 16.0))
    rise = [
        (*(root + [-6, 4, -8]), width * 0.85),
        (*(root + [2, 2, 6]), width * 1.12),
        (*(root + [10, 6, 26]), width),
        (*(root + [8, 4, 44]), width),
        (*(root + [0, -6, 58]), width * 0.95),
    ]
    fall = [
        (*(root + [0, -6, 58]), width * 0.95),
        (*(root + [-14, -28, 64]), width * 0.88),
        (*(root + [-26, -48, 52]), width * 0.8),
        (*(root + [-30, -56, 20]), width * 0.75),
        (-26, -56, -40, width * 0.7),
        (-20, -56, -90, width * 0.68),
    ]
    trunk = [(*(root + [-14, 26, 2]), 13), (*(root + [-20, 20, 20]), 13.5), (*(root + [-18, 0, 32]), 13)]
    arteries = [
        [
            (*(root + [-18, 2, 31]), 12),
            (*(root + [4, -18, 32]), 10),
            (*(root + [46, -22, 28]), 8),
            (*(root + [70, -26, 14]), 4),
        ],
        [(*(root + [-18, 2, 31]), 12), (*(root + [-36, -22, 34]), 9), (*(root + [-66, -30, 22]), 4)],
    ]
    soft = [FAT, LUNG, MUSCLE, WALL, RIGHT_BLOOD, BLOOD, AIR]
    for path in (trunk, *arteries):
        c.fill(tube(curve(path, 3)), RIGHT_BLOOD, only=[FAT, LUNG, MUSCLE, WALL, AIR, BLOOD])
    for path, blood in ((fall, BLOOD), (rise, AORTA)):
        pieces = tube(curve(path, 3))
        c.fill([p.grown(1.8) for p in pieces], WALL, only=soft)
        c.fill(pieces, blood, only=[*soft, BLOOD, MYOCARDIUM])


def generate(streams: Streams, index: int) -> Subject:
    """One subject: the image of one modality (they take turns), the other's in truth, one label."""
    rng = streams("subject")
    size = rng.uniform(0.92, 1.08, 3)
    c = canvas(SPACE, rng, warp=1.8, scale=45.0, turn=rng.normal(0, 4, 3), size=size, shift=rng.normal(0, 4, 3))
    paint_chest(c, streams("chest"))
    rng = streams("heart")
    base, axes = np.array([-6.0, 2.0, 2.0]) + rng.normal(0, 2.5, 3), heart_axes(rng)
    sac: Shape = ellipsoid(base + 18 * axes[0] + 8 * axes[1], (68, 54, 52), axes)
    c.fill(sac, FAT, only=[LUNG, AIR, MUSCLE])
    _ventricles(c, rng, base, axes)
    _atria(c, rng, base, axes)
    _vessels(c, rng, base, axes)
    label = np.zeros(256, np.uint8)
    label[list(LABELS)] = list(LABELS.values())
    seg = SPACE.vote(label[c.tissue], (4, 3, 2, 1))
    grain = SPACE.noise(streams("texture"), 6.0)
    hu = signal_of(TISSUES, lambda t: t.hu, c.tissue) + 8 * grain
    share = np.where((c.tissue == RIGHT_BLOOD) | (c.tissue == LUNG), np.float32(1), np.float32(0))
    hu += share * 30 * SPACE.noise(streams("mixing"), 18.0)
    scan = physics.ct_scan(SPACE.mean(hu), SPACE, streams("CT"), noise=float(streams("dose").uniform(18, 32)))
    signal = signal_of(TISSUES | VOID, lambda t: physics.spin_echo(t, 800, 20), c.tissue) * (1 + 0.05 * grain)
    slow = np.clip(0.05 * SPACE.noise(streams("slow flow"), 11.0), 0, 0.12)  # lingering blood keeps some signal
    signal += np.where(np.isin(c.tissue, list(VOID)), slow, np.float32(0))
    both = {"CT": scan, "MR": physics.mr_scan(SPACE.mean(signal), SPACE, streams("MR"), snr=14, bias=0.3)}
    shown = MODALITIES[index % len(MODALITIES)]
    return Subject(SPACE, {shown: both[shown]}, {"": seg}, truth={m: a for m, a in both.items() if m != shown})
