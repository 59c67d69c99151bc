"""Tiles and measured labels of the slides of some cohorts: what HEX is trained on and measured by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tissueboard.assays.models import Assay
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import JobContext
from tissueboard.jobs.errors import JobRefused
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import open_working
from tissueboard.store import store

from .hex_weights import reading_px


class MeasuredTiles:
    """All ready slides with measured proteins in the cohorts; of a slide that was measured twice, the later one.

    markers, tile_um: of the panel that they share. After `read`: images (n, S, S, 3) uint8 on disk, labels (n, P) float32 as measured,
    patients, slides: n codes and ids, xy_um: corners per slide.
    """

    def __init__(self, cohorts: list[Cohort], ctx: JobContext, least_patients: int):
        self.ctx = ctx
        assays = Assay.objects.filter(sample__patient__cohort__in=cohorts, slide__state=Slide.State.READY)
        latest = {a.slide_id: a for a in assays.select_related("slide", "panel", "sample__patient").order_by("created_at", "pk")}
        self.assays = sorted(latest.values(), key=lambda a: a.pk)
        people = {a.sample.patient.code for a in self.assays}
        if len(people) < least_patients:
            raise JobRefused(
                "TOO_FEW_PATIENTS",
                f"{len(people)} patients have a ready slide with a measured panel; this takes {least_patients}.",
                "Import more slides with measured proteins.",
            )
        panels = {tuple(a.panel.markers) for a in self.assays}
        sizes = {a.tile_um for a in self.assays}
        if len(panels) > 1 or len(sizes) > 1:
            raise JobRefused("PANELS_DIFFER", "The assays differ in their panels or tile sizes.", "Take assays of one panel and size.")
        self.markers = list(panels.pop())
        self.tile_um = sizes.pop()
        self.sites = {a.sample.patient.code: a.slide.site for a in self.assays}
        self.checksums = {f"assay {a.pk}": a.sha256 for a in self.assays} | {
            f"slide {a.slide_id}": a.slide.working_sha256 for a in self.assays
        }

    def keep(self, patients: set[str]) -> None:
        """Leaves only the slides of these patients (codes)."""
        self.assays = [a for a in self.assays if a.sample.patient.code in patients]

    def read(self, input_px: int) -> None:
        """Reads all tiles for an encoder of this input (at `reading_px`, as maps are made) into a file of the job's folder, so that memory
        stays flat and an attempt that was stopped after it need not read again. Errors: those of `open_working`."""
        import numpy as np
        import pandas as pd

        from ml.slides.resample import TORCH

        side = min(reading_px(input_px, self.tile_um, a.slide.mpp) for a in self.assays)
        tables = [pd.read_parquet(store.path(a.key)) for a in self.assays]
        counts = [len(table) for table in tables]
        self.labels = np.concatenate([table[self.markers].to_numpy("float32") for table in tables])
        self.patients = [a.sample.patient.code for a, n in zip(self.assays, counts) for _ in range(n)]
        self.slides = [str(a.slide_id) for a, n in zip(self.assays, counts) for _ in range(n)]
        path, done = self._file(side)
        fresh = not done.is_file()
        shape = (sum(counts), side, side, 3)
        images = np.lib.format.open_memmap(path, "w+" if fresh else "r", np.uint8, shape) if fresh else np.load(path, mmap_mode="c")
        self.xy_um: list[Any] = []
        at = 0
        for i, (assay, table) in enumerate(zip(self.assays, tables)):
            self.ctx.progress(0.15 * i / len(self.assays), f"reading slide {i + 1} of {len(self.assays)}")
            with open_working(assay.slide) as slide:
                grid = self._grid(table, slide)
                self.xy_um.append(grid.xy * slide.need_mpp())
                if fresh:
                    images[at : at + len(table)] = slide.tile_array(grid, side, TORCH)
            at += len(table)
        if fresh:
            images.flush()
            done.write_text("read")
            images = np.load(path, mmap_mode="c")
        self.images = images

    def _grid(self, table: Any, slide: Any) -> Any:
        from ml.types import TileGrid

        return TileGrid(table[["x", "y"]].to_numpy("int64"), self.tile_um / slide.need_mpp(), slide.need_mpp(), slide.size)

    def _file(self, side: int) -> tuple[Path, Path]:
        """(the tiles, what says that they are all there); the name holds what they were read from."""
        from hashlib import sha256

        mark = sha256(json.dumps([side, sorted(self.checksums.items()), [a.pk for a in self.assays]]).encode()).hexdigest()[:16]
        return self.ctx.workdir / f"tiles-{mark}.npy", self.ctx.workdir / f"tiles-{mark}.done"
