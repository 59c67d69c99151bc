"""Ways to tell tissue from glass behind one interface: Otsu's threshold by default, or a segmentation network from a local folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.slides.files import sha256_file
from ml.slides.findings import FindingCode, SlideError

NEAR_BLACK = 40  # brightest channel below this: no light came through (frame, mask picture, fluorescence)
THRESHOLD_LIMITS = (12.0, 28.0)  # grey levels of max(R,G,B) - min(R,G,B)
CONFIG, WEIGHTS, HEST = "config.json", "model.safetensors", "deeplabv3_seg_v4.ckpt"
# What is known of the published file; its input of 512 px at 1 um per px is that of TRIDENT, which ships it.
HEST_CONFIG: dict[str, Any] = {
    "name": "hest-tissue-seg",
    "architecture": "deeplabv3_resnet50",
    "input_um": 1.0,
    "classes": ["background", "tissue"],
    "tissue": ["tissue"],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "threshold": 0.5,
}
WHERE_FROM = (
    f"Put {CONFIG} and {WEIGHTS} into the folder, or {HEST} from huggingface.co/MahmoodLab/hest-tissue-seg "
    "(licence CC BY-NC-SA 4.0: non-commercial use only), or set TISSUE_MASK=otsu."
)


class MaskMethod(Protocol):
    """A way to find tissue.

    name, sha256: what it is, and the checksum of what was learned ("" for a fixed rule). input_um: um per px of the picture that it wants,
    None for the cells of the mask themselves.
    """

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def input_um(self) -> float | None: ...

    def mask(self, rgb: NDArray[Any], um: float) -> tuple[NDArray[np.bool_], float]:
        """Tissue (rows, cols) bool of a picture of `um` per px, and the threshold that decided.

        rgb: (rows, cols, 3), 0..255; where `input_um` is None float32 cells, smoothed, glass and ink white; else uint8 as scanned.
        """
        ...


@dataclass(frozen=True)
class Otsu:
    """Glass is bright and nearly grey, stained tissue is coloured: a threshold on colourfulness, kept within limits.

    A slide full of tissue, or of nothing, has no two classes; the limits keep the threshold sensible there.
    Otsu N. A threshold selection method from gray-level histograms. IEEE Trans SMC 1979.
    """

    name: str = "otsu"
    sha256: str = ""
    input_um: float | None = None

    def mask(self, rgb: NDArray[Any], um: float) -> tuple[NDArray[np.bool_], float]:
        """See MaskMethod."""
        lit = rgb.max(axis=2) >= NEAR_BLACK
        colour = rgb.max(axis=2) - rgb.min(axis=2)
        if not lit.any():
            return lit, THRESHOLD_LIMITS[0]
        threshold = float(np.clip(otsu(colour[lit]), *THRESHOLD_LIMITS))
        return lit & (colour > threshold), threshold


OTSU = Otsu()


def otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold of values in 0..255: the cut that separates two classes with the largest variance between them."""
    counts = np.histogram(values, bins=256, range=(0.0, 256.0))[0].astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(np.argmax(np.nan_to_num(between)) + 1)


def mask_method(name: str, folder: str | Path | None = None, device: str = "cpu") -> MaskMethod:
    """The method "otsu", or "learned" from its folder (kept in memory: the next slide finds it loaded).

    Errors: SlideError MASK_WEIGHTS_MISSING, MASK_WEIGHTS_INVALID; ValueError for another name.
    """
    if name == "otsu":
        return OTSU
    if name != "learned":
        raise ValueError(f"There is no tissue mask {name!r}; there are otsu and learned.")
    weights, _ = _files(folder)
    return _loaded(str(weights.parent), _stamp(weights), device)


def method_key(name: str, folder: str | Path | None = None) -> str:
    """What makes masks of this method different from Otsu's: "" for Otsu, else name and checksum. Loads no network. Errors as above."""
    if name == "otsu":
        return ""
    weights, config = _files(folder)
    return f"{config['name']} {_checksum(str(weights), _stamp(weights))}"


@lru_cache(maxsize=1)
def _loaded(folder: str, stamp: tuple[int, ...], device: str) -> MaskMethod:
    from ml.slides.mask_network import LearnedMask

    weights, config = _files(folder)
    return LearnedMask.load(weights, config, _checksum(str(weights), stamp), device)


@lru_cache(maxsize=4)
def _checksum(weights: str, stamp: tuple[int, ...]) -> str:
    """Of the weights and of what says how to use them."""
    config = Path(weights).with_name(CONFIG)
    said = config.read_bytes() if config.is_file() else json.dumps(HEST_CONFIG, sort_keys=True).encode()
    return hashlib.sha256(f"{sha256_file(weights)} {hashlib.sha256(said).hexdigest()}".encode()).hexdigest()


def _stamp(weights: Path) -> tuple[int, ...]:
    """Changes when one of the files does."""
    files = [path for path in (weights, weights.with_name(CONFIG)) if path.is_file()]
    return tuple(number for path in files for number in (path.stat().st_size, path.stat().st_mtime_ns))


def _files(folder: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """The weight file of a folder, and its config."""
    if folder is None or not Path(folder).is_dir():
        raise SlideError(FindingCode.MASK_WEIGHTS_MISSING, "There is no folder with the weights of the learned tissue mask.", WHERE_FROM)
    config, weights, hest = (Path(folder) / name for name in (CONFIG, WEIGHTS, HEST))
    if weights.is_file() and config.is_file():
        return weights, _config(config)
    if hest.is_file():
        return hest, _config(config) if config.is_file() else dict(HEST_CONFIG)
    missing = f"{WEIGHTS} and {CONFIG}" if not weights.is_file() else CONFIG
    sentence = f"The folder of the learned tissue mask holds no {missing}."
    raise SlideError(FindingCode.MASK_WEIGHTS_MISSING, sentence, WHERE_FROM, Path(folder).name)


def _config(path: Path) -> dict[str, Any]:
    """A config with every key of the stated layout, or SlideError MASK_WEIGHTS_INVALID that names the one that is wrong."""
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
        for key, example in HEST_CONFIG.items():
            if not isinstance(config.get(key), (int, float) if isinstance(example, float) else type(example)):
                raise ValueError(f"{key} is missing or of the wrong kind")
        if config["architecture"] not in ("unet", "deeplabv3_resnet50"):
            raise ValueError(f"the architecture {config['architecture']} is unknown; known are unet, deeplabv3_resnet50")
        if not (0.1 <= config["input_um"] <= 32 and 0 < config["threshold"] < 1):
            raise ValueError("input_um has to be 0.1 to 32 um per px, threshold between 0 and 1")
        if not config["tissue"] or not set(config["tissue"]) <= set(config["classes"]):
            raise ValueError("tissue has to name one or more of classes")
        if len(config["mean"]) != 3 or len(config["std"]) != 3 or min(config["std"]) <= 0:
            raise ValueError("mean and std have to be three numbers each")
    except (ValueError, UnicodeDecodeError) as reason:
        sentence = f"The config of the learned tissue mask cannot be used: {reason}."
        raise SlideError(FindingCode.MASK_WEIGHTS_INVALID, sentence, WHERE_FROM, path.name) from None
    return config
