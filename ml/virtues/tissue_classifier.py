"""A class per tissue from the bag of its patch summaries: gated attention with eight heads (spec 8, Tissue; 9)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.nn.gated_abmil import GatedAbmil
from ml.training.loop import Progress, Stop, run_loop
from ml.training.splits import patient_folds
from ml.virtues.errors import VirtuesError
from ml.virtues.pretrain_config import VirtuesTissueConfig

F32 = NDArray[np.float32]
Bags = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TissueClassifier:
    """One classifier per seed. classes: in the order of the probabilities. epochs: of each, the one with the least validation loss."""

    models: tuple[GatedAbmil, ...]
    classes: tuple[str, ...]
    epochs: tuple[int, ...]
    facts: dict[str, int] = field(default_factory=dict)

    @torch.inference_mode()
    def probabilities(self, bags: Sequence[F32]) -> NDArray[np.float64]:
        """(seeds, n, classes) of bags (S, D)."""
        found = [[m(torch.as_tensor(bag)[None])[0].softmax(dim=1)[0].double().numpy() for bag in bags] for m in self.models]
        return np.array(found)

    @torch.inference_mode()
    def pooled(self, bags: Sequence[F32], model: int = 0) -> tuple[F32, list[F32]]:
        """(n, heads * D) vectors and, per bag, (heads, S) attention of one seed's pooling.

        A bag is what it was trained on, a tissue's patch summaries, or those of one niche: the supervised niche vector (VirTues, Methods).
        """
        found = [self.models[model].pooling(torch.as_tensor(bag)[None]) for bag in bags]
        return torch.cat([z for z, _ in found]).float().numpy(), [a[0].float().numpy() for _, a in found]

    def macro_f1(self, bags: Sequence[F32], labels: Sequence[str]) -> NDArray[np.float64]:
        """(seeds,) unweighted mean of the classes' F1 on these tissues; a class that neither occurs nor is predicted is left out."""
        from sklearn.metrics import f1_score

        named = [[self.classes[i] for i in row] for row in self.probabilities(bags).argmax(axis=2)]
        return np.array([f1_score(list(labels), row, average="macro", zero_division=0) for row in named])


def fit_tissues(
    bags: Sequence[F32],
    labels: Sequence[str],
    patients: Sequence[str],
    config: VirtuesTissueConfig | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> TissueClassifier:
    """Trains config.seeds classifiers on the train split's tissues; a share of its patients is watched and ends each training.

    bags: (S, D) float32 each, patch summaries of all kept crops. The patients that are watched are drawn anew for every seed, each class
    its share. After each epoch the loss on them is taken; after `patience` epochs without a lower one the training ends, and the weights of
    the lowest are kept. Nobody of a test split may be among these tissues. VirtuesError: shape, one_class; SplitError, Cancelled,
    TrainingDiverged.
    """
    config = config or VirtuesTissueConfig()
    if not len(bags) == len(labels) == len(patients) or len({bag.shape[1:] for bag in bags}) != 1:
        raise VirtuesError("shape", "Bags, labels and patients do not fit together.", "Give one label and patient per bag of one width.")
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise VirtuesError("one_class", "All tissues have the same label.", "Give tissues of two classes or more.", "labels")
    label_of = dict(zip(reversed(patients), reversed(labels)))
    models, epochs = [], []
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        for k in range(config.seeds):
            folds = patient_folds(patients, max(2, round(1 / config.validation)), config.seed + k, label_of)
            watched = np.array([folds[p] == 0 for p in patients])
            torch.manual_seed(config.seed + k)
            model = GatedAbmil(bags[0].shape[1], len(classes), config.hidden, config.heads)
            data = _Data(bags, [classes.index(name) for name in labels], config.batch, config.seed + k)
            training = _Training(model, config, list(data.batches(np.flatnonzero(watched))))
            index = np.flatnonzero(~watched)
            told = None if progress is None else (lambda f, text, k=k: progress((k + f) / config.seeds, f"seed {k + 1}: {text}"))
            run_loop(
                training,
                lambda epoch, data=data, index=index: data.shuffled(index, epoch),
                math.ceil(len(index) / config.batch),
                epochs=config.epochs,
                progress=told,
                stop=stop,
                clip=None,
                seed=config.seed + k,
            )
            model.load_state_dict(training.best)
            models.append(model.cpu().eval().requires_grad_(False))
            epochs.append(training.best_epoch + 1)
    return TissueClassifier(tuple(models), classes, tuple(epochs), {"tissues": len(bags), "patients": len(set(patients))})


class _Data:
    """Bags of different sizes as padded batches."""

    def __init__(self, bags: Sequence[F32], labels: Sequence[int], batch: int, seed: int) -> None:
        self.bags, self.labels, self.batch, self.seed = bags, labels, batch, seed

    def shuffled(self, index: NDArray[np.int64], epoch: int) -> Iterator[Bags]:
        return self.batches(np.random.default_rng([self.seed, epoch]).permutation(index))

    def batches(self, index: NDArray[np.int64]) -> Iterator[Bags]:
        """(bags (B, S, D) padded with zeros, padding (B, S) True where a bag has ended, labels (B,))."""
        for at in range(0, len(index), self.batch):
            some = index[at : at + self.batch].tolist()
            bags = nn.utils.rnn.pad_sequence([torch.as_tensor(self.bags[i]) for i in some], batch_first=True)
            sizes = torch.tensor([len(self.bags[i]) for i in some])
            yield bags, torch.arange(bags.shape[1])[None] >= sizes[:, None], torch.tensor([self.labels[i] for i in some])


class _Training(pl.LightningModule):
    """Cross-entropy with Adam; ends when the loss on the watched tissues has not fallen for a while, and keeps the best weights."""

    def __init__(self, model: GatedAbmil, config: VirtuesTissueConfig, watched: list[Bags]) -> None:
        super().__init__()
        self.model, self.config, self.watched = model, config, watched
        self.best, self.best_epoch, self.least = copy.deepcopy(model.state_dict()), -1, math.inf

    def training_step(self, batch: Bags, index: int) -> Tensor:
        bags, padding, labels = batch
        return nn.functional.cross_entropy(self.model(bags, padding)[0], labels)

    @torch.no_grad()
    def on_train_epoch_end(self) -> None:
        total = 0.0
        for batch in self.watched:
            bags, padding, labels = (part.to(self.device) for part in batch)
            total += float(nn.functional.cross_entropy(self.model(bags, padding)[0], labels, reduction="sum"))
        if total < self.least:
            self.least, self.best_epoch, self.best = total, self.current_epoch, copy.deepcopy(self.model.state_dict())
        elif self.current_epoch - self.best_epoch >= self.config.patience:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.config.lr)
