"""Every method by name. A near relative is an entry with overrides, never a copied file."""

from __future__ import annotations

from typing import Any, NamedTuple

from xmod_lab.errors import LabError
from xmod_lab.methods.adaptsegnet import AdaptSegNet
from xmod_lab.methods.base import Method
from xmod_lab.methods.bigl import BiGL
from xmod_lab.methods.bigl_config import ADAPTING
from xmod_lab.methods.csa import CSA
from xmod_lab.methods.csgan import CSGAN
from xmod_lab.methods.cycada import CyCADA
from xmod_lab.methods.cyclegan import CycleGAN
from xmod_lab.methods.dc2anet import DC2Anet
from xmod_lab.methods.detached import Detached
from xmod_lab.methods.enriched import Enriched
from xmod_lab.methods.fcn import FCNBaseline
from xmod_lab.methods.mrgan import MRGAN
from xmod_lab.methods.pix2pix import Pix2Pix
from xmod_lab.methods.pnp_adanet import PnPAdaNet
from xmod_lab.methods.remic import ReMIC
from xmod_lab.methods.sasan import SASAN
from xmod_lab.methods.sifa import SIFA
from xmod_lab.methods.sifa_config import V1
from xmod_lab.methods.stargan import StarGAN
from xmod_lab.methods.targan import TarGAN
from xmod_lab.methods.translate_and_segment import TranslateAndSegment
from xmod_lab.methods.uagan import UAGAN
from xmod_lab.methods.ugatit import UGATIT
from xmod_lab.methods.ummkd import UMMKD
from xmod_lab.methods.unet import MultiV4, TargetOnly, UNetBaseline


class Entry(NamedTuple):
    """A class, config overrides, one line on what it is, where it comes from, and which task it is shown on."""

    cls: type[Method]
    overrides: dict[str, Any]
    title: str
    source: str
    shown_on: tuple[str, str]
    """(data set, task) of the smoke suite"""


UNET_PAPER = "Ronneberger et al. 2015, as in UAGAN's repository"
CSA_PAPER = "Chen et al., MICCAI 2020"
SASAN_PAPER = "Tomar et al. 2021"
JOINT_HEART = ("cardiac_mr", "joint")
JOINT_BRAIN = ("brain_tumour", "uagan")
HEART = ("whole_heart", "sasan_mr_to_ct")
ABDOMEN = ("abdomen", "liver")
ADAPTED = ("brain_tumour", "t1_to_t2")
HEAD = ("head_ct_mr", "registered")
MR_TO_CT = ("whole_heart", "mr_to_ct")

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
    "multi_v4": Entry(
        MultiV4, {}, "a U-Net a modality, deepest layers shared", "Valindria et al., WACV 2018", JOINT_BRAIN
    ),
    "uagan": Entry(UAGAN, {}, "segmentation helped by translation", "Yuan et al., MICCAI 2019", JOINT_BRAIN),
    "fcn_single": Entry(FCNBaseline, {"sharing": "none"}, "an FCN a modality", CSA_PAPER, JOINT_HEART),
    "fcn_joint": Entry(FCNBaseline, {"sharing": "all"}, "one FCN for all modalities", CSA_PAPER, JOINT_HEART),
    "msbn": Entry(
        FCNBaseline, {}, "one FCN, a batch normalisation a modality", "Karani et al., MICCAI 2018", JOINT_HEART
    ),
    "affinity": Entry(CSA, {"by_class": False}, "CSA without classes", CSA_PAPER, JOINT_HEART),
    "csa": Entry(CSA, {}, "class-specific affinity agrees across modalities", CSA_PAPER, JOINT_HEART),
    "ummkd": Entry(UMMKD, {}, "soft confusions agree across modalities", "Dou et al., IEEE TMI 2020", JOINT_HEART),
    "targan": Entry(TarGAN, {}, "translation that keeps a target area", "Chen et al., MICCAI 2021", ABDOMEN),
    "stargan": Entry(StarGAN, {}, "one translator for all modalities", "Choi et al., CVPR 2018", ABDOMEN),
    "csgan": Entry(
        CSGAN, {}, "a pair of translators for each two modalities, shapes kept", "Zhang et al., CVPR 2018", ABDOMEN
    ),
    "remic": Entry(ReMIC, {}, "a shared content code and styles, unpaired", "Shen et al., IEEE TMI 2020", ABDOMEN),
    "sasan": Entry(SASAN, {}, "translation normalised by attention", SASAN_PAPER, HEART),
    "bigl": Entry(
        BiGL, {}, "four images, outputs, features, attention agree", "He et al., preprint", ("brain_tumour", "t1_to_t2")
    ),
    "detached": Entry(Detached, {}, "a U-Net taught by translations of another modality", SASAN_PAPER, HEART),
    "enriched": Entry(
        Enriched, {}, "a U-Net a modality on an image and its translations", "Chen et al., MICCAI 2021", ABDOMEN
    ),
    "cyclegan": Entry(CycleGAN, {}, "two translators, each the other's way back", "Zhu et al., ICCV 2017", HEART),
    "cyclegan_adapting": Entry(
        CycleGAN, ADAPTING, "CycleGAN as BiGL and CyCADA set it: a light way back", "Zhu et al., ICCV 2017", ADAPTED
    ),
    "ugatit": Entry(UGATIT, {}, "CycleGAN that attends by class activation", "Kim et al., ICLR 2020", HEART),
    "sifa": Entry(
        SIFA, {}, "one encoder to segment and to translate back", "Chen et al., IEEE TMI 2020", MR_TO_CT
    ),
    "sifa_v1": Entry(SIFA, V1, "SIFA's first version: masks of one level", "Chen et al., AAAI 2019", MR_TO_CT),
    "pix2pix": Entry(Pix2Pix, {}, "a U-Net and a critic of pairs, one way", "Isola et al., CVPR 2017", HEAD),
    "mrgan": Entry(MRGAN, {}, "paired translation both ways, with a cycle", "Jin et al., Sensors 2019", HEAD),
    "dc2anet": Entry(
        DC2Anet, {}, "MR-GAN with slopes and similarity, images also judged alone", "Jin et al., Appl. Sci. 2019", HEAD
    ),
    "adaptsegnet": Entry(AdaptSegNet, {}, "a critic aligns two modalities' masks", "Tsai et al., CVPR 2018", ADAPTED),
    "cycada": Entry(CyCADA, {}, "two modalities' images, then features aligned", "Hoffman et al., ICML 2018", ADAPTED),
    "cyclegan_seg": Entry(
        TranslateAndSegment, {}, "a U-Net and CycleGAN's translations, either way", "Zhu et al., ICCV 2017", ADAPTED
    ),
    "pnp_adanet": Entry(
        PnPAdaNet, {}, "early layers of the target plugged into a frozen segmenter", "Dou et al., arXiv 1812.07907",
        MR_TO_CT,
    ),
}


def method_entry(name: str) -> Entry:
    """The entry of `name`. Raises LabError listing the known ones."""
    if name not in METHODS:
        raise LabError(f"no method {name!r}", mend=f"known: {', '.join(METHODS)}")
    return METHODS[name]
