"""What can be set of SIFA: the config, the presets where paper and code differ, its first version, the ablations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SIFAConfig:
    """The second version (IEEE TMI 2020) with the weights of the authors' code; `V1` makes it the first (AAAI 2019).

    width         that of a U-Net's first level; at 64 the networks have the authors' sizes: 32 channels in the first
                  layer of the translators, 16 in that of the encoder, 64 in that of the critics
    rate, critic_rate, segmenter_rate   2e-4 all in the code, for 20 000 steps (its 1e-3 of the segmenter is logged, not
                  used; the first version uses it). Seven hundred steps need larger ones
    schedule, segmenter_schedule   of the learning rates: "constant" in the code; "half" falls in the second half;
                  "stairs", of the first version's segmenter, by a tenth after each tenth of training (2 of 20 epochs)
    blocks        of the generator: 9 in the code, for 256 pixels
    stride        of the encoder's features: 8 in the code. 0: 8 from 256 pixels on and 4 below, so that 128 pixels
                  keep the 32x32 positions of 256, and 64 pixels 16x16
    transposed    True: their transposed convolutions, which leave a checkerboard in a short run's images
    critic_layers, critic_padding   3 judge patches of 70x70; 2 pixels of zeros in the code, which at 64 pixels would
                  make most patches scores of the rim
    pool          earlier translations from which the critics of images are shown, drawn one by one; the code keeps 50
                  batches, which are 400 images, and draws batches
    levels        2: a second head and a second critic of masks on the encoder's earlier level; 1: the first version
    dropout       after the encoder's convolutions: 0.25 in the first version (a keep rate of 0.75, and there of the
                  logits as well, which is left out: it would set classes to zero at random)
    own_statistics   translations and target images are normalised apart in training, as in the code, where they go
                  through the encoder one after the other; True: they have running statistics of their own, so that
                  target images are segmented with the target's. In the code both move the same ones
    cycle_weight  of L1 of both ways there and back; encoder_share: the part of it, and of the source critic's term,
                  that the encoder hears
    segmentation_weights, mask_weights   of the final and of the earlier level
    auxiliary_weight   of the source critic's second score
    ramp          the masks' weights rise from 0 at a fifth of training to their own at 0.35: epochs 4 to 7 of 20
    logits        show the critics of masks logits, as in the code; False: probabilities, which is what the paper says
    floor         smallest probability in the cross-entropy: 0.005 in the code, and no gradient below (off)
    decay         of the weights of encoder and heads, coupled: half of it times their squared norm in the loss. The
                  loss in the log lacks it
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    segmenter_rate: float = 1e-3
    beta1: float = 0.5
    schedule: str = "half"
    segmenter_schedule: str = "half"
    blocks: int = 5
    stride: int = 0
    transposed: bool = False
    critic_layers: int = 3
    critic_padding: int = 1
    pool: int = 50
    levels: int = 2
    dropout: float = 0.0
    own_statistics: bool = True
    cycle_weight: float = 10.0
    encoder_share: float = 0.1
    segmentation_weights: tuple[float, ...] = (1.0, 0.1)
    mask_weights: tuple[float, ...] = (0.1, 0.01)
    auxiliary_weight: float = 0.1
    ramp: bool = False
    logits: bool = False
    floor: float = 0.0
    decay: float = 1e-4
    augment: str = "standard"


V1: dict[str, object] = {"levels": 1, "dropout": 0.25, "ramp": True, "segmenter_schedule": "stairs"}
"""the first version"""
PRINTED: dict[str, object] = {
    "rate": 2e-4, "critic_rate": 2e-4, "segmenter_rate": 2e-4, "schedule": "constant", "segmenter_schedule": "constant",
    "blocks": 9, "stride": 8, "transposed": True, "critic_padding": 2, "pool": 400, "own_statistics": False,
}  # fmt: skip
OFFICIAL = PRINTED | {"logits": True, "floor": 0.005}
PRESETS: dict[str, dict[str, object]] = {
    "printed": PRINTED,
    "official": OFFICIAL,
    "official_v1": OFFICIAL | V1 | {"segmenter_rate": 1e-3},
}
ABLATIONS: dict[str, dict[str, object]] = {
    "images": {"mask_weights": (0.0, 0.0), "auxiliary_weight": 0.0},
    "masks": {"mask_weights": (0.0, 0.0)},
    "auxiliary": {"auxiliary_weight": 0.0},
    "deep": {"levels": 1},
}
"""The papers': adaptation of images alone; without critics of masks; without the source critic's second score; without
the earlier level"""
