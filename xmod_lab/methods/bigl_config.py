"""What can be set of BiGL: the config, the preset of the paper as printed, and the ablations of Tables 3 to 5."""

from __future__ import annotations

from dataclasses import dataclass

from xmod_lab.methods.cyclegan import OWN


@dataclass(frozen=True)
class BiGLConfig:
    """The cards' reading. The paper leaves open what its networks are, the optimiser, the batch and the crop.

    Of the first stage:

    synth         "cyclegan": unpaired, so that adaptation needs no target image of a labelled patient. "paired":
                  equation 1 compares G(x_s) with x_t pixel by pixel, and its reference is a paired synthesis: Pix2Pix
                  each way, for tasks of registered pairs. The two are different problems
    translation_share   of the steps; the paper trains the translators first and does not say how long. In trials one
                  network for both looks learned more slowly than one for translations alone: it has more of the steps
    translator_rate, blocks, critic_layers, pool, identity_weight, reconstruction_weight, pair_weight   of CycleGAN and
                  Pix2Pix. CycleGAN's own (3, 50, 5, 10) keep the greys of T1 in what shall be T2: tumours stay dark.
                  Ours come from trials of 200 to 400 steps, where dark turned bright with these alone; in the recorded
                  suite (results/adaptation-translators-lesson.md) the identity term alone keeps the greys
    shape_weight  of a segmenter that CycleGAN learns beside it and whose loss reaches G: `CycleGANConfig`

    Of the second stage:

    optimiser, rate   the paper has 5e-3 and no name for it; Adam learns in a few hundred steps at 1e-3
    power         of the polynomial that the segmenter's rate follows; the critics' stays
    critic_rate   5e-5 in the paper, for 150 passes over the images
    wide_critics  critics of maps begin with `width` channels (32 beside a U-Net of 32); False: with half of it, as they
                  are otherwise most of a step's work
    map_critic    "patch", or "rows": sorted rows through a small network. A convolution asks for the order of channels
    map_scale     of maps before their critics: "mean 1" (times N), "log" (of that), or "raw"
    dual_attention, attention_form, channel_mode   attention or a plain U-Net, and see `models.dual_attention`. A plain
                  one has no maps to align
    attend        False: the attention block keeps its convolutions and loses both attentions, and with them its maps
    align_features, align_attention   the adversarial consistencies; gtl_weight is of each of the three, the output's
                  consistency has output_weight
    learn_source, learn_translated   learn the labels from the source, from its translations. The second False with both
                  weights 0: the segmenter sees the source alone, and nothing is derived
    reconstructed   show the segmenter, also at the test, each image as it comes back from both translators, in place of
                  itself. Otherwise all labelled images that look like the source are real and all that look like the
                  target are made, while a target at the test is real: in three runs it was segmented better once its
                  greys were exchanged for made ones (`evaluate.looks`)
    literal       signs of equations 4, 5, 6 and 8 as printed, for comparison: minimised, the first two raise the
                  wrong thing and the others help the critics
    average       segment target images by the mean of what is seen in them and in their translations; else in them
    """

    width: int = 16
    synth: str = "cyclegan"
    translation_share: float = 0.4
    translator_rate: float = 1e-3
    blocks: int = 6
    critic_layers: int = 4
    pool: int = 0
    identity_weight: float = 0.0
    reconstruction_weight: float = 2.0
    shape_weight: float = 0.0
    pair_weight: float = 100.0
    optimiser: str = "adam"
    rate: float = 1e-3
    power: float = 0.75
    dropout: float = 0.5
    critic_rate: float = 5e-4
    wide_critics: bool = False
    map_critic: str = "patch"
    map_scale: str = "mean 1"
    dual_attention: bool = True
    attend: bool = True
    attention_form: str = "released"
    channel_mode: str = "released"
    align_features: bool = True
    align_attention: bool = True
    gtl_weight: float = 0.1
    output_weight: float = 0.001
    learn_source: bool = True
    learn_translated: bool = True
    reconstructed: bool = False
    literal: bool = False
    average: bool = False
    augment: str = "standard"


ADAPTING: dict[str, object] = {name: getattr(BiGLConfig, name) for name in OWN}
"""of the CycleGAN that `cyclegan_seg` reads, as of CyCADA's: the three translators differ in their steps alone. SIFA
has its own cycle"""
PRESETS: dict[str, dict[str, object]] = {
    "printed": OWN | {"optimiser": "sgd", "rate": 5e-3, "critic_rate": 5e-5, "wide_critics": True, "literal": True,
                "attention_form": "paper", "channel_mode": "paper", "map_scale": "raw"},
}  # fmt: skip
ABLATIONS: dict[str, dict[str, object]] = {
    "output": {"align_features": False, "align_attention": False},
    "feature": {"align_attention": False},
    "weight 0.02": {"gtl_weight": 0.02},
    "weight 0.5": {"gtl_weight": 0.5},
    "plain": {"dual_attention": False, "align_attention": False},
    "raw maps": {"map_scale": "raw"},
    "no attention": {"attend": False, "align_attention": False},
    "source only": {"learn_translated": False, "output_weight": 0.0, "gtl_weight": 0.0, "translation_share": 0.0},
    "translations alone": {"learn_source": False},
    "reconstructed": {"reconstructed": True},
    "way back 10": {"reconstruction_weight": OWN["reconstruction_weight"]},
    "identity": {"identity_weight": OWN["identity_weight"]},
    "small critics": {"critic_layers": OWN["critic_layers"]},
    "pool": {"pool": OWN["pool"]},
    "shape": {"shape_weight": 1.0},
    "CycleGAN's": OWN,
}
"""Tables 3 and 4: the output's consistency alone, with that of features; Table 5; a plain U-Net, which lacks the
attention block's convolutions as well; maps of size 1/N before their critics; the block with its convolutions alone,
which differs from "feature" in attention and nothing else; the lower bound of this network, which learns from the
labelled slices alone, in all the steps (its translators stay as they began); labels learned from translations alone;
the segmenter shown what comes back from both translators in place of what is real; of the translators each setting as
CycleGAN has it, a shape term, all four settings"""
VALUES: dict[str, tuple[str, ...]] = {
    "synth": ("cyclegan", "paired"),
    "optimiser": ("adam", "sgd"),
    "map_critic": ("patch", "rows"),
    "map_scale": ("mean 1", "log", "raw"),
    "attention_form": ("paper", "released"),
    "channel_mode": ("paper", "released", "stabilised"),
}
"""known values of the fields that are words"""
