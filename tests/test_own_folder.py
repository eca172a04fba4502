"""From the folder that somebody hands over to an entry that trains: names, numbers that differ, corrections."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_folders import image, label, three, write

from xmod_lab import paths
from xmod_lab.data import manifest
from xmod_lab.data.add import add, described
from xmod_lab.data.check import verify
from xmod_lab.data.handed_over import LEGEND, MADE_OF, hand_over
from xmod_lab.data.manifest import add_entry, dataset, own_entry, user_manifest
from xmod_lab.data.overview import overview, repeated
from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import file_of, load_image, load_structures, patients
from xmod_lab.errors import LabError

NAMES = {"T1": "AX_T1_PRE", "FLAIR": "AX_FLAIR"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    return tmp_path / "home"


def known(home: Path) -> Dataset:
    """Three patients in the layout of the phantom brain_tumour; the last has no FLAIR."""
    data = dataset("brain_tumour")
    for n in range(3):
        scans = {f"bt00{n}__{m}": image(10 * n + k) for k, m in enumerate(("T1", "FLAIR", "T2"))}
        write(home / "data/brain_tumour/images", **scans, **{f"bt00{n}__seg": label(1, 2, 4)})
    (home / "data/brain_tumour/images/bt002/FLAIR.nii.gz").unlink()
    return data


def test_what_is_handed_over_can_be_added(home: Path, tmp_path: Path) -> None:
    data, place = known(home), tmp_path / "received"
    assert hand_over(data, place, NAMES, most=2) == place
    assert sorted(path.name for path in place.iterdir()) == [LEGEND, "PAT-001", "PAT-002", MADE_OF]
    assert (place / LEGEND).read_text() == "1 = NCR/NET\n2 = ED\n4 = ET\n"
    first = sorted(path.name for path in (place / "PAT-001").iterdir())
    assert {name.split("_", 2)[2] for name in first} == {"AX_T1_PRE.nii.gz", "AX_FLAIR.nii.gz", "ROI.nii.gz"}
    assert {name.replace("-001", "-002") for name in first} != {p.name for p in (place / "PAT-002").iterdir()}
    before = {path: path.read_bytes() for path in place.rglob("*.gz")}
    hand_over(data, place, NAMES, most=2)
    assert {path: path.read_bytes() for path in place.rglob("*.gz")} == before  # made of the same: it stays as it is

    mine, report = add(place, key="mine")
    assert {name: m.pattern for name, m in mine.modalities.items()} == {
        name: f"{{patient}}/{{patient}}_*_{name}.nii.gz" for name in sorted(NAMES.values())}  # fmt: skip
    assert report.all_problems == [] and mine.relation == "registered" and mine.demonstration
    volume = load_image(mine, "PAT-002", "AX_FLAIR")
    assert (volume.array == load_image(data, "bt001", "FLAIR").array).all()
    assert load_structures(mine, "PAT-002", "AX_FLAIR", like=volume)["label_4"].sum() == 24


def test_a_modality_that_a_patient_lacks_is_left_out(home: Path, tmp_path: Path) -> None:
    mine, _ = add(hand_over(known(home), tmp_path / "received", NAMES), key="mine")
    assert patients(mine, "AX_FLAIR") == ["PAT-001", "PAT-002"] and len(patients(mine, "AX_T1_PRE")) == 3


def test_what_was_made_of_something_else_is_made_anew(home: Path, tmp_path: Path) -> None:
    place = hand_over(known(home), tmp_path / "received", NAMES, most=2)
    assert len(list(hand_over(known(home), place, NAMES).glob("PAT-*"))) == 3
    hand_over(known(home), place, {"T2": "T2"})
    assert {path.name.split("_")[2] for path in place.rglob("*.gz")} == {"T2.nii.gz", "ROI.nii.gz"}
    (place / MADE_OF).unlink()
    with pytest.raises(LabError, match="the folder was not made here"):
        hand_over(known(home), place, NAMES)
    assert len(list(place.glob("PAT-*"))) == 3


def test_files_that_are_not_compressed_keep_their_suffix(home: Path, tmp_path: Path) -> None:
    first, _ = add(three(tmp_path / "packed"), key="packed")
    plain = tmp_path / "plain"
    for path in first.folder.rglob("*.nii.gz"):
        target = plain / path.relative_to(first.folder).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.decompress(path.read_bytes()))
    data, _ = add(plain)
    mine, _ = add(hand_over(data, tmp_path / "received", {"t1": "AX_T1"}), key="mine")
    assert mine.modalities["AX_T1"].pattern == "{patient}/{patient}_*_AX_T1.nii"
    assert (load_image(mine, "PAT-002", "AX_T1").array == load_image(first, "p1", "t1").array).all()


def test_the_demonstration_leaves_the_key_of_the_notebook_free(home: Path, tmp_path: Path) -> None:
    notebook = Path(__file__).parents[1] / "notebooks/95_bring_your_own_data.ipynb"
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]}
    known(home)
    given = {"Path": Path, "manifest": manifest, "paths": paths, "hand_over": hand_over}
    given["lab"] = SimpleNamespace(source="real")  # so that no phantom is made
    cells["received"] = cells["received"].replace('"T1Gd": "AX_T1_POST", ', "")  # these patients lack it
    for folder in ("", str(three(tmp_path / "scans"))):
        exec(cells["parameters"] + f"\ndataset, folder = 'brain_tumour', {folder!r}", given)
        key = given["key"]
        exec(cells["received"], given)
        entry, _ = described(given["place"], given["key"])
        added = add_entry(given["key"], entry, replace=True)
        assert (added.key == key) == bool(folder)
    assert dataset("my_scans").folder == tmp_path / "scans"
    assert dataset("demo_brain_tumour").folder == home / "data/handed_over/demo_brain_tumour"


def test_what_cannot_be_handed_over(home: Path, tmp_path: Path) -> None:
    known_data = known(home)
    with pytest.raises(LabError, match="'brain_tumour' has no modality 'CT'"):
        hand_over(known_data, tmp_path / "a", {"CT": "CT"})
    with pytest.raises(LabError, match="'cardiac_mr' has no label file that all its modalities share"):
        hand_over(dataset("cardiac_mr"), tmp_path / "b", {"LGE": "LGE"})
    with pytest.raises(LabError, match="modality 'T1' of data set 'lgg' has no files"):
        hand_over(dataset("lgg"), tmp_path / "c", {"T1": "T1"})
    (home / "data/brain_tumour/images/bt001/seg.nii.gz").unlink()
    with pytest.raises(LabError, match=r"patient 'bt001' has no label: .*bt001/seg.nii.gz"):
        hand_over(known_data, tmp_path / "d", NAMES)
    assert not list(tmp_path.glob("[abcd]"))


def test_numbers_that_differ_between_patients(tmp_path: Path) -> None:
    place = tmp_path / "exported"
    for n in range(3):
        write(place, **{f"p{n}__{n}_T1_2031040{n}_1": image(n), f"p{n}__{n + 3}_T2_2031040{n}_7": image(n + 5),
                        f"p{n}__seg": label(1)})  # fmt: skip
    data, _ = add(place)
    assert {name: m.pattern for name, m in data.modalities.items()} == {
        "T1_1": "{patient}/*_T1_*_1.nii.gz", "T2_7": "{patient}/*_T2_*_7.nii.gz"}  # fmt: skip
    assert file_of(data, "p2", data.modalities["T2_7"].pattern).name == "5_T2_20310402_7.nii.gz"


def test_numbers_that_tell_modalities_apart_stay(tmp_path: Path) -> None:
    for n in range(3):
        write(tmp_path / "echoes", **{f"p{n}__echo_1": image(n), f"p{n}__echo_2": image(n + 5), f"p{n}__seg": label(1)})
        write(tmp_path / "twice", **{f"p{n}__{n}_T1": image(n), f"p{n}__{n}_FS_T1": image(n), f"p{n}__seg": label(1)})
        weighted = {f"p{n}__{n}_dwi_{1000 if n else 0}": image(n), f"p{n}__{n + 4}_T1": image(n + 5)}
        write(tmp_path / "weighted", **weighted, **{f"p{n}__seg": label(1)})
        write(tmp_path / "again", **{f"p{n}__{n + 3}_T1": image(n), f"p{n}__{n + 7}_T2": image(n + 5),
                                     f"p{n}__seg": label(1)})  # fmt: skip
        write(tmp_path / "series", **{f"p{n}__1_echo": image(n), f"p{n}__2_echo": image(n + 5),
                                      f"p{n}__{n + 3}_T1": image(n), f"p{n}__seg": label(1)})  # fmt: skip
    assert sorted(add(tmp_path / "echoes")[0].modalities) == ["echo_1", "echo_2"]
    assert sorted(add(tmp_path / "series")[0].modalities) == ["1_echo", "2_echo", "T1"]
    data, _ = add(tmp_path / "weighted")
    assert sorted(data.modalities) == ["T1", "dwi_0", "dwi_1000"] and patients(data, "dwi_0") == ["p0"]
    write(tmp_path / "again", p1__12_T1=image(20))  # a series that was repeated
    with pytest.raises(LabError, match=r"2 files of patient 'p1' may be \*_T1: 12_T1.nii.gz, 4_T1.nii.gz: .*again/p1"):
        add(tmp_path / "again")
    with pytest.raises(LabError, match=r"2 files match p0/\*_T1.nii.gz"):  # the other T1 ends like it
        add(tmp_path / "twice")


def test_an_entry_is_corrected_before_it_is_written(home: Path, tmp_path: Path) -> None:
    place = hand_over(known(home), tmp_path / "received", NAMES)
    entry, report = described(place, "mine")
    assert len(report.patients) == 3 and not user_manifest().exists()
    entry["label"]["values"] = {1: "core", 2: "oedema", 4: "core"}
    entry["tasks"]["all"]["classes"] = {"tumour": ["core", "oedema"]}
    assert add_entry("mine", entry).task().class_names == ["tumour"] and own_entry("mine") == entry
    written = user_manifest().stat()
    add_entry("mine", entry, replace=True)
    assert user_manifest().stat() == written  # the same again is not written
    entry["title"] = "another"
    with pytest.raises(LabError, match="the key 'mine' is taken"):
        add_entry("mine", entry)
    assert add_entry("mine", entry, replace=True).title == dataset("mine").title == "another"


def test_a_key_is_not_taken_from_another_folder(tmp_path: Path) -> None:
    scans = {"p__t1": image(), "p__seg": label(1)}
    add(write(tmp_path / "first", **scans), key="mine")
    entry, _ = described(write(tmp_path / "second", **scans), "mine")
    for key in ("mine", "lgg"):
        with pytest.raises(LabError, match=f"the key {key!r} is taken"):
            add_entry(key, entry, replace=True)
    assert dataset("mine").folder == tmp_path / "first"
    with pytest.raises(LabError, match="no data set of your own is called 'lgg'"):
        own_entry("lgg")


def test_what_to_look_at_before_training(tmp_path: Path) -> None:
    data, report = add(three(tmp_path / "scans"), key="mine")
    rows = overview(report)
    assert [row["patient"] for row in rows] == ["p0", "p1", "p2"]
    assert (rows[0]["shape"], rows[0]["voxel [mm]"]) == ("5 x 6 x 4", "1 x 1 x 2")
    assert rows[0]["label [ml]"] == pytest.approx(24 * 2 / 1000)
    low, high = map(float, rows[1]["t1, 1 to 99 %"].split(" to "))
    assert image(1).min() < low < 100 < high < image(1).max()
    assert repeated(data) == []
    write(tmp_path / "scans", p2__flair=image(9), p1__mask=label(1) * 0)  # the FLAIR of p0; a patient without lesion
    assert repeated(data) == [("p0", "p2")]
    assert overview(verify(data))[1]["label [ml]"] == 0
    assert "label [voxels]" in overview(verify(data.model_copy(update={"unit": "voxel"})))[0]
