"""What VirTues gives of an image as files: one HDF5 of niches and tissue, one Parquet of cells. Lengths are px of the image's level 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.virtues.cells import CellTokens
from ml.virtues.embed import Embedding
from ml.virtues.errors import VirtuesError
from ml.virtues.importance import importance
from ml.virtues.panel import Prepared

F32 = NDArray[np.float32]
CLUSTERS = 6


@dataclass(frozen=True)
class EmbeddingFile:
    """An embedding as it was written. As `ml.virtues.embed.Embedding`, and: boxes in px of level 0; intensity: (n, C) mean of each channel
    in each niche, share of the image's 99th percentile in the tissue; cluster: (n,) int64 group of the niches of this image alone, the
    largest is 0; names, proteins: of the C channels; about: plain facts."""

    niches: F32
    boxes: NDArray[np.float64]
    share: NDArray[np.float64]
    tissue: F32
    rho: NDArray[np.float64]
    central: NDArray[np.int64]
    intensity: F32
    cluster: NDArray[np.int64]
    names: tuple[str, ...]
    proteins: tuple[str, ...]
    about: dict[str, Any]

    def embedding(self) -> Embedding:
        """As `ml.virtues.embed.retrieval_set` takes it, boxes in px of level 0."""
        return Embedding(self.niches, self.boxes, self.share, self.tissue, self.rho, self.central, None)


def niche_intensity(prepared: Prepared, boxes: NDArray[np.float64]) -> F32:
    """(n, C) mean of each channel in each box, share of the channel's 99th percentile (counts above it count as it). boxes: in px of the
    prepared image."""
    limits = prepared.upper[:, None, None]
    return np.stack(
        [
            (np.clip(prepared.raw[:, y : y + h, x : x + w], 0, limits) / limits).mean(axis=(1, 2))
            for x, y, w, h in np.rint(boxes).astype(np.int64).tolist()
        ]
    ).astype(np.float32)


def group_niches(niches: F32, most: int = CLUSTERS, seed: int = 0) -> NDArray[np.int64]:
    """(n,) group of each niche by k-means with `most` groups (fewer where there are fewer niches); the largest group is 0."""
    from sklearn.cluster import KMeans

    k = min(most, len(np.unique(niches, axis=0)))
    found = KMeans(k, n_init=4, random_state=seed).fit_predict(niches) if k > 1 else np.zeros(len(niches), np.int64)
    order = np.argsort(-np.bincount(found, minlength=k), kind="stable")
    return np.argsort(order)[found].astype(np.int64)


def write_embedding(
    path: str | Path,
    found: Embedding,
    prepared: Prepared,
    scale: float,
    about: Mapping[str, Any],
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Writes the HDF5. scale: px of level 0 per px of the model's pitch; origin: x, y of its corner there.

    about: JSON; the version, its label, what was dropped.
    """
    arrays = {
        "niches": found.niches,
        "boxes": found.boxes * scale + np.array([*origin, 0.0, 0.0]),
        "share": found.share,
        "tissue": found.tissue,
        "rho": found.rho,
        "central": found.central,
        "intensity": niche_intensity(prepared, found.boxes),
        "cluster": group_niches(found.niches),
        "importance_paper": importance(found.rho, "paper"),
        "importance_attended": importance(found.rho, "attended"),
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        for name, texts in (("names", prepared.names), ("proteins", prepared.proteins)):
            file.create_dataset(name, data=np.array(texts, dtype=object), dtype=h5py.string_dtype())
        file.attrs["about"] = json.dumps(dict(about), sort_keys=True)


def read_embedding(path: str | Path) -> EmbeddingFile:
    """The inverse of `write_embedding`. VirtuesError: embedding_file where it is another file."""
    try:
        with h5py.File(path, "r") as file:
            columns = ("niches", "boxes", "share", "tissue", "rho", "central", "intensity", "cluster")
            arrays = {name: np.asarray(file[name]) for name in columns}
            texts = [tuple(file[name].asstr()[:].tolist()) for name in ("names", "proteins")]
            return EmbeddingFile(**arrays, names=texts[0], proteins=texts[1], about=json.loads(file.attrs["about"]))
    except (OSError, KeyError, ValueError) as error:
        name = Path(path).name
        raise VirtuesError("embedding_file", f"{name} is no embedding of an image.", "Make it again.", name) from error


def cell_frame(cells: CellTokens, mask: NDArray[Any], scale: float, types: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per cell: cell_id, x_px0, y_px0 (centroid), weight (px by which it was seen), the columns of `types` (indexed by cell_id),
    token (list of float32). mask: (h, w) at the model's pitch."""
    y, x = np.nonzero(mask)
    rows = np.searchsorted(cells.ids, mask[y, x])
    known = (rows < len(cells.ids)) & (cells.ids[np.minimum(rows, len(cells.ids) - 1)] == mask[y, x])
    rows, y, x = rows[known], y[known], x[known]
    area = np.bincount(rows, minlength=len(cells.ids))
    centre = [np.bincount(rows, v + 0.5, minlength=len(cells.ids)) / area * scale for v in (x, y)]
    frame = pd.DataFrame({"cell_id": cells.ids, "x_px0": centre[0], "y_px0": centre[1], "weight": cells.weight})
    if types is not None:
        frame = frame.join(types, on="cell_id")
    return frame.assign(token=list(cells.tokens))


def write_cells(path: str | Path, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Writes `cell_frame` as Parquet; about is kept as metadata under "tissueboard"."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = np.stack(frame["token"].to_list())
    flat = pa.array(tokens.ravel(), pa.float32())
    table = pa.Table.from_pandas(frame.drop(columns="token"), preserve_index=False)
    table = table.append_column("token", pa.FixedSizeListArray.from_arrays(flat, tokens.shape[1]))
    kept = {**(table.schema.metadata or {}), b"tissueboard": json.dumps(dict(about), sort_keys=True).encode()}
    pq.write_table(table.replace_schema_metadata(kept), path, compression="zstd")
