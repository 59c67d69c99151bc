"""The adaptive loss: Barron's general robust negative log-likelihood with a shape and a scale per marker (spec section 5).

Barron, "A General and Adaptive Robust Loss Function", CVPR 2019. The paper of HEX leaves out log c and takes alpha - 2 without its absolute
value; without the first the best scale is infinite, with the second large residuals have no loss. Both are as the released code has them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

ALPHA = (0.001, 1.999)
SCALE_LEAST = 1e-5
EPS = float(torch.finfo(torch.float32).eps)
KNOTS_PER_UNIT = 1024  # of t = curve(alpha); the released library's


def general_loss(residual: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
    """rho(r, alpha, c) = |alpha - 2| / alpha * (((r / c)^2 / |alpha - 2| + 1)^(alpha / 2) - 1), broadcast; 0 < alpha < 2.

    alpha -> 2 is (r / c)^2 / 2, alpha = 1 a smooth absolute value, alpha -> 0 the Cauchy loss log((r / c)^2 / 2 + 1).
    """
    b, a = (alpha - 2).abs().clamp(min=EPS), alpha.clamp(min=EPS)
    return b / a * (((residual / scale) ** 2 / b + 1).pow(0.5 * alpha) - 1)


def log_partition(alpha: Tensor) -> Tensor:
    """log Z(alpha) = log of the integral of exp(-rho(x, alpha, 1)) over x, for 0 <= alpha < 2; within 1e-8 of the integral.

    A cubic Hermite spline over t = (2.25 alpha - 4.5) / (|alpha - 2| + 0.25) + alpha + 2, which has many knots where log Z bends, near 2.
    Knots and slopes (central differences) are chosen as in the released library, so that the gradient is the one HEX was trained with: its
    error is below 1e-5 in float64 (4e-5 at alpha = 1.999); in float32 the differences of neighbours leave it some 1e-3.
    """
    values, slopes = _table_on(alpha.device, alpha.dtype)
    place = ((2.25 * alpha - 4.5) / ((alpha - 2).abs() + 0.25) + alpha + 2) * KNOTS_PER_UNIT
    at = place.detach().floor().long().clamp(0, len(values) - 2)
    t = place - at.to(place.dtype)
    t2 = t**2
    t3 = t * t2
    right = 3 * t2 - 2 * t3
    slope_right = t3 - t2
    slope_left = slope_right - t2 + t
    return values[at] * (1 - right) + values[at + 1] * right + slopes[at] * slope_left + slopes[at + 1] * slope_right


@lru_cache(maxsize=1)
def partition_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log Z and its slope per knot at the knots t = 0, 1/1024, ... 4 (alpha = 0 ... 2), (4097,) float64 each; made once.

    Z by the trapezoidal rule in y = log x, where exp(-rho) x falls exponentially to both sides and the rule converges as fast.
    """
    curve = np.arange(4 * KNOTS_PER_UNIT) / KNOTS_PER_UNIT
    alpha = ((curve + 2.5) - np.sqrt((curve + 2.5) ** 2 - 9 * curve)) / 2  # the curve, solved for alpha below 2
    y = np.linspace(-40.0, 40.0, 401)
    b, square = 2 - alpha[1:, None], np.exp(2 * y)
    rho = b / (2 - b) * np.expm1((2 - b) / 2 * np.log1p(square / b))
    inner = np.log(2 * (y[1] - y[0]) * np.exp(y - rho).sum(1))
    values = np.concatenate([[math.log(math.sqrt(2) * math.pi)], inner, [math.log(math.sqrt(2 * math.pi))]])
    return values, np.gradient(values)


@lru_cache(maxsize=8)
def _table_on(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # a table made in inference mode could never be trained through
        values, slopes = (torch.tensor(part, device=device, dtype=dtype) for part in partition_table())
    return values, slopes


class AdaptiveLoss(nn.Module):
    """nll(r) = rho(r, alpha, c) + log c + log Z(alpha), one alpha in 0.001..1.999 and one c > 0 per marker, shared by all tiles.

    Parameters under the authors' names: latent_alpha (1, P), zero at the start: alpha = 1; latent_scale (1, P), zero at the start: c = 1.
    They are trained as well, and belong into the optimiser. Computed in float32, or in float64 if the residuals are.
    """

    def __init__(self, markers: int) -> None:
        super().__init__()
        self.latent_alpha = nn.Parameter(torch.zeros(1, markers))
        self.latent_scale = nn.Parameter(torch.zeros(1, markers))

    def alpha(self) -> Tensor:
        """(1, P): the shape, between the Cauchy loss (0) and the square (2)."""
        least, most = ALPHA
        return least + (most - least) * torch.sigmoid(self.latent_alpha)

    def scale(self) -> Tensor:
        """(1, P): the residual, in the labels' unit, up to which the loss is nearly quadratic."""
        return (1 - SCALE_LEAST) * F.softplus(self.latent_scale + math.log(math.expm1(1))) + SCALE_LEAST

    def elementwise(self, residual: Tensor) -> Tensor:
        """(B, P) prediction - label -> (B, P) negative log-likelihoods; half precision is computed in float32."""
        with torch.autocast(residual.device.type, enabled=False):
            residual = residual if residual.dtype == torch.float64 else residual.float()
            alpha, scale = (part.to(residual.dtype) for part in (self.alpha(), self.scale()))
            return general_loss(residual, alpha, scale) + scale.log() + log_partition(alpha)

    def forward(self, residual: Tensor) -> Tensor:
        """(B, P) prediction - label -> the mean over tiles and markers."""
        return self.elementwise(residual).mean()
