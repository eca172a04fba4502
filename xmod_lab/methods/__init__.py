"""Every method by name. A near relative is an entry with overrides, never a copied file."""

from __future__ import annotations

from typing import Any, NamedTuple

from xmod_lab.errors import LabError
from xmod_lab.methods.base import Method
from xmod_lab.methods.unet import TargetOnly, UNetBaseline


class Entry(NamedTuple):
    """A class, config overrides, one line on what it is, where it comes from, and which task it is shown on."""

    cls: type[Method]
    overrides: dict[str, Any]
    title: str
    source: str
    shown_on: tuple[str, str]
    """(data set, task) of the smoke suite"""


UNET_PAPER = "Ronneberger et al. 2015, as in UAGAN's repository"

METHODS: dict[str, Entry] = {
    "unet_individual": Entry(
        UNetBaseline, {"individual": True}, "a U-Net a modality", UNET_PAPER, ("brain_tumour", "whole_tumour")
    ),
    "unet_joint": Entry(UNetBaseline, {}, "one U-Net for all modalities", UNET_PAPER, ("brain_tumour", "whole_tumour")),
    "source_only": Entry(
        UNetBaseline, {}, "U-Net of the labelled modality: lower bound", UNET_PAPER, ("brain_tumour", "t1_to_t2")
    ),
    "target_only": Entry(
        TargetOnly, {}, "U-Net of the target with its labels: upper bound", UNET_PAPER, ("brain_tumour", "t1_to_t2")
    ),
}


def method_entry(name: str) -> Entry:
    """The entry of `name`. Raises LabError listing the known ones."""
    if name not in METHODS:
        raise LabError(f"no method {name!r}", mend=f"known: {', '.join(METHODS)}")
    return METHODS[name]
