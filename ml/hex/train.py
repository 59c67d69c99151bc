"""Fitting HEX: one model per patient-level fold, so that every patient can be predicted by a model that never saw her."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml.encoders.catalogue import encoder
from ml.hex.checkpoint import fingerprint, read_fold_if_same, write_fold
from ml.hex.config import HexFitConfig, HexPredictConfig
from ml.hex.data import HexDataset, Rows, check_images, dataset, shrunk
from ml.hex.errors import HexDataError
from ml.hex.evaluate import CardRow, MarkerFigures, evaluate, predictability_card
from ml.hex.lightning_module import HexTraining
from ml.hex.model import HexHead, HexModel, NoEncoder, head_on, make, start_from, tower
from ml.hex.predict import embed_tiles, run_model
from ml.hex.ranges import fit_range, range_vectors
from ml.hex.views import Batches
from ml.hex.weights import HexFold, HexWeights
from ml.training.loop import Cancelled, Progress, Record, Stop, run_loop
from ml.training.splits import patient_folds

# Held-out tiles that the curve of a fold is measured on after each epoch; nothing is chosen by it.
WATCHED = 1000
# Times that a fold is looked at, at most: looking takes a third of an epoch's time on a small fold.
LOOKS = 12


@dataclass(frozen=True)
class HexFit:
    """A cross-fitted HEX.

    weights: one model per fold. fold_of: patient -> the fold that held her out (and so may predict her).
    held_out: (n, P) float32, the out-of-fold prediction of every fitting tile, >= 0, in the unit of the scaled labels.
    figures, card: per marker, on held-out patients. seconds: wall clock of the whole fit. vectors: (n, d) of a frozen encoder, else None.
    """

    weights: HexWeights
    fold_of: dict[str, int]
    held_out: NDArray[np.float32]
    figures: list[MarkerFigures]
    card: list[CardRow]
    seconds: float
    vectors: NDArray[np.float32] | None = None

    def metrics(self) -> dict[str, Any]:
        """Plain values for a record: per marker, their medians, per fold, loss curves, seconds."""
        rows = [asdict(f) for f in self.figures]
        medians = {
            f"median_{k}": float(np.nanmedian([r[k] for r in rows]))
            for k in ("r_within", "r2_within", "r2_within_raw", "r_between", "r_pooled", "mse")
        }
        folds = [dict(f.facts) for f in self.weights.folds]
        curves = {f"fold {k + 1} training": [list(p) for p in facts.pop("curve", ())] for k, facts in enumerate(folds)}
        return {**medians, "markers": rows, "folds": folds, "curves": curves, "seconds": self.seconds}


@dataclass(frozen=True)
class _Run:
    """How a fit is run. start: fold -> the model that it is fine-tuned from, with that model's markers."""

    progress: Progress | None = None
    stop: Stop | None = None
    record: Record | None = None
    folder: Path | None = None
    encoder_weights: str | None = None
    devices: int = 1
    start: Mapping[int, tuple[HexModel, Sequence[str]]] = field(default_factory=dict)
    mark: str = ""


def fit(
    images: NDArray[np.uint8],
    labels: NDArray[np.float32],
    patients: Sequence[str],
    slides: Sequence[str],
    markers: Sequence[str],
    config: HexFitConfig | None = None,
    progress: Progress | None = None,
    checkpoint_dir: str | Path | None = None,
    stop: Stop | None = None,
    strata: dict[str, str] | None = None,
    encoder_weights: str | None = None,
    record: Record | None = None,
    start: Mapping[int, tuple[HexModel, Sequence[str]]] | None = None,
    folds: Mapping[str, int] | None = None,
    devices: int = 1,
) -> HexFit:
    """Fits HEX on tiles with measured labels, cross-fitted by patient.

    images: (n, S, S, 3) uint8 RGB, each config.tile_um wide. labels: (n, P) float32, columns `markers`; patients, slides: n ids.
    strata: patient -> site, so that each fold has its share of each site; folds: patient -> fold where they are given already.
    progress(fraction 0..1, text). record(series, epochs, value): points of the loss curves. checkpoint_dir: finished folds and the state
    every `checkpoint_every` epochs are kept there, and a second call with the same data and config continues after them. stop(): asked
    after every step. encoder_weights: local file, for encoders that need one. start: fold -> (model, its markers) to fine-tune from.
    devices: processes of torchrun that share each fold's batches (DDP). The random state of the caller is left as it was.

    Raises HexDataError, SplitError, EncoderError, Cancelled, TrainingDiverged.
    """
    started = time.monotonic()
    config = config or HexFitConfig(markers=tuple(markers))
    run = _Run(progress, stop, record, Path(checkpoint_dir) if checkpoint_dir else None, encoder_weights, devices, start or {})
    check_images(np.asarray(images))
    if config.trained_layers == 0:
        network, pixels = tower(config, encoder_weights), shrunk(np.asarray(images), config.input_px)
        base = HexModel(network, HexHead(encoder(config.encoder).dim, 1, config.hidden), encoder(config.encoder)).eval()
        with _on_gpu(base):
            vectors = embed_tiles(base, pixels, HexPredictConfig())
        data = dataset(vectors, labels, patients, slides, markers, config)
        return _cross_fit(data, config, run, _folds(data, config, strata, folds), started, network, pixels)
    data = dataset(images, labels, patients, slides, markers, config)
    return _cross_fit(data, config, run, _folds(data, config, strata, folds), started)


def fit_features(
    features: NDArray[np.float32],
    labels: NDArray[np.float32],
    patients: Sequence[str],
    slides: Sequence[str],
    markers: Sequence[str],
    config: HexFitConfig,
    progress: Progress | None = None,
    stop: Stop | None = None,
    record: Record | None = None,
    strata: dict[str, str] | None = None,
    folds: Mapping[str, int] | None = None,
    start: Mapping[int, tuple[HexModel, Sequence[str]]] | None = None,
    devices: int = 1,
) -> HexFit:
    """The same head on feature vectors (n, d) float32 of any encoder, e.g. from bags; config.encoder only names them. The models that it
    gives predict vectors (ml.hex.model.head_on), not tiles. Raises as `fit`."""
    started = time.monotonic()
    data = dataset(np.asarray(features, np.float32), labels, patients, slides, markers, config)
    config = config.model_copy(update={"trained_layers": 0})
    return _cross_fit(
        data,
        config,
        _Run(progress, stop, record, devices=devices, start=start or {}),
        _folds(data, config, strata, folds),
        started,
        NoEncoder(),
    )


def _folds(data: HexDataset, config: HexFitConfig, strata: dict[str, str] | None, given: Mapping[str, int] | None) -> dict[str, int]:
    people = data.patients.tolist()
    if given is None:
        return patient_folds(people, config.folds, config.seed, strata)
    missing = sorted(set(people) - set(given))
    if missing:
        raise HexDataError("fold_missing", f"{len(missing)} patients have no fold, e.g. {missing[0]}.", "Name a fold for each.", "folds")
    return {p: int(given[p]) for p in sorted(set(people))}


def _cross_fit(
    data: HexDataset,
    config: HexFitConfig,
    run: _Run,
    folds: dict[str, int],
    started: float,
    network: Any = None,
    pixels: NDArray[np.uint8] | None = None,
) -> HexFit:
    """One model per fold. network: a frozen encoder that all folds share (then data.images are its vectors). pixels: its tiles."""
    mark = fingerprint(data, config, folds, run.encoder_weights, run.start) if run.folder is not None else ""
    run = replace(run, mark=mark)
    fold_of_tile = np.array([folds[p] for p in data.patients.tolist()])
    count = max(folds.values()) + 1
    config = config.model_copy(update={"folds": count})
    held_out, fitted = np.empty((len(data), len(config.markers)), np.float32), []
    for k in range(count):
        if run.stop is not None and run.stop():
            raise Cancelled
        done = read_fold_if_same(run.folder, k, mark, config, network) if run.folder is not None else None
        mine = np.flatnonzero(fold_of_tile == k)
        if done is None:
            done = _fit_fold(data, config, np.flatnonzero(fold_of_tile != k), mine, k, count, run, network, pixels)
            if run.folder is not None and _first_process():
                write_fold(run.folder, k, done, mark, config)
                shutil.rmtree(_state_folder(run, k), ignore_errors=True)
        fitted.append(done)
        with _on_gpu(done.model):
            held_out[mine] = np.maximum(_predict(done.model, Rows(data.images, mine)), 0)
    figures = evaluate(held_out, data.labels, data.slides.tolist(), data.patients.tolist(), data.markers, seed=config.seed)
    if run.progress is not None:
        run.progress(1.0, "measured on held-out patients")
    weights = HexWeights(config, data.scale, tuple(fitted))
    vectors = data.images if data.images.ndim == 2 else None
    return HexFit(weights, folds, held_out, figures, predictability_card(figures), time.monotonic() - started, vectors)


def _fit_fold(
    data: HexDataset,
    config: HexFitConfig,
    index: NDArray[np.int64],
    held: NDArray[np.int64],
    fold: int,
    folds: int,
    run: _Run,
    network: Any,
    pixels: NDArray[np.uint8] | None,
) -> HexFold:
    """One fold's model, fitted on the tiles `index`; `held` are watched, nothing is chosen by them."""
    mean, sd = np.zeros(len(config.markers), np.float32), np.ones(len(config.markers), np.float32)
    if config.targets == "standardised":
        mean, sd = data.labels[index].mean(axis=0), data.labels[index].std(axis=0)
        sd = np.where(sd > 1e-6, sd, 1).astype(np.float32)
    seed = config.seed * 1009 + fold
    # Vectors of a frozen encoder are standardised by the fitting tiles; the head takes that up into its first layer afterwards.
    centre, spread = _moments(data.images[index]) if network is not None else (None, None)
    inputs = data.images if centre is None else ((data.images - centre) / spread).astype(np.float32)
    batches = Batches(inputs, data.labels, index, config, seed)
    per_epoch = batches.steps(run.devices)
    total = max(1, math.ceil(config.epochs * per_epoch))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(data, config, run, network)
        if fold in run.start:
            start_from(model, run.start[fold][0], config.markers, run.start[fold][1])
            if centre is not None:
                model.head.absorb(torch.from_numpy(-centre / spread), torch.from_numpy(1 / spread))
        module = HexTraining(model, config, torch.from_numpy(mean), torch.from_numpy(sd), total, per_epoch)
        facts = run_loop(
            module,
            batches,
            per_epoch,
            epochs=math.ceil(total / per_epoch),
            total=total,
            max_seconds=config.max_seconds,
            progress=_share(run.progress, fold, folds),
            stop=run.stop,
            clip=config.clip,
            precision=config.precision,
            devices=run.devices,
            seed=seed,
            record=_named(run.record, fold),
            measure=_watch(module, inputs, data.labels, held, seed, total / per_epoch) if run.record is not None else None,
            checkpoints=_state_folder(run, fold) if run.folder is not None else None,
            every=config.checkpoint_every,
        )
    model.cpu().eval().requires_grad_(False)
    if centre is not None:
        model.head.absorb(torch.from_numpy(centre), torch.from_numpy(spread))
    model.head.rescale(torch.from_numpy(mean), torch.from_numpy(sd))
    with _on_gpu(model):
        vectors = data.images[index] if network is not None else embed_tiles(model, Rows(data.images, index), HexPredictConfig())
    tiles = data.images if network is None else pixels
    judged = vectors if tiles is None else range_vectors(vectors, Rows(tiles, index))
    about = {"tiles": len(index), "patients": len(np.unique(data.patients[index]))}
    return HexFold(model, fit_range(judged), {**asdict(facts), **about})


def _new_model(data: HexDataset, config: HexFitConfig, run: _Run, network: Any) -> HexModel:
    if network is None:
        return make(config, run.encoder_weights)
    spec = encoder(config.encoder)
    return HexModel(network, HexHead(data.images.shape[1], len(config.markers), config.hidden, config.dropout), spec)


def _predict(model: HexModel, inputs: NDArray[Any] | Rows) -> NDArray[np.float32]:
    return head_on(model, inputs) if inputs.ndim == 2 else run_model(model, inputs, HexPredictConfig())[1]


@contextmanager
def _on_gpu(model: HexModel) -> Iterator[None]:
    """Puts a model on the GPU for a while, where there is one."""
    if torch.cuda.is_available():
        model.cuda()
    yield
    model.cpu()


def _moments(vectors: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mean, standard deviation, 1 where a feature does not vary) of vectors (n, d)."""
    sd = vectors.std(axis=0)
    return vectors.mean(axis=0).astype(np.float32), np.where(sd > 1e-6, sd, 1).astype(np.float32)


def _watch(
    module: HexTraining, inputs: NDArray[Any], labels: NDArray[np.float32], held: NDArray[np.int64], seed: int, epochs: float
) -> Any:
    """Loss on some held-out tiles after an epoch (of many epochs after some of them and the last), for the curve."""
    some = np.sort(np.random.default_rng(seed).permutation(held)[:WATCHED])
    every, last = max(1, math.ceil(epochs / LOOKS)), math.ceil(epochs) - 1

    def measure(epoch: int) -> dict[str, float]:
        if (epoch + 1) % every and epoch != last:
            return {}
        training, device = module.training, module.mean.device
        predicted = torch.from_numpy(_predict(module.model.eval(), Rows(inputs, some))).to(device)
        with torch.no_grad():
            loss = float(module.loss(predicted, torch.from_numpy(labels[some]).to(device)))
        module.model.train(training)
        return {"held-out": loss}

    return measure


def _share(progress: Progress | None, fold: int, folds: int) -> Progress | None:
    """Progress of one fold as its share of the whole; the last twentieth is left for the measuring."""
    if progress is None:
        return None
    return lambda fraction, text: progress(0.95 * (fold + fraction) / folds, f"Fold {fold + 1} of {folds}: {text}")


def _named(record: Record | None, fold: int) -> Record | None:
    if record is None:
        return None
    return lambda series, x, y: record(f"fold {fold + 1} {series}", x, y)


def _state_folder(run: _Run, fold: int) -> Path:
    """Where a fold's checkpoints lie; what another fit left there is not found, its name holds the fit's fingerprint."""
    assert run.folder is not None
    return run.folder / f"fold{fold}-{run.mark[:16]}"


def _first_process() -> bool:
    return not (torch.distributed.is_available() and torch.distributed.is_initialized()) or torch.distributed.get_rank() == 0
