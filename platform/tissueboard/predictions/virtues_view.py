"""What VirTues says of one image, as pages and REST show it: its niches in groups, its markers by attention, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.store import store

from .models import Prediction
from .selectors import cells_beside, embeddings_of_image
from .virtues_images import dataset_of

READINGS = ("paper", "attended")
# How many spreads a marker's mean in a group lies above the image's, to be named.
RAISED = 0.5
RAISED_SHOWN = 3


@dataclass(frozen=True)
class Box:
    """A niche in px of level 0. group: its number, 1 is the largest group."""

    x: float
    y: float
    width: float
    height: float
    group: int


@dataclass(frozen=True)
class Group:
    """Niches of the image that look alike. share: of its niches. raised: markers that are higher than elsewhere in the image."""

    number: int
    n: int
    share: float
    raised: tuple[str, ...]


@dataclass(frozen=True)
class Importance:
    """How much the network attends to a channel. value: from 0 to channels x heads; share: of the highest of this image."""

    name: str
    protein: str
    value: float
    share: float


@dataclass(frozen=True)
class ImageView:
    """An embedding of an image with all that is shown of it. cells: the output beside it, or None. reading: of READINGS."""

    prediction: Prediction
    cells: Prediction | None
    boxes: list[Box]
    groups: list[Group]
    importance: list[Importance]
    reading: str

    @property
    def dropped(self) -> list[tuple[str, str]]:
        return [(name, why) for name, why in self.prediction.facts["dropped"]]


def has_standard(version: ModelVersion, image: Any) -> bool:
    """Whether a version knows means and deviations of the image's data set: from its training, or because it was taken into use there."""
    return dataset_of(image) in {*version.config.get("standards", {}), *version.metrics.get("datasets", ())}


def view_of(user: Any, image: Any, reading: str = "paper", version_id: int | None = None) -> ImageView | None:
    """The newest embedding of an image that the user may see (of the version, where one is named), or None.

    TissueboardError EMBEDDING_MISSING where its file is not in the store.
    """
    found = embeddings_of_image(user, image)
    found = found.filter(version=version_id) if version_id is not None else found
    prediction = found.first()
    if prediction is None:
        return None
    boxes, groups = _read(prediction.key, prediction.sha256)
    reading = reading if reading in READINGS else READINGS[0]
    return ImageView(prediction, cells_beside(user, prediction), boxes, groups, importance_of(prediction, reading), reading)


def importance_of(prediction: Prediction, reading: str) -> list[Importance]:
    """Channels by how much they are attended, highest first."""
    facts = prediction.facts
    values = facts["importance"][reading]
    most = max(values, default=0) or 1
    rows = [Importance(name, protein, value, value / most) for name, protein, value in zip(facts["names"], facts["proteins"], values)]
    return sorted(rows, key=lambda row: -row.value)


@lru_cache(maxsize=32)
def _read(key: str, sha256: str) -> tuple[list[Box], list[Group]]:
    """Boxes and groups of an embedding; the checksum is part of the cache's key."""
    import numpy as np

    from ml.virtues.embedding_files import read_embedding
    from ml.virtues.errors import VirtuesError

    try:
        found = read_embedding(store.path(key))
    except VirtuesError as error:
        raise TissueboardError("EMBEDDING_MISSING", error.sentence, "Run VirTues on this image again.", status=409) from error
    boxes = [Box(*box, int(group) + 1) for box, group in zip(found.boxes.tolist(), found.cluster)]
    mean, spread = found.intensity.mean(axis=0), found.intensity.std(axis=0)
    groups = []
    for number in range(int(found.cluster.max(initial=0)) + 1):
        mine = found.cluster == number
        above = (found.intensity[mine].mean(axis=0) - mean) / np.where(spread > 0, spread, np.inf)
        raised = [found.names[i] for i in np.argsort(-above)[:RAISED_SHOWN] if above[i] > RAISED]
        groups.append(Group(number + 1, int(mine.sum()), float(mine.mean()), tuple(raised)))
    return boxes, groups
