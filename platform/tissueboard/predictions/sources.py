"""What a job that reads a slide starts from: the slide, the version, and what went into its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ml.slides.findings import SlideError
from tissueboard.jobs.context import JobContext
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import inputs_of


@dataclass(frozen=True)
class Source:
    """What an output was made from, for its provenance."""

    slide: Slide
    version: ModelVersion

    def inputs(self) -> dict[str, str]:
        """{name: checksum}; ask after the grid was taken, so that it names the regions that the grid has."""
        return {**inputs_of(self.slide), "weights": self.version.sha256}


def load_source(params: dict[str, Any]) -> Source:
    """Slide and version named by a job's params; JobRefused where the slide is not ready."""
    slide = Slide.objects.select_related("sample__patient__cohort").get(pk=params["slide"])
    if slide.state != Slide.State.READY:
        raise JobRefused("SLIDE_NOT_READY", f"The slide {slide.name} is not ready: {slide.state}.", "Resolve its findings first.")
    return Source(slide, ModelVersion.objects.get(pk=params["version"]))


@contextmanager
def refusals() -> Iterator[None]:
    """What the slide or the disk says no to, as a refusal whose text people may read; blocks of finished work stay."""
    try:
        yield
    except SlideError as error:
        raise JobRefused(error.code, error.sentence, error.hint, where=error.where) from error


def no_tissue(tile_um: float) -> JobRefused:
    return JobRefused("NO_TISSUE", f"No tile of {tile_um:g} um has enough tissue.", "Check the slide; it may be empty or too small.")


def telling(ctx: JobContext, share: float) -> Callable[[str, int, int], None]:
    """Progress of a run over tiles, as the first `share` of the job. It raises Cancelled and Superseded at the next block."""

    def tell(name: str, done: int, n: int) -> None:
        ctx.progress(share * done / n, f"{done:,} of {n:,} tiles")

    return tell


def skipped_facts(bad: dict[int, str]) -> dict[str, Any]:
    """n_skipped and, where there are any, how many tiles were left out for which reason."""
    reasons: dict[str, int] = {}
    for reason in bad.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    return {"n_skipped": len(bad), "skipped": reasons} if bad else {"n_skipped": 0}
