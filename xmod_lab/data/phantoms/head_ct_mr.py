"""`head_ct_mr`: CT and T1-weighted MR of the same head, the MR displaced by a rigid motion that is recorded.

Labels, a file a modality since they are not aligned: 1 ventricles, 2 cerebellum, 3 brain stem. truth/ holds the MR
where the CT lies, its labels, and ``motion.json``: a point at x (mm, RAS) in the CT lies at R x + t in the displaced
MR, with R = Rz Ry Rx of ``rotation_degrees`` (about x, y, z) and t ``translation_mm``.
"""

from __future__ import annotations

import numpy as np

from xmod_lab.data.phantoms import physics
from xmod_lab.data.phantoms.brain import BRAIN_TISSUES, CSF, GREY, OUTSIDE, STEM, VENTRICLE, WHITE, Brain, draw
from xmod_lab.data.phantoms.common import Subject, signal_of
from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import Canvas, Space, Streams, blend, ellipsoid, rotation, tube

SPACE = Space((128, 128, 26), (1.7, 1.7, 5.5), (2, 2, 2))
(
    BONE,
    DIPLOE,
    FAT,
    SKIN,
    MUSCLE,
    AIR,
    VITREOUS,
    LENS,
    MUCOSA,
    NERVE,
    FALX,
    CEREBELLUM_GREY,
    CEREBELLUM_WHITE,
    CEREBELLUM_CSF,
) = range(10, 24)
LABELS = {VENTRICLE: 1, CEREBELLUM_GREY: 2, CEREBELLUM_WHITE: 2, CEREBELLUM_CSF: 2, STEM: 3}

TISSUES = BRAIN_TISSUES | {
    OUTSIDE: Tissue(1000, 50, 0.0, hu=-1000),
    BONE: Tissue(1000, 1.5, 0.15, hu=1150),
    DIPLOE: Tissue(420, 55, 0.55, hu=520),
    FAT: Tissue(288, 80, 0.90, hu=-90),
    SKIN: Tissue(900, 35, 0.60, hu=45),
    MUSCLE: Tissue(1008, 44, 0.78, hu=58),
    AIR: Tissue(1000, 50, 0.0, hu=-980),
    VITREOUS: Tissue(3600, 800, 1.0, hu=10),
    LENS: Tissue(1000, 30, 0.7, hu=75),
    MUCOSA: Tissue(1200, 80, 0.85, hu=40),
    NERVE: Tissue(760, 75, 0.74, hu=34),
    FALX: Tissue(900, 40, 0.55, hu=58),
    CEREBELLUM_GREY: BRAIN_TISSUES[GREY],
    CEREBELLUM_WHITE: BRAIN_TISSUES[WHITE],
    CEREBELLUM_CSF: BRAIN_TISSUES[CSF],
}
"""1.5 T. Brain: see xmod_lab.data.phantoms.brain; muscle: Stanisz et al. 2005 (doi 10.1002/mrm.20605); fat and marrow:
de Bazelaire et al. 2004 (doi 10.1148/radiol.2303021331), rounded; HU: usual radiological values."""


def _skull(c: Canvas, brain: Brain, rng: np.random.Generator) -> None:
    """Face, neck, scalp, skull and falx around a painted brain."""
    x, y, z = c.p
    side = (np.abs(x), y, z)
    vault = ellipsoid((0, 0, 4), (70, 87, 64)).distance((x * (1 + 0.0014 * y), y, z))
    fossa = ellipsoid((0, -48, -36), (50, 36, 27)).distance(c.p)
    temple = ellipsoid((40, 8, -24), (25, 46, 23)).distance(side)
    inner = blend(blend(vault + np.maximum(-z - 22, 0) * 1.2, fossa, 18.0), temple, 12.0)
    inner = np.minimum(inner, 0.5 - brain.depth)
    thick = float(rng.uniform(5.5, 8.0)) * (1 + 0.18 * c.space.noise(rng, 30.0))
    scalp = float(rng.uniform(5.0, 9.0))
    face = ellipsoid((0, 38, -62), (60, 54, 66)).distance(c.p)
    neck = ellipsoid((0, -26, -90), (56, 56, 90)).distance(c.p)
    skin = blend(blend(inner - thick - scalp, face, 26.0), neck, 30.0)
    ear = ellipsoid((80, -18, -32), (7, 15, 20), (0, 0, 25)).distance(side)
    skin = blend(skin, ear, 6.0)
    air_around = c.tissue == OUTSIDE
    paint = c.tissue
    paint[air_around & (skin < 0)] = SKIN
    paint[air_around & (skin < -1.8)] = FAT
    deep = air_around & (skin < -6.5)
    strands = c.space.noise(rng, 8.0)
    paint[deep & (strands > -0.7) & (inner > thick)] = MUSCLE
    temporalis = ellipsoid((66, 22, -14), (12, 30, 34)).distance(side)
    paint[air_around & (temporalis < 0) & (skin < -3.5) & (inner > thick)] = MUSCLE
    shell = air_around & (inner < thick)
    paint[shell] = BONE
    middle = np.abs(inner - 0.5 * thick) < 0.20 * thick
    paint[shell & middle & (z > -30)] = DIPLOE
    paint[air_around & (inner < 0.6)] = CSF
    sheet = (np.abs(x) < 0.9) & (inner < 0) & (np.sqrt((y / 50) ** 2 + ((z - 2) / 26) ** 2) > 1) & (z > -12)
    paint[sheet & (paint == CSF)] = FALX


def _base(c: Canvas, rng: np.random.Generator) -> None:
    """Skull base, orbits, sinuses, nose, mastoids, jaw."""
    outside = [FAT, MUSCLE, SKIN, BONE, DIPLOE, MUCOSA]
    c.fill([ellipsoid((0, 14, -32), (24, 20, 13)), ellipsoid((0, 50, -26), (34, 34, 4))], BONE, only=outside)
    c.fill(ellipsoid((0, 32, -36), (20, 30, 12)), BONE, only=[*outside, CSF])
    c.fill(ellipsoid((0, 18, -33), (13, 11, 8)), AIR, only=[BONE])
    cells = c.space.noise(rng, 6.0)
    for s in (-1, 1):
        c.fill(tube([(s * 16, -2, -40, 8), (s * 54, -22, -38, 12)]), BONE, only=outside)
        c.fill(ellipsoid((s * 56, -26, -44), (13, 14, 18)), BONE, only=outside)
        c.fill(ellipsoid((s * 56, -26, -44), (11, 12, 16)), AIR, only=[BONE], rough=np.clip(cells * 4 - 2, -6, 0))
        c.fill(tube([(s * 78, -12, -38, 3.0), (s * 52, -10, -38, 3.0)]), AIR, only=outside)
        cone = tube([(s * 31, 70, -36, 17), (s * 15, 26, -32, 5)])
        c.fill([p.grown(2) for p in cone], BONE, only=outside)
        c.fill(cone, FAT, only=outside)
        for dx, dz in ((11, 0), (-10, 0), (0, 10), (0, -10)):
            c.fill(
                tube([(s * (31 + dx), 66, -36 + dz, 2.2), (s * (17 + 0.2 * dx), 32, -33 + 0.2 * dz, 1.8)]),
                MUSCLE,
                only=[FAT],
            )
        c.fill(tube([(s * 31, 62, -36, 2.3), (s * 12, 20, -30, 2.3)]), NERVE, only=[FAT, BONE])
        globe = ellipsoid((s * 32, 73, -36), (12, 12.5, 12))
        c.fill(globe.grown(0.8), SKIN)
        c.fill(globe.grown(-0.6), VITREOUS)
        c.fill(ellipsoid((s * 32, 82, -36), (5, 2.4, 5)), LENS)
        sinus = ellipsoid((s * 25, 56, -66), (15, 17, 18), (0, 0, s * 12))
        c.fill(sinus.grown(2), BONE, only=outside)
        c.fill(sinus, MUCOSA, only=outside)
        c.fill(sinus.grown(-1.5 - float(rng.exponential(1.5))), AIR, only=[MUCOSA])
        c.fill(tube([(s * 50, 10, -50, 5), (s * 46, 14, -100, 6)]), BONE, only=outside)
        c.fill(tube([(s * 58, 20, -46, 8), (s * 52, 22, -100, 9)]), MUSCLE, only=[FAT])
        c.fill(tube([(s * 62, 12, -42, 3.5), (s * 56, 48, -44, 4)]), BONE, only=outside)
    nose = ellipsoid((0, 62, -54), (10, 30, 28))
    c.fill(nose.grown(1.5), BONE, only=outside)
    c.fill(nose, AIR, only=[BONE, FAT, MUSCLE, MUCOSA])
    c.fill(nose, MUCOSA, only=[AIR], rough=np.clip(-6 + 6 * (np.abs(cells) < 0.35), -6, 0).astype(np.float32))
    c.fill(ellipsoid((0, 62, -52), (0.9, 30, 26)), BONE, only=[AIR, MUCOSA])
    wide = float(rng.uniform(0.5, 1.2))
    c.fill(ellipsoid((0, 84, -4), (18 * wide, 4.5, 14 * wide)), AIR, only=[BONE, DIPLOE])
    c.fill(ellipsoid((0, 10, -66), (17, 22, 14)), AIR, only=[MUSCLE, FAT])
    c.fill(tube([(0, -24, -60, 17), (0, -26, -130, 16)]), BONE, only=[MUSCLE, FAT])
    c.fill(tube([(0, -28, -60, 10), (0, -28, -130, 9)]), CSF, only=[BONE])
    c.fill(tube([(0, -28, -60, 6), (0, -28, -130, 5.5)]), STEM, only=[CSF])


def _moved(fine: np.ndarray, turn: np.ndarray, shift: np.ndarray, order: int) -> np.ndarray:
    """The fine array of an object that has moved by x -> R x + t; what comes from outside repeats the border."""
    from scipy.ndimage import affine_transform

    steps = np.array([SPACE.spacing[k] / SPACE.over[k] for k in range(3)])
    middle = (np.array(SPACE.fine) - 1) / 2
    back = rotation(turn).T
    matrix = back * steps[None, :] / steps[:, None]
    offset = middle - matrix @ middle - (back @ shift) / steps
    return affine_transform(fine, matrix, offset, order=order, mode="nearest", prefilter=False)


def generate(streams: Streams, index: int) -> Subject:
    """One subject: CT and displaced MR, their labels; in truth the MR in the CT's place and the motion."""
    rng = streams("subject")
    brain = draw(streams, SPACE, turn=rng.normal(0, 2.0, 3))
    c = brain.canvas
    hind = (c.p[2] < -14 + 0.12 * (c.p[1] + 60)) & (c.p[1] < -16) & (brain.hindbrain < 0)
    for plain, named in ((GREY, CEREBELLUM_GREY), (WHITE, CEREBELLUM_WHITE), (CSF, CEREBELLUM_CSF)):
        c.tissue[hind & (c.tissue == plain)] = named
    _skull(c, brain, streams("skull"))
    _base(c, streams("base"))
    table = np.zeros(256, np.uint8)
    table[list(LABELS)] = list(LABELS.values())
    label = table[c.tissue]
    texture = 1 + 0.03 * SPACE.noise(streams("texture"), 5.0)
    hu = signal_of(TISSUES, lambda t: t.hu, c.tissue)
    signal = signal_of(TISSUES, lambda t: physics.spin_echo(t, 550, 14), c.tissue) * texture
    rng = streams("motion")
    turn, shift = rng.uniform(-8, 8, 3), rng.uniform(-8, 8, 3)
    images = {
        "CT": physics.ct_scan(SPACE.mean(hu + 1.5 * (texture - 1) / 0.03), SPACE, streams("CT"), noise=5.0),
        "MR": physics.mr_scan(SPACE.mean(_moved(signal, turn, shift, 1)), SPACE, streams("MR"), snr=22, bias=0.2),
    }
    still = physics.mr_scan(SPACE.mean(signal), SPACE, streams("MR"), snr=22, bias=0.2)
    labels = {"CT": SPACE.vote(label, (1, 2, 3)), "MR": SPACE.vote(_moved(label, turn, shift, 0), (1, 2, 3))}
    motion = {
        "rotation_degrees": turn.tolist(),
        "translation_mm": shift.tolist(),
        "convention": "a point at x (mm, RAS) in the CT lies at R x + t in the displaced MR, R = Rz Ry Rx",
    }
    return Subject(SPACE, images, labels, {"MR": still}, {"MR": labels["CT"]}, {"motion": motion})
