"""The named grids of runs. A suite is a list of run specs and nothing more."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xmod_lab.bench.own_data import PAPER, PAPERS_OWN
from xmod_lab.bench.suites_adaptation import GRIDS as ADAPTATION_GRIDS
from xmod_lab.bench.suites_adaptation import adaptation_bar
from xmod_lab.bench.variants import FOLDS, SEEDS, variants
from xmod_lab.data.manifest import dataset
from xmod_lab.errors import LabError
from xmod_lab.evaluate.scored import scorer_of
from xmod_lab.methods import METHODS
from xmod_lab.methods.detached import TEACHER
from xmod_lab.runs import RunSpec

ADAPTATION = (
    ("brain_tumour", "t1_to_t2"),
    ("whole_heart", "mr_to_ct"),
    ("cardiac_mr", "bssfp_to_lge"),
    ("abdomen", "ct_to_t2w"),
)
HEARTS = (("cardiac_mr", "joint"), ("whole_heart", "joint"))
CSA_SYSTEMS = ("fcn_single", "ummkd", "fcn_joint", "msbn", "affinity", "csa")
TRANSLATORS = ("targan", "stargan", "csgan", "remic")
TARGAN_ABLATIONS = ("STC", "SC", "TC", "C", "S", "untraceable", "untraceable, S")
ENRICHED_BY = ("none", "targan", "stargan")
ADAPTERS = ("cyclegan", "ugatit", "sasan")
"""translators of SASAN's Tables 1 and 2"""
PAIRED = ("pix2pix", "mrgan", "dc2anet", "sasan")
UNETS = ("unet_individual", "unet_joint", "multi_v4")
SLIM: dict[str, tuple[tuple[str, int], ...]] = {"csa": (("width", 8),)}
WEIGHTED = (("beta1", 0.5), ("dice", False), ("foreground_weight", 0.98), ("schedule", "late"))
"""UAGAN's loss of segmentation and its optimiser, for the other systems in its table: weighted cross-entropy without
Dice (the mean of each modality's, where UAGAN pools the batch), Adam's beta1 of 0.5, and a rate that stays for 60 % of
the steps"""


Grid = Callable[[str, Sequence[int]], list[RunSpec]]
"""profile and seeds -> runs"""


def smoke() -> list[RunSpec]:
    """Every method once, on the task it is shown on."""
    return [RunSpec(name, *entry.shown_on, profile="smoke") for name, entry in METHODS.items()]


def baselines(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """The U-Net baselines: joint learning on the brain, lower and upper bound of adaptation everywhere."""
    joint = [
        RunSpec(m, "brain_tumour", "whole_tumour", profile, seed=s)
        for m in ("unet_individual", "unet_joint")
        for s in seeds
    ]
    strong = [
        RunSpec("source_only", "brain_tumour", "t1_to_t2", profile, seed=s, settings=(("augment", "strong"),))
        for s in seeds
    ]
    bounds = [
        RunSpec(m, key, task, profile, seed=s)
        for key, task in ADAPTATION
        for m in ("source_only", "target_only")
        for s in seeds
    ]
    return joint + strong + bounds


def baselines_real(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """The real glioma patients: trained on FLAIR alone, tested on FLAIR and T1, in every fold."""
    return [RunSpec("source_only", "lgg", "flair_alone", profile, fold=f, seed=s) for f in range(4) for s in seeds]


def csa(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """CSA's six systems on both hearts (its Tables 1-3); the whole heart in two folds, for six patients a modality."""
    places = [(*HEARTS[0], 0), (*HEARTS[1], 0), (*HEARTS[1], 1)]
    return [
        RunSpec(m, key, task, profile, fold, s) for key, task, fold in places for m in CSA_SYSTEMS for s in seeds
    ]


def csa_ablations(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """What the claims C4, C5 and `literal` vary: layer pair, printed form, patients; and two weights for the tables."""
    names = ("far", "late", "literal", "weight-5", "weight-50")
    few = [
        RunSpec(m, "cardiac_mr", task, profile, seed=s)
        for task in ("joint_2", "joint_4")
        for m in ("fcn_single", "msbn", "csa")
        for s in seeds
    ]
    near = [RunSpec("csa", *HEARTS[0], profile, seed=s) for s in seeds]
    return near + [v for s in seeds for v in variants("csa", names, *HEARTS[0], profile, seed=s)] + few


def uagan(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """UAGAN, its comparison systems and ablations on three disjoint data sets (its Table 1)."""
    found = []
    for fold in FOLDS:
        for seed in seeds:
            place: dict[str, Any] = {
                "dataset": "brain_tumour",
                "task": "uagan",
                "profile": profile,
                "fold": fold,
                "seed": seed,
            }
            found += [RunSpec(m, settings=WEIGHTED, **place) for m in UNETS]
            found.append(RunSpec("uagan", **place))
            found += variants("uagan", ("fuse", "trans", "atten"), **place)
    return found


def joint_real(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """Both papers' systems on the real glioma patients, three-fold cross-validation."""
    return [
        RunSpec(m, "lgg", "uagan", profile, fold=f, seed=s, settings=WEIGHTED if m in UNETS else ())
        for f in FOLDS
        for m in (*UNETS, "uagan", "fcn_joint", "msbn", "csa")
        for s in seeds
    ]


def translation(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """TarGAN's Tables 1-3: four translators, their scorer, and segmenters of enriched images; ablations of TarGAN.

    A fold tests three patients of each modality, who are others in each: six are translated to a target, nine in all,
    but three are segmented in a modality. Two folds make that six. The ablations need one fold; they have the first
    seed alone, and are compared with TarGAN of that seed.
    """
    found = []
    for fold in FOLDS[:2]:
        place: dict[str, Any] = {"dataset": "abdomen", "task": "liver", "profile": profile, "fold": fold}
        found.append(scorer_of(RunSpec(TRANSLATORS[0], **place)))
        found += [RunSpec(m, seed=s, **place) for m in TRANSLATORS for s in seeds]
        found += [
            RunSpec("enriched", seed=s, settings=(("translator", by),), **place) for by in ENRICHED_BY for s in seeds
        ]
    return found + variants("targan", TARGAN_ABLATIONS, "abdomen", "liver", profile, seed=seeds[0])


def translation_real(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """Two translators on the real glioma patients, who have every image: errors against the truth are real. One fold
    tests a third of them."""
    specs = [RunSpec(m, "lgg", "uagan", profile, seed=s) for m in TRANSLATORS[:2] for s in seeds]
    return [scorer_of(specs[0]), *specs]


def adapted(
    translators: Sequence[str], key: str, task: str, profile: str, fold: int, seeds: Sequence[int]
) -> list[RunSpec]:
    """Translators of a task with one labelled modality: their scorer, both bounds, and each translator with the
    segmenter that its images teach; SASAN's with the labels of its own attention module as well."""
    place: dict[str, Any] = {"dataset": key, "task": task, "profile": profile, "fold": fold}
    found = [scorer_of(RunSpec(translators[0], **place))]
    for seed in seeds:
        found += [RunSpec(m, seed=seed, **place) for m in ("source_only", "target_only", *translators)]
        found += [RunSpec(TEACHER, seed=seed, **place)] if seed != found[0].seed else []
        found += [RunSpec("detached", seed=seed, settings=(("translator", t),), **place) for t in translators]
        found.append(RunSpec("detached", seed=seed, settings=(("labels", "own"), ("translator", "sasan")), **place))
    return found


def sasan(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """SASAN's Tables 1, 2, 4 and 5: the heart in both directions, the brain, and translations with true labels.

    A fold of the heart tests three patients of a modality, so each direction has two; the brain's tests twelve.
    """
    found = []
    for fold in FOLDS[:2]:
        for task in ("sasan_mr_to_ct", "sasan_ct_to_mr"):
            found += adapted(ADAPTERS, "whole_heart", task, profile, fold, seeds)
        for seed in seeds:
            place: dict[str, Any] = {"dataset": "whole_heart", "task": "sasan_joint", "profile": profile, "fold": fold}
            found += [RunSpec(m, seed=seed, **place) for m in ("unet_individual", "sasan")]
            true = (("labels", "true"), ("translator", "sasan"))
            found.append(RunSpec("detached", seed=seed, settings=true, **place))
    return found + adapted(("cyclegan", "sasan"), "brain_tumour", "sasan", profile, 0, seeds)


def sasan_seeds(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """CycleGAN and SASAN from MR to CT with their scorer, the first claim of SASAN's Table 1. The lesson has time for
    three seeds of these two, not of the whole table, and README's line about SASAN should not rest on one training."""
    found = []
    for fold in FOLDS[:2]:
        place: dict[str, Any] = {"dataset": "whole_heart", "task": "sasan_mr_to_ct", "profile": profile, "fold": fold}
        found.append(scorer_of(RunSpec("sasan", **place)))
        found += [RunSpec(m, seed=seed, **place) for seed in seeds for m in ("cyclegan", "sasan")]
    return found


def sasan_ablations(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """SASAN's Table 3, from MR to CT, with the runs of the whole method and the scorer."""
    names = tuple(METHODS["sasan"].cls.ablations)
    found = []
    for fold in FOLDS[:2]:
        place: dict[str, Any] = {"dataset": "whole_heart", "task": "sasan_mr_to_ct", "profile": profile, "fold": fold}
        found.append(scorer_of(RunSpec("sasan", **place)))
        for seed in seeds:
            found += [RunSpec("sasan", seed=seed, **place), *variants("sasan", names, seed=seed, **place)]
    return found


def sasan_real(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """The same adaptation on the real glioma patients: labels on FLAIR, tested on T1 after contrast. One fold."""
    return adapted(("cyclegan", "sasan"), "lgg", "flair_to_t1gd", profile, 0, seeds)


def paired(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """SASAN's Table 6: supervised translation of heads whose MR was registered to the CT. A fold tests six."""
    return [RunSpec(m, "head_ct_mr", "registered", profile, seed=s) for m in PAIRED for s in seeds]


def shown(profile: str, seeds: Sequence[int]) -> list[RunSpec]:
    """A run of each paper but BiGL (its own is of `adaptation_bar`), on the task its notebook shows it on: the weights
    that come with the package (`shipped`), which SLIM keeps small. The scorers of those that translate with them."""
    places = {"csa": HEARTS[0], "uagan": ("brain_tumour", "uagan"), "targan": ("abdomen", "liver")}
    places["sasan"] = ("whole_heart", "sasan_mr_to_ct")
    runs = [RunSpec(method, *place, profile, settings=SLIM.get(method, ())) for method, place in places.items()]
    return [*map(scorer_of, runs[1:]), *(replace(run, seed=s) for s in seeds for run in runs)]


GRIDS: dict[str, Grid] = {
    "baselines": baselines,
    "baselines-real": baselines_real,
    "csa": csa,
    "csa-ablations": csa_ablations,
    "uagan": uagan,
    "joint-real": joint_real,
    "translation": translation,
    "translation-real": translation_real,
    "sasan": sasan,
    "sasan-seeds": sasan_seeds,
    "sasan-ablations": sasan_ablations,
    "sasan-real": sasan_real,
    "paired": paired,
    **ADAPTATION_GRIDS,
}
"""the tables of the papers and of the notebooks, on phantoms and on the real glioma patients, by name"""
SEVERAL = ("baselines", "csa", "csa-ablations", "sasan-seeds")
"""grids with three seeds in the lesson as well"""
OWN_DATA = tuple(dict.fromkeys(place.dataset for place in PAPERS_OWN.values()))
"""the papers' own data sets"""


def paper(key: str) -> list[RunSpec]:
    """Every grid on the data set `key` of a paper, where the manifest knows how to get it, at the papers' size: one
    seed, and of the folds those that the data set has."""
    found = []
    for grid in GRIDS.values():
        for spec in grid(PAPER, SEEDS[:1]):
            place = PAPERS_OWN.get((spec.dataset, spec.task_name))
            if place and place.dataset == key and spec.fold < dataset(place.dataset).task(place.task).split.folds:
                found.append(replace(spec, dataset=place.dataset, task=place.task))
    return list(dict.fromkeys(found))


def parts(name: str) -> list[str]:
    """The suites that make up `name`: of lesson and study one a grid, of paper one a data set, else itself. Results
    are recorded by part."""
    wholes = {"lesson": GRIDS, "study": GRIDS, PAPER: OWN_DATA}
    return [f"{part}-{name}" for part in wholes[name]] if name in wholes else [name]


def suites() -> dict[str, Callable[[], list[RunSpec]]]:
    """Every suite by name. ``<grid>-lesson`` runs one seed (those of SEVERAL three), ``<grid>-study`` three, ``-long``
    is of a single question, ``<data set>-paper`` of a paper's own data; lesson, study and paper are all of these."""

    def every(size: str) -> list[RunSpec]:
        return list(dict.fromkeys(spec for name in parts(size) for spec in found[name]()))

    found: dict[str, Callable[[], list[RunSpec]]] = {"smoke": smoke}
    found |= {f"{key}-{PAPER}": functools.partial(paper, key) for key in OWN_DATA}
    for name, grid in GRIDS.items():
        few = SEEDS if name in SEVERAL else SEEDS[:1]
        found[f"{name}-lesson"] = functools.partial(grid, "lesson", few)
        found[f"{name}-study"] = functools.partial(grid, "study", SEEDS)
    found["adaptation-bar-long"] = lambda: adaptation_bar("long", SEEDS[:1])
    found["shown-long"] = lambda: shown("long", SEEDS[:1])
    return found | {size: functools.partial(every, size) for size in ("lesson", "study", PAPER)}


def suite(name: str) -> list[RunSpec]:
    """The runs of a suite. Raises LabError listing the known ones."""
    known = suites()
    if name not in known:
        raise LabError(f"no suite {name!r}", mend=f"known: {', '.join(known)}")
    return known[name]()
