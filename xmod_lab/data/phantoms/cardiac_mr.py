"""`cardiac_mr`: short-axis bSSFP, late gadolinium enhancement (LGE) and T2 of the same subject with an infarct.

Each sequence has its own breath-hold, so each has its own label: 1 left ventricle, 2 myocardium, 3 right ventricle.
bSSFP lies in the subject's own frame; truth/ holds LGE and T2 as they would look there, and the displacements.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xmod_lab.data.phantoms import physics
from xmod_lab.data.phantoms.common import Subject, signal_of
from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import Canvas, Space, Streams, canvas, curve, ellipsoid, half_space, tube

SPACE = Space((128, 128, 20), (1.6, 1.6, 6.0), (2, 2, 2))
(
    AIR,
    LUNG,
    FAT,
    MUSCLE,
    LIVER,
    BLOOD,
    MYOCARDIUM,
    SCAR,
    SWOLLEN,
    PAPILLARY,
    LEFT,
    RIGHT,
    BONE,
    SPLEEN,
    BOWEL,
    NO_REFLOW,
    WALL,
) = range(17)
LABELS = {LEFT: 1, PAPILLARY: 1, MYOCARDIUM: 2, SCAR: 2, SWOLLEN: 2, NO_REFLOW: 2, RIGHT: 3}
MODALITIES = ("bSSFP", "LGE", "T2")

_BLOOD = Tissue(1441, 250, 0.95, agent=0.50)
_HEART = Tissue(1030, 42, 0.80, agent=0.28)
TISSUES = {
    AIR: Tissue(1000, 50, 0.0),
    LUNG: Tissue(1200, 25, 0.16, agent=0.2),
    FAT: Tissue(260, 70, 0.85),
    MUSCLE: Tissue(1008, 44, 0.78, agent=0.12),
    LIVER: Tissue(586, 46, 0.75, agent=0.10),
    BLOOD: _BLOOD,
    LEFT: _BLOOD,
    RIGHT: _BLOOD,
    MYOCARDIUM: _HEART,
    PAPILLARY: _HEART,
    WALL: _HEART,
    SCAR: Tissue(1200, 58, 0.85, agent=0.80),
    SWOLLEN: Tissue(1180, 60, 0.86, agent=0.36),
    NO_REFLOW: Tissue(1150, 52, 0.85, agent=0.06),
    BONE: Tissue(1000, 5, 0.2),
    SPLEEN: Tissue(1057, 79, 0.85, agent=0.3),
    BOWEL: Tissue(1300, 110, 0.9, agent=0.15),
}
"""1.5 T. Myocardium, blood, muscle: Stanisz et al. 2005 (doi 10.1002/mrm.20605); fat: after Bottomley
et al., Med Phys 11:425, 1984; infarct and oedema: chosen, longer than healthy muscle; others: de Bazelaire et al.
2004 (doi 10.1148/radiol.2303021331). Uptake: chosen so that late T1 is about 450 ms in healthy and 230 ms in scarred
muscle and 340 ms in blood."""


def _signal(modality: str, tissue: np.ndarray, nulled: float) -> np.ndarray:
    """Signal of a tissue map. `nulled` scales the inversion time that nulls blood.

    LGE is the dark-blood kind, in magnitude (Holtackers et al. 2017, doi 10.1186/s12968-017-0372-4): blood is black,
    healthy muscle grey, scar bright, so that the order of blood and muscle is not that of bSSFP.
    """
    if modality == "bSSFP":
        return signal_of(TISSUES, lambda t: physics.balanced(t, 3.2, 60), tissue)
    if modality == "LGE":
        t1 = _BLOOD.enhanced().t1
        ti = nulled * t1 * np.log(2 / (1 + np.exp(-1700 / t1)))
        return signal_of(TISSUES, lambda t: physics.inversion_recovery(t.enhanced(), 1700, ti, 3.0), tissue)
    dark = {
        k: replace(TISSUES[k], pd=0.10) for k in (BLOOD, LEFT, RIGHT)
    }  # flows out between the double inversion's pulses
    fat = {FAT: replace(TISSUES[FAT], pd=0.22)}  # spectral suppression
    return signal_of(TISSUES | dark | fat, lambda t: physics.spin_echo(t, 2000, 65), tissue)


def _around(c: Canvas, rng: np.random.Generator) -> None:
    """Chest wall on the right ventricle's side, lung, diaphragm with liver, stomach and spleen below."""
    x, y, _ = c.p
    tilt = float(rng.uniform(0.75, 1.05))
    depth = -(0.62 * x + tilt * y) / np.float32(np.hypot(0.62, tilt)) + 88 - 0.0016 * (0.8 * x - 0.6 * y) ** 2
    skin = float(rng.uniform(6, 16))
    c.tissue[depth > 0] = FAT
    c.tissue[depth > skin] = MUSCLE
    phase = (c.p[2] + 0.5 * x) / 24
    rib = np.abs(phase - np.floor(phase) - 0.5) * 24 < 5
    c.tissue[(depth > skin + 5) & (depth < skin + 11) & rib] = BONE
    c.tissue[depth > skin + 15] = LUNG
    low = float(rng.uniform(-58, -46))
    floor = y - low - 0.05 * x + 0.0035 * (x - 30) ** 2 - 8 + 0.12 * c.p[2]
    under = floor < 0
    c.tissue[under & (depth > skin + 15)] = LIVER
    c.tissue[under & (floor > -3) & (depth > skin + 15)] = MUSCLE
    stomach = ellipsoid((-48, low - 24, 0), (30, 22, 46), (0, 0, 14))
    c.fill(stomach.grown(4), FAT, only=[LIVER])
    c.fill(stomach, MUSCLE, only=[FAT, LIVER])
    c.fill(stomach.grown(-3.5), BOWEL)
    c.fill(ellipsoid((-52, low - 14, 4), (20, 7, 30)), AIR, only=[BOWEL])
    c.fill(ellipsoid((-92, low - 22, -6), (24, 30, 44)), SPLEEN, only=[LIVER, LUNG, MUSCLE])
    one, two = c.space.noise(rng, 14.0), c.space.noise(rng, 14.0)
    c.tissue[(c.tissue == LUNG) & (one * one + two * two < 0.05)] = BLOOD
    c.tissue[(c.tissue == LIVER) & (np.abs(one) < 0.22) & (np.abs(two) < 0.22)] = BLOOD


def _heart(c: Canvas, rng: np.random.Generator) -> None:
    """Ventricles from apex (-z) to base (+z), atria, aortic root, papillary muscles, scar."""
    radius, wall, length = float(rng.uniform(21, 28)), float(rng.uniform(8.0, 11.5)), float(rng.uniform(78, 92))
    angle = np.radians(rng.uniform(15, 42))
    side = np.array([np.cos(angle), np.sin(angle), 0.0])
    across = np.array([-side[1], side[0], 0.0])
    axes = np.stack([side, across, [0.0, 0.0, 1.0]])
    base = 34.0
    middle = np.array([-12.0, 2.0, base - 0.22 * length])
    inner = ellipsoid(middle, (radius, radius * 1.04, 0.78 * length - wall), axes)
    outer = ellipsoid(middle, (radius + wall, radius * 1.04 + wall, 0.78 * length), axes)
    valve = half_space((0, 0, base), (0, 0, 1))
    wide = float(rng.uniform(24, 32))
    right = ellipsoid(middle + (radius * 0.62 + wall) * side + 3 * across, (wide + 9, radius + 16, 0.68 * length), axes)
    sac = ellipsoid(middle + 10 * side, (radius + wide + 11, radius + 21, 0.84 * length), axes)
    c.fill(sac, FAT, only=[LUNG, LIVER, MUSCLE, BLOOD])
    c.fill(right.grown(3.5).within(valve), WALL, only=[FAT, LUNG])
    ragged = np.minimum(1.8 * c.space.noise(rng, 8.0) - 0.8, 0.5).astype(np.float32)
    c.fill(right.within(valve), RIGHT, rough=ragged)
    c.fill(outer.within(valve), MYOCARDIUM)
    c.fill(inner.within(valve), LEFT, only=[MYOCARDIUM], rough=(0.7 * ragged).astype(np.float32))
    for turn in (np.radians(rng.normal(100, 8)), np.radians(rng.normal(215, 8))):
        at = middle + 0.68 * radius * (np.cos(turn) * side + np.sin(turn) * across)
        path = [
            (at[0], at[1], base - 0.28 * length, 3.0),
            (at[0], at[1], base - 0.45 * length, 5.2),
            (*(middle + 0.75 * (at - middle))[:2], base - 0.72 * length, 5.0),
        ]
        c.fill(tube(path), PAPILLARY, only=[LEFT])
    _scar(c, rng, middle, radius, wall, axes)
    left_atrium = ellipsoid(middle + [0, 0, 0.22 * length + 30] - 8 * across, (26, 30, 26))
    right_atrium = ellipsoid(middle + [0, 0, 0.22 * length + 28] + 46 * side, (24, 26, 28))
    for chamber in (left_atrium, right_atrium):
        c.fill(chamber.grown(2.5), WALL, only=[FAT, LUNG, LIVER])
        c.fill(chamber, BLOOD, only=[FAT, LUNG, WALL, LIVER])
    root = middle + [0, 0, 0.22 * length] + 20 * side - 4 * across
    pieces = tube(curve([(*(root - [0, 0, 6]), 12), (*(root + [0, 2, 14]), 13), (*(root + [4, 8, 50]), 13)], 2))
    c.fill([p.grown(2) for p in pieces], WALL, only=[BLOOD, FAT, LUNG])
    c.fill(pieces, BLOOD, only=[WALL, FAT, LUNG])
    c.fill(tube([(-62, -62, -90, 10.5), (-58, -60, 90, 11)]), BLOOD)


def _scar(
    c: Canvas, rng: np.random.Generator, middle: np.ndarray, radius: float, wall: float, axes: np.ndarray
) -> None:
    """An infarct in one coronary artery's territory: from the inside outwards, oedema around, a core without reflow."""
    centre = float(rng.choice([0.0, 100.0, 215.0]) + rng.normal(0, 12))
    toward = np.cos(np.radians(centre)) * axes[0] + np.sin(np.radians(centre)) * axes[1]
    span, level = float(np.cos(np.radians(rng.uniform(35, 65)))), float(rng.uniform(-38, -2))
    x, y = c.p[0] - float(middle[0]), c.p[1] - float(middle[1])
    r = np.sqrt(x * x + y * y) + np.float32(1e-3)
    facing = (x * float(toward[0]) + y * float(toward[1])) / r
    ragged = c.space.noise(rng, 7.0)
    depth = (r - radius) / wall
    near = facing - span - ((c.p[2] - level) / float(rng.uniform(22, 38))) ** 2 * 0.3 + 0.06 * ragged
    muscle = c.tissue == MYOCARDIUM
    c.tissue[muscle & (near > -0.14)] = SWOLLEN
    scar = muscle & (near > 0) & (depth < float(rng.uniform(0.45, 1.1)) + 0.2 * ragged)
    c.tissue[scar] = SCAR
    c.tissue[scar & (near > 0.16) & (depth > 0.1) & (depth < 0.4) & (ragged > 0.2)] = NO_REFLOW


def generate(streams: Streams, index: int) -> Subject:
    """One subject: three sequences, each displaced by its breath-hold (rotation about z in degrees, shift in mm)."""
    rng = streams("subject")
    size, tilt, nulled = rng.uniform(0.92, 1.08, 3), rng.normal(0, 4, 3), float(rng.uniform(0.90, 1.08))
    images: dict[str, np.ndarray] = {}
    truth: dict[str, np.ndarray] = {}
    labels, truth_labels, moves = {}, {}, {}
    table = np.zeros(256, np.uint8)
    table[list(LABELS)] = list(LABELS.values())
    rest: np.ndarray | None = None
    for name in MODALITIES:
        still = name == "bSSFP"
        rng = streams(name + "/breath")
        shift = np.zeros(3) if still else rng.normal(0, (2.5, 3.5, 2.0))
        spin = 0.0 if still else float(rng.normal(0, 3))
        moves[name] = {"rotation_about_z_degrees": spin, "shift_mm": shift.tolist()}
        c = canvas(SPACE, streams("warp"), warp=1.6, scale=45.0, turn=tilt + [0, 0, spin], size=size, shift=shift)
        _around(c, streams("around"))
        _heart(c, streams("heart"))
        rest = c.tissue if rest is None else rest
        labels[name] = SPACE.vote(table[c.tissue], (2, 3, 1))
        for tissue, where in ((c.tissue, images), *([] if still else [(rest, truth)])):
            texture = 1 + 0.05 * SPACE.noise(streams("texture"), 5.0)
            signal = SPACE.mean(_signal(name, tissue, nulled) * texture)
            where[name] = physics.mr_scan(
                signal, SPACE, streams(name), snr={"bSSFP": 22, "LGE": 9, "T2": 12}[name], bias=0.28
            )
        if not still:
            truth_labels[name] = SPACE.vote(table[rest], (2, 3, 1))
    return Subject(SPACE, images, labels, truth, truth_labels, {"motion": moves})
