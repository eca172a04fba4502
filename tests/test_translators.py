"""Scores of translators against what is known: one that gives the truth, one that gives its input, and by hand."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.tiny import exported, make_tiny
from xmod_lab.data import phantoms
from xmod_lab.data.manifest import dataset
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.data.prepare import test_slices as slices_of
from xmod_lab.errors import LabError
from xmod_lab.evaluate.features import Extractor, extractors_of, random_features, scorer_features
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.evaluate.translators import (
    Scores,
    error_names,
    score_translator,
    translations_of,
    true_slices,
    true_volume,
)
from xmod_lab.methods.base import Method, Problem
from xmod_lab.methods.fcn import FCNBaseline, FCNConfig
from xmod_lab.methods.uagan import UAGAN, UAGANConfig
from xmod_lab.methods.unet import UNetBaseline, UNetConfig

PROBLEM = Problem(("A", "B", "C"), ("A", "B", "C"), ("A", "B", "C"), (), ("core", "rim"), 1, 32)
NAMES = [metric + part for metric in ("mae", "rmse", "ssim", "psnr", "pcc") for part in ("", "_body", "_area", "_rest")]


class By(Method):
    """A translator that calls a function; it has a parameter, so that it lies on a device."""

    def __init__(self, fn: Callable[[Tensor, str, str], Tensor]):
        super().__init__(None, PROBLEM)
        self.fn, self.weight = fn, torch.nn.Parameter(torch.zeros(1))

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        return self.fn(image, source, target)


@pytest.fixture(scope="module", params=["bigl", "P1"])
def prepared(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        fields: dict[str, Any] = {"labelled": ["A", "B", "C"], "unlabelled": [], "recipe": request.param}
        yield prepare(make_tiny(home, ("A", "B", "C"), 9, regions={"all": ["core", "rim"]}, **fields), None, 32)


@pytest.fixture(scope="module")
def scorer() -> Method:
    torch.manual_seed(0)
    return UNetBaseline(UNetConfig(width=4, individual=True), PROBLEM).eval()


def truth_teller(prepared: Prepared, shift: float = 0.0) -> By:
    """Looks each slice up among the test patients' slices."""
    known: dict[tuple[bytes, str], Tensor] = {}
    for source in "ABC":
        for patient in prepared.split.test:
            here = slices_of(prepared, patient, source)[0].image
            for target in "ABC":
                there = slices_of(prepared, patient, target)[0].image
                known |= {(a.numpy().tobytes(), target): b for a, b in zip(here, there, strict=True)}
    return By(lambda image, _s, t: torch.stack([known[a.numpy().tobytes(), t] for a in image]) + shift)


def scores(method: Method, prepared: Prepared, scorer: Method) -> Scores:
    return score_translator(method, prepared, "it", scorer)


def part(table: pd.DataFrame, method: str, *keys: str) -> pd.DataFrame:
    return table[table["method"] == method].drop(columns="method").sort_values(list(keys)).reset_index(drop=True)


def test_the_truth_of_registered_data_is_what_prepare_makes_of_it(prepared: Prepared) -> None:
    for source, target in translations_of(By(lambda *_: torch.empty(0)), prepared):
        for case in volumes_of(prepared, source):
            found = true_slices(prepared, case, target)
            assert found is not None and found.dtype == np.float32
            real = slices_of(prepared, case.patient, target)[0].image[:, 0].numpy()
            assert np.array_equal(found, real) and not np.array_equal(found, case.slices.image[:, 0].numpy())


def test_one_that_gives_the_truth(prepared: Prepared, scorer: Method) -> None:
    found = scores(truth_teller(prepared), prepared, scorer)
    own = part(found.errors, "it", "patient")
    assert len(own) == 6 * len(prepared.split.test) and set(own.columns) >= {"patient", "source", "target", *NAMES}
    assert (own[["mae", "mae_body", "mae_area"]] == 0).all(axis=None) and np.isinf(own["psnr_area"]).all()
    assert own["ssim"].to_numpy() == pytest.approx(1)
    keys = ("target", "patient", "structure")
    dices, upper = (part(found.s_scores, m, *keys).set_index(list(keys))["dice"] for m in ("it", "real"))
    assert dices.groupby(level=list(keys)).nunique().eq(1).all()
    assert dices.groupby(level=list(keys)).first().to_dict() == upper.to_dict()
    assert dices.between(0, 1).all() and upper.max() > 0
    for column in (f"FD[{scorer_features(scorer).name}]", "FD[random encoder]"):
        assert part(found.distances, "it", "target")[column].max() < 1e-8


def test_one_that_gives_its_input_is_the_untranslated_image(prepared: Prepared, scorer: Method) -> None:
    found = scores(By(lambda image, *_: image), prepared, scorer)
    keys = {"errors": ("patient",), "s_scores": ("patient", "structure"), "distances": ()}
    for name, more in keys.items():
        own, lower = (part(getattr(found, name), m, "source", "target", *more) for m in ("it", "untranslated"))
        assert len(own) and own.equals(lower), name
    assert found.errors["mae"].min() > 0


def test_a_constant_error_by_hand(prepared: Prepared, scorer: Method) -> None:
    """0.2 too bright in [-1, 1] is 0.1 in [0, 1], everywhere; means of patients carry their names."""
    own = part(found := score_translator(truth_teller(prepared, 0.2), prepared, "it").errors, "it", "patient")
    assert own[["mae", "mae_body", "mae_area"]].to_numpy() == pytest.approx(0.1, abs=1e-6)
    assert own["psnr"].to_numpy() == pytest.approx(20, abs=1e-4)
    assert own[["rmse", "rmse_body"]].to_numpy() == pytest.approx(0.1, abs=1e-6)
    assert own[["pcc", "pcc_area"]].to_numpy() == pytest.approx(1, abs=1e-6), "a shift does not touch correlation"
    names = error_names(found, "it")
    assert names["mae/A->C"] == pytest.approx(0.1) and names["mae_untranslated/A->C"] > 0
    kinds = {"mae", "rmse", "ssim", "psnr", "pcc", "mae_area", "mae_untranslated", "ssim_untranslated"}
    assert {n.split("/")[0] for n in names} == kinds
    assert len(names) == 6 * len(kinds)


def test_an_error_in_the_target_area_alone(prepared: Prepared) -> None:
    case = next(volumes_of(prepared, "A"))
    area = case.geometry.forward(case.truth, "nearest") > 0
    truth = true_slices(prepared, case, "B")
    assert truth is not None and area.any()
    wrong = torch.from_numpy(truth - 0.4 * area)[:, None]
    one = dataclasses.replace(prepared, split=dataclasses.replace(prepared.split, test=[case.patient]))
    rows = score_translator(By(lambda *_: wrong), one, "it").errors.set_index(["method", "source", "target"])
    row = rows.loc[("it", "A", "B")]
    assert row["mae_area"] == pytest.approx(0.2) and row["mae"] == pytest.approx(0.2 * area.mean())
    body = case.slices.foreground.numpy()
    assert row["mae_rest"] == 0
    assert row["mae_body"] == pytest.approx(0.2 * (area & body).sum() / body.sum())


def test_a_diverged_translator_has_no_error(prepared: Prepared) -> None:
    rows = score_translator(By(lambda image, *_: image * math.nan), prepared, "it").errors
    assert rows[rows["method"] == "it"][NAMES].isna().all(axis=None)


def test_distances_say_what_they_are(prepared: Prepared, scorer: Method) -> None:
    found = scores(By(lambda image, *_: -image), prepared, scorer).distances
    name = "scorer encoder 3"  # 32 features at width 4
    columns = {"source", "target", "method", "n_real", "n_fake"}
    for one in (name, "random encoder"):
        columns |= {f"FD[{one}]", f"FD[{one}] floor", f"KD[{one}]", f"KD[{one}] sd"}
    assert set(found.columns) == columns
    own = found[(found["method"] == "it") & (found["target"] == "B")].set_index("source")
    assert set(own.index) == {"A", "C", "mean"}
    for column in (f"FD[{name}]", "n_fake"):
        assert own.loc["mean", column] == pytest.approx((own.loc["A", column] + own.loc["C", column]) / 2)
    slices = sum(len(c.slices.image) for c in volumes_of(prepared, "B"))
    assert own["n_real"].eq(slices).all() and own["n_fake"].eq(slices).all()


@pytest.mark.parametrize(("width", "level", "features"), [(4, 3, 32), (8, 3, 64), (16, 2, 64), (64, 0, 64)])
def test_features_are_64_at_most(width: int, level: int, features: int) -> None:
    method = UNetBaseline(UNetConfig(width=width, individual=True), PROBLEM).eval()
    found = scorer_features(method)
    assert found.name == f"scorer encoder {level}" and found.fn(torch.randn(2, 1, 32, 32), "B").shape == (2, features)


def test_what_each_extractor_sees() -> None:
    """Half the contrast: gone in instance normalisation, half the feature where nothing is normalised."""
    torch.manual_seed(0)
    image, state = torch.rand(4, 2, 32, 32) * 2 - 1, torch.random.get_rng_state()
    two = UNetBaseline(UNetConfig(width=4, individual=True), dataclasses.replace(PROBLEM, channels=2)).eval()
    torch.random.set_rng_state(state)
    both = (scorer_features(two), random_features(2))
    seen, faint = ({e.name: e.fn(x, "A") for e in both} for x in (image, image / 2))
    assert torch.equal(state, torch.random.get_rng_state()), "it draws from a stream of its own"
    assert torch.equal(random_features(2).fn(image, "B"), seen["random encoder"])
    assert torch.allclose(faint["scorer encoder 3"], seen["scorer encoder 3"], atol=0.02)
    assert torch.allclose(faint["random encoder"], seen["random encoder"] / 2, atol=1e-6)
    assert seen["random encoder"].shape == (4, 64)


def test_own_weights_and_a_scorer_without_an_encoder(prepared: Prepared, scorer: Method) -> None:
    moments = [lambda image: image.mean((1, 2, 3)), lambda image: image.std((1, 2, 3))]
    brightness = Extractor("brightness", lambda image, _m: torch.stack([f(image) for f in moments], 1))
    own = score_translator(By(lambda image, *_: image), prepared, "it", scorer, [brightness]).distances
    assert "FD[brightness]" in own and not [c for c in own if "encoder" in c]
    with pytest.raises(LabError, match="FCNBaseline has no encoder to take features from"):
        scorer_features(FCNBaseline(FCNConfig(width=8), PROBLEM))


def test_networks_that_lie_in_the_folder_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Moments(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)

    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    scorer = UNetBaseline(UNetConfig(width=4, individual=True), PROBLEM).eval()
    cpu = torch.device("cpu")
    assert len(extractors_of(scorer, 1, cpu)) == 2 and len(extractors_of(None, 1, cpu)) == 1
    folder, image = tmp_path / "features", torch.rand(2, 3, 8, 8) * 2 - 1
    folder.mkdir()
    exported(Moments(), folder / "moments.pt2", 8)
    exported(torch.nn.Identity(), folder / "lpips.pt2", 8)
    named = {e.name: e for e in extractors_of(scorer, 1, cpu)}
    assert "lpips" not in named, "it compares two images"
    middle = (image[:, 1] + 1) / 2
    expected = torch.stack([middle.mean((1, 2)), middle.amax((1, 2))], 1)
    assert torch.allclose(named["moments"].fn(image, "A"), expected)
    exported(torch.nn.Identity(), folder / "maps.pt2", 8)
    maps = next(e for e in extractors_of(scorer, 1, cpu) if e.name == "maps")
    with pytest.raises(LabError, match="features have the shape"):
        maps.fn(image, "A")
    (folder / "other.pt2").write_bytes(b"no network")
    with pytest.raises(LabError, match="no exported program"):
        extractors_of(scorer, 1, cpu)


def test_regions_are_marked_and_modalities_without_a_scorer_left_out(prepared: Prepared) -> None:
    few = UNetBaseline(UNetConfig(width=4, individual=True), dataclasses.replace(PROBLEM, labelled=("A",))).eval()
    found = scores(By(lambda image, *_: image), prepared, few)
    assert set(found.s_scores["target"]) == {"A"} == set(found.distances["target"])
    assert set(found.s_scores.loc[found.s_scores["region"], "structure"]) == {"all"}


def test_what_translates_where() -> None:
    class Data:
        class task:
            tested = ["A", "C"]

    every: Any = translations_of(By(lambda image, *_: image), Data())  # type: ignore[arg-type]
    assert every == [("A", "B"), ("A", "C"), ("C", "A"), ("C", "B")]
    assert translations_of(UAGAN(UAGANConfig(width=4), PROBLEM), Data()) == every  # type: ignore[arg-type]
    assert translations_of(UAGAN(UAGANConfig(width=4, translate=False), PROBLEM), Data()) == []  # type: ignore[arg-type]
    assert translations_of(UNetBaseline(UNetConfig(width=4), PROBLEM), Data()) == []  # type: ignore[arg-type]


def test_who_knows_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent patients: a phantom's truth/, and for a displaced image nobody."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = make_tiny(tmp_path, ("A", "B"), 12, relation="independent", labelled=["A", "B"], unlabelled=[])
    case = next(volumes_of(prepare(data, None, 32), "A"))
    assert true_slices(prepare(data, None, 32), case, "B") is None
    made = prepare(data.model_copy(update={"access": "phantom"}), None, 32)
    truth = data.folder / "truth" / case.patient
    truth.mkdir(parents=True)
    shutil.copy(data.folder / case.patient / "A.nii.gz", truth / "B.nii.gz")
    found = true_slices(made, case, "B")
    assert found is not None and np.array_equal(found, case.slices.image[:, 0].numpy()), "one file, one normalisation"
    assert true_volume(made.data, case.patient, "A+B", "B") is None
    shutil.copy(data.folder / case.patient / "A.nii.gz", truth / "A.nii.gz")
    assert true_volume(made.data, case.patient, "A", "B") is None


def test_the_truth_of_a_phantom_that_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bSSFP lies still, so truth/ shows LGE in its place; nobody has bSSFP where LGE lies."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = dataset("cardiac_mr")
    phantoms.make(data, subjects=1, progress=False)
    assert true_volume(data, "cm000", "LGE", "bSSFP") is None and true_volume(data, "cm000", "LGE", "T2") is None
    found = true_volume(data, "cm000", "bSSFP", "LGE")
    assert found is not None and found.path.parent.parent.name == "truth"
