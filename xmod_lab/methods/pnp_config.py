"""What can be set of PnP-AdaNet: the config, the authors' values, and the ablations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PnPConfig:
    """What differs from the authors' code, and why; the preset "official" is that code. No value of the paper is known
    to differ from it, so there is no preset "printed".

    width, stride   64 and 8 in the paper; stride 0 is 8 from 128 pixels on and 4 below, as of `fcn_joint`
    dropout       of the segmenter, 0.25 in the code; none here, for the reason given in `methods.fcn.FCNConfig`
    depth         how many of the nine groups are plugged in: 6, which are 21 convolutions (4 are 13, 9 are all 31)
    pretraining, warm_up   shares of the steps in which the segmenter learns, and then the critic of features alone
    rate          of the segmenter, by Adam
    adapter_rate, critic_rate, optimiser, beta1, final_rate   of the plugged layers and the critics; their rates fall
                  exponentially to `final_rate` times themselves. The code has RMSProp at 3e-4 for both, 2 % less every
                  100 of its 120,000 steps
    n_critic, more_critic   updates of the critics for one of the plugged layers at first, and how many more of them at
                  the end: in the code 20, and one more every 300 steps. All those of one step see the same batch
    spectral, clip   what bounds the critics. The code clips their kernels to 0.03 and normalises features by their
                  batch's statistics, source and target each for itself, which takes away much of what tells them apart.
                  Here spectral normalisation bounds the slope and features are left as they are. Not a gradient
                  penalty: in trials of 120 steps at 32 pixels it outweighed the gap, and most critics ended with the
                  target above the source; with spectral normalisation the critic of features told them apart after 60
                  steps of warm-up, and the gap narrowed, its sign kept, as the plugged layers learnt. `planes` has none
    feature_weight, mask_weight   of the two critics. With both 0 nothing adapts but the statistics of the plugged
                  layers' normalisation: the control
    planes        critics as in the code, of 21.7 and 1.1 million weights: features shuffled into pixels of the full
                  size, with the argmax among them, which has no gradient; logits as masks. False: patch critics of the
                  features where they are, and of class probabilities
    running_statistics   the critics learn from target features normalised by running statistics, as in the code, and
                  the plugged layers from others, normalised by the batch. False: both from the latter; the running
                  statistics, which tests use, become the target's own from the warm-up on
    scale, decay   of both adversarial losses, 0.002 in the code, and coupled weight decay of kernels, there 1e-4
    balanced      cross-entropy weighted by 1 minus a class's share, as in the code; False: as of the other systems

    Not here, of the code: a cross-entropy without gradient below a probability of 0.005, background in the Dice, first
    weights N(0, 0.01). Features of the source are computed in every step, not kept, as slices are augmented.
    """

    width: int = 16
    stride: int = 0
    dropout: float = 0.0
    depth: int = 6
    pretraining: float = 0.5
    warm_up: float = 0.1
    rate: float = 1e-3
    adapter_rate: float = 2e-4
    critic_rate: float = 1e-3
    optimiser: str = "adam"
    beta1: float = 0.5
    final_rate: float = 0.1
    n_critic: int = 5
    more_critic: int = 0
    spectral: bool = True
    clip: float = 0.0
    feature_weight: float = 1.0
    mask_weight: float = 0.3
    planes: bool = False
    running_statistics: bool = False
    scale: float = 1.0
    decay: float = 0.0
    balanced: bool = False
    augment: str = "standard"


PRESETS: dict[str, dict[str, object]] = {
    "official": {
        "dropout": 0.25, "adapter_rate": 3e-4, "critic_rate": 3e-4, "optimiser": "rmsprop", "final_rate": 3e-11,
        "n_critic": 20, "more_critic": 400, "spectral": False, "clip": 0.03, "planes": True,
        "running_statistics": True, "scale": 0.002, "decay": 1e-4, "balanced": True,
    }
}  # fmt: skip
ABLATIONS: dict[str, dict[str, object]] = {
    "statistics": {"feature_weight": 0.0, "mask_weight": 0.0},
    "mask": {"mask_weight": 0.0},
    "features": {"feature_weight": 0.0},
    "depth 4": {"depth": 4},
    "depth 9": {"depth": 9},
    "clip": {"spectral": False, "clip": 0.03},
}
"""without both critics, without that of masks, without that of features; fewer and more layers plugged in; the critics
bounded as in the code"""
