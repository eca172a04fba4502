"""The grids of runs of systems that adapt to a modality without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xmod_lab.bench.systems import ABLATIONS, GLIOMA, SHOWN_ABLATIONS, TRANSLATOR_ABLATIONS
from xmod_lab.bench.variants import FOLDS, variants
from xmod_lab.runs import RunSpec

BLACK = ("brain_tumour", "subregions_black")
STACKED_TASK = ("brain_tumour", "subregions_all")
BESIDE = {STACKED_TASK: ("subregions", "T2")}
"""tasks of the bound that sees all modalities: the task beside which tables show it, and the modality tested there"""
ADAPTING = ("adaptsegnet", "cycada", "pnp_adanet", "sifa", "bigl")
"""BiGL's Tables 1 and 6"""


def unsupervised(key: str, task: str, profile: str, fold: int, seeds: Sequence[int], *more: str) -> list[RunSpec]:
    """Both bounds, the lower one with strong augmentation as well, and every system of adaptation, with `more`.

    CycleGAN + segmentation goes both ways: training on translated sources, and translating the target at the test.
    """
    found = []
    for seed in seeds:
        place: dict[str, Any] = {"dataset": key, "task": task, "profile": profile, "fold": fold, "seed": seed}
        found += [RunSpec(m, **place) for m in ("source_only", "cyclegan_seg", "target_only")]
        found.append(RunSpec("source_only", settings=(("augment", "strong"),), **place))
        found += [RunSpec(m, **place) for m in (*ADAPTING, *more)]
        found += variants("cyclegan_seg", ABLATIONS["cyclegan_seg"], **place)
    return found


def adaptation(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """BiGL's Tables 1 and 2: the brain from T1 to T2, with the bound of all sequences."""
    stacked = [RunSpec("unet_joint", *STACKED_TASK, profile, seed=s) for s in seeds]
    return unsupervised(*GLIOMA, profile, 0, seeds) + stacked


def adaptation_heart(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """BiGL's Tables 6 and 7: the heart in both directions, two folds for six patients a modality; the lesson has time
    for one, of three patients. SASAN and U-GAT-IT join the table from SASAN's suite."""
    return [
        spec
        for fold in (FOLDS[:1] if profile == "lesson" else FOLDS[:2])
        for task in ("mr_to_ct", "ct_to_mr")
        for spec in unsupervised("whole_heart", task, profile, fold, seeds, "sifa_v1")
    ]


def adaptation_ablations(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """BiGL's Tables 3-5, its claim without a table (no attention, and no attention block), and AdaptSegNet's levels
    and control, from T1 to T2. Both bounds tell what a plain U-Net finds there (`health.unseen`)."""
    place = (*GLIOMA, profile)
    bounds = [RunSpec(m, *place, seed=seed) for seed in seeds for m in ("source_only", "target_only")]
    return bounds + [
        spec
        for seed in seeds
        for method in ("bigl", "adaptsegnet")
        for spec in (RunSpec(method, *place, seed=seed), *variants(method, ABLATIONS[method], *place, seed=seed))
    ]


def adaptation_real(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """Five of the systems and both bounds on the real glioma patients, T1 after contrast to FLAIR. One fold."""
    methods = ("source_only", "cyclegan_seg", "adaptsegnet", "sifa", "bigl", "target_only")
    return [RunSpec(m, "lgg", "t1gd_to_flair", profile, seed=s) for s in seeds for m in methods]


def adaptation_bar(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """BiGL as published and reconstructed between its bounds, from T1 to T2: the lab's own bar. On a fold that no
    setting was chosen on (`adaptation.SETTLED`)."""
    found = []
    for seed in seeds:
        place: dict[str, Any] = {"fold": FOLDS[1], "seed": seed}
        found += [RunSpec(m, *GLIOMA, profile, **place) for m in ("source_only", "target_only", "bigl")]
        found += variants("bigl", SHOWN_ABLATIONS[:1], *GLIOMA, profile, **place)
    return found


def adaptation_translators(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """What brings the tumour through: BiGL with each setting of its translators taken back, all of them, a shape term,
    shown reconstructions, taught by translations alone, and on a black background; both bounds there."""
    found = []
    for seed in seeds:
        found += [RunSpec(m, *GLIOMA, profile, seed=seed) for m in ("source_only", "target_only", "bigl")]
        found += variants("bigl", (*TRANSLATOR_ABLATIONS, *SHOWN_ABLATIONS), *GLIOMA, profile, seed=seed)
        found += [RunSpec(m, *BLACK, profile, seed=seed) for m in ("source_only", "target_only", "bigl")]
    return found


GRIDS = {
    "adaptation": adaptation,
    "adaptation-heart": adaptation_heart,
    "adaptation-ablations": adaptation_ablations,
    "adaptation-translators": adaptation_translators,
    "adaptation-real": adaptation_real,
}
"""by name, without the profile"""
