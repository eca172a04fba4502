"""The manifest: every entry is consistent, every wrong field is named, readers' own entries and hashes stay theirs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from xmod_lab import paths
from xmod_lab.data import manifest
from xmod_lab.data.manifest import add_entry, dataset, load_manifest, lock_hash, parse, user_manifest
from xmod_lab.errors import LabError

REAL = ["lgg", "brats13", "open_ms", "tcga_lgg", "chaos_t2", "ct_abdomen", "abdomen_real"]
PAPERS = ["msd_brain", "brats2015", "brats2019", "mmwhs", "mscmrseg2019", "chaos", "rire"]

ENTRY: dict[str, Any] = {
    "title": "t", "licence": "l", "citation": "c", "homepage": "h", "access": "open", "relation": "registered",
    "files": [{"path": "a.nii.gz", "urls": ["https://example.org/a"]}],
    "modalities": {"T1": {"kind": "MR", "pattern": "{patient}/t1.nii.gz"},
                   "T2": {"kind": "MR", "pattern": "{patient}/t2.nii.gz"}},
    "label": {"pattern": "{patient}/seg.nii.gz", "values": {1: "core", 2: "rim"}},
    "tasks": {"one": {"title": "t", "labelled": ["T1"], "unlabelled": ["T2"], "tested": ["T2"], "recipe": "P1",
                      "classes": {"core": ["core"], "rim": ["rim"]}, "regions": {"all": ["core", "rim"]}}},
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    return tmp_path


def entry(**changes: Any) -> str:
    return yaml.safe_dump({"set": ENTRY | changes})


def task(**changes: Any) -> dict[str, Any]:
    return {"one": ENTRY["tasks"]["one"] | changes}


def test_the_package_knows_phantoms_real_samples_and_the_papers_sets(home: Path) -> None:
    known = load_manifest()
    assert set(REAL + PAPERS) <= set(known)
    assert [key for key, data in known.items() if data.access == "phantom"] == [
        "brain_tumour", "whole_heart", "cardiac_mr", "abdomen", "head_ct_mr"]  # fmt: skip


@pytest.mark.parametrize("key", REAL + PAPERS)
def test_every_entry_is_complete(key: str, home: Path) -> None:
    from xmod_lab.data.convert import CONVERTERS
    from xmod_lab.data.recipes import recipe_of

    data = dataset(key)
    assert len(data.citation) > 20 and data.homepage.startswith("http") and len(data.licence) > 4
    assert data.convert is None or data.convert in CONVERTERS
    assert sum(one.default for one in data.tasks.values()) == 1
    for one in data.tasks.values():
        recipe_of(one)
    for file in data.files:
        assert all(url.startswith("https://") for url in file.urls) and len(set(file.urls)) == len(file.urls)


def test_the_papers_tasks(home: Path) -> None:
    assert sorted(dataset("msd_brain").task("uagan").labelled) == ["FLAIR", "T1Gd", "T2"]
    bigl = dataset("brats2019").task("bigl")
    assert (bigl.labelled, bigl.unlabelled, len(bigl.classes) + 1) == (["T1"], ["T2"], 4)
    assert dataset("mmwhs").task("sasan").neighbours == 3
    assert set(dataset("mscmrseg2019").task("csa").labelled) == {"LGE", "bSSFP"}
    assert set(dataset("chaos").task("targan").labelled) == {"T1", "T2", "CT"}
    assert dataset("rire").task().classes == {}
    # 420 and 421 are one structure
    assert dataset("mmwhs").label_of("MR").structures == ["MYO", "LA", "LV", "RA", "RV", "AA", "PA"]


def test_data_that_no_accuracy_may_be_claimed_from_says_so(home: Path) -> None:
    assert not dataset("tcga_lgg").label_of("T1").manual and not dataset("ct_abdomen").label_of("CT").manual
    assert dataset("lgg").unit == "voxel" and not dataset("lgg").demonstration
    for key in ("brats13", "open_ms", "tcga_lgg", "abdomen_real"):
        assert dataset(key).demonstration
    assert "TCGA_DU_7294" in dataset("lgg").notes and "TCGA-DU-7294" in dataset("tcga_lgg").notes


def test_a_sound_entry_passes() -> None:
    assert parse(entry(), "x.yaml")["set"].task().class_names == ["core", "rim"]


def test_tables_report_every_class_unless_a_task_says_otherwise() -> None:
    assert parse(entry(), "x.yaml")["set"].task().structures == ["core", "rim"]
    named = parse(entry(tasks=task(reported=["all", "core"])), "x.yaml")["set"].task()
    assert named.structures == ["all", "core"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licenze": "x"}, "field set.licenze: Extra inputs are not permitted"),
        ({"title": None}, "field set.title"),
        ({"access": "closed"}, "field set.access"),
        ({"access": "registration"}, "needs the steps a person takes"),
        ({"access": "open", "files": []}, "needs at least one file"),
        ({"access": "joined"}, "parts: go with access 'joined'"),
        ({"parts": ["a"]}, "parts: go with access 'joined'"),
        ({"location": "/data"}, "location: goes with access 'own'"),
        ({"files": [{"path": "a", "urls": []}]}, "field set.files.0.urls"),
        ({"files": [{"path": "../a", "urls": ["u"]}]}, "must stay inside the data set's folder"),
        ({"files": [{"path": "a", "urls": ["u"], "sha256": "abc"}]}, "field set.files.0.sha256"),
        ({"files": [{"path": "a", "urls": ["u"], "unpack": True}]}, "unpack needs a folder of its own"),
        ({"modalities": {"T1": {"kind": "PET", "pattern": "a"}}}, "field set.modalities.T1.kind"),
        ({"modalities": {"T1": {"kind": "MR", "pattern": "/a"}}}, "must stay inside the data set's folder"),
        ({"label": {"pattern": "a"}}, "list what each stored label value means"),
        ({"label": {"pattern": "a", "values": {1: "a"}, "masks": {"a": "b"}}}, "either pattern with values, or masks"),
        ({"label": None}, "modality 'T1' has no label"),
        ({"tasks": task(labelled=["T3"])}, "unknown modality 'T3'"),
        ({"tasks": task(unlabelled=["T1"])}, "both labelled and unlabelled"),
        ({"tasks": task(classes={"core": ["necrosis"]}, regions={})}, "unknown structure ['necrosis']"),
        ({"tasks": task(classes={"a": ["core"], "b": ["core"]}, regions={})}, "belongs to two classes"),
        ({"tasks": task(regions={"all": ["edge"]})}, "unknown class ['edge']"),
        ({"tasks": task(reported=["all", "edge"])}, "tasks.one.reported: unknown class or region ['edge']"),
        ({"tasks": task(split={"like": ["T1"]})}, "tasks.one.split.like: ['T1'] not in the stack"),
        ({"tasks": task(labelled=[])}, "labelled modalities and classes go together"),
        ({"tasks": task(labelled=[], unlabelled=[], classes={}, regions={})}, "names no modality to train on"),
        ({"tasks": task(draw="paired"), "relation": "independent"}, "paired needs relation 'registered'"),
        ({"tasks": task(neighbours=2)}, "field set.tasks.one.neighbours"),
        ({"tasks": task() | {"two": task()["one"] | {"default": True}, "three": task()["one"] | {"default": True}}},
         "more than one is the default"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError) as caught:
        parse(entry(**changes), "x.yaml")
    assert message in str(caught.value) and "x.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("- a", "must be a mapping"),
        ("a: 3", "data set 'a' must be a mapping"),
        ("a: {key: b}", "the key is the entry's name"),
        (yaml.safe_dump({"Not a key": ENTRY}), "use lower-case letters"),
    ],
)
def test_text_that_is_no_manifest(text: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse(text, "x.yaml")


def test_an_own_folder_belongs_into_the_users_file_only() -> None:
    text = entry(access="own", location="/data/mine", files=[])
    assert parse(text, "user", own=True)["set"].folder == Path("/data/mine")
    with pytest.raises(LabError, match="'own' is for user_manifest.yaml only"):
        parse(text, "data_manifest.yaml")
    with pytest.raises(LabError, match="must be an absolute path"):
        parse(entry(access="own", location="mine", files=[]), "user", own=True)


def test_own_entries_and_locked_hashes_live_beside_the_data(home: Path) -> None:
    package = manifest.package_manifest().read_bytes()
    own = ENTRY | {"access": "own", "location": str(home / "scans"), "files": []}
    assert add_entry("mine", own).folder == home / "scans"
    with pytest.raises(LabError, match="the key 'mine' is taken"):
        add_entry("mine", own)
    with pytest.raises(LabError, match="the key 'lgg' is taken"):
        add_entry("lgg", own)

    file = dataset("chaos").files[0]
    assert file.sha256 is None
    lock_hash("chaos", file.path, "ab" * 32, 7)
    assert (dataset("chaos").files[0].sha256, dataset("chaos").files[0].bytes) == ("ab" * 32, 7)
    assert dataset("mine").title == "t"  # still there
    assert user_manifest() == home / "data" / "user_manifest.yaml"
    assert manifest.package_manifest().read_bytes() == package


def test_a_users_file_that_was_edited_badly_is_named(home: Path) -> None:
    user_manifest().parent.mkdir()
    user_manifest().write_text("locked: {chaos: {a.zip: {sha256: nonsense, bytes: 3}}}")
    with pytest.raises(LabError, match=r"field locked.chaos.a.zip: must hold sha256 and bytes"):
        load_manifest()
    user_manifest().write_text("locked: 3")
    with pytest.raises(LabError, match="field locked: must be a mapping"):
        load_manifest()
    user_manifest().write_text(yaml.safe_dump({"lgg": ENTRY}))
    with pytest.raises(LabError, match="'lgg' is defined twice"):
        load_manifest()


def test_unknown_names_list_what_is_known(home: Path) -> None:
    with pytest.raises(LabError, match=r"no data set 'lggg'.*known: .*lgg"):
        dataset("lggg")
    with pytest.raises(LabError, match=r"data set 'lgg' has no task 'x' \(it has whole_lesion"):
        dataset("lgg").task("x")
    with pytest.raises(LabError, match="data set 'rire' has no labels for CT"):
        dataset("rire").label_of("CT")


def test_a_joined_entry_finds_the_folder_that_holds_all_parts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = home / "elsewhere"
    monkeypatch.setenv("XMOD_DATA", str(other))
    assert dataset("abdomen_real").folder == paths.data_home()
    for part in ("chaos_t2", "ct_abdomen"):
        (other / part).mkdir(parents=True)
    assert dataset("abdomen_real").folder == other


@pytest.mark.skipif(not os.environ.get("XMOD_DATA"), reason="needs the real samples: set XMOD_DATA")
@pytest.mark.parametrize("key", REAL)
def test_the_real_samples_are_sound(key: str) -> None:
    from xmod_lab.data.check import verify

    if not dataset(key).folder.is_dir():
        pytest.skip(f"XMOD_DATA holds no {key}")
    report = verify(dataset(key))
    assert report.all_problems == []
    expected = {"lgg": 30, "brats13": 4, "open_ms": 2, "tcga_lgg": 2, "chaos_t2": 6, "ct_abdomen": 1, "abdomen_real": 7}
    assert len(report.patients) == expected[key]
    assert all(any(patient.voxels.values()) for patient in report.patients)


@pytest.mark.skipif(not os.environ.get("XMOD_DATA"), reason="needs the real samples: set XMOD_DATA")
def test_the_patient_in_both_sets_lies_the_same_way_round() -> None:
    """lgg's axes are not in its files; the lesion of TCGA-DU-7294 must be on the same side as in tcga_lgg."""
    import numpy as np

    from xmod_lab.data.volume import load_image, load_structures

    sides = []
    for key, patient, modality in (("lgg", "TCGA_DU_7294_19890104", "FLAIR"), ("tcga_lgg", "TCGA-DU-7294", "FLAIR")):
        data = dataset(key)
        if not data.folder.is_dir():
            pytest.skip(f"XMOD_DATA holds no {key}")
        image = load_image(data, patient, modality)
        lesion = np.any(list(load_structures(data, patient, modality, like=image).values()), axis=0)
        centre = np.argwhere(image.array > 30).mean(axis=0)
        sides.append(np.sign(np.argwhere(lesion).mean(axis=0) - centre))
    np.testing.assert_array_equal(sides[0], sides[1])  # right, anterior, superior of the centre in both
    np.testing.assert_array_equal(sides[0], [1, 1, 1])
