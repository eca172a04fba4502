"""nnU-Net's raw layout, read back: channels, grids, labels, who is where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import profiles
from xmod_lab.cli import app
from xmod_lab.data.volume import load_volume, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.evaluate.translators import translated
from xmod_lab.export import export_nnunet
from xmod_lab.files import read_json, write_text
from xmod_lab.runs import Run, RunSpec, ensure_run, prepared_of, run_at

SMALL = profiles.Profile("smoke", 32, 4, 4, 6, None, 1, "float32", 5, "for tests")
OBLIQUE = np.array([[-1.0, 0, 0, 10], [0, 0.2, 2.9, -3], [0, 1.5, -0.4, 7], [0, 0, 0, 1]])
"""first axis to the left, second to superior, third to anterior, a little tilted"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    fields: dict[str, Any] = {"labelled": ["A", "B", "C"], "unlabelled": []}
    kinds = {"B": "CT"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        patch.setitem(profiles.PROFILES, "smoke", SMALL)
        make_tiny(folder, ("A", "B", "C"), patients=9, kinds=kinds, **fields)
        for path in (folder / "data" / "tiny" / "p000").glob("*.nii.gz"):  # one patient stored along other axes
            array = np.asarray(nib.load(path).dataobj)
            save_nifti(path, np.ascontiguousarray(array[::-1].transpose(0, 2, 1)), OBLIQUE)
        text = tiny_manifest(("A", "B", "C"), "registered", "tiny", kinds, {}, fields)
        write_text(folder / "data" / "user_manifest.yaml", text)
        yield folder


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return ensure_run(RunSpec("uagan", "tiny"), progress=False)


@pytest.fixture(scope="module")
def written(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return export_nnunet(run, tmp_path_factory.mktemp("raw"))


def image(path: Path) -> Any:
    return nib.load(path)


def test_a_data_set_a_modality(written: list[Path]) -> None:
    assert [p.name for p in written] == [f"Dataset{n}_tiny_both_{m}" for n, m in ((501, "A"), (502, "B"), (503, "C"))]
    about = read_json(written[1] / "dataset.json")
    assert about["channel_names"] == {"0": "CT", "1": "synthetic A", "2": "synthetic C"}
    assert about["labels"] == {"background": 0, "core": 1, "rim": 2} and about["file_ending"] == ".nii.gz"
    assert about["numTraining"] == len(list((written[1] / "labelsTr").iterdir()))


def test_every_patient_is_where_the_run_had_it(run: Run, written: list[Path]) -> None:
    split = prepared_of(run.spec).split
    for modality, folder in zip("ABC", written, strict=True):
        for part, names in {"Tr": {*split.train[modality], *split.val[modality]}, "Ts": set(split.test)}.items():
            assert {p.name.removesuffix(".nii.gz") for p in (folder / f"labels{part}").iterdir()} == names
            expected = {f"{name}_{channel:04d}.nii.gz" for name in names for channel in range(3)}
            assert {p.name for p in (folder / f"images{part}").iterdir()} == expected


def test_grids_and_values(home: Path, written: list[Path]) -> None:
    for modality, folder in zip("ABC", written, strict=True):
        for part in ("Tr", "Ts"):
            for path in (folder / f"labels{part}").iterdir():
                patient = path.name.removesuffix(".nii.gz")
                stored = image(home / "data" / "tiny" / patient / f"{modality}.nii.gz")
                label = image(home / "data" / "tiny" / patient / f"{modality}_seg.nii.gz")
                channels = [image(folder / f"images{part}" / f"{patient}_{n:04d}.nii.gz") for n in range(3)]
                for one in (*channels, image(path)):
                    assert one.shape == stored.shape and np.allclose(one.affine, stored.affine)
                assert np.array_equal(channels[0].get_fdata(), stored.get_fdata())
                assert np.array_equal(image(path).get_fdata(), label.get_fdata())
                assert set(np.unique(image(path).get_fdata())) == {0, 1, 2}
                assert all(-1 <= c.get_fdata().min() < c.get_fdata().max() <= 1 for c in channels[1:])


def test_synthetic_channels_are_the_translations(run: Run, written: list[Path]) -> None:
    method, prepared = run.method(), prepared_of(run.spec)
    for case in volumes_of(prepared, "A"):
        expected = case.geometry.backward(translated(method, case, "C").numpy(), 0.0)[0]
        found = load_volume(written[0] / "imagesTs" / f"{case.patient}_0002.nii.gz").array
        assert np.allclose(found, expected, atol=1e-6)


def test_a_run_that_segments_alone_has_its_modality_alone(home: Path, tmp_path: Path) -> None:
    run = ensure_run(RunSpec("unet_individual", "tiny"), progress=False)
    done = CliRunner().invoke(app, ["export", "nnunet", str(run.folder), "--out", str(tmp_path), "--first", "7"])
    assert done.exit_code == 0, done.output
    folders = sorted(tmp_path.iterdir())
    assert [p.name for p in folders] == ["Dataset007_tiny_both_A", "Dataset008_tiny_both_B", "Dataset009_tiny_both_C"]
    assert read_json(folders[0] / "dataset.json")["channel_names"] == {"0": "A"}
    assert {p.name[-12:] for p in (folders[0] / "imagesTr").iterdir()} == {"_0000.nii.gz"[-12:]}


def test_an_enriched_run_has_the_channels_it_learned_from(home: Path, tmp_path: Path) -> None:
    run = ensure_run(RunSpec("enriched", "tiny", settings=(("translator", "uagan"),)), progress=False)
    about = read_json(export_nnunet(run, tmp_path)[2] / "dataset.json")
    assert about["channel_names"] == {"0": "C", "1": "synthetic A", "2": "synthetic B"}


def test_what_is_refused(run: Run, written: list[Path], tmp_path: Path) -> None:
    with pytest.raises(LabError, match="the data set is there already: .*Dataset501_tiny_both_A"):
        export_nnunet(run, written[0].parent)
    with pytest.raises(LabError, match="data set numbers 998 to 1000 are not within 1 to 999"):
        export_nnunet(run, tmp_path, first=998)
    with pytest.raises(LabError, match="not a run folder"):
        run_at(tmp_path)
    unfinished = RunSpec("uagan", "tiny", "both", seed=9)
    with pytest.raises(LabError, match="the run is not finished"):
        export_nnunet(Run(unfinished, unfinished.folder), tmp_path)
    assert not list(tmp_path.iterdir())
