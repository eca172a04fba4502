"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float = 0.999) -> AveragedModel:
    r"""A copy of a network whose weights follow it: :math:`\bar\theta \leftarrow d_k \bar\theta + (1 - d_k) \theta`.

    ``update_parameters(network)`` takes the weights of the k-th step in; the first are copied. d_k rises as
    :math:`\min(decay, (1 + k)/(10 + k))`, so that a short run is not the average of its beginning, as it would be with
    the 0.999 of Karras et al. 2018 throughout (and of TarGAN's code): it is 0.987 after 700 steps and reaches 0.999
    after 9,000. Called like the network; receives no gradient.
    """

    @torch.no_grad()
    def follow(mine: Tensors, others: Tensors, count: Tensor | int) -> None:
        k = int(count)
        torch._foreach_lerp_(mine, others, 1 - min(decay, (1 + k) / (10 + k)))

    return AveragedModel(network, multi_avg_fn=follow).requires_grad_(False)
