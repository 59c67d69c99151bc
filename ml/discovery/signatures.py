"""Signatures carried to another cohort (VirTues, Methods, Signature transfer): a forest per signature says which cells belong to it.

Stated deviations: the 20% that measure a forest are patients, not cells (the paper does not say which). Thresholds of the training cohort
are the tertiles of the shares that the forests *call* there, as a forest grown on balanced classes calls more cells than the cluster had;
the cells it was grown on are among them. The paper prints risk groups that leave R = 2 and R = -1 in no group and call more of the
response signature "high risk": here those scores are medium, and the sign is a setting (by default more response is lower risk).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, Labels, Tokens, cell_tokens, held_out_patients, patient_codes
from ml.discovery.config import SignatureConfig
from ml.discovery.errors import DiscoveryError, Progress, Stop, tell
from ml.discovery.fingerprints import Ranks, ranks, tertiles
from ml.discovery.forest import Forest, balanced_rows, grow
from ml.discovery.group_survival import GroupSurvival, group_survival
from ml.types import Outcomes

IN, OUT = "in", "out"
GROUPS = ("low", "medium", "high")


@dataclass(frozen=True)
class Signature:
    """name. direction: +1 response, -1 non-response. cells: (n,) bool, True for the training cells that belong to it."""

    name: str
    direction: int
    cells: NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """How a forest finds the signature's cells among all cells of held-out patients; None where there are none of them."""

    patients: tuple[str, ...]
    members: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class SignatureModel:
    """forests, directions and held_out of each of s signatures; thresholds: (2, s) tertiles of the called shares of the training cohort."""

    names: tuple[str, ...]
    directions: NDArray[np.int8]
    forests: tuple[Forest, ...]
    thresholds: Floats
    held_out: tuple[HeldOut, ...]


@dataclass(frozen=True)
class SignatureScores:
    """Per patient: shares (p, s), ranks (p, s) 0..3, r (p,) ranks of response less ranks of non-response, risk = sign x r, group."""

    patients: tuple[str, ...]
    shares: Floats
    ranks: Ranks
    r: NDArray[np.int64]
    risk: NDArray[np.int64]
    group: NDArray[np.str_]

    def survival(self, outcomes: Outcomes) -> GroupSurvival:
        """Curves of the groups, log-rank of high against low, concordance of the groups. Raises as `group_survival`."""
        return group_survival(self.patients, self.group, GROUPS, outcomes)


def fit_signatures(
    tokens: ArrayLike,
    patients: Labels,
    signatures: Sequence[Signature],
    config: SignatureConfig,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SignatureModel:
    """Grow the forests. tokens: (n, d) float32 of the training cohort; patients: n ids.

    Raises DiscoveryError (those of cell_tokens, wrong_length, no_signature, name_twice, wrong_direction, too_few_patients, no_member,
    no_other_cell), Cancelled.
    """
    x = cell_tokens(tokens)
    ids, codes = patient_codes(patients, len(x))
    _check(signatures, len(x))
    held = held_out_patients(ids, config.held_out, config.seed)
    out = np.isin(np.asarray(ids), held)[codes]
    forests, measured, called = [], [], []
    for i, signature in enumerate(signatures):
        tell(progress, stop, i / len(signatures), f"signature {signature.name}")
        forest = _grow(x, signature, out, config)
        found = forest.predict(x, None, stop) == IN
        forests.append(forest)
        measured.append(_measure(held, signature.cells[out], found[out]))
        called.append(found)
    thresholds = tertiles(_shares(np.stack(called, axis=1), codes, len(ids)))
    tell(progress, stop, 1.0, "signatures")
    directions = np.array([s.direction for s in signatures], dtype=np.int8)
    return SignatureModel(tuple(s.name for s in signatures), directions, tuple(forests), thresholds, tuple(measured))


def apply_signatures(
    model: SignatureModel,
    tokens: ArrayLike,
    patients: Labels,
    config: SignatureConfig,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SignatureScores:
    """Score a new cohort. tokens: (n, d) by the same model version; patients: n ids.

    Raises DiscoveryError (those of cell_tokens, wrong_length, wrong_width), Cancelled.
    """
    x = cell_tokens(tokens)
    ids, codes = patient_codes(patients, len(x))
    called = np.empty((len(x), len(model.forests)), dtype=np.bool_)
    for i, forest in enumerate(model.forests):
        tell(progress, stop, i / len(model.forests), f"signature {model.names[i]}")
        called[:, i] = forest.predict(x, None, stop) == IN
    share = _shares(called, codes, len(ids))
    rank = ranks(share, model.thresholds if config.thresholds == "training" else tertiles(share))
    tell(progress, stop, 1.0, "signatures")
    r = rank.astype(np.int64) @ model.directions.astype(np.int64)
    risk = config.sign * r
    return SignatureScores(ids, share, rank, r, risk, risk_group(risk, config))


def risk_group(risk: ArrayLike, config: SignatureConfig) -> NDArray[np.str_]:
    """(p,) "high" above high_above, "low" below low_below, "medium" from one to the other, both ends included."""
    score = np.asarray(risk, dtype=np.float64)
    return np.where(score > config.high_above, "high", np.where(score < config.low_below, "low", "medium"))


def _grow(x: Tokens, signature: Signature, out: NDArray[np.bool_], config: SignatureConfig) -> Forest:
    labels = np.where(signature.cells, IN, OUT)
    rows = np.flatnonzero(~out)
    members = int(signature.cells[rows].sum())
    if members == 0:
        sentence = f"No cell of the patients that are fitted on belongs to the signature {signature.name}."
        raise DiscoveryError("no_member", sentence, "Choose a signature found in more patients, or another seed.", signature.name)
    if members == len(rows):
        raise DiscoveryError("no_other_cell", f"Every cell belongs to the signature {signature.name}.", where=signature.name)
    drawn = balanced_rows(labels, rows, config.seed)
    return grow(x[drawn], labels[drawn], config.trees, config.depth, config.seed)


def _measure(held: tuple[str, ...], truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> HeldOut:
    hit, members, all_called = int((truth & called).sum()), int(truth.sum()), int(called.sum())
    recall = hit / members if members else None
    precision = hit / all_called if all_called else None
    return HeldOut(held, members, recall, precision, 2 * hit / (members + all_called) if members else None)


def _shares(called: NDArray[np.bool_], codes: NDArray[np.intp], n: int) -> Floats:
    """(n, s) share of each patient's cells that each forest calls."""
    counts = np.stack([np.bincount(codes, weights=column, minlength=n) for column in called.T], axis=1)
    return counts / np.bincount(codes, minlength=n)[:, None]


def _check(signatures: Sequence[Signature], n: int) -> None:
    if not signatures:
        raise DiscoveryError("no_signature", "There is no signature to carry over.", "Choose clusters first.", "signatures")
    if len({s.name for s in signatures}) != len(signatures):
        raise DiscoveryError("name_twice", "Two signatures have one name.", "Give each a name of its own.", "signatures")
    for s in signatures:
        if s.direction not in (1, -1):
            sentence = f"The direction of the signature {s.name} is neither +1 (response) nor -1 (non-response)."
            raise DiscoveryError("wrong_direction", sentence, where=s.name)
        if s.cells.shape != (n,) or s.cells.dtype != np.bool_:
            sentence = f"The signature {s.name} does not say yes or no for each of {n} cells."
            raise DiscoveryError("wrong_length", sentence, "Give one truth value per cell.", s.name)
