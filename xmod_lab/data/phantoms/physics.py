"""Signal equations and scanners: from tissue constants to voxel values.

Times are in milliseconds, concentrations in mmol/l, CT numbers in Hounsfield units. The equations are the textbook
ones (Haacke et al., Magnetic Resonance Imaging, 1999; bSSFP after Scheffler and Lehnhardt, Eur Radiol 2003).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xmod_lab.data.phantoms.shapes import Space

RELAXIVITY = 4.5
"""Longitudinal relaxivity of a gadolinium chelate in plasma, l/(mmol s) (Rohrer et al., Invest Radiol 2005, 1.5 T)."""


@dataclass(frozen=True)
class Tissue:
    """Relaxation times (ms), proton density (1 = water), uptake of contrast agent (mmol/l) and CT number (HU)."""

    t1: float
    t2: float
    pd: float
    hu: float = 0.0
    agent: float = 0.0

    def enhanced(self, share: float = 1.0) -> Tissue:
        """With `share` of its agent on board: 1/T1' = 1/T1 + r1 c, and T2 likewise with the same relaxivity."""
        rate = RELAXIVITY * self.agent * share / 1000
        return replace(self, t1=1 / (1 / self.t1 + rate), t2=1 / (1 / self.t2 + rate))


def spin_echo(t: Tissue, tr: float, te: float) -> float:
    """PD (1 - exp(-TR/T1)) exp(-TE/T2)"""
    return t.pd * (1 - np.exp(-tr / t.t1)) * np.exp(-te / t.t2)


def inversion_recovery(t: Tissue, tr: float, ti: float, te: float) -> float:
    """Magnitude of PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2): FLAIR, fat suppression, late enhancement"""
    return t.pd * abs(1 - 2 * np.exp(-ti / t.t1) + np.exp(-tr / t.t1)) * np.exp(-te / t.t2)


def gradient_echo(t: Tissue, tr: float, te: float, flip: float) -> float:
    """Spoiled: PD sin a (1 - E1) / (1 - cos a E1) exp(-TE/T2*), flip angle in degrees, T2* taken as T2/2"""
    e1, a = np.exp(-tr / t.t1), np.radians(flip)
    return t.pd * np.sin(a) * (1 - e1) / (1 - np.cos(a) * e1) * np.exp(-2 * te / t.t2)


def balanced(t: Tissue, tr: float, flip: float) -> float:
    """bSSFP at TE = TR/2: PD sin a (1 - E1) / (1 - (E1 - E2) cos a - E1 E2) exp(-TE/T2), flip angle in degrees"""
    e1, e2, a = np.exp(-tr / t.t1), np.exp(-tr / t.t2), np.radians(flip)
    return t.pd * np.sin(a) * (1 - e1) / (1 - (e1 - e2) * np.cos(a) - e1 * e2) * np.exp(-tr / 2 / t.t2)


def _blur(image: np.ndarray, sigma: tuple[float, float, float]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, sigma, mode="nearest", truncate=3.0)


def mr_scan(
    signal: np.ndarray,
    space: Space,
    rng: np.random.Generator,
    *,
    snr: float,
    bias: float = 0.2,
    reference: float | None = None,
    blur: float = 0.5,
) -> np.ndarray:
    """Voxel values, int16: point spread, receive field exp(bias b(x)), Rician noise, the scanner's own gain.

    `signal` holds the voxels' mean signal; noise has the deviation `reference` / `snr`, `reference` being by default
    the mean of the non-zero signal.
    """
    coarse = Space(space.shape, space.spacing)
    level = reference if reference is not None else float(signal[signal > 0].mean())
    received = _blur(signal, (blur, blur, 0.15)) * np.exp(bias * coarse.noise(rng, 90.0))
    gain, sigma = rng.uniform(250, 600) / level, level / snr
    one, two = rng.standard_normal((2, *space.shape), dtype=np.float32) * np.float32(sigma)
    return np.rint(np.clip(gain * np.sqrt((received + one) ** 2 + two**2), 0, 32000)).astype(np.int16)


def ct_scan(
    hu: np.ndarray, space: Space, rng: np.random.Generator, *, noise: float = 18.0, blur: float = 0.5
) -> np.ndarray:
    """Hounsfield units, int16: point spread, and Gaussian noise of deviation `noise`, correlated by the filter."""
    white = _blur(rng.standard_normal(space.shape, dtype=np.float32), (0.6, 0.6, 0.0))
    grain = white - 0.6 * _blur(white, (1.6, 1.6, 0.0))  # reconstruction passes a band of frequencies
    grain *= noise / float(grain.std())
    offset, slope = rng.normal(0, 3), rng.normal(1, 0.01)  # calibration within a scanner's tolerance
    return np.rint(np.clip(_blur(hu, (blur, blur, 0.15)) * slope + offset + grain, -1024, 3071)).astype(np.int16)
