"""The catalogue of patch encoders. An entry is data: any network that gives one vector per tile can be added by a line.

Nothing is ever downloaded: an encoder that was trained elsewhere is built from a local weight file that a person brings,
because most are behind terms of use that only a person can accept. Importing this module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class EncoderError(Exception):
    """An encoder cannot be built. code: stable name; sentence: for a person; hint: what to do."""

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

    dim: length of its vector per tile. input_px: side of its input. tile_um: side of the tile it was made for in um (None: any).
    mean, std: per RGB channel, of values in 0..1. timm_name, timm_kwargs: architecture for `timm.create_model(num_classes=0)`.
    needs_weights: True for encoders trained elsewhere (a local file is required), False for "trained together with its head".
    weights_source: where a person gets that file. gated: terms must be accepted there first.
    pretraining_overlap: whether its pretraining saw patients of the cohorts it is used on; "unknown" is never called external.
    """

    name: str
    title: str
    timm_name: str
    dim: int
    input_px: int
    licence: str
    label: str
    tile_um: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    gated: bool = False
    pretraining_overlap: Literal["yes", "no", "unknown"] = "unknown"
    needs_weights: bool = True
    weights_source: str = ""
    timm_kwargs: dict[str, Any] = field(default_factory=dict)


CATALOGUE: dict[str, EncoderSpec] = {
    s.name: s
    for s in (
        EncoderSpec(
            name="compact-resnet-48",
            title="Narrow ResNet-10 of timm, 48 px",
            timm_name="resnet10t",
            timm_kwargs={"channels": (24, 48, 96, 128), "stem_width": 16},
            dim=128,
            input_px=48,
            tile_um=56.0,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            licence="Apache-2.0",
            label="untrained: trained together with its head",
            pretraining_overlap="no",
            needs_weights=False,
        ),
        EncoderSpec(
            name="resnet50",
            title="ResNet-50, ImageNet-1k",
            timm_name="resnet50",
            dim=2048,
            input_px=224,
            licence="Apache-2.0",
            label="pretrained on natural images",
            pretraining_overlap="no",
            weights_source="timm/resnet50.a1_in1k on the Hugging Face hub, file model.safetensors",
        ),
        EncoderSpec(
            name="h-optimus-0",
            title="H-optimus-0, ViT-g/14 on H&E",
            timm_name="vit_giant_patch14_reg4_dinov2",
            timm_kwargs={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
            dim=1536,
            input_px=224,
            tile_um=112.0,
            mean=(0.707223, 0.578729, 0.703617),
            std=(0.211883, 0.230117, 0.177517),
            licence="Apache-2.0",
            label="pretrained on H&E slides",
            weights_source="bioptimus/H-optimus-0 on the Hugging Face hub",
        ),
        EncoderSpec(
            name="uni",
            title="UNI, ViT-L/16 on H&E",
            timm_name="vit_large_patch16_224",
            timm_kwargs={"img_size": 224, "patch_size": 16, "init_values": 1e-5, "dynamic_img_size": True},
            dim=1024,
            input_px=224,
            tile_um=112.0,
            licence="CC-BY-NC-ND-4.0",
            label="pretrained on H&E slides",
            gated=True,
            weights_source="MahmoodLab/UNI on the Hugging Face hub, file pytorch_model.bin",
        ),
    )
}


def encoder(name: str) -> EncoderSpec:
    """The entry of that name; EncoderError("unknown_encoder") names the ones there are."""
    if name not in CATALOGUE:
        raise EncoderError("unknown_encoder", f"There is no encoder {name!r}.", f"Choose one of {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def build(name: str, weights: str | Path | None = None) -> nn.Module:
    """The network of an entry: (B, 3, input_px, input_px) float32, normalised -> (B, dim) float32.

    weights: a local .safetensors or .bin/.pth file (tensors only, never pickled code), loaded strictly except for a classifier
    that the encoder does not have. An entry that needs weights and gets none raises WeightsMissing; it is never built untrained.
    """
    spec = encoder(name)
    if spec.needs_weights and weights is None:
        raise _missing(spec, f"Encoder {spec.name} needs a weight file and none was given.")
    state = _read(spec, Path(weights)) if weights is not None else None
    network = architecture(name)
    if state is not None:
        _load(spec, network, state, Path(str(weights)))
    return network


def architecture(name: str) -> nn.Module:
    """The network of an entry without its weights: for a reader that fills every tensor of it, such as a checkpoint that holds them."""
    import timm

    spec = encoder(name)
    network: nn.Module = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **spec.timm_kwargs)
    return network


def _missing(spec: EncoderSpec, sentence: str) -> WeightsMissing:
    terms = " after accepting its terms there" if spec.gated else ""
    hint = (
        f"Get it from {spec.weights_source}{terms}, licence {spec.licence}, and name the file." if spec.weights_source else "Name the file."
    )
    return WeightsMissing("weights_gated" if spec.gated else "weights_missing", sentence, hint)


def _read(spec: EncoderSpec, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _missing(spec, f"The weight file {path.name} of encoder {spec.name} is not there.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # every reader has its own exceptions; what a person needs is the same for all of them
        raise WeightsMismatch("weights_unreadable", f"The weight file {path.name} cannot be read as tensors.", "Fetch it again.") from error


def _load(spec: EncoderSpec, network: nn.Module, state: dict[str, Any], path: Path) -> None:
    wanted = network.state_dict()
    classifier = [k for k in state if k not in wanted and k.split(".")[0] in ("fc", "head", "classifier")]
    state = {k: v for k, v in state.items() if k not in classifier}
    absent, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if absent or extra or shapes:
        facts = [
            f"{len(keys)} {what} (e.g. {keys[0]})"
            for what, keys in (("absent", absent), ("extra", extra), ("of another shape", shapes))
            if keys
        ]
        raise WeightsMismatch("weights_mismatch", f"The weight file {path.name} is not encoder {spec.name}: tensors {', '.join(facts)}.")
    network.load_state_dict(state)
