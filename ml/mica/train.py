"""Fitting MICA: one network per patient-level fold, so that every patient can be predicted by one that never saw her (spec section 5)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.mica.checkpoint import fingerprint, read_fold_if_same, write_fold
from ml.mica.cohort import Cohort, make_cohort, shuffled
from ml.mica.config import MicaFitConfig
from ml.mica.data import Batches, MicaBag, scaling
from ml.mica.evaluate import CFigures, c_figures, within_folds
from ml.mica.labels import sampler_class
from ml.mica.loss import nll_survival
from ml.mica.model import MicaNet
from ml.mica.predict import run, survival_at
from ml.mica.weights import MicaFold, MicaWeights
from ml.survival.data import SurvivalDataError
from ml.survival.kaplan_meier import kaplan_meier
from ml.training.loop import Cancelled, LoopFacts, Progress, Record, Stop, run_loop
from ml.types import Outcomes

CHECKPOINTS = 5  # per fold: a cohort of full bags takes hours


@dataclass(frozen=True)
class Permutations:
    """C of the whole recipe on outcomes shuffled within folds. p = (1 + runs with C at least as high) / (1 + runs)."""

    p: float
    runs: int
    null_mean: float
    null_highest: float


@dataclass(frozen=True)
class MicaFit:
    """A cross-fitted MICA. n patients, in the order of `outcomes.patients`.

    fold_of: patient -> the fold that held her out (and so may predict her). risk: (n,) float64 out-of-fold, the mean over a patient's
    slides; comparable within a fold. probability: (n,) out-of-fold, of an event within config.horizon_days. figures: C within folds.
    slides: how many. permutations: None where none were asked for. seconds: wall clock.
    """

    weights: MicaWeights
    outcomes: Outcomes
    fold_of: dict[str, int]
    risk: NDArray[np.float64]
    probability: NDArray[np.float64]
    figures: CFigures
    slides: int
    permutations: Permutations | None
    seconds: float

    @property
    def cut(self) -> float:
        """Median of the out-of-fold risks, declared before any curve is drawn."""
        return float(np.median(self.risk))

    def metrics(self) -> dict[str, Any]:
        """Plain values for a record: C with its interval, predicted against observed events at the horizon, per fold, seconds."""
        horizon = self.weights.config.horizon_days
        observed = kaplan_meier(self.outcomes.time, self.outcomes.event, entry=self.outcomes.entry).at([horizon])
        return {
            **asdict(self.figures),
            "c_by_fold": [c if np.isfinite(c) else None for c in self.figures.c_by_fold],
            "c_kind": "Harrell, out-of-fold, pairs within folds, patient bootstrap",
            "slides": self.slides,
            "cut": self.cut,
            "horizon_days": horizon,
            "probability_predicted": float(self.probability.mean()),
            "probability_observed": float(1 - observed.survival[0]),
            "permutations": None if self.permutations is None else asdict(self.permutations),
            "folds": [dict(fold.facts) for fold in self.weights.folds],
            "seconds": self.seconds,
        }


def fit(
    bags: Sequence[MicaBag],
    outcomes: Outcomes,
    config: MicaFitConfig | None = None,
    *,
    progress: Progress | None = None,
    checkpoint_dir: str | Path | None = None,
    stop: Stop | None = None,
    record: Record | None = None,
    folds: Mapping[str, int] | None = None,
) -> MicaFit:
    """Fits MICA on bags of slides with their patients' outcomes, cross-fitted by patient.

    A slide is the unit of training, as released (a patient with many slides weighs more); a patient is the unit of folds and figures (her
    risk is the mean over her slides). outcomes: days, a row per patient; every bag's patient has one, every patient a bag. With delayed
    entry the likelihood is that of patients alive at the beginning of the interval of their entry. folds: patient -> fold, e.g. of split
    files; default: `ml.survival.folds.assign_folds`, events shared out. progress(fraction 0..1, text). record(series, epochs, value): "fold
    1 training" (loss) and "fold 1 held-out C". checkpoint_dir: finished folds are kept there and a running one every few epochs; a second
    call with the same data and config goes on after them. stop(): asked after every slide. The same data, config and machine give the same
    model; the caller's random state is left as it was. All data are checked before the first step.

    Raises MicaError (`check_bags`, `make_cohort`), SplitError, Cancelled, TrainingDiverged.
    """
    started = time.monotonic()
    config = config or MicaFitConfig()
    cohort = make_cohort(bags, outcomes, config, folds)
    k_folds, runs = len(cohort.bins), 1 + config.permutations
    share = _Share(progress, k_folds * runs)
    place = Path(checkpoint_dir) if checkpoint_dir is not None else None
    fitted = cross_fit(cohort, config, share, stop, record, place)
    risk, probability = out_of_fold(cohort, fitted, config)
    figures = c_figures(_NAMES[config.modality], outcomes, cohort.fold, risk, config.bootstrap, config.seed)
    null = [_null(cohort, config, share, stop, i) for i in range(config.permutations)]
    if progress is not None:
        progress(1.0, "measured on held-out patients")
    return MicaFit(
        MicaWeights(config, cohort.inputs, outcomes.endpoint, tuple(fitted)),
        outcomes,
        cohort.fold_of,
        risk,
        probability,
        figures,
        len(cohort.bags),
        Permutations((1 + sum(c >= figures.c for c in null)) / runs, len(null), float(np.mean(null)), max(null)) if null else None,
        time.monotonic() - started,
    )


_NAMES = {"both": "MICA", "he": "H&E alone", "codex": "CODEX alone"}


def fit_modalities(
    bags: Sequence[MicaBag],
    outcomes: Outcomes,
    config: MicaFitConfig | None = None,
    *,
    progress: Progress | None = None,
    checkpoint_dir: str | Path | None = None,
    stop: Stop | None = None,
    record: Record | None = None,
    folds: Mapping[str, int] | None = None,
) -> dict[str, MicaFit]:
    """MICA, H&E alone and CODEX alone on the same folds: name -> fit, for `ml.mica.evaluate.compare`. Arguments and errors as fit."""
    config, fits = config or MicaFitConfig(), {}
    for i, (modality, name) in enumerate(_NAMES.items()):
        fits[name] = fit(
            bags,
            outcomes,
            config.model_copy(update={"modality": modality, **({} if modality == "both" else {"fusion": "concat"})}),
            progress=None if progress is None else lambda f, text, i=i, name=name: progress((i + f) / len(_NAMES), f"{name}: {text}"),
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir) / modality,
            stop=stop,
            record=None if record is None else lambda series, x, y, name=name: record(f"{name}, {series}", x, y),
            folds=folds if folds is not None or not fits else next(iter(fits.values())).fold_of,
        )
    return fits


class _Share:
    """Progress of one fold of one run as its share of the whole; the last twentieth is left for the measuring."""

    def __init__(self, progress: Progress | None, parts: int) -> None:
        self.progress, self.parts, self.done = progress, parts, 0

    def of(self, label: str) -> Progress | None:
        """Of the part that begins now."""
        begun, progress = self.done, self.progress
        self.done += 1
        if progress is None:
            return None
        return lambda fraction, text: progress(0.95 * (begun + fraction) / self.parts, f"{label}: {text}")


def cross_fit(
    cohort: Cohort, config: MicaFitConfig, share: _Share, stop: Stop | None, record: Record | None, place: Path | None, run_name: str = ""
) -> list[MicaFold]:
    """A network per fold. place: where finished folds are kept."""
    mark, fitted = fingerprint(cohort, config) if place is not None else "", []
    for k in range(len(cohort.bins)):
        if stop is not None and stop():
            raise Cancelled
        label = f"{run_name}Fold {k + 1} of {len(cohort.bins)}"
        told = share.of(label)
        done = read_fold_if_same(place, k, mark, config, cohort.inputs) if place is not None else None
        if done is None:
            running = place / f"fold{k}.{mark[:12]}" if place is not None else None
            done = _fit_fold(cohort, config, k, told, stop, record, running)
            if place is not None and running is not None:
                write_fold(place, k, done, mark)
                shutil.rmtree(running, ignore_errors=True)
        fitted.append(done)
    return fitted


def _fit_fold(
    cohort: Cohort,
    config: MicaFitConfig,
    k: int,
    progress: Progress | None,
    stop: Stop | None,
    record: Record | None,
    running: Path | None,
) -> MicaFold:
    """The network of fold k, fitted on the slides of all patients of other folds."""
    index = np.flatnonzero(cohort.fold[cohort.row] != k)
    bags, seed = [cohort.bags[i] for i in index], config.seed * 1009 + k
    targets = cohort.targets(k)[cohort.row[index]]
    scale = scaling(bags, cohort.inputs) if config.standardise else None
    classes = sampler_class(targets[:, 0], targets[:, 1] == 0)
    with random_state_kept():
        torch.manual_seed(seed)
        model = MicaNet(cohort.inputs.tile_dim, cohort.inputs.codex_dim, config)
        facts = run_loop(
            MicaTraining(model, config),
            Batches(bags, cohort.inputs, targets, classes, config, scale, seed),
            len(bags),
            epochs=config.epochs,
            max_seconds=config.max_seconds,
            progress=progress,
            stop=stop,
            clip=None,
            accumulate=config.accumulate,
            precision=config.precision,
            seed=seed,
            record=None if record is None else lambda series, x, y: record(f"fold {k + 1} {series}", x, y),
            measure=None if record is None else _held_out_c(cohort, k, model, scale),
            checkpoints=running,
            every=max(1, config.epochs // CHECKPOINTS) if running is not None else 0,
        )
    model.cpu().eval().requires_grad_(False)
    _absorb(model, scale)
    return MicaFold(model, cohort.bins[k], _facts(facts, cohort, k, len(bags)))


def _facts(facts: LoopFacts, cohort: Cohort, k: int, slides: int) -> dict[str, Any]:
    seen = cohort.fold != k
    return {**asdict(facts), "slides": slides, "patients": int(seen.sum()), "events": int(np.asarray(cohort.outcomes.event)[seen].sum())}


def _absorb(model: MicaNet, scale: Any) -> None:
    for branch, moments in (("path", scale and scale.tiles), ("codex", scale and scale.codex)):
        if moments is not None:
            model.absorb(branch, *moments)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Torch's random state, of the CPU and of every GPU, is afterwards what it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


def _held_out_c(cohort: Cohort, k: int, model: MicaNet, scale: Any) -> Callable[[int], dict[str, float]]:
    """C of the fold's held-out patients after each epoch, for a curve: no decision is made by it."""
    held = np.flatnonzero(cohort.fold == k)

    def measure(epoch: int) -> dict[str, float]:
        # On a copy: absorbing the scaling must not touch the weights in training, and the copy is in eval mode.
        copy = MicaNet(cohort.inputs.tile_dim, cohort.inputs.codex_dim, model.config)
        copy.load_state_dict(model.state_dict())
        _absorb(copy, scale)
        copy.to(next(model.parameters()).device)
        risks = np.array([np.mean([run(copy, bag, cohort).risk for bag in cohort.bags_of(row)]) for row in held])
        if not np.isfinite(risks).all():
            return {}
        o = cohort.outcomes
        part = Outcomes(
            tuple(o.patients[i] for i in held), o.time[held], o.event[held], o.endpoint, None if o.entry is None else o.entry[held]
        )
        try:
            return {"held-out C": within_folds(part, cohort.fold[held], risks)}
        except SurvivalDataError:
            return {}

    return measure


def out_of_fold(cohort: Cohort, fitted: Sequence[MicaFold], config: MicaFitConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(risk, probability of an event by the horizon) of each patient by the fold without her, mean over her slides; (n,) each."""
    risk, probability = np.empty(len(cohort.fold)), np.empty(len(cohort.fold))
    for row, k in enumerate(cohort.fold):
        outputs = [run(fitted[k].model, bag, cohort) for bag in cohort.bags_of(row)]
        risk[row] = np.mean([o.risk for o in outputs])
        lived = [survival_at(fitted[k].bins, o.survival, np.array([config.horizon_days]))[0] for o in outputs]
        probability[row] = 1 - np.mean(lived)
    return risk, probability


def _null(cohort: Cohort, config: MicaFitConfig, share: _Share, stop: Stop | None, i: int) -> float:
    """C of the whole recipe on outcomes that were shuffled within folds."""
    other = shuffled(cohort, config, np.random.default_rng([config.seed, i, 1]))
    fitted = cross_fit(other, config, share, stop, None, None, f"Shuffle {i + 1} of {config.permutations}: ")
    return within_folds(other.outcomes, other.fold, out_of_fold(other, fitted, config)[0])


class MicaTraining(pl.LightningModule):
    """The likelihood of one slide after the other; Adam with an L2 penalty, at a constant rate."""

    def __init__(self, model: MicaNet, config: MicaFitConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        tiles, codex, interval, censored, entry = batch
        out = self.model(tiles, codex)
        return nll_survival(out.hazards, out.survival, interval, censored, self.config.alpha, entry)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
