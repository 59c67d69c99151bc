"""What an entry of the catalogue says about an encoder, and how an encoder refuses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PUBLIC_COHORTS = ("TCGA", "CPTAC", "GTEx", "PAIP")
OPEN = ("apache", "mit", "bsd", "gpl")

Overlap = Literal["yes", "no", "unknown"]
Precision = Literal["fp32", "fp16", "bf16"]


class EncoderError(Exception):
    """An encoder cannot be built or applied. code: stable name; sentence: for a person; hint: what to do."""

    def __init__(self, code: str, sentence: str, hint: str = "") -> None:
        super().__init__(f"{sentence} {hint}".strip())
        self.code, self.sentence, self.hint = code, sentence, hint


class WeightsMissing(EncoderError):
    """The weight file that this encoder cannot do without is not there."""


class WeightsMismatch(EncoderError):
    """The weight file is there but is not this encoder's."""


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder.

    name, title: for programs, for people. dim: length of its vector per tile. input_px: side of its input in px.
    tile_um: side in um of the tile that it is given here. mean, std: per RGB channel, of values in 0..1.
    network: the builder in ml.encoders.networks; "descriptors" has no network.
    timm_name, timm_kwargs: architecture for `timm.create_model(num_classes=0)`; layers and activations are named as text. "musk" takes the
    sizes of ml.encoders.musk.MuskTower as timm_kwargs.
    layout: how the tensors of the released file are named (ml.encoders.layouts.LAYOUTS).
    vector: made of the network's output: "pooled" (its own), "cls", or "cls+mean" of the patch tokens. vector_note: for a person.
    precision: what it is run in on a GPU; a CPU computes in fp32.
    gated: terms must be accepted at the hub first. repo, hub_type, file: where the weights are.
    pretrained_on: what its weights saw. pretraining_overlap: "yes" when that includes a public cohort that is usually analysed,
    "no" when it holds no patient at all, else "unknown", which is never called external. cohorts: the same per public cohort,
    as far as published.
    needs_weights: True for encoders trained elsewhere (a file is required), False for "trained together with its head".
    million_parameters: published size. source: where these figures were read. verified: False when some were not; `note` says which.
    """

    name: str
    title: str
    dim: int
    input_px: int
    tile_um: float
    licence: str
    label: str
    timm_name: str = ""
    timm_kwargs: dict[str, Any] = field(default_factory=dict)
    network: str = "timm"
    layout: str = "timm"
    vector: Literal["pooled", "cls", "cls+mean"] = "pooled"
    vector_note: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    precision: Precision = "fp32"
    gated: bool = False
    repo: str = ""
    hub_type: Literal["model", "dataset"] = "model"
    file: str = ""
    pretrained_on: str = ""
    pretraining_overlap: Overlap = "unknown"
    cohorts: dict[str, Overlap] = field(default_factory=dict)
    needs_weights: bool = True
    million_parameters: float | None = None
    citation: str = ""
    source: str = ""
    verified: bool = True
    note: str = ""

    @property
    def mpp(self) -> float:
        """um per pixel of its input."""
        return self.tile_um / self.input_px

    @property
    def weights_source(self) -> str:
        """Where a person gets the file, in words."""
        kind = "dataset " if self.hub_type == "dataset" else ""
        return f"{kind}{self.repo} on the Hugging Face hub, file {self.file}" if self.repo else ""

    @property
    def weight_free(self) -> bool:
        """Fixed descriptors: nothing is trained, nothing is loaded."""
        return self.network == "descriptors"

    @property
    def commercial(self) -> bool | None:
        """Whether the licence allows commercial use; None where a person has to read it."""
        if "-nc" in self.licence.lower() or "non-commercial" in self.licence:
            return False
        return True if self.licence.lower().startswith(OPEN) else None

    def saw(self, cohort: str) -> Overlap:
        """Whether its pretraining saw patients of that public cohort."""
        return "no" if self.pretraining_overlap == "no" else self.cohorts.get(cohort, "unknown")
