"""Other formats made into NIfTI, so that the rest of the lab sees one format.

A converter is a function ``(source, folder, say)``: it reads the folder `source` as the data set's keepers hand it out,
writes the layout that the manifest describes into `folder`, patient by patient and never half, passes over patients
that are there already, tells `say` a line each, and returns how many patients it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xmod_lab.data.convert.brats2015 import convert_brats2015
from xmod_lab.data.convert.chaos import convert_chaos, convert_chaos_t2
from xmod_lab.data.convert.lgg import convert_lgg
from xmod_lab.data.convert.msd import convert_msd
from xmod_lab.data.convert.rire import convert_rire
from xmod_lab.errors import LabError

CONVERTERS: dict[str, Callable[[Path, Path, Callable[[str], None]], int]] = {
    "brats2015": convert_brats2015,
    "chaos": convert_chaos,
    "chaos_t2": convert_chaos_t2,
    "lgg": convert_lgg,
    "msd": convert_msd,
    "rire": convert_rire,
}


def convert(name: str, source: str | Path, folder: str | Path, *, say: Callable[[str], None] = print) -> int:
    """Run the converter `name` from `source` into `folder`; return the number of patients written.

    Raises LabError for an unknown name, a missing source, or files that are not in the format expected.
    """
    if name not in CONVERTERS:
        raise LabError(f"no converter {name!r}", mend=f"known: {', '.join(CONVERTERS)}")
    source = Path(source).expanduser()
    if not source.is_dir():
        raise LabError(
            "the folder to convert is missing", where=source, mend="name the folder that holds the unpacked data"
        )
    return CONVERTERS[name](source, Path(folder), say)
