"""`abdomen`: upper abdomens in portal-venous CT, in-phase T1w and turbo-spin-echo T2w MR, one modality a subject.

Labels as in the manifest: 1 liver, 2 right kidney, 3 left kidney, 4 spleen. Stomach, bowel, pancreas, gall bladder and
muscle share intensities with them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xmod_lab.data.phantoms import physics
from xmod_lab.data.phantoms.common import Subject, signal_of
from xmod_lab.data.phantoms.shapes import Canvas, Space, Streams, blend, canvas, curve, ellipsoid, oval, tube

from xmod_lab.data.phantoms.trunk import (  # isort: skip
    ADRENAL,
    BLOOD,
    CORTEX_L,
    CORTEX_R,
    FAT,
    FLUID,
    GALL,
    GAS,
    LIVER,
    LUNG,
    MARROW,
    MEDULLA_L,
    MEDULLA_R,
    MUSCLE,
    PANCREAS,
    PORTAL,
    SPLEEN,
    STOOL,
    TISSUES,
    WALL,
    paint_lung_bases,
    paint_trunk,
)

SPACE = Space((128, 128, 24), (2.6, 2.6, 7.0), (2, 2, 2))
LABELS = {LIVER: 1, PORTAL: 1, CORTEX_R: 2, MEDULLA_R: 2, CORTEX_L: 3, MEDULLA_L: 3, SPLEEN: 4}
MODALITIES = ("CT", "T1w", "T2w")


def _signal(modality: str, tissue: np.ndarray, streams: Streams) -> np.ndarray:
    """Signal or HU; the liver's fat and iron and the phase of enhancement differ between subjects."""
    rng = streams("liver tissue")
    fat, iron, phase = float(rng.uniform(0, 0.32)), float(rng.uniform(0, 0.35)), float(rng.normal(1, 0.08))
    liver = replace(TISSUES[LIVER], t1=586 * (1 - 0.4 * fat), t2=46 * (1 - iron), hu=60 + 55 * phase - 130 * fat)
    blood = replace(TISSUES[BLOOD], hu=155 * phase)
    table = TISSUES | {
        LIVER: liver,
        BLOOD: blood,
        PORTAL: blood,
        **{k: replace(TISSUES[k], hu=float(rng.uniform(10, 170))) for k in (STOOL, FLUID)},
    }
    if modality == "CT":
        return signal_of(table, lambda t: t.hu, tissue)
    if modality == "T1w":
        return signal_of(table, lambda t: physics.gradient_echo(t, 130, 4.6, 75), tissue)
    bright = {k: replace(TISSUES[k], t2=130) for k in (FAT, MARROW)}  # echo trains undo J-coupling (Henkelman 1992)
    return signal_of(table | bright, lambda t: physics.spin_echo(t, 2800, 85), tissue)


def _liver(c: Canvas, rng: np.random.Generator, wide: float, deep: float) -> None:
    size = float(rng.uniform(0.75, 0.93))
    right = ellipsoid(
        (wide - 84 + 14 * (1 - size), -2, 24), (74 * size, (deep - 14) * (0.45 + 0.55 * size), 78 * size), (0, 12, 6)
    )
    left = ellipsoid((-4, 34, 44), (72 * size, 38, 32), (0, -14, -6))
    lean = ellipsoid((wide - 50, -14, -24), (34, 48, 62 * size), (0, 10, 0))
    inner = [FAT, MUSCLE, LUNG]
    cavity = np.isin(c.tissue, inner)
    ring = oval(c.p, wide - 12, deep - 12) < 1
    d = blend(blend(right.distance(c.p), left.distance(c.p), 26.0), lean.distance(c.p), 20.0)
    notch = ellipsoid((18, -8, -18), (34, 46, 34)).distance(c.p)
    d = -blend(-d, notch, 14.0)
    liver = (d < 0) & ring & cavity
    c.tissue[liver] = LIVER
    gall = ellipsoid((float(rng.uniform(38, 56)), 40, -6), (13, 20, 26), (20, 0, 12))
    c.fill(gall.grown(1.6), WALL, only=[LIVER, FAT])
    c.fill(gall, GALL, only=[WALL])
    hub = np.array([20.0, -16.0, 66.0])
    for tip, radius in (((100, -30, 44), 5.5), ((80, 30, 52), 5.0), ((0, 40, 52), 4.5), ((96, 10, 20), 3.5)):
        way = [(*hub, radius), (*(0.5 * (hub + tip) + rng.normal(0, 5, 3)), radius * 0.75), (*tip, 2.0)]
        c.fill(tube(curve(way, 3)), PORTAL, only=[LIVER])
    gate = np.array([34.0, 2.0, 12.0])
    for tip, radius in (
        ((84, -24, 6), 5.5),
        ((92, 22, 22), 4.5),
        ((70, -34, -24), 4.0),
        ((2, 38, 34), 4.5),
        ((108, -4, -20), 3.5),
    ):
        way = [(*gate, radius), (*(0.5 * (gate + tip) + rng.normal(0, 5, 3)), radius * 0.7), (*tip, 1.8)]
        c.fill(tube(curve(way, 3)), PORTAL, only=[LIVER])
    fissure = ellipsoid((6, 44, 30), (3.0, 26, 40), (0, 0, -8))
    c.fill(fissure, FAT, only=[LIVER])


def _kidney(c: Canvas, rng: np.random.Generator, sign: int, cortex: int, medulla: int) -> None:
    at = np.array([sign * rng.uniform(58, 68), rng.uniform(-48, -38), rng.uniform(-44, -26) + (0 if sign > 0 else 10)])
    size = rng.uniform(0.9, 1.12)
    turn = (-12, sign * -10, sign * -28)
    whole = ellipsoid(at, np.array([29, 24, 54]) * size, turn)
    hilum = ellipsoid(at + np.array([-sign * 20, 8, 0]), np.array([18, 14, 24]) * size, turn)
    c.fill(whole.grown(9), FAT, only=[MUSCLE, WALL])
    c.fill(whole, cortex, only=[FAT, LIVER, MUSCLE, SPLEEN, PORTAL])
    lobes = c.space.noise(rng, 9.0)
    box = c.box(whole)
    d = whole.distance(c.at(box))
    kidney = c.tissue[box] == cortex
    c.tissue[box][kidney & (d < -5.0) & (lobes[box] > -0.35)] = medulla
    sinus = hilum.distance(c.at(box))
    kidney = np.isin(c.tissue[box], (cortex, medulla))
    c.tissue[box][kidney & (sinus < 0)] = FAT
    pelvis = ellipsoid(at + np.array([-sign * 13, 5, 0]), np.array([10, 5, 17]) * size, turn)
    c.fill(pelvis, FLUID, only=[FAT])
    c.fill(
        tube([(*(at + [-sign * 14, 8, 2]), 4.5), (sign * 14, -26, float(at[2]) + 6, 5.0)]),
        BLOOD,
        only=[FAT, cortex, medulla],
    )
    c.fill(tube([(*(at + [-sign * 8, 2, 48]), 4), (*(at + [-sign * 18, 0, 58]), 2.5)], (1, 2, 1)), ADRENAL, only=[FAT])


def _spleen(c: Canvas, rng: np.random.Generator, wide: float) -> None:
    size = float(rng.uniform(0.82, 1.15))
    at = np.array([-(wide - 42), -34, 32 + rng.normal(0, 6)])
    whole = ellipsoid(at, np.array([27, 46, 48]) * size, (14, 0, 22))
    inside = ellipsoid(at + [36, 18, -4], np.array([34, 48, 46]) * size, (0, 0, 16))
    c.fill(whole.minus(inside), SPLEEN, only=[FAT, MUSCLE, LUNG, WALL, GAS, FLUID])
    c.fill(
        tube(curve([(*(at + [20, 8, -4]), 4), (-60, -18, 22, 4.5), (-20, -6, 14, 5), (26, 0, 10, 6.5)], 3)),
        BLOOD,
        only=[FAT, PANCREAS],
    )


def _gut(c: Canvas, rng: np.random.Generator) -> None:
    """Stomach with a fluid level, colon with gas and stool, loops of small bowel, pancreas."""
    inside = [FAT]
    stomach = ellipsoid((-52, 26, 36), (40, 36, 46), (0, 18, 20))
    antrum = tube(curve([(-44, 34, 4, 24), (-16, 44, -10, 19), (16, 40, -8, 13), (30, 26, -10, 11)], 3))
    level = float(rng.uniform(26, 44))
    for piece in (stomach, *antrum):
        c.fill(piece, WALL, only=inside)
    for piece in (stomach, *antrum):
        hollow = piece.grown(-4.5)
        c.fill(hollow, FLUID, only=[WALL])
        box = c.box(hollow)
        c.tissue[box][(hollow.distance(c.at(box)) < 0) & (c.tissue[box] == FLUID) & (c.p[1][box] > level)] = GAS
    c.fill(
        tube(curve([(36, 4, -6, 14), (14, 6, 4, 10), (-16, 2, 12, 9.5), (-48, -12, 20, 9), (-76, -20, 26, 7)], 3)),
        PANCREAS,
        only=inside,
        rough=(2 * c.space.noise(rng, 7.0)).astype(np.float32),
    )
    colon = [
        curve(
            [
                (98, -6, -100, 24),
                (98, 0, -62, 22),
                (80, 36, -46, 20),
                (30, 62, -56, 18),
                (-30, 64, -52, 18),
                (-84, 40, -30, 17),
                (-104, -2, -34, 15),
                (-104, -16, -100, 16),
            ],
            3,
        )
    ]
    loops = []
    for _ in range(9):
        start = np.array([rng.uniform(-72, 60), rng.uniform(-6, 56), rng.uniform(-92, -42)])
        steps = np.cumsum(rng.normal(0, 1, (4, 3)) * (20, 15, 12), axis=0) + start
        loops.append(
            curve([(*np.clip(s, (-80, -14, -96), (72, 62, -34)), float(rng.uniform(10, 14))) for s in steps], 3)
        )
    ragged = c.space.noise(rng, 9.0)
    for paths, filling, wall in ((loops, FLUID, 3.2), (colon, STOOL, 2.4)):
        for path in paths:
            pieces = tube(path)
            c.fill(pieces, WALL, only=[FAT] if filling == FLUID else [FAT, WALL, FLUID])
            c.fill([p.grown(-wall) for p in pieces], filling, only=[WALL], rough=np.clip(ragged, -1, 1.5))
            for p in pieces:
                box = c.box(p)
                hollow = (p.distance(c.at(box)) < -wall) & (c.tissue[box] == filling)
                airy = (c.p[1][box] - 0.5 * (p.low[1] + p.high[1]) + 5 * ragged[box]) > (2 if filling == STOOL else 9)
                c.tissue[box][hollow & airy] = GAS


def generate(streams: Streams, index: int) -> Subject:
    """One subject: the image of one modality (they take turns), the other two in truth, one label."""
    rng = streams("subject")
    c = canvas(
        SPACE,
        rng,
        warp=3.0,
        scale=60.0,
        turn=rng.normal(0, (1, 1, 4)),
        size=rng.uniform(0.94, 1.06, 3),
        shift=rng.normal(0, (5, 4, 7)),
    )
    wide, deep = paint_trunk(c, streams("trunk"))
    paint_lung_bases(c, wide, deep)
    _liver(c, streams("liver"), wide, deep)
    _spleen(c, streams("spleen"), wide)
    for sign, cortex, medulla in ((1, CORTEX_R, MEDULLA_R), (-1, CORTEX_L, MEDULLA_L)):
        _kidney(c, streams(f"kidney{sign}"), sign, cortex, medulla)
    _gut(c, streams("gut"))
    back = -deep + 44
    c.fill(tube([(-8, back + 30, 100, 10.5), (-8, back + 29, -100, 8.5)]), BLOOD)
    c.fill(
        tube(
            curve(
                [
                    (20, back + 34, 100, 12),
                    (20, back + 32, 40, 12),
                    (20, back + 28, -20, 11),
                    (18, back + 27, -110, 10),
                ],
                2,
            ),
            (0.85, 1.1, 1),
        ),
        BLOOD,
    )
    c.fill(tube([(32, 2, 14, 7), (12, 4, -4, 6.5), (4, 6, -60, 5.5)]), BLOOD, only=[FAT, PANCREAS, WALL])
    table = np.zeros(256, np.uint8)
    table[list(LABELS)] = list(LABELS.values())
    seg = SPACE.vote(table[c.tissue], (1, 2, 3, 4))
    grain = SPACE.noise(streams("texture"), 9.0)
    both = {}
    for name in MODALITIES:
        signal = _signal(name, c.tissue, streams)
        if name == "CT":
            both[name] = physics.ct_scan(
                SPACE.mean(signal + 4 * grain), SPACE, streams(name), noise=float(streams("dose").uniform(12, 22))
            )
        else:
            both[name] = physics.mr_scan(
                SPACE.mean(signal * (1 + 0.05 * grain)), SPACE, streams(name), snr=14, bias=0.3
            )
    shown = MODALITIES[index % len(MODALITIES)]
    return Subject(SPACE, {shown: both[shown]}, {"": seg}, truth={m: a for m, a in both.items() if m != shown})
