"""Augmentation of a batch: one resampling for images, one for labels and foreground.

Standard is what UAGAN's code does (Yuan et al. 2019): flips, rotation by up to 20 degrees, scale 0.9 to 1.1. Strong
adds nnU-Net's gamma (also on the inverted image), brightness and contrast within the foreground (Isensee et al. 2021),
more often than there, to see how far such changes alone close a gap between contrasts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

ROTATION = 20.0
"""degrees, either way"""
SCALE = (0.9, 1.1)
GAMMA = (0.7, 1.5)
CONTRAST = (0.75, 1.25)
BRIGHTNESS = 0.2
"""in the units of an image that spans -1 to 1"""
OFTEN = 0.5
"""probability of each of gamma, inversion within gamma, brightness, contrast"""


class Draw(NamedTuple):
    """What happens to each of n samples; images, labels and derived images of a sample share it."""

    matrix: torch.Tensor
    """(n, 2, 2) from output to input coordinates in [-1, 1]"""
    gamma: torch.Tensor
    """(n,); 1 leaves the image as it is"""
    invert: torch.Tensor
    """(n,) bool: gamma acts on the inverted image"""
    contrast: torch.Tensor
    brightness: torch.Tensor

    def first(self, count: int) -> Draw:
        return Draw(*(value[:count] for value in self))


def draw_augmentation(count: int, generator: torch.Generator, *, flips: tuple[str, ...] = ("horizontal",),
                      strong: bool = False) -> Draw:
    """Draw the changes of `count` samples. `strong` draws after the standard part, which is thus the same in both."""
    u = torch.rand(count, 4, generator=generator)
    angle = (2.0 * u[:, 0] - 1.0) * math.radians(ROTATION)
    zoom = 1.0 / (SCALE[0] + (SCALE[1] - SCALE[0]) * u[:, 1])
    mirror_x = torch.where((u[:, 2] < 0.5) & ("horizontal" in flips), -1.0, 1.0)
    mirror_y = torch.where((u[:, 3] < 0.5) & ("vertical" in flips), -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack([cos * mirror_x, -sin * mirror_x, sin * mirror_y, cos * mirror_y], dim=1).reshape(count, 2, 2)
    one, zero = torch.ones(count), torch.zeros(count)
    if not strong:
        return Draw(matrix, one, zero.bool(), one, zero)
    v = torch.rand(count, 7, generator=generator)
    gamma = torch.where(v[:, 0] < OFTEN, GAMMA[0] + (GAMMA[1] - GAMMA[0]) * v[:, 1], one)
    contrast = torch.where(v[:, 3] < OFTEN, CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * v[:, 4], one)
    brightness = torch.where(v[:, 5] < OFTEN, BRIGHTNESS * (2.0 * v[:, 6] - 1.0), zero)
    return Draw(matrix, gamma, v[:, 2] < OFTEN, contrast, brightness)


def augmented(image: torch.Tensor, label: torch.Tensor | None, foreground: torch.Tensor, draw: Draw,
              value_range: tuple[float, float], outside: float | None = None,
              ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Apply `draw` to image (b, k, h, w), label (b, h, w) int64 and foreground (b, h, w) bool; on any device.

    Images are bilinear, labels and foreground nearest. What comes from outside is class 0, not foreground, and of value
    `outside`; None: the slice's lowest. Images stay within `value_range`.
    """
    device = image.device
    batch, _, height, width = image.shape
    matrix = F.pad(draw.matrix.to(device), (0, 1))  # no translation
    grid = F.affine_grid(matrix, [batch, 1, height, width], align_corners=False)
    rim = image.amin(dim=(2, 3), keepdim=True) if outside is None else outside
    image = F.grid_sample(image - rim, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + rim
    planes = [foreground[:, None].to(image.dtype)] + ([] if label is None else [label[:, None].to(image.dtype)])
    sampled = F.grid_sample(torch.cat(planes, dim=1), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    foreground = sampled[:, 0] > 0.5
    label = None if label is None else sampled[:, 1].round().long()
    if bool((draw.gamma != 1).any() | (draw.contrast != 1).any() | (draw.brightness != 0).any()):
        image = _recoloured(image, foreground, draw)
    return image.clamp(*value_range), label, foreground


def _recoloured(image: torch.Tensor, foreground: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Gamma keeping mean and spread, then contrast about the mean, then brightness; in the foreground only."""
    inside = foreground[:, None].expand_as(image)
    count = inside.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)

    def column(value: torch.Tensor) -> torch.Tensor:
        return value.to(image.device).view(-1, 1, 1, 1)

    def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = (x * inside).sum(dim=(1, 2, 3), keepdim=True) / count
        spread = (((x - mean) ** 2 * inside).sum(dim=(1, 2, 3), keepdim=True) / count).sqrt()
        return mean, spread

    least = image.masked_fill(~inside, math.inf).amin(dim=(1, 2, 3), keepdim=True)
    most = image.masked_fill(~inside, -math.inf).amax(dim=(1, 2, 3), keepdim=True)
    unit = ((image - least) / (most - least).clamp(min=1e-6)).clamp(0.0, 1.0).nan_to_num(0.0)
    invert = column(draw.invert)
    curved = torch.where(invert, 1.0 - unit, unit) ** column(draw.gamma)
    curved = torch.where(invert, 1.0 - curved, curved)
    mean, spread = moments(image)
    new_mean, new_spread = moments(curved)
    changed = (curved - new_mean) / new_spread.clamp(min=1e-6) * spread + mean
    changed = torch.where(column(draw.gamma) == 1, image, changed)
    changed = (changed - mean) * column(draw.contrast) + mean + column(draw.brightness)
    return torch.where(inside, changed, image)
