"""Feature distribution smoothing: features of rare label values borrow mean and spread from their neighbours (spec section 4).

Yang et al., "Delving into Deep Imbalanced Regression", ICML 2021, as HEX uses it: one set of statistics per marker, all on the same
features of the head. Everything is vectorised over markers, so that 40 proteins and 785 genes run alike. Shapes: B tiles, P markers,
K bins, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import triang
from torch import Tensor, nn

from ml.hex.errors import CheckpointError, HexError

Kernel = Literal["gaussian", "triang", "laplace"]
Covariance = Literal["diagonal", "full"]

CLIP = (0.1, 10.0)  # bounds of the ratio of smoothed to own variance
SILENT = 1e-10  # a bin whose variances sum to less moves nothing
RIDGE = 1e-6  # share of a covariance's mean variance that is added to its diagonal
LARGEST = 2**31  # values of one full covariance buffer (8 GiB in float32)

STATISTICS = (
    "running_mean",
    "running_var",
    "running_mean_last_epoch",
    "running_var_last_epoch",
    "smoothed_mean_last_epoch",
    "smoothed_var_last_epoch",
)


def kernel_window(kernel: Kernel, length: int, sigma: float) -> Tensor:
    """(length,) float32 weights that sum to one.

    gaussian: the response of scipy's `gaussian_filter1d` to a unit impulse as long as the window. Its border reflects, so this is no
    truncated Gaussian: the edges are heavier, and released statistics were smoothed with it.
    """
    if length < 1 or length % 2 == 0:
        raise ValueError(f"A smoothing kernel has an odd length, not {length}.")
    half = length // 2
    if kernel == "gaussian":
        impulse = np.zeros(length)
        impulse[half] = 1
        window = gaussian_filter1d(impulse, sigma)
    elif kernel == "triang":
        window = triang(length)
    else:
        window = np.exp(-np.abs(np.arange(-half, half + 1)) / sigma)
    return torch.from_numpy(window / window.sum()).float()


def calibration(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What takes features from mean m1 and variance v1 to m2 and v2, all (..., D): f -> (f - centre) * factor + target.

    factor = sqrt(v2 / v1), the ratio within 0.1..10, negative variances taken as zero. Dimensions without variance stay as they are, and
    all of them where v1 sums to less than 1e-10 (before negatives are zeroed).
    """
    moved = (v1 > 0) & (v1.sum(-1, keepdim=True) >= SILENT)
    ratio = (v2.clamp(min=0) / v1.where(moved, 1)).clamp(*CLIP)
    return m1.where(moved, 0), ratio.sqrt().where(moved, 1), m2.where(moved, 0)


def full_calibration(m1: Tensor, c1: Tensor, m2: Tensor, c2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's form: f -> M (f - centre) + target with M = C2^1/2 C1^-1/2. m1, m2: (..., D); c1, c2: (..., D, D).

    Square roots are the symmetric ones. A covariance of fewer tiles than features is singular: RIDGE times its mean variance is added to
    its diagonal, and the singular values of M are kept within sqrt(0.1)..sqrt(10), the released code's clip. Dimensions without variance
    stay as in `calibration`; for diagonal covariances the two are the same up to the ridge.
    """
    own = c1.diagonal(dim1=-2, dim2=-1)
    moved = (own > 0) & (own.sum(-1, keepdim=True) >= SILENT)
    both = moved.unsqueeze(-1) & moved.unsqueeze(-2)
    count = moved.sum(-1).clamp(min=1)

    def root(covariance: Tensor, power: float) -> Tensor:
        mean = covariance.diagonal(dim1=-2, dim2=-1).where(moved, 0).sum(-1) / count
        diagonal = (RIDGE * mean).unsqueeze(-1).where(moved, 1)
        values, vectors = torch.linalg.eigh(covariance.where(both, 0) + diagonal.diag_embed())
        least = (RIDGE * mean).clamp(min=torch.finfo(covariance.dtype).tiny).unsqueeze(-1)
        return (vectors * values.clamp(min=least).pow(power).unsqueeze(-2)) @ vectors.mT

    left, stretch, right = torch.linalg.svd(root(c2, 0.5) @ root(c1, -0.5))
    matrix = (left * stretch.clamp(CLIP[0] ** 0.5, CLIP[1] ** 0.5).unsqueeze(-2)) @ right
    return m1.where(moved, 0), matrix, m2.where(moved, 0)


class FeatureSmoothing(nn.Module):
    """Statistics of the features per marker and label bin, and the calibration of features by them.

    A training epoch: `smooth` each batch, `collect` its features, and after the last one `end_epoch` on every rank. Statistics used in
    epoch e are those up to e - 1. Buffers are the authors' (`to_released`), with markers in front: means and variances (P, K, D) float32;
    variances are (P, K, D, D) where covariance is "full", which takes 131 MB a buffer for 40 markers of 128 features, twice that for the
    moments, and B * P * D * D * 4 bytes in `smooth`. momentum: weight of the past. start_update: the epoch whose statistics replace the
    past instead. Labels must be numbers: a missing one has no bin.
    """

    running_mean: Tensor
    running_var: Tensor
    running_mean_last_epoch: Tensor
    running_var_last_epoch: Tensor
    smoothed_mean_last_epoch: Tensor
    smoothed_var_last_epoch: Tensor
    num_samples_tracked: Tensor
    epoch: Tensor
    kernel_window: Tensor

    def __init__(
        self,
        markers: int,
        dim: int,
        bins: int = 50,
        kernel_length: int = 9,
        sigma: float = 2.0,
        momentum: float = 0.9,
        start_update: int = 0,
        start_smooth: int = 10,
        kernel: Kernel = "gaussian",
        covariance: Covariance = "diagonal",
    ) -> None:
        super().__init__()
        if bins < max(2, kernel_length // 2 + 1):
            raise ValueError(f"{bins} bins are too few for a kernel of {kernel_length}: its border is reflected.")
        if covariance == "full" and markers * bins * dim * dim > LARGEST:
            sentence = f"Full covariances of {markers} markers in {bins} bins of {dim} features do not fit into memory."
            raise HexError("fds_too_large", sentence, "Use diagonal covariances.")
        self.markers, self.dim, self.bins = markers, dim, bins
        self.momentum, self.start_update, self.start_smooth, self.covariance = momentum, start_update, start_smooth, covariance
        one = torch.ones(dim) if covariance == "diagonal" else torch.eye(dim)
        for name in STATISTICS:
            start = torch.zeros(dim) if "mean" in name else one
            self.register_buffer(name, start.expand(markers, bins, *start.shape).clone())
        self.register_buffer("num_samples_tracked", torch.zeros(markers, bins))
        self.register_buffer("epoch", torch.full((1,), start_update, dtype=torch.int64))
        self.register_buffer("kernel_window", kernel_window(kernel, kernel_length, sigma))
        # No buffers: parallel training would overwrite them on every rank with those of rank 0.
        self._moments: tuple[Tensor, Tensor, Tensor] | None = None
        self._tables: tuple[Tensor, Tensor, Tensor] | None = None
        self.register_load_state_dict_post_hook(_forget)

    # -- use in training

    def bins_of(self, labels: Tensor) -> Tensor:
        """(B, P) labels, clipped to 0..1 -> (B, P) int64: floor(label * K) with a float32 product, the last bin for 1."""
        return (labels.float().clamp(0, 1) * self.bins).floor().long().clamp(max=self.bins - 1)

    def smooth(self, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """(B, D) features, (B, P) labels -> (B, P, D): the features as each marker's bin calibrates them; gradients flow to the features.

        Before epoch `start_smooth` every marker has the features as they are. Computed in float32, given in the type of the features.
        """
        shared = features.unsqueeze(1)
        if epoch < self.start_smooth:
            return shared.expand(-1, self.markers, -1)
        with torch.autocast(features.device.type, enabled=False):
            markers = torch.arange(self.markers, device=features.device)
            found = self._calibration(features.device)
            centre, scale, target = (table[markers, self.bins_of(labels)] for table in found)
            moved = shared.float() - centre
            moved = moved * scale if self.covariance == "diagonal" else (scale @ moved.unsqueeze(-1)).squeeze(-1)
            return (moved + target).to(features.dtype)

    @torch.no_grad()
    def collect(self, features: Tensor, labels: Tensor) -> None:
        """Adds a batch, (B, D) and (B, P), to the epoch's moments: per marker and bin n, sum f, sum f^2 (f f' if full), in float64."""
        with torch.autocast(features.device.type, enabled=False):
            one_hot, features = self._one_hot(labels), features.detach().double()
            square = features.square() if self.covariance == "diagonal" else torch.einsum("bi,bj->bij", features, features).flatten(1)
            batch = one_hot.sum(0), one_hot.T @ features, one_hot.T @ square
        self._moments = batch if self._moments is None else cast(Any, tuple(a.add_(b) for a, b in zip(self._moments, batch, strict=True)))

    @torch.no_grad()
    def end_epoch(self, epoch: int) -> None:
        """The collected moments of all ranks become the running statistics, and those become the smoothed ones of epoch + 1."""
        cells = self.markers * self.bins
        square = self.dim if self.covariance == "diagonal" else self.dim**2
        empty = (torch.zeros(cells, *width, dtype=torch.float64, device=self.epoch.device) for width in ((), (self.dim,), (square,)))
        moments = self._moments or tuple(empty)
        self._moments = None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for part in moments:
                torch.distributed.all_reduce(part)
        n, total, squares = moments
        mean = total / n.clamp(min=1).unsqueeze(-1)
        if self.covariance == "diagonal":
            spread = (squares - total * mean) / (n - 1).clamp(min=1).unsqueeze(-1)
            spread = spread.clamp_(min=0)
        else:
            spread = (squares.view(cells, self.dim, self.dim) - total.unsqueeze(-1) * mean.unsqueeze(-2)) / (n - 1).clamp(min=1).view(
                -1, 1, 1
            )
        self._update(n, mean, spread.where((n > 1).view(-1, *(1,) * (spread.ndim - 1)), 0), epoch)
        self.update_last_epoch_stats(epoch + 1)

    # -- the statistics

    @torch.no_grad()
    def update_running_stats(self, features: Tensor, labels: Tensor, epoch: int) -> None:
        """The running update from all tiles of an epoch at once, (N, D) and (N, P), in two passes; `end_epoch` does it from moments.

        For parity with the released per-sample path: it holds N * P * D values at once.
        """
        if self.covariance == "full":
            raise ValueError("The per-sample path is that of diagonal covariances.")
        one_hot, features = self._one_hot(labels), features.double()
        n = one_hot.sum(0)
        mean = one_hot.T @ features / n.clamp(min=1).unsqueeze(-1)
        cells = self.bins_of(labels) + torch.arange(self.markers, device=labels.device) * self.bins
        apart = (features.unsqueeze(1) - mean[cells]).square()
        spread = torch.zeros_like(mean).index_add_(0, cells.flatten(), apart.flatten(0, 1)) / (n - 1).clamp(min=1).unsqueeze(-1)
        self._update(n, mean, spread, epoch)

    @torch.no_grad()
    def update_last_epoch_stats(self, epoch: int) -> None:
        """running -> last epoch -> smoothed along the bins, both ends reflected; only if `epoch` is the one after the buffer's."""
        if epoch != int(self.epoch) + 1:
            return
        self.epoch += 1
        half = len(self.kernel_window) // 2
        order = np.pad(np.arange(self.bins), half, mode="reflect")
        for name in ("mean", "var"):
            running, last, smoothed = (
                getattr(self, key.format(name)) for key in ("running_{}", "running_{}_last_epoch", "smoothed_{}_last_epoch")
            )
            last.copy_(running)
            smoothed.zero_()
            for k, weight in enumerate(self.kernel_window):
                smoothed.add_(last[:, torch.from_numpy(order[k : k + self.bins]).to(last.device)] * weight)
        self._tables = None

    def _update(self, n: Tensor, mean: Tensor, spread: Tensor, epoch: int) -> None:
        """n: (P * K,), mean and spread (P * K, ...) float64 of this epoch's tiles, into the running statistics; empty bins are filled."""
        past = 0.0 if epoch == self.start_update else self.momentum
        n = n.view(self.markers, self.bins)
        self.num_samples_tracked += n.float()
        for running, now in ((self.running_mean, mean), (self.running_var, spread)):
            seen = (n > 0).view(*n.shape, *(1,) * (running.ndim - 2))
            running.copy_(torch.where(seen, (1 - past) * now.view_as(running).float() + past * running, running))
            self._fill(running)

    def _fill(self, running: Tensor) -> None:
        """Bins that no tile ever fell into, walking upward in place: the mean of both neighbours, the left one already filled."""
        last = self.bins - 1
        for k in range(self.bins):
            left, right = max(k - 1, 0) if k else 1, k + 1 if k < last else last - 1
            never = (self.num_samples_tracked[:, k] == 0).view(-1, *(1,) * (running.ndim - 2))
            running[:, k] = torch.where(never, (running[:, left] + running[:, right]) / 2, running[:, k])

    def _one_hot(self, labels: Tensor) -> Tensor:
        """(B, P) labels -> (B, P * K) float64, one 1 per marker."""
        bins = self.bins_of(labels)
        return torch.zeros(*bins.shape, self.bins, dtype=torch.float64, device=labels.device).scatter_(2, bins.unsqueeze(-1), 1).flatten(1)

    def _calibration(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        own = self.running_mean_last_epoch, self.running_var_last_epoch, self.smoothed_mean_last_epoch, self.smoothed_var_last_epoch
        if self._tables is None or self._tables[1].device != device:
            if self.covariance == "diagonal":
                self._tables = calibration(*own)
            else:
                # one marker at a time: the decompositions of all would hold several copies of every covariance
                found = [full_calibration(*(part[j] for part in own)) for j in range(self.markers)]
                self._tables = cast(Any, tuple(torch.stack(parts) for parts in zip(*found, strict=True)))
        return cast(tuple[Tensor, Tensor, Tensor], self._tables)


def _forget(smoothing: nn.Module, keys: Any) -> None:
    """After a state dict was loaded: what was computed from the old one."""
    cast(FeatureSmoothing, smoothing)._moments = cast(FeatureSmoothing, smoothing)._tables = None


def predict_smoothed(last: nn.Linear, calibrated: Tensor, active: int | None = None) -> Tensor:
    """The head's last layer on (B, P, D) calibrated features -> (B, P): output j sees the features of marker j.

    active: the released code's case of one active marker, whose features all outputs then see.
    """
    if active is not None:
        return cast(Tensor, last(calibrated[:, active]))
    return torch.einsum("bpd,pd->bp", calibrated, last.weight) + last.bias


# -- the authors' state dict ---------------------------------------------------------------------------------------------------------------


def to_released(smoothing: FeatureSmoothing, prefix: str = "FDS.") -> dict[str, Tensor]:
    """The buffers under the authors' keys, `FDS.{marker}.{buffer}`; (50, 128) per marker for means and variances."""
    shared = ("epoch", "kernel_window")
    return {
        f"{prefix}{j}.{name}": (value if name in shared else value[j]).detach().clone()
        for j in range(smoothing.markers)
        for name, value in smoothing.state_dict().items()
    }


def from_released(state: Mapping[str, Tensor], prefix: str = "FDS.", **settings: Any) -> FeatureSmoothing:
    """The smoothing that a checkpoint of the authors holds; its other tensors are left out. Sizes are read from the tensors.

    settings: momentum, start_update, start_smooth of the constructor, which no checkpoint holds. Where the running statistics are absent,
    they are those of the last epoch, which they equal between epochs. CheckpointError: absent or contradicting tensors.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith(prefix):
            marker, _, name = key.removeprefix(prefix).partition(".")
            parts.setdefault(marker, {})[name] = value
    if not parts or parts.keys() != {str(j) for j in range(len(parts))}:
        raise CheckpointError(
            "tensors_wrong", f"The state dict has no whole set of {prefix}0, {prefix}1 and so on.", "Give a HEX checkpoint.", prefix
        )
    markers = [parts[str(j)] for j in range(len(parts))]
    for part in markers:
        for name in ("running_mean", "running_var"):
            if f"{name}_last_epoch" in part:
                part.setdefault(name, part[f"{name}_last_epoch"])
    try:
        (bins, dim, *more), length = markers[0]["running_var"].shape, len(markers[0]["kernel_window"])
        smoothing = FeatureSmoothing(len(markers), dim, bins, length, covariance="full" if more else "diagonal", **settings)
        shared = ("epoch", "kernel_window")
        loaded = {name: markers[0][name] if name in shared else torch.stack([m[name] for m in markers]) for name in smoothing.state_dict()}
        smoothing.load_state_dict(loaded)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            "tensors_wrong", f"The {prefix} tensors are not complete or do not fit together.", "Give a HEX checkpoint.", prefix
        ) from error
    if any(not torch.equal(m[name], markers[0][name]) for m in markers for name in ("epoch", "kernel_window")):
        raise CheckpointError(
            "tensors_wrong", f"The {prefix} tensors of the markers are of different epochs.", "Give a HEX checkpoint.", prefix
        )
    return smoothing
