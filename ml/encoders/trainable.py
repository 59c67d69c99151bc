"""Encoders under a trained head: which part of one is trained, and encoders that are not trained at all.

A network is a sequence of blocks (layers of a transformer, stages of a ResNet, Swin or ConvNeXt) with something before them and something
after them. Modules are registered in the order in which they are applied, in timm as here, so what follows the blocks needs no list.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from torch import nn

from ml.encoders.catalogue import build, encoder
from ml.encoders.spec import EncoderError

TRUNKS = ("trunk", "visual", "beit3", "encoder")  # modules of ours and of MUSK's that hold the network with the blocks
SEQUENCES = ("blocks", "stages", "layers")  # transformers; ConvNeXt; Swin and MUSK
RESNET = ("layer1", "layer2", "layer3", "layer4")


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network, first to last. EncoderError("no_blocks") where it has no sequence of them."""
    return _blocks(_path(network)[-1])


def set_trained(network: nn.Module, last: int | None) -> None:
    """Makes only a part of the network trainable.

    last: None everything, 0 nothing, n the last n blocks and whatever follows them on the way to the vector: the final norm, and the
    pooling or projection of CONCH and KEEP. Errors: EncoderError no_blocks, too_many_blocks.
    """
    if not last:
        network.requires_grad_(last is None)
        return
    path = _path(network)
    blocks = _blocks(path[-1])
    if not 0 < last <= len(blocks):
        sentence = f"The encoder has {len(blocks)} blocks, so its last {last} cannot be trained."
        raise EncoderError("too_many_blocks", sentence, f"Choose 0 to {len(blocks)}, or train all of it.")
    network.requires_grad_(False)
    for block in blocks[-last:]:
        block.requires_grad_(True)
    for outer, inner in (*pairwise(path), (path[-1], blocks[-1])):
        for module in _after(outer, inner):
            module.requires_grad_(True)


def freeze_modes(network: nn.Module) -> None:
    """Puts modules that have parameters, none of them trained, into eval mode with all that they hold: BatchNorm and dropout stand still.

    Call it after every `train()`, which sets the mode of all modules.
    """
    parameters = list(network.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        network.eval()
        return
    for child in network.children():
        freeze_modes(child)


def frozen_tower(name: str, weights: str | Path | None = None, tile_um: float | None = None) -> nn.Module:
    """The network of any entry, fixed descriptors included, in eval mode and without gradients.

    tile_um: side of the tiles in um, which the descriptors need; None: the entry's own. Errors as ml.encoders.catalogue.build, and
    EncoderError("untrained") for an encoder that only learns together with its head.
    """
    spec = encoder(name)
    if spec.weight_free:
        from ml.encoders.descriptor_tower import DescriptorTower

        return DescriptorTower(spec, tile_um or spec.tile_um).eval()
    if not spec.needs_weights and weights is None:
        sentence = f"The encoder {name} is trained together with its head; frozen and without weights its vectors would be noise."
        raise EncoderError("untrained", sentence, "Train it, name its weight file, or choose another encoder.")
    return build(name, weights).eval().requires_grad_(False)


def _path(network: nn.Module) -> list[nn.Module]:
    """From the network down to the module that holds the blocks."""
    path = [network]
    while not _blocks_or_none(path[-1]):
        inner = next((m for m in (getattr(path[-1], name, None) for name in TRUNKS) if isinstance(m, nn.Module)), None)
        if inner is None:
            sentence = f"The network {type(network).__name__} has no sequence of blocks of which the last could be trained."
            raise EncoderError("no_blocks", sentence, "Train all of it or nothing.")
        path.append(inner)
    return path


def _blocks(holder: nn.Module) -> list[nn.Module]:
    found = _blocks_or_none(holder)
    assert found, "the path ends at blocks"
    return found


def _blocks_or_none(holder: nn.Module) -> list[nn.Module] | None:
    for name in SEQUENCES:
        sequence = getattr(holder, name, None)
        if isinstance(sequence, nn.Sequential | nn.ModuleList):
            return list(sequence)
    return [getattr(holder, name) for name in RESNET] if all(hasattr(holder, name) for name in RESNET) else None


def _after(outer: nn.Module, inner: nn.Module) -> list[nn.Module]:
    """The children of `outer` that come after the one that is, or holds, `inner`."""
    children = list(outer.children())
    place = next(i for i, child in enumerate(children) if any(m is inner for m in child.modules()))
    return children[place + 1 :]
