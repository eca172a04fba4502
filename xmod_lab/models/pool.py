"""The pool of earlier translations from which critics are shown (Shrivastava et al. 2017, CycleGAN)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xmod_lab.errors import LabError


class ImagePool:
    """Keeps `size` images. `draw` takes those of a step and returns as many: until it is full, the same ones; then each
    with probability one half an earlier one, whose place it takes. size 0: always the same ones.

    Draws come from PyTorch's own generator, which training seeds for every step; what it holds is part of a run's
    state (`Method.extra_state`).
    """

    def __init__(self, size: int):
        self.size, self.images = size, torch.empty(0)

    def draw(self, images: Tensor) -> Tensor:
        """(b, ...) -> (b, ...), detached."""
        images = images.detach()
        if not self.size:
            return images
        found, self.images = [], self.images.to(images.device)
        for image in images:
            if len(self.images) < self.size:
                kept = image[None].clone()
                self.images = torch.cat([self.images, kept]) if len(self.images) else kept
                found.append(image)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(self.size, ()))
                found.append(self.images[place].clone())
                self.images[place] = image
            else:
                found.append(image)
        return torch.stack(found)


def state_of(pools: Mapping[str, ImagePool]) -> dict[str, Tensor]:
    """What pools hold, as ``pool/<name>``, for `Method.extra_state`; those of size 0 hold nothing."""
    return {f"pool/{name}": pool.images for name, pool in pools.items() if pool.size}


def restore(pools: Mapping[str, ImagePool], state: Mapping[str, Tensor]) -> None:
    """Give pools back what `state_of` took of them. Raises LabError if it is not in `state`."""
    for name, pool in pools.items():
        if pool.size:
            if f"pool/{name}" not in state:
                raise LabError(f"the state has no pool of {name}: an older version wrote it", mend="train anew")
            pool.images = state[f"pool/{name}"]
