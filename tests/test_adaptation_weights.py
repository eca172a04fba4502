"""How large the systems of adaptation are: what segments at the test, and all networks together."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from tests.joint import built
from xmod_lab.bench.adaptation import segmenting, weights_of
from xmod_lab.methods.bigl_config import ADAPTING
from xmod_lab.methods.cyclegan import OWN, CycleGANConfig
from xmod_lab.models.blocks import count_parameters
from xmod_lab.runs import Run, RunSpec

SUBREGIONS = ("brain_tumour", "subregions")


def test_how_many_weights_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those on the target's way alone: translators where it is translated first, of two decoders' heads one."""
    count = count_parameters
    bigl, plain, cycle, two = built("bigl"), built("source_only"), built("cyclegan_seg"), built("adaptsegnet")
    assert segmenting(bigl, "B") == count(bigl.segmenter) < count(bigl) and segmenting(plain, "B") == count(plain)
    average = built("bigl", average=True)
    way = average.translators["cyclegan"].generators["B->A"]
    assert segmenting(average, "B") == count(average.segmenter) + count(way)
    assert segmenting(cycle, "B") == count(cycle.networks) < segmenting(cycle, "A")
    assert segmenting(two, "B") == count(two.segmenter) - count(two.segmenter.lower)
    monkeypatch.setattr(Run, "method", lambda run: bigl if run.spec.method == "bigl" else plain)
    specs = [RunSpec(name, *SUBREGIONS, fold=fold) for name in ("bigl", "source_only") for fold in (0, 1)]
    monkeypatch.setattr("xmod_lab.bench.adaptation.segmenting", lambda method, modality: (modality == "T2") * 7)
    found = weights_of(Run(spec, spec.folder) for spec in specs)
    place = "/".join(SUBREGIONS)
    assert found == {f"{place}/bigl": (7, count(bigl)), f"{place}/source_only": (7, count(plain))}


def test_translators_that_adapt_are_set_alike() -> None:
    """As their tables say, or they would compare translators."""
    read = built("cyclegan_seg").read["cyclegan_adapting"].config
    for config in (built("bigl").translators["cyclegan"].config, built("cycada").translator.config):
        assert {f.name: getattr(config, f.name) for f in fields(CycleGANConfig)} == asdict(read)
    assert {name: getattr(read, name) for name in ADAPTING} == ADAPTING
    assert OWN.keys() == ADAPTING.keys() and all(OWN[name] != value for name, value in ADAPTING.items())
