"""What can be set of SASAN: the config, the presets where paper and code differ, and the ablations of Table 3."""

from __future__ import annotations

from dataclasses import dataclass

OFFICIAL: dict[str, object] = {"rate": 1e-4, "critic_rate": 1e-4, "attention_rate": 4e-4}


@dataclass(frozen=True)
class SASANConfig:
    """The paper's generators, attention modules and weights; preset "printed" is nearer to its text.

    Departures, as seven hundred steps of the paper's changed too little on a CPU: larger rates, critics as wide as the
    code's, its adversarial weight of 2 instead of 1, and its frozen first stage. What is left open is read as follows.

    width         twice that of the first layers: 64, the width of CycleGAN's, gives the appendix' 32
    pretraining, frozen   share of the steps in which the attention modules of labelled modalities learn to segment;
                  after that they stay as they are. As in the authors' code; the paper trains all of them in the cycle
    attention_maps   8; the paper tries 16
    low_resolution   translate images of half the size, and enlarge what comes out (Table 3)
    rate, critic_rate   1e-4 both in the code, for very many steps; with half of 1e-3 seven hundred steps change little
    wide_critics, critic_layers   critics begin with `width` channels, as the code's of images, which have 4 layers;
                  False: with half of it like the generators, as in the appendix
    adversarial_weight, seg_weight   of both critics, 2 in the code and 1 in the paper; and of the one of segmentations
                  against the other
    reconstruction_weight   of L1 and of 1 - SSIM alike (equation 2)
    identity_similarity   1 - SSIM in the identity loss as well, as in the code
    orthogonality_weight, literal, orthogonal_fakes   equation 4: see `losses.attention.orthogonality`; on translated
                  images as well, as printed and not in the code
    auxiliary_weight, dice_weight   of cross-entropy + dice_weight x Dice. The paper's 0.1 belongs to a sum over pixels;
                  the code's is worth 1.8 of a weighted mean where 84 % is background (its divisor lacks a side)
    summed        cross-entropy as that sum
    one_hot       show the segmentation critic true labels as real, as printed: they can be told from any soft map by
                  their crispness alone. False: what the attention module sees in real images
    shifted       scale of 1 + gamma, see `models.sasan.SelfAttentiveNorm`
    agreement_weight   of the L1 distance of an image's maps to those of its translation (code alone: 0.1)
    voxel_weight  of L1 to the true image, for paired data only (equation 6; the paper does not give its weight)

    Not here, of the code: critics of features, which the paper does not mention and which hold 96 % of all weights, a
    critic for each class, an L1 loss of pseudo logits, decay of weights. Not here, of the print: the segmentation
    critic takes neither translations of unlabelled images nor real images of labelled modalities for fakes. Dice is the
    mean over foreground classes that are there.
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    attention_rate: float = 1e-3
    beta1: float = 0.5
    pretraining: float = 0.2
    frozen: bool = True
    attention_maps: int = 8
    low_resolution: bool = False
    wide_critics: bool = True
    critic_layers: int = 3
    adversarial_weight: float = 2.0
    seg_weight: float = 1.0
    reconstruction_weight: float = 10.0
    identity_weight: float = 2.5
    identity_similarity: bool = False
    orthogonality_weight: float = 1.0
    orthogonal_fakes: bool = False
    literal: bool = False
    auxiliary_weight: float = 2.5
    dice_weight: float = 0.2
    summed: bool = False
    one_hot: bool = False
    shifted: bool = True
    agreement_weight: float = 0.0
    voxel_weight: float = 10.0
    augment: str = "standard"


PRESETS: dict[str, dict[str, object]] = {
    "official": OFFICIAL | {"critic_layers": 4, "agreement_weight": 0.1, "identity_similarity": True,
                            "auxiliary_weight": 1.8, "dice_weight": 0.01},
    "printed": OFFICIAL | {"pretraining": 0.0, "literal": True, "orthogonal_fakes": True, "auxiliary_weight": 0.1,
                           "dice_weight": 1.0, "summed": True, "one_hot": True, "shifted": False,
                           "wide_critics": False, "adversarial_weight": 1.0},
}  # fmt: skip
ABLATIONS: dict[str, dict[str, object]] = {
    "seg": {"seg_weight": 0.0},
    "aux": {"auxiliary_weight": 0.0, "pretraining": 0.0},
    "reg": {"orthogonality_weight": 0.0},
    "16 maps": {"attention_maps": 16},
    "low": {"low_resolution": True},
    "reg 5": {"orthogonality_weight": 5.0},
    "aux 60x": {"auxiliary_weight": 150.0},
}
"""Table 3: without segmentation critic, auxiliary loss (nor the first stage: nothing learns from labels) and
regularisation; 16 maps; half the size; the regularisation's weight 5 for 1, the auxiliary's 6 for 0.1, in the cycle"""
