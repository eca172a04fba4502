"""The one exception that readers of xmod_lab are meant to see."""

from __future__ import annotations


class LabError(Exception):
    """A problem that the reader can mend, in one line: what is wrong, where, and what to do.

    >>> raise LabError("label value 7 is not listed", where="patient03/seg.nii.gz", mend="add it to the manifest")
    Traceback (most recent call last):
    ...
    xmod_lab.errors.LabError: label value 7 is not listed: patient03/seg.nii.gz (add it to the manifest)
    """

    def __init__(self, what: str, *, where: object = None, mend: str | None = None):
        self.what, self.where, self.mend = what, where, mend
        line = what
        if where is not None:
            line += f": {where}"
        if mend is not None:
            line += f" ({mend})"
        super().__init__(" ".join(line.split()))
