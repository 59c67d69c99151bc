"""Pretraining VirTues on one or many data sets, held out by patient; resumable, on one device or several (spec 6)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml.training.loop import LoopFacts, Progress, Record, Stop, run_loop
from ml.training.splits import patient_folds
from ml.types import MultiplexImage, Split
from ml.virtues.checkpoint import released_state
from ml.virtues.data import Batches, Mask, Source, places_of, source_of, standard_of, watched
from ml.virtues.errors import VirtuesError
from ml.virtues.lightning_module import VirtuesTraining
from ml.virtues.markers import MarkerBank
from ml.virtues.model import VirTues
from ml.virtues.panel import tissue_of
from ml.virtues.preprocess import Standard
from ml.virtues.pretrain_config import VirtuesPretrainConfig


@dataclass(frozen=True)
class PretrainResult:
    """A pretrained network, on the CPU, in evaluation mode.

    split: patients that it was fitted on and held out. standards: data set -> means and deviations by channel. bank: of the proteins that
    training saw (proteins). fitted, held_out: the images made ready, as training saw them or would have. mark: fingerprint of all that
    decides it. seconds: wall clock of this call.
    """

    model: VirTues
    config: VirtuesPretrainConfig
    split: Split
    standards: dict[str, Standard]
    bank: MarkerBank
    proteins: tuple[str, ...]
    fitted: tuple[Source, ...]
    held_out: tuple[Source, ...]
    facts: LoopFacts
    mark: str
    seconds: float

    def metrics(self) -> dict[str, Any]:
        """Plain values for a record."""
        facts = asdict(self.facts)
        curve = [list(p) for p in facts.pop("curve")]
        return {
            **facts,
            "curves": {"training": curve},
            "images": len(self.fitted),
            "images_held_out": len(self.held_out),
            "patients": len(self.split.fit),
            "patients_held_out": len(self.split.held_out),
            "datasets": sorted(self.standards),
            "proteins": len(self.proteins),
            "left_out": sorted({f"{p.dataset} {name}: {why}".strip() for p in self.fitted for name, why in p.dropped}),
        }


def fit(
    images: Sequence[MultiplexImage],
    proteins: Sequence[Sequence[str | None]],
    patients: Sequence[str],
    datasets: Sequence[str],
    config: VirtuesPretrainConfig,
    bank: MarkerBank,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    record: Record | None = None,
    checkpoint_dir: str | Path | None = None,
    start: VirTues | None = None,
    split: Mapping[str, str] | None = None,
    allowed: Sequence[Mask | None] | None = None,
    devices: int = 1,
) -> PretrainResult:
    """Pretrains on n images with ragged sources.

    images: raw counts at config.pitch_um (values may be memory maps). proteins: accession per channel and image, None where there is none.
    patients, datasets: n names; a patient of two data sets is one person. start: a network to go on from, of config.network. split: patient
    -> "train" or "test" where a cohort has its split; else config.held_out of the patients, each data set its share. allowed: (h, w) per
    image, pixels that a crop may touch (regions that were set aside or are damaged are False). record: "training" and "held-out" loss.
    checkpoint_dir: the state after every checkpoint_every epochs; a second call with the same data and config goes on from it and ends with
    the same weights, bit for bit (on one device). It stays there: whoever keeps the result removes it. devices: processes of torchrun,
    which share each epoch's crops (DDP); precision is that of a GPU. The caller's random state is left as it was.

    Means and deviations are taken from the training patients of each data set; of a data set without any, from all its images.
    VirtuesError (`source_of`, `places_of`, pitch_differs, leave_out_unknown, start_differs, split_incomplete), SplitError, Cancelled,
    TrainingDiverged.
    """
    started = time.monotonic()
    regions = list(allowed) if allowed is not None else [None] * len(images)
    images = [image if image.tissue is not None else replace(image, tissue=tissue_of(image)) for image in images]
    _checked(images, proteins, patients, datasets, regions, config, start)
    sides = split_patients(patients, datasets, config, split)
    seen = [p in sides.fit for p in patients]
    standards = _standards(images, datasets, regions, seen)
    sources = [
        source_of(image, given, bank, standards[dataset], unit=patient, dataset=dataset, allowed=region)
        for image, given, patient, dataset, region in zip(images, proteins, patients, datasets, regions)
    ]
    fitted, held = (tuple(p for p, mine in zip(sources, seen) if mine is side) for side in (True, False))
    batches = Batches(fitted, places_of(fitted, config, config.seed), config)
    mark = fingerprint(sources, sides, config, start)
    steps = batches.steps(devices)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        model = VirTues(config.network)
        if start is not None:
            model.load_state_dict(start.state_dict())
        module = VirtuesTraining(model, config, config.epochs * math.ceil(steps / config.accumulate))
        facts = run_loop(
            module,
            batches,
            steps,
            epochs=config.epochs,
            max_seconds=config.max_seconds,
            progress=progress,
            stop=stop,
            clip=config.clip,
            accumulate=config.accumulate,
            precision=config.precision,
            devices=devices,
            seed=config.seed,
            record=record,
            measure=_watch(module, held, config) if record is not None else None,
            checkpoints=Path(checkpoint_dir) / f"pretraining-{mark[:16]}" if checkpoint_dir is not None else None,
            every=config.checkpoint_every,
        )
    model.cpu().eval().requires_grad_(False)
    used = tuple(sorted({protein for source in fitted for protein in source.proteins}))
    kept = MarkerBank({name: bank.embedding(name) for name in used}, bank.source)
    return PretrainResult(model, config, sides, standards, kept, used, fitted, held, facts, mark, time.monotonic() - started)


def split_patients(
    patients: Sequence[str], datasets: Sequence[str], config: VirtuesPretrainConfig, given: Mapping[str, str] | None = None
) -> Split:
    """Who is fitted on and who is held out. A patient of the data set that is left out is held out, whatever else she is in.

    VirtuesError: leave_out_unknown, split_incomplete, no_patients; SplitError.
    """
    home = dict(zip(reversed(patients), reversed(datasets)))
    apart = {p for p, d in zip(patients, datasets) if d == config.leave_out and config.leave_out}
    if config.leave_out and not apart:
        said = f"There is no data set {config.leave_out!r}; there are {', '.join(sorted(set(datasets)))}."
        raise VirtuesError("leave_out_unknown", said, "Name one of them, or none.", "leave_out")
    rest = {p: d for p, d in home.items() if p not in apart}
    if given is not None:
        missing = sorted(p for p in rest if given.get(p) not in ("train", "test"))
        if missing:
            said = f"{len(missing)} patients are in neither side of the split, e.g. {missing[0]}."
            raise VirtuesError("split_incomplete", said, "Give each train or test.", "split")
        held = {p for p in rest if given[p] == "test"}
    elif config.held_out:
        held = {p for p, fold in patient_folds(rest, round(1 / config.held_out), config.seed, rest).items() if fold == 0}
    else:
        held = set()
    fit_on = tuple(sorted(rest.keys() - held))
    if not fit_on:
        raise VirtuesError("no_patients", "Nobody is left to train on.", "Hold fewer patients out.")
    return Split(fit_on, tuple(sorted(held | apart)), facts={"leave_out": config.leave_out})


def _standards(
    images: Sequence[MultiplexImage], datasets: Sequence[str], regions: Sequence[Mask | None], seen: Sequence[bool]
) -> dict[str, Standard]:
    found = {}
    for dataset in sorted(set(datasets)):
        mine = [i for i, d in enumerate(datasets) if d == dataset]
        # Channels that no training patient has are standardised by those who have them: they are only ever looked at.
        chosen = [i for i in mine if seen[i]] or mine
        standard = standard_of([images[i] for i in chosen], [regions[i] for i in chosen])
        others = [i for i in mine if not set(images[i].markers) <= set(standard.markers)]
        if others:
            more = standard_of([images[i] for i in others], [regions[i] for i in others])
            extra = [k for k, name in enumerate(more.markers) if name not in standard.markers]
            names = (*standard.markers, *(more.markers[k] for k in extra))
            standard = Standard(names, np.append(standard.mean, more.mean[extra]), np.append(standard.std, more.std[extra]))
        found[dataset] = standard
    return found


def _checked(
    images: Sequence[MultiplexImage],
    proteins: Sequence[Sequence[str | None]],
    patients: Sequence[str],
    datasets: Sequence[str],
    regions: Sequence[Mask | None],
    config: VirtuesPretrainConfig,
    start: VirTues | None,
) -> None:
    if not images or len({len(images), len(proteins), len(patients), len(datasets), len(regions)}) != 1:
        raise VirtuesError("shape", "Images, proteins, patients and data sets are not equally many.", "Give one of each per image.")
    for number, image in enumerate(images):
        if abs(image.um_per_px / config.pitch_um - 1) > 0.1:
            said = f"Image {number} has {image.um_per_px:.3g} um per px, the training {config.pitch_um:.3g}."
            raise VirtuesError("pitch_differs", said, "Read it at the pitch of the training (ml.multiplex.read).", patients[number])
    if start is not None and start.config != config.network:
        raise VirtuesError("start_differs", "The network to go on from is of another shape.", "Take its configuration.", "network")


def fingerprint(sources: Sequence[Source], split: Split, config: VirtuesPretrainConfig, start: VirTues | None = None) -> str:
    """SHA-256 of all that decides a training: pixels, sources, embeddings, split, config (without limits and threads), first weights."""
    digest = sha256()
    for source in sources:
        digest.update(json.dumps([source.unit, source.dataset, source.names, source.proteins, list(source.raw.shape)]).encode())
        for array in (source.raw, source.tissue, source.allowed, source.embeddings, source.upper, source.mean, source.std):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    described = config.model_dump(mode="json", exclude={"max_seconds", "workers", "checkpoint_every"})
    digest.update(json.dumps([split.fit, split.held_out, described]).encode())
    for name, value in (released_state(start) if start is not None else {}).items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _watch(module: VirtuesTraining, held: Sequence[Source], config: VirtuesPretrainConfig) -> Any:
    """Loss on the same held-out crops after every epoch, for the curve: nothing is chosen by it."""
    try:
        batches = watched(held, config) if held else []
    except VirtuesError:  # held-out images without room for a crop: there is nothing to watch
        batches = []
    if not batches:
        return None

    @torch.no_grad()
    def measure(epoch: int) -> dict[str, float]:
        device = next(module.model.parameters()).device
        losses = [(float(module.loss(batch.to(device))), sum(image.numel() for image in batch.images)) for batch in batches]
        return {"held-out": sum(loss * size for loss, size in losses) / sum(size for _, size in losses)}

    return measure
