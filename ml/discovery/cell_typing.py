"""Cell types from cell tokens by a linear probe (VirTues, Methods, Cell typing): multinomial logistic regression, split by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, Labels, cell_tokens, held_out_patients, patient_codes, per_cell
from ml.discovery.config import CellTypingConfig
from ml.discovery.errors import DiscoveryError
from ml.discovery.scores import F1Scores, f1_scores


@dataclass(frozen=True)
class CellTyper:
    """classes: c names. coefficients (c, d), intercepts (c,), mean and scale (d,) of the tokens (0 and 1 without scaling)."""

    classes: tuple[str, ...]
    coefficients: Floats
    intercepts: Floats
    mean: Floats
    scale: Floats

    def probabilities(self, tokens: ArrayLike) -> Floats:
        """(n, c). Raises DiscoveryError: wrong_width and those of cell_tokens."""
        x = cell_tokens(tokens)
        if x.shape[1] != len(self.mean):
            sentence = f"Tokens of {x.shape[1]} columns cannot be read by a probe of {len(self.mean)}."
            raise DiscoveryError("wrong_width", sentence, "Use the model version that the probe was fitted on.", "tokens")
        from scipy.special import softmax

        return softmax((x - self.mean) / self.scale @ self.coefficients.T + self.intercepts, axis=1)

    def predict(self, tokens: ArrayLike) -> NDArray[np.str_]:
        """(n,) the most probable class; at a draw the first by name."""
        return np.asarray(self.classes)[self.probabilities(tokens).argmax(axis=1)]


@dataclass(frozen=True)
class CellTyping:
    """typer: fitted on the patients that were not held out. scores: on all cells of the held-out ones, unbalanced. converged: L-BFGS ended
    before its most iterations. only_held_out: classes that no fitted patient has; their F1 is 0."""

    typer: CellTyper
    scores: F1Scores
    fitted: tuple[str, ...]
    held_out: tuple[str, ...]
    converged: bool
    only_held_out: tuple[str, ...]


def fit_cell_types(
    tokens: ArrayLike, labels: Labels, patients: Labels, config: CellTypingConfig, held_out: tuple[str, ...] | None = None
) -> CellTyping:
    """Fit and measure. tokens: (n, d) float32; labels, patients: n each. held_out: a split kept elsewhere, else drawn by the seed.

    Raises DiscoveryError: those of cell_tokens, wrong_length, too_few_patients, single_class, empty (no held-out cell).
    """
    x = cell_tokens(tokens)
    names = per_cell(labels, len(x), "labels")
    ids, codes = patient_codes(patients, len(x))
    held = held_out_patients(ids, config.held_out, config.seed) if held_out is None else tuple(p for p in ids if p in held_out)
    out = np.isin(np.asarray(ids), held)[codes]
    if out.all() or not out.any():
        sentence = f"The split holds out {len(held)} of {len(ids)} patients, so there is nothing to " + (
            "fit on." if out.all() else "measure on."
        )
        raise DiscoveryError("too_few_patients", sentence, "Choose another split.", "held_out")
    if len(np.unique(names[~out])) < 2:
        raise DiscoveryError("single_class", "All cells of the fitted patients are of one type.", "Label more types.", "labels")
    typer, converged = _fit(x[~out], names[~out], config)
    who = np.asarray(ids)[codes]
    scores = f1_scores(names[out], typer.predict(x[out]), who[out], config.bootstrap, config.seed)
    unseen = tuple(sorted(set(names[out].tolist()) - set(typer.classes)))
    return CellTyping(typer, scores, tuple(p for p in ids if p not in held), held, converged, unseen)


def _fit(x: NDArray[np.float32], labels: NDArray[np.str_], config: CellTypingConfig) -> tuple[CellTyper, bool]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if config.scaling == "standard":
        mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        scale[scale == 0] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in `converged`
        fit = LogisticRegression(C=config.c, solver="lbfgs", max_iter=config.iterations).fit((x - mean) / scale, labels)
    weights, intercepts = fit.coef_, fit.intercept_
    if len(fit.classes_) == 2:  # one row stands for two: the softmax of -d/2 and d/2 is the logistic function of d
        weights, intercepts = np.concatenate((-weights, weights)) / 2, np.concatenate((-intercepts, intercepts)) / 2
    typer = CellTyper(tuple(fit.classes_.tolist()), weights, intercepts, mean, scale)
    return typer, bool(fit.n_iter_.max() < config.iterations)
