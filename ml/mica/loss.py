"""The discrete-time survival likelihood that MICA is fitted by (spec section 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-7


def nll_survival(
    hazards: Tensor, survival: Tensor, interval: Tensor, censored: Tensor, alpha: float = 0.0, entry: Tensor | None = None
) -> Tensor:
    """Mean negative log-likelihood of B patients.

    hazards, survival: (B, K). interval: (B,) int64, of the event or the censoring. censored: (B,) 1 = censored. With S_{-1} = 1 an event in
    interval y costs -log S_{y-1} - log h_y, a censoring -log S_y (it counts as lived to the end of its interval, as released, so absolute
    risks come out low where censoring is heavy). alpha: extra weight of events. Each factor is clamped at 1e-7. entry: (B,) int64, interval
    of a delayed entry; the likelihood is then that of a patient who is alive at its beginning (ours: released data have none).
    """
    c, y = censored.float(), interval.unsqueeze(1)
    alive = F.pad(survival, (1, 0), value=1.0)
    uncensored = -(1 - c) * (_log(alive.gather(1, y)) + _log(hazards.gather(1, y)))
    loss = (1 - alpha) * (uncensored - c * _log(alive.gather(1, y + 1))) + alpha * uncensored
    if entry is not None:
        loss = loss + _log(alive.gather(1, entry.unsqueeze(1)))
    return loss.mean()


def _log(x: Tensor) -> Tensor:
    return torch.log(x.clamp(min=EPS)).squeeze(1)
