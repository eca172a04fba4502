"""`brain_tumour`: T1, T1Gd, T2 and FLAIR of one subject, skull-stripped and registered as in BraTS, with a glioma.

Labels: 1 necrosis and non-enhancing tumour, 2 oedema, 4 enhancing tumour. Ageing white matter, grey matter and the
receive field bring intensities that oedema has too, so that no threshold finds the tumour.
"""

from __future__ import annotations

import numpy as np

from xmod_lab.data.phantoms import physics
from xmod_lab.data.phantoms.brain import (
    BRAIN_TISSUES,
    CSF,
    GREY,
    NUCLEUS,
    OUTSIDE,
    PALLIDUM,
    STEM,
    VENTRICLE,
    WHITE,
    Brain,
    draw,
    white_matter_lesions,
)
from xmod_lab.data.phantoms.common import Mix, Subject, signal_of
from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import Space, Streams

SPACE = Space((128, 128, 24), (1.5, 1.5, 5.5), (2, 2, 2))
NECROSIS, SOLID, OEDEMA, ENHANCING, LESION, MENINGES, VESSEL = range(10, 17)
LABELS = {NECROSIS: 1, SOLID: 1, OEDEMA: 2, ENHANCING: 4}

TISSUES = BRAIN_TISSUES | {
    NECROSIS: Tissue(2200, 300, 0.95),
    SOLID: Tissue(1650, 150, 0.87),
    OEDEMA: Tissue(1640, 172, 0.87),
    ENHANCING: Tissue(1600, 138, 0.87, agent=0.55),
    LESION: Tissue(1250, 150, 0.86),
    MENINGES: Tissue(420, 125, 0.80, agent=0.15),
    VESSEL: Tissue(1441, 290, 0.25, agent=1.6),
}
"""1.5 T. Tumour and oedema: chosen for this phantom, of the order reviewed by Bottomley et al. 1987 (doi
10.1118/1.596111), so that the tumour can be told apart in every modality; blood: Stanisz et al. 2005 (doi
10.1002/mrm.20605), its proton density lowered for flow void."""

SEQUENCES = {
    "T1": lambda t: physics.spin_echo(t, 550, 12),
    "T1Gd": lambda t: physics.spin_echo(t.enhanced(), 550, 12),
    "T2": lambda t: physics.spin_echo(t, 4500, 100),
    "FLAIR": lambda t: physics.inversion_recovery(t, 9000, 2500, 110),
}
MODALITIES = tuple(SEQUENCES)


def _place(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Centre (mm) and radius (mm) of the tumour core: in the white matter of one hemisphere."""
    radius = float(rng.uniform(15, 24))
    side, front, up = rng.choice((-1, 1)), rng.uniform(-45, 44), rng.uniform(-6, 40)
    out = rng.uniform(20, 46) * np.sqrt(max(1 - (front / 90) ** 2 - ((up - 5) / 75) ** 2, 0.3))
    return np.array([side * max(out, 17.0), front, up]), radius


def _tumour(streams: Streams, brain: Brain, centre: np.ndarray, radius: float) -> list[Mix]:
    """Paint core, rim and oedema; returns how much oedema there is where (its share falls off and is patchy)."""
    rng, c = streams("tumour"), brain.canvas
    space, tissue = c.space, c.tissue
    stretch = rng.uniform(0.8, 1.25, 3)
    x, y, z = ((c.p[k] - float(centre[k])) * float(stretch[k]) for k in range(3))
    r = np.sqrt(x * x + y * y + z * z)
    coarse, fine = space.noise(rng, 16.0), space.noise(rng, 6.0)
    core = r - radius + coarse * 4.0 + fine * 1.6
    spread = rng.uniform(10, 22)
    swelling = r - radius - spread + 8.0 * space.noise(rng, 18.0) + 2.0 * fine
    brain_only = (brain.depth > 0) & ~np.isin(tissue, (OUTSIDE, VENTRICLE))
    parenchyma = np.isin(tissue, (WHITE, STEM)) | ((swelling < -7) & np.isin(tissue, (GREY, NUCLEUS, PALLIDUM)))
    tissue[(swelling < 0) & parenchyma & brain_only] = OEDEMA
    share = np.clip(0.84 - swelling / 40.0 + 0.16 * space.noise(rng, 9.0), 0.6, 1.0).astype(np.float32)
    patchy = np.where(tissue == OEDEMA, 1 - share, np.float32(0))
    inside = (core < 0) & brain_only & ~((core > -2.5) & (tissue == CSF))
    rim = rng.uniform(2.5, 5.5) + 2.2 * space.noise(rng, 9.0)
    tissue[inside] = SOLID
    tissue[inside & (core < -1.0 - rim) & (fine + coarse < rng.uniform(0.3, 1.2))] = NECROSIS
    active = inside & (core > -np.maximum(rim, 0) - 1.0) & (coarse * 0.6 - fine * 0.5 > rng.uniform(-1.6, -0.5))
    tissue[active] = ENHANCING
    return [Mix(np.s_[:, :, :], WHITE, patchy)]


def _confounders(streams: Streams, brain: Brain) -> list[Mix]:
    """What looks like oedema or tumour to a threshold: ageing white matter, remnants of the meninges, vessels."""
    rng, c = streams("confounders"), brain.canvas
    load = float(rng.uniform(0.15, 0.7))
    found = [Mix(box, LESION, weight) for box, weight in white_matter_lesions(brain, rng, load)]
    skin = c.space.noise(rng, 14.0)
    remnant = (brain.depth < 1.2 + 0.5 * skin) & (brain.depth > -1.0) & (skin > rng.uniform(0.2, 0.9))
    c.tissue[remnant] = MENINGES
    vessel = c.space.noise(rng, 7.0)
    c.tissue[(np.abs(vessel) < 0.12) & (np.abs(skin) < 0.25) & (c.tissue == CSF)] = VESSEL
    return found


def generate(streams: Streams, index: int) -> Subject:
    """One subject: all four modalities in place, label values 1, 2, 4."""
    rng = streams("subject")
    centre, radius = _place(rng)
    turn = rng.normal(0, (3, 2, 4))
    brain = draw(streams, SPACE, turn=turn, push=(centre, float(rng.uniform(0.1, 0.3)), radius * 1.8))
    mixes = _confounders(streams, brain) + _tumour(streams, brain, centre, radius)
    tissue = brain.canvas.tissue
    tissue[brain.depth < -1.0] = OUTSIDE
    label = np.zeros(256, np.uint8)
    label[list(LABELS)] = list(LABELS.values())
    mask = SPACE.mean((tissue != OUTSIDE).astype(np.float32)) > 0.5
    texture = 1 + 0.035 * SPACE.noise(streams("texture"), 5.0) + 0.02 * SPACE.noise(streams("grain"), 2.5)
    images = {}
    for name, sequence in SEQUENCES.items():
        signal = SPACE.mean(signal_of(TISSUES, sequence, tissue, mixes) * texture)
        scan = physics.mr_scan(
            signal, SPACE, streams(name), snr=float(streams(name + "/snr").uniform(18, 30)), bias=0.24
        )
        images[name] = np.where(mask, np.maximum(scan, 1), 0).astype(np.int16)
    seg = SPACE.vote(label[tissue], (1, 2, 4)) * mask
    return Subject(SPACE, images, {"": seg})
