"""VirTues: encoder, decoder and their forward pass (spec 1-3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from ml.nn.rotary import grid_tables, rotary_tables
from ml.virtues.config import VirtuesConfig
from ml.virtues.errors import VirtuesError
from ml.virtues.layers import Angles, Block
from ml.virtues.plan import TokenPlan, plan_tokens

# Length of the tables that the released files carry: the largest row or column of a grid.
MAX_GRID = 1200


@dataclass(frozen=True)
class Encoded:
    """What the encoder gives. summaries: (B, H, W, D) patch summaries. tokens: (C, H, W, D) of each sample; empty where not asked for.

    Both after the final LayerNorm. after_blocks: {number of blocks: (B, H * W, D)} patch summaries before it, as asked for.
    """

    summaries: Tensor
    tokens: tuple[Tensor, ...]
    after_blocks: dict[int, Tensor] = field(default_factory=dict)


class Encoder(nn.Module):
    """Patches of all channels of a panel to tokens, with one summary token per patch position."""

    def __init__(self, config: VirtuesConfig) -> None:
        super().__init__()
        dim = config.model_dim
        self.config = config
        self.patch_projection = nn.Linear(config.patch_size**2, dim)
        self.marker_projection = nn.Linear(config.marker_embedding_dim, dim)
        self.summary_token = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.mask_token = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.blocks = nn.ModuleList(Block(dim, config.feedforward_dim, config.num_encoder_heads) for _ in config.encoder_pattern)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        _tables(self, dim // config.num_encoder_heads)

    def all_tokens(self, images: Sequence[Tensor], markers: Sequence[Tensor], masks: Sequence[Tensor] | None) -> Tensor:
        """(n_all, D): tokens of every sample before the first block, in the order of `TokenPlan`; masked ones carry the mask token."""
        found = []
        for index, (image, embedding) in enumerate(zip(images, markers)):
            tokens = self.patch_projection(patches(image, self.config.patch_size))
            if masks is not None:
                tokens = torch.where(masks[index].flatten(1)[..., None], self.mask_token, tokens)
            tokens = tokens + self.marker_projection(embedding)[:, None, :]
            found += [self.summary_token.expand(1, tokens.shape[1], -1), tokens]
        return torch.cat([one.flatten(0, 1) for one in found])

    def forward(
        self,
        images: Sequence[Tensor],
        markers: Sequence[Tensor],
        masks: Sequence[Tensor] | None = None,
        *,
        plan: TokenPlan | None = None,
        after: Collection[int] = (),
        with_tokens: bool = True,
    ) -> Encoded:
        """images: (C, h, w) float each, preprocessed, C their own, h and w shared and multiples of the patch. markers: (C, E) each.

        masks: (C, H, W) bool each, True = masked: such tokens take part in no attention. plan: of these very masks, where the caller made
        it beforehand (on a GPU it saves a wait). after: numbers of blocks (1-based) after which patch summaries are kept. with_tokens:
        False leaves the channels' tokens out. VirtuesError: shape.
        """
        grid = self._checked(images, markers, masks)
        if plan is None:
            plan = plan_tokens([len(image) for image in images], grid, masks)
        plan = plan.to(images[0].device)
        everything = self.all_tokens(images, markers, masks)
        angles = self._angles(plan.rows, plan.cols)
        x, kept = everything[plan.visible], {}
        summaries = _summary_places(plan)
        for number, (letter, block) in enumerate(zip(self.config.encoder_pattern, self.blocks), 1):
            x = block(x, plan.spatial, angles) if letter == "h" else block(x, plan.marker)
            if number in after:
                kept[number] = x[summaries]
        if not with_tokens:
            return Encoded(self.norm(x[summaries]).unflatten(1, grid), (), kept)
        everything = self.norm(everything.index_copy(0, plan.visible, x))
        parts = [everything[start:stop].unflatten(0, (-1, *grid)) for start, stop in pairwise(plan.starts)]
        return Encoded(torch.stack([part[0] for part in parts]), tuple(part[1:] for part in parts), kept)

    def first_marker_attention(self, image: Tensor, markers: Tensor) -> Tensor:
        """(H * W, heads, C + 1, C + 1) softmax [position, head, query, key] of the first block across markers, without a mask.

        Index 0 of the last two axes is the patch summary. VirtuesError: shape, no_marker_attention.
        """
        block = self.config.first_marker_block
        if block < 0:
            raise VirtuesError("no_marker_attention", "This network has no attention across markers.", "Use one with a v in its pattern.")
        grid = self._checked([image], [markers], None)
        plan = plan_tokens([len(image)], grid).to(image.device)
        x, angles = self.all_tokens([image], [markers], None), self._angles(plan.rows, plan.cols)
        for one in self.blocks[:block]:
            x = one(x, plan.spatial, angles)
        x = x.unflatten(0, (len(image) + 1, -1)).transpose(0, 1)
        probabilities: Tensor = self.blocks[block].attention.probabilities(self.blocks[block].norm1(x))
        return probabilities

    def _angles(self, rows: Tensor, cols: Tensor) -> Angles:
        cos, sin = grid_tables(self.cos, self.sin, rows, cols)
        return cos[:, None, :], sin[:, None, :]

    def _checked(self, images: Sequence[Tensor], markers: Sequence[Tensor], masks: Sequence[Tensor] | None) -> tuple[int, int]:
        """The grid (H, W) of a batch that fits together."""
        size, edge = self.config.patch_size, self.config.marker_embedding_dim
        shapes = {tuple(image.shape[1:]) for image in images}
        if len(images) == 0 or any(image.ndim != 3 or not len(image) for image in images) or len(shapes) != 1:
            raise VirtuesError("shape", "The images of one call must be (channels, rows, columns) of one size.", "Crop them alike.")
        height, width = shapes.pop()
        if height % size or width % size or not 0 < max(height, width) <= MAX_GRID * size:
            said = f"A picture of {height} x {width} px does not divide into patches of {size} px."
            raise VirtuesError("shape", said, f"Crop it to multiples of {size}, at most {MAX_GRID * size} px.")
        for number, (image, embedding) in enumerate(zip(images, markers, strict=True)):
            if tuple(embedding.shape) != (len(image), edge):
                said = f"Sample {number} has {len(image)} channels and marker embeddings of shape {tuple(embedding.shape)}."
                raise VirtuesError("shape", said, f"Give one embedding of length {edge} per channel.", f"sample {number}")
            if masks is not None and tuple(masks[number].shape) != (len(image), height // size, width // size):
                said = f"The mask of sample {number} has shape {tuple(masks[number].shape)}."
                raise VirtuesError("shape", said, "Give one value per channel and patch.", f"sample {number}")
        return height // size, width // size


class Decoder(nn.Module):
    """Each channel by itself: patch summaries and that channel's tokens attend to each other; its tokens become pixels."""

    def __init__(self, config: VirtuesConfig) -> None:
        super().__init__()
        dim = config.model_dim
        self.config = config
        self.blocks = nn.ModuleList(Block(dim, config.feedforward_dim, config.num_decoder_heads) for _ in config.decoder_pattern)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        layers: list[nn.Module] = []
        for _ in range(config.num_decoder_hidden_layers - 1):
            layers += [nn.Linear(dim, dim), nn.GELU()]
        self.head = nn.Sequential(*layers, nn.Linear(dim, config.patch_size**2))
        _tables(self, dim // config.num_decoder_heads)

    def forward(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """(C, h, w) of each sample, in the unit of the preprocessed images."""
        height, width = encoded.summaries.shape[1:3]
        counts = [len(tokens) for tokens in encoded.tokens]
        summaries = torch.repeat_interleave(encoded.summaries.flatten(1, 2), torch.tensor(counts, device=encoded.summaries.device), dim=0)
        x = torch.cat([summaries, torch.cat([tokens.flatten(1, 2) for tokens in encoded.tokens])], dim=1)
        place = torch.arange(height * width, device=x.device).repeat(2)
        cos, sin = grid_tables(self.cos, self.sin, place // width, place % width)
        angles = (cos[:, None, :], sin[:, None, :])
        for block in self.blocks[:-1]:
            x = block.dense(x, angles)
        x = self.blocks[-1].dense(x, angles, last=height * width)  # the summaries have been looked at for the last time
        pixels = pictures(self.head(self.norm(x)), (height, width))
        return torch.split(pixels, counts)


class VirTues(nn.Module):
    """Encoder and decoder with one configuration. `encode` for representations, `forward` for pretraining and reconstruction."""

    def __init__(self, config: VirtuesConfig | None = None) -> None:
        super().__init__()
        self.config = config or VirtuesConfig()
        self.encoder, self.decoder = Encoder(self.config), Decoder(self.config)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, images: Sequence[Tensor], markers: Sequence[Tensor], masks: Sequence[Tensor] | None = None, plan: TokenPlan | None = None
    ) -> tuple[Encoded, tuple[Tensor, ...]]:
        """(what the encoder gives, the reconstruction (C, h, w) of each sample); arguments as those of `Encoder.forward`."""
        encoded = self.encoder(images, markers, masks, plan=plan)
        return encoded, self.decoder(encoded)

    @torch.inference_mode()
    def encode(self, images: Sequence[Tensor], markers: Sequence[Tensor]) -> Tensor:
        """(B, H, W, D) patch summaries of whole samples."""
        summaries: Tensor = self.encoder(images, markers, with_tokens=False).summaries
        return summaries


def reconstruction_loss(reconstruction: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean squared difference over all pixels of all channels of all samples, masked or not (spec 3)."""
    return nn.functional.mse_loss(torch.cat(list(reconstruction)), torch.cat(list(target)))


def patches(image: Tensor, size: int) -> Tensor:
    """(C, h, w) -> (C, H * W, size^2), each patch row by row."""
    return nn.functional.unfold(image[:, None], size, stride=size).transpose(1, 2)


def pictures(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(C, H * W, size^2) -> (C, h, w): the inverse of `patches`."""
    size = round(tokens.shape[-1] ** 0.5)
    return nn.functional.fold(tokens.transpose(1, 2), (grid[0] * size, grid[1] * size), size, stride=size)[:, 0]


def _summary_places(plan: TokenPlan) -> Tensor:
    """(B, H * W) rows of the patch summaries among the packed tokens (they are never masked)."""
    size = plan.grid[0] * plan.grid[1]
    first = torch.searchsorted(plan.visible, torch.tensor(plan.starts[:-1], device=plan.visible.device))
    return first[:, None] + torch.arange(size, device=first.device)


def _tables(module: nn.Module, head_dim: int) -> None:
    # Made anew with the module, not stored with it: `checkpoint` writes them where the released layout wants them.
    for name, table in zip(("cos", "sin"), rotary_tables(head_dim, MAX_GRID)):
        module.register_buffer(name, table, persistent=False)
