"""A data set in the layout of spora, in which VirTues' authors keep theirs: tables of tissues, channels and cells, masks, images.

    <modality>/channels.parquet, channels_per_tissue.parquet
    <modality>/<pitch>/images/<tissue>.ome.zarr, <modality>/<pitch>/standardization/<how>/<quantile>/*.parquet
    metadata/tissues.parquet, cells.parquet
    segmentations/<pitch>/tissue_masks/<tissue>.npz, cell_masks/instances/<tissue>.npz
    tiling/<pitch>/<name>/<side>_tile_coordinates.parquet

Written from the description of the format (spec/virtues 13) and the published example; no code of spora-io is used. <pitch> is "1_0mpp"
for 1.0 um per pixel. The image of a tissue holds its measured channels only, in the order of the columns of channels_per_tissue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.multiplex.masks import read_mask
from ml.multiplex.uniprot import is_accession
from ml.slides.findings import FindingCode, SlideError
from ml.types import MultiplexImage

PITCH = re.compile(r"(\d+)_(\d+)mpp")
HOW, QUANTILE = "quantile_clipping_log1p", "uq_0.99_image"
TISSUE_COLUMNS = ("tissue_id", "patient_id", "specimen_id", "modality", "split")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class SporaChannel:
    """uniprot: an accession of either family, with an isoform where the table has one; None where the channel has no protein."""

    name: str
    uniprot: str | None
    qc_pass: bool
    nuclear: bool
    description: str


@dataclass(frozen=True)
class SporaTissue:
    """split: train, test or "" (not said). clinical: the other columns, empty values left out."""

    tissue_id: str
    patient_id: str
    specimen_id: str
    modality: str
    split: str
    clinical: dict[str, Any]


@dataclass(frozen=True)
class Standardisation:
    """Per channel of a tissue: q99 (n,) of its own raw values; mean, std (n,) of log1p(clipped) over the data set. float64."""

    channels: tuple[str, ...]
    q99: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class SporaDataset:
    """A folder in this layout, read when it is asked for. modality: its folder ("imc"); um_per_px: of the images, masks and tiles.

    Errors of all methods: SlideError SPORA_FILE_MISSING (with the path below the folder), SPORA_TABLE_INVALID, SPORA_TISSUE_UNKNOWN.
    """

    def __init__(self, folder: str | Path, modality: str | None = None, um_per_px: float = 1.0) -> None:
        self.folder = Path(folder)
        found = sorted(p.parent.name for p in self.folder.glob("*/channels.parquet"))
        if modality is None and len(found) > 1:
            sentence = f"The data set holds {len(found)} modalities ({', '.join(found)})."
            raise SlideError(FindingCode.SPORA_FILE_MISSING, sentence, "Say which is meant.")
        if not found or (modality is not None and modality not in found):
            raise self._missing(f"{modality or '*'}/channels.parquet")
        self.modality = modality or found[0]
        self.um_per_px = um_per_px
        self.pitch = f"{um_per_px:.1f}mpp".replace(".", "_")
        self.channels = self._channels()
        self._measured = self._table(f"{self.modality}/channels_per_tissue.parquet")
        names = [channel.name for channel in self.channels]
        if list(map(str, self._measured.columns)) != names:
            odd = sorted(set(map(str, self._measured.columns)) ^ set(names))
            what = f"{', '.join(odd[:5])} are in one of them only" if odd else "they stand in another order"
            raise self._invalid("channels_per_tissue.parquet", f"its columns are not the channels of channels.parquet: {what}")
        self.tissues = self._tissues()

    @property
    def patients(self) -> dict[str, list[str]]:
        """Ids of the tissues by patient; a patient in both splits is an error of the table."""
        found: dict[str, list[str]] = {}
        for tissue in self.tissues.values():
            found.setdefault(tissue.patient_id, []).append(tissue.tissue_id)
        return found

    def tissue(self, tissue_id: str) -> SporaTissue:
        if tissue_id not in self.tissues:
            sentence = f"There is no tissue {tissue_id[:80]} in the data set of {len(self.tissues)}."
            raise SlideError(FindingCode.SPORA_TISSUE_UNKNOWN, sentence, "Ids are those of tissues.parquet.")
        return self.tissues[tissue_id]

    def channels_of(self, tissue_id: str) -> list[SporaChannel]:
        """The measured channels in the order of the image's planes."""
        self.tissue(tissue_id)
        if tissue_id not in self._measured.index:
            raise self._invalid("channels_per_tissue.parquet", f"it has no row {tissue_id[:80]}")
        row = self._measured.loc[tissue_id]
        return [channel for channel in self.channels if bool(row[channel.name])]

    def model_channels(self, tissue_id: str) -> list[int]:
        """Planes that a model takes: measured, of passed quality, with a protein. All accessions count, not the first family only."""
        return [i for i, one in enumerate(self.channels_of(tissue_id)) if one.qc_pass and one.uniprot is not None]

    def cells(self, tissue_id: str) -> pd.DataFrame:
        """Rows of cells.parquet of a tissue, by cell_id (the label in its mask)."""
        self.tissue(tissue_id)
        table = self._table("metadata/cells.parquet", ("tissue_id", "cell_id"))
        rows = table[table["tissue_id"].astype(str) == tissue_id].sort_values("cell_id", ignore_index=True)
        if rows["cell_id"].duplicated().any():
            raise self._invalid("cells.parquet", f"cells of {tissue_id[:80]} stand in it twice")
        return rows

    def cell_mask(self, tissue_id: str) -> NDArray[np.int32]:
        """(rows, cols) int32 labels; 0 is no cell."""
        self.tissue(tissue_id)
        return read_mask(self._file(f"segmentations/{self.pitch}/cell_masks/instances/{tissue_id}.npz"))

    def tissue_mask(self, tissue_id: str) -> NDArray[np.bool_]:
        """(rows, cols) bool."""
        self.tissue(tissue_id)
        name = f"segmentations/{self.pitch}/tissue_masks/{tissue_id}.npz"
        try:
            with np.load(self._file(name), allow_pickle=False) as opened:
                mask = opened["mask"]
        except SlideError:
            raise
        except Exception as reason:
            raise self._invalid(name, f"it cannot be read ({type(reason).__name__})") from reason
        if mask.ndim != 2 or mask.dtype.kind not in "bui":
            raise self._invalid(name, "it holds no mask")
        return mask.astype(bool)

    def standardisation(self, tissue_id: str, how: str = HOW, quantile: str = QUANTILE) -> Standardisation:
        """What the raw values of a tissue are clipped at and scaled by, in the order of its planes."""
        names = [channel.name for channel in self.channels_of(tissue_id)]
        place = f"{self.modality}/{self.pitch}/standardization/{how}/{quantile}"
        upper, means, stds = (
            self._table(f"{place}/{name}.parquet") for name in ("image_level_upper_quantiles", "global_level_means", "global_level_stds")
        )
        for name, table in (("image_level_upper_quantiles", upper), ("global_level_means", means), ("global_level_stds", stds)):
            lost = [channel for channel in names if channel not in table.columns]
            if lost or not len(table):
                raise self._invalid(f"{name}.parquet", f"it has no values of {', '.join(lost[:5]) or 'any channel'}")
        if tissue_id not in upper.index:
            raise self._invalid("image_level_upper_quantiles.parquet", f"it has no row {tissue_id[:80]}")
        q99, mean, std = (row[names].to_numpy(np.float64) for row in (upper.loc[tissue_id], means.iloc[0], stds.iloc[0]))
        return Standardisation(tuple(names), q99, mean, std)

    def tiles(self, tissue_id: str, side: int = 128, name: str = "default") -> NDArray[np.int64]:
        """(n, 2) int64 row and column of the top-left pixels of the training tiles."""
        self.tissue(tissue_id)
        table = self._table(f"tiling/{self.pitch}/{name}/{side}_tile_coordinates.parquet", ("tissue_id", "tile_id", "row", "col"))
        rows = table[table["tissue_id"].astype(str) == tissue_id].sort_values("tile_id")
        return rows[["row", "col"]].to_numpy(np.int64)

    def image(self, tissue_id: str, channels: Sequence[int] | None = None) -> MultiplexImage:
        """The image with its two masks; channels: planes, None for all. SlideError ZARR_CHUNKS_MISSING where its pixels are not there."""
        from ml.multiplex.zarr_input import open_zarr

        names = [channel.name for channel in self.channels_of(tissue_id)]
        place = self._file(f"{self.modality}/{self.pitch}/images/{tissue_id}.ome.zarr", folder=True)
        wanted = list(range(len(names))) if channels is None else list(channels)
        with open_zarr(place) as opened:
            if opened.n_channels != len(names):
                sentence = f"it has {opened.n_channels} channels, but {len(names)} were measured"
                raise self._invalid(f"{tissue_id}.ome.zarr", sentence)
            values = np.empty((len(wanted), opened.height, opened.width), np.float32)
            for i, channel in enumerate(wanted):
                with opened.plane(channel) as plane:
                    values[i] = plane.rows(0, opened.height)
        mask, tissue = self.cell_mask(tissue_id), self.tissue_mask(tissue_id)
        return MultiplexImage(values, tuple(names[i] for i in wanted), self.um_per_px, mask, tissue)

    def _channels(self) -> list[SporaChannel]:
        table = self._table(f"{self.modality}/channels.parquet", ("channel_name", "qc_pass", "uniprot_id", "is_nuclear_marker"))
        found = []
        for row in table.to_dict("records"):
            uniprot = None if pd.isna(row["uniprot_id"]) or not str(row["uniprot_id"]).strip() else str(row["uniprot_id"]).strip()
            if uniprot is not None and not is_accession(uniprot):
                raise self._invalid("channels.parquet", f"{uniprot[:20]} of {row['channel_name']} is no UniProt accession")
            described = row.get("description")
            text = "" if described is None or pd.isna(described) else str(described)
            found.append(SporaChannel(str(row["channel_name"]), uniprot, bool(row["qc_pass"]), bool(row["is_nuclear_marker"]), text))
        if len({one.name for one in found}) != len(found):
            raise self._invalid("channels.parquet", "a channel stands in it twice")
        return found

    def _tissues(self) -> dict[str, SporaTissue]:
        table = self._table("metadata/tissues.parquet", ("tissue_id", "patient_id"))
        if table["tissue_id"].duplicated().any():
            raise self._invalid("tissues.parquet", "a tissue stands in it twice")
        found, split_of = {}, {}
        for row in table.to_dict("records"):
            if str(row.get("modality", self.modality)) != self.modality:
                continue
            head = {name: "" if pd.isna(row.get(name)) else str(row.get(name)) for name in TISSUE_COLUMNS}
            if head["split"] not in (*SPLITS, ""):
                raise self._invalid("tissues.parquet", f"{head['split'][:20]} is no split")
            if split_of.setdefault(head["patient_id"], head["split"]) != head["split"]:
                raise self._invalid("tissues.parquet", f"patient {head['patient_id'][:40]} is in both splits")
            clinical = {str(k): v for k, v in row.items() if k not in TISSUE_COLUMNS and not pd.isna(v)}
            found[head["tissue_id"]] = SporaTissue(**head, clinical=clinical)
        return found

    def _table(self, name: str, columns: Sequence[str] = ()) -> pd.DataFrame:
        try:
            table = pd.read_parquet(self._file(name))
        except SlideError:
            raise
        except Exception as reason:
            raise self._invalid(name, f"it cannot be read ({type(reason).__name__})") from reason
        lost = [column for column in columns if column not in table.columns]
        if lost:
            raise self._invalid(name, f"it has no column {', '.join(lost)}")
        return table

    def _file(self, name: str, folder: bool = False) -> Path:
        path = self.folder / name
        if not (path.is_dir() if folder else path.is_file()):
            raise self._missing(name)
        return path

    def _missing(self, name: str) -> SlideError:
        sentence = f"The data set has no {name}."
        return SlideError(FindingCode.SPORA_FILE_MISSING, sentence, "Copy it again, or name the folder above it.", name)

    def _invalid(self, name: str, why: str) -> SlideError:
        sentence = f"{name.rpartition('/')[2]} is no table of a spora data set: {why}."
        return SlideError(FindingCode.SPORA_TABLE_INVALID, sentence, "Write the data set again.", name)
