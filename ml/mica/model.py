"""MICA's network (spec section 3), with the authors' names so that their state dicts load, and the same network with one branch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.mica.config import MicaFitConfig

BILINEAR_SHARE = 8  # each branch is brought to an eighth of its width before the outer product
BILINEAR_HIDDEN = 256  # fixed in the authors' fusion, whatever the width


class MicaOutput(NamedTuple):
    """Of one slide, K intervals, P tokens, n tiles.

    logits, hazards, survival: (1, K); survival_k = P(no event up to the end of interval k). risk: (1,) = -sum of survival, in -K..0, higher
    is worse. coattention: (1, heads, P, n), raw scores before the softmax over tiles; None without H&E. path, codex: (1, P), raw scores of
    the pooling; None where it averages.
    """

    logits: Tensor
    hazards: Tensor
    survival: Tensor
    risk: Tensor
    coattention: Tensor | None
    path: Tensor | None
    codex: Tensor | None


class CoAttention(nn.Module):
    """Multi-head attention whose raw scores come out: torch's own gives only weights. No dropout, residual or norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight, self.in_proj_bias = nn.Parameter(torch.empty(3 * width, width)), nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(P, d) asks (n, d) -> (P, d) and raw scores (1, heads, P, n)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((queries, keys, keys), weights, biases))
        q, k, v = (x.unflatten(1, (self.heads, -1)).transpose(0, 1) for x in (q, k, v))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)
        answer: Tensor = self.out_proj((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
        return answer, scores.unsqueeze(0)


class GatedAttention(nn.Module):
    """(P, d) -> (P, 1): one raw score per token, c(tanh(a) * sigmoid(b))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(dropout))
        self.attention_b = nn.Sequential(nn.Linear(width, width), nn.Sigmoid(), nn.Dropout(dropout))
        self.attention_c = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.attention_c(self.attention_a(tokens) * self.attention_b(tokens))
        return scores


class BilinearFusion(nn.Module):
    """Gated bilinear pooling: each vector is gated by both, brought to width/8, given a constant 1; their outer product is encoded."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        small = width // BILINEAR_SHARE
        for i in (1, 2):
            setattr(self, f"linear_h{i}", nn.Sequential(nn.Linear(width, small), nn.ReLU()))
            setattr(self, f"linear_z{i}", nn.Sequential(nn.Linear(2 * width, small)))
            setattr(self, f"linear_o{i}", nn.Sequential(nn.Linear(small, small), nn.ReLU(), nn.Dropout(dropout)))
        self.post_fusion_dropout = nn.Dropout(dropout)
        self.encoder1 = nn.Sequential(nn.Linear((small + 1) ** 2, BILINEAR_HIDDEN), nn.ReLU(), nn.Dropout(dropout))
        self.encoder2 = nn.Sequential(nn.Linear(BILINEAR_HIDDEN, width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, both: Tensor) -> Tensor:
        """(1, 2d), the two vectors side by side -> (1, d)."""
        sides = []
        for i, vector in enumerate(both.chunk(2, dim=1), 1):
            gate = torch.sigmoid(self.get_submodule(f"linear_z{i}")(both))
            gated = self.get_submodule(f"linear_o{i}")(gate * self.get_submodule(f"linear_h{i}")(vector))
            sides.append(F.pad(gated, (0, 1), value=1.0))
        outer = torch.einsum("bi,bj->bij", *sides).flatten(1)
        fused: Tensor = self.encoder2(self.encoder1(self.post_fusion_dropout(outer)))
        return fused


class MicaNet(nn.Module):
    """An H&E bag (n, tile_dim) and a CODEX bag (P, codex_dim) of one slide -> MicaOutput.

    modality "both" is the authors' network. "codex" is its CODEX branch, "he" its H&E branch with learned tokens asking in the place of the
    CODEX tokens (so its cost stays linear in the tiles, and the comparison differs in the CODEX input alone); both keep the layers after
    it.
    """

    def __init__(self, tile_dim: int | None, codex_dim: int | None, config: MicaFitConfig) -> None:
        super().__init__()
        d, p = config.width, config.dropout
        self.config, self.pooling = config, config.pooling
        branches = {"both": ("path", "codex"), "he": ("path",), "codex": ("codex",)}[config.modality]
        if "path" in branches:
            self.wsi_net = nn.Sequential(nn.Linear(_known(tile_dim), d), nn.ReLU(), nn.Dropout(p))
            self.coattn = CoAttention(d, config.coattention_heads)
        if "codex" in branches:
            self.codex_net = nn.Sequential(nn.Linear(_known(codex_dim), d), nn.ReLU(), nn.Dropout(p))
        else:
            self.queries = nn.Parameter(torch.randn(config.he_queries, d))
        for i, branch in enumerate(branches):
            made = self._branch(config) if i == 0 or config.transformer_mode == "separate" else made  # noqa: F821 (made at i == 0)
            for name, module in made.items():
                self.add_module(f"{branch}_{name}", module)
        self.branches = branches
        if config.fusion == "bilinear":
            self.mm: nn.Module = BilinearFusion(d, p)
        else:
            self.mm = nn.Sequential(nn.Linear(len(branches) * d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())
        self.classifier = nn.Linear(d, config.bins)

    @staticmethod
    def _branch(config: MicaFitConfig) -> dict[str, nn.Module]:
        """Transformer, attention head and rho of a branch. The last two are there with averaging, too: the state dict has them."""
        d, p = config.width, config.dropout
        layer = nn.TransformerEncoderLayer(d, config.heads, config.ffn, p, activation="relu")
        return {
            "transformer": nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False),
            "attention_head": GatedAttention(d, p),
            "rho": nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(p)),
        }

    def forward(self, tiles: Tensor | None, codex: Tensor | None) -> MicaOutput:
        asking = self.codex_net(codex) if "codex" in self.branches else self.queries
        tokens, scores = {"codex": asking}, None
        if "path" in self.branches:
            tokens["path"], scores = self.coattn(asking, self.wsi_net(tiles))
        pooled, raw = [], {}
        for branch in self.branches:
            vector, raw[branch] = self._pool(branch, self.get_submodule(f"{branch}_transformer")(tokens[branch].unsqueeze(1)).squeeze(1))
            pooled.append(vector)
        logits = self.classifier(self.mm(torch.cat(pooled).unsqueeze(0))).float()
        hazards = torch.sigmoid(logits)
        survival = torch.cumprod(1 - hazards, dim=1)
        return MicaOutput(logits, hazards, survival, -survival.sum(dim=1), scores, raw.get("path"), raw.get("codex"))

    def _pool(self, branch: str, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """(P, d) -> (d,), and the raw scores (1, P) where it pools by attention."""
        if self.pooling == "gap":
            return tokens.mean(dim=0), None
        scores = self.get_submodule(f"{branch}_attention_head")(tokens).T
        return self.get_submodule(f"{branch}_rho")(scores.softmax(dim=1) @ tokens).squeeze(0), scores

    @torch.no_grad()
    def absorb(self, branch: str, mean: Tensor, sd: Tensor) -> None:
        """Folds x -> (x - mean) / sd into a branch's first layer ("path" or "codex"): fitted on standardised inputs, it then takes raw
        ones.
        """
        first = (self.wsi_net if branch == "path" else self.codex_net)[0]
        first.weight.div_(sd)
        first.bias.sub_(first.weight @ mean)


def _known(dim: int | None) -> int:
    if dim is None:
        raise ValueError("A branch of MICA needs the width of its input.")
    return dim
