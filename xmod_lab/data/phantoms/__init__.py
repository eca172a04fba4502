"""The embedded data: five procedural data sets with anatomy from seeds and intensities from physics.

`make` writes a data set as NIfTI below its folder::

    images/<patient>/<modality>.nii.gz, seg.nii.gz or seg_<modality>.nii.gz     what loaders read
    truth/<patient>/...                                                         what only evaluation may read

`truth` returns the true image of any modality of any patient. Phantoms are teaching data: nothing measured on them says
anything about patients. They are frozen: tests/expected/phantoms.json holds hashes of labels and means of images.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder, write_json

if TYPE_CHECKING:
    from xmod_lab.data.manifest import Dataset
    from xmod_lab.data.phantoms.common import Subject
    from xmod_lab.data.volume import Volume

GENERATORS = {"brain_tumour": "bt", "whole_heart": "wh", "cardiac_mr": "cm", "abdomen": "ab", "head_ct_mr": "hd"}
"""generator (a module of this package) -> prefix of its patients' names"""


def subject(generator: str, seed: int, index: int) -> Subject:
    """Subject `index` of `generator`, in memory: the same whatever else is made. Takes 1-3 s.

    Raises LabError for an unknown generator.
    """
    from xmod_lab.data.phantoms.shapes import Streams

    if generator not in GENERATORS:
        raise LabError(f"no phantom generator {generator!r}", mend=f"known: {', '.join(GENERATORS)}")
    module = importlib.import_module(f"xmod_lab.data.phantoms.{generator}")
    made: Subject = module.generate(Streams(generator, seed, index), index)
    return made


def patient_name(generator: str, index: int) -> str:
    """``bt007`` for the eighth subject of `brain_tumour`."""
    return f"{GENERATORS[generator]}{index:03d}"


def _write(folder: Path, generator: str, seed: int, index: int) -> None:
    """Write one subject; its folder below images/ comes last, so that it is there only when all is."""
    from xmod_lab.data.volume import save_nifti

    patient, made = patient_name(generator, index), subject(generator, seed, index)
    for part, images, labels, record in (
        ("truth", made.truth, made.truth_labels, made.record),
        ("images", made.images, made.labels, {}),
    ):
        if not (images or labels or record):
            continue
        with atomic_folder(folder / part / patient) as temporary:
            for modality, array in images.items():
                save_nifti(temporary / f"{modality}.nii.gz", array, made.space.affine)
            for modality, array in labels.items():
                save_nifti(
                    temporary / (f"seg_{modality}.nii.gz" if modality else "seg.nii.gz"), array, made.space.affine
                )
            for stem, value in record.items():
                write_json(temporary / f"{stem}.json", value)


def make(
    data: Dataset, folder: Path | None = None, *, subjects: int | None = None, only: Sequence[str] | None = None,
    jobs: int = 1, progress: bool = False,
) -> Path:  # fmt: skip
    """Make the subjects of `data` that are missing and return the folder (default: below XMOD_HOME/data).

    `subjects` overrides the manifest's number; a subject is the same whatever the number. only: these patients by name,
    and no others. `jobs` threads work at once; several processes may, too. Raises LabError if `data` is no phantom or
    the disk is full.
    """
    from xmod_lab import paths

    if data.access != "phantom":
        raise LabError(f"data set {data.key!r} is not a phantom", mend=f"try `xmod-lab data fetch {data.key}`")
    folder = Path(folder) if folder is not None else paths.data_home() / data.key
    generator, seed = str(data.phantom["generator"]), int(data.phantom.get("seed", 0))
    if generator not in GENERATORS:
        raise LabError(
            f"no phantom generator {generator!r}", where=f"{data.key}.phantom", mend=f"known: {', '.join(GENERATORS)}"
        )
    count = int(subjects if subjects is not None else data.phantom["subjects"])
    wanted = range(count) if only is None else [int(name.removeprefix(GENERATORS[generator])) for name in only]
    missing = [i for i in wanted if not (folder / "images" / patient_name(generator, i)).is_dir()]
    if not missing:
        return folder
    from tqdm.auto import tqdm

    with (
        ThreadPoolExecutor(max(1, jobs)) as pool,
        tqdm(total=len(missing), desc=data.key, unit="subject", disable=not progress) as bar,
    ):
        work = [pool.submit(_write, folder, generator, seed, index) for index in missing]
        try:
            for done in as_completed(work):
                done.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return folder


def truth(data: Dataset, patient: str, modality: str) -> Volume:
    """The true, undisplaced image of `modality`: from truth/ where there is one, else the patient's own image.

    For evaluation and pictures only, never for training. Raises LabError if neither file exists.
    """
    from xmod_lab.data.volume import load_image, load_volume

    path = data.folder / "truth" / patient / f"{modality}.nii.gz"
    return load_volume(path) if path.is_file() else load_image(data, patient, modality)
