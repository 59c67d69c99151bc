"""What an entry of the catalogue says about an encoder, and how an encoder refuses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

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
    network: which builder of ml.encoders.networks makes it; "descriptors" has no network, "later" cannot be built yet (`refusal` says why).
    timm_name, timm_kwargs: architecture for `timm.create_model(num_classes=0)`. layout: naming of the tensors in the released file.
    vector: how the vector is made of the network's output ("pooled": the network's own; "cls"; "cls+mean" of the patch tokens).
    vector_note: the same for a person. precision: what it is released for on a GPU; a CPU computes in fp32.
    licence, commercial: terms of use; commercial None where a person has to read them.
    gated: terms must be accepted at the hub first. repo, file: where the weights are, owner/name and file.
    pretrained_on: what its weights saw. pretraining_overlap: whether that includes the public cohorts that are usually analysed;
    "unknown" is never called external. cohorts: the same per public cohort (TCGA, CPTAC, ...), as far as it is published.
    needs_weights: True for encoders trained elsewhere (a local file is required), False for "trained together with its head".
    parameters: number of the encoder's parameters in the released file, where published or counted from the architecture.
    source: where these figures come from. verified: the figures were read there; False with `note` saying which were not.
    """

    name: str
    title: str
    dim: int
    input_px: int
    licence: str
    label: str
    tile_um: float
    timm_name: str = ""
    timm_kwargs: dict[str, Any] = field(default_factory=dict)
    network: str = "timm"
    layout: str = "timm"
    vector: Literal["pooled", "cls", "cls+mean"] = "pooled"
    vector_note: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    precision: Precision = "fp32"
    commercial: bool | None = None
    gated: bool = False
    repo: str = ""
    file: str = ""
    pretrained_on: str = ""
    pretraining_overlap: Overlap = "unknown"
    cohorts: dict[str, Overlap] = field(default_factory=dict)
    needs_weights: bool = True
    parameters: int | None = None
    citation: str = ""
    source: str = ""
    verified: bool = True
    note: str = ""
    refusal: str = ""

    @property
    def mpp(self) -> float:
        """um per pixel of its input."""
        return self.tile_um / self.input_px

    @property
    def weights_source(self) -> str:
        """Where a person gets the file, in words."""
        return f"{self.repo} on the Hugging Face hub, file {self.file}" if self.repo else ""

    @property
    def weight_free(self) -> bool:
        """Fixed descriptors: nothing is trained, nothing is loaded."""
        return self.network == "descriptors"
