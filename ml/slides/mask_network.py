"""Segmentation networks for the tissue mask, loaded from local files: a compact U-Net of ours, and torchvision's DeepLabV3.

Ronneberger O et al. U-Net. MICCAI 2015. Chen LC et al. Rethinking atrous convolution (DeepLabV3). 2017; its published tissue weights:
Jaume G et al. HEST-1k. NeurIPS 2024.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ml.slides.findings import FindingCode, SlideError


class UNet(nn.Module):
    """x: (b, 3, h, w) float, any h and w -> logits (b, classes, h, w). width: channels of the first stage; depth: halvings."""

    def __init__(self, classes: int, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        sides = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(_stage(before, after) for before, after in zip([3, *sides], sides))
        self.up = nn.ModuleList(_stage(below + here, here) for below, here in zip(sides[:0:-1], sides[-2::-1]))
        self.head = nn.Conv2d(width, classes, 1)
        self.multiple = 2**depth

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        kept: list[Tensor] = []
        for i, stage in enumerate(self.down):
            x = stage(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        x = kept.pop()
        for stage in self.up:
            x = stage(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), kept.pop()], dim=1))
        logits: Tensor = self.head(x)[..., :height, :width]
        return logits


def _stage(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class LearnedMask:
    """A network as a mask method (see ml.slides.masks.MaskMethod): tissue is where the tissue classes together exceed the threshold."""

    def __init__(self, network: nn.Module, config: dict[str, Any], sha256: str, device: str = "cpu") -> None:
        self.network = network.eval().to(device)
        self.name: str = config["name"]
        self.sha256 = sha256
        self.input_um: float | None = float(config["input_um"])
        self.threshold = float(config["threshold"])
        self.device = device
        self._tissue = [config["classes"].index(name) for name in config["tissue"]]
        self._mean, self._std = (torch.tensor(config[key], dtype=torch.float32, device=device).view(3, 1, 1) for key in ("mean", "std"))

    @classmethod
    def load(cls, weights: Path, config: dict[str, Any], sha256: str, device: str = "cpu") -> LearnedMask:
        """From model.safetensors or a checkpoint of tensors only. SlideError MASK_WEIGHTS_INVALID where they do not fit the config."""
        try:
            network = _network(config)
            network.load_state_dict(_tensors(weights))
        except Exception as reason:
            first = str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__
            sentence = f"The weights of the learned tissue mask do not fit {config['architecture']} ({first[:200].rstrip('.: ')})."
            hint = "Take the file and the config from the same place; a checkpoint may hold tensors only."
            raise SlideError(FindingCode.MASK_WEIGHTS_INVALID, sentence, hint, weights.name) from reason
        return cls(network, config, sha256, device)

    def mask(self, rgb: NDArray[np.uint8], um: float) -> tuple[NDArray[np.bool_], float]:
        """See MaskMethod."""
        with torch.inference_mode():
            x = torch.from_numpy(np.array(rgb)).to(self.device).permute(2, 0, 1).float() / 255.0
            logits = self.network(((x - self._mean) / self._std)[None])
            logits = logits["out"] if isinstance(logits, dict) else logits
            share = torch.softmax(logits, dim=1)[0, self._tissue].sum(dim=0)
            found: NDArray[np.bool_] = (share > self.threshold).cpu().numpy()
        return found, self.threshold


def _network(config: dict[str, Any]) -> nn.Module:
    classes = len(config["classes"])
    if config["architecture"] == "unet":
        return UNet(classes, int(config.get("width", 16)), int(config.get("depth", 3)))
    from torchvision.models.segmentation import deeplabv3_resnet50

    network: nn.Module = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
    return network


def _tensors(weights: Path) -> dict[str, Tensor]:
    """The state dict, without a trainer's prefix ("model.") and without the auxiliary head that only training uses."""
    if weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, Tensor] = load_file(weights)
    else:
        read = torch.load(weights, map_location="cpu", weights_only=True)
        state = read.get("state_dict", read)
    return {name.removeprefix("model."): value for name, value in state.items() if not name.removeprefix("model.").startswith("aux_")}
