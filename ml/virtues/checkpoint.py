"""Weights on disk: the layout of the released files, read strictly and written so that the authors' code loads them strictly (spec 4)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ml.nn.rotary import rotary_tables
from ml.virtues.config import VirtuesConfig
from ml.virtues.errors import VirtuesError
from ml.virtues.model import MAX_GRID, VirTues

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# Ours to theirs. Within a block:
OF_BLOCK = {
    "attention.query": "multi_head_attention.W_q",
    "attention.key": "multi_head_attention.W_k",
    "attention.value": "multi_head_attention.W_v",
    "attention.output": "multi_head_attention.W_o",
    "expand": "feedforward.0",
    "contract": "feedforward.3",
    "norm1": "layernorm1",
    "norm2": "layernorm2",
}
OF_ENDS = {
    "encoder.summary_token": "encoder.patch_summary_token",
    "encoder.mask_token": "encoder.masked_token",
    "encoder.patch_projection": "encoder.patch_encoder",
    "encoder.marker_projection": "encoder.prior_embedding_encoder",
    "encoder.norm": "encoder.layer_norm",
    "decoder.norm": "decoder.layer_norm",
    "decoder.head": "decoder.multiplex_decoder_mlp",
}
TABLES = "multi_head_attention.pos_emb.rope1d"
BLOCK = re.compile(r"^(encoder|decoder)\.blocks\.(\d+)\.(.+)\.(weight|bias)$")
THEIR_TABLE = re.compile(r"^(encoder|decoder)\.\1\.\d+\.encoder_layer\." + re.escape(TABLES) + r"\.(sin|cos)$")


def released_name(name: str) -> str:
    """The released file's name of one of our parameters."""
    if match := BLOCK.match(name):
        part, number, layer, kind = match.groups()
        return f"{part}.{part}.{number}.encoder_layer.{OF_BLOCK[layer]}.{kind}"
    for ours, theirs in OF_ENDS.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    raise KeyError(name)


def released_state(model: VirTues) -> dict[str, Tensor]:
    """All entries that a released file of this configuration has, the rotary tables among them; float32, contiguous, on the CPU."""
    state = {released_name(name): value.detach().cpu().float().contiguous() for name, value in model.state_dict().items()}
    config = model.config
    for part, pattern, heads in (
        ("encoder", config.encoder_pattern, config.num_encoder_heads),
        ("decoder", config.decoder_pattern, config.num_decoder_heads),
    ):
        cos, sin = rotary_tables(config.model_dim // heads, MAX_GRID)
        for number, letter in enumerate(pattern):
            if letter != "v":
                prefix = f"{part}.{part}.{number}.encoder_layer.{TABLES}"
                state[f"{prefix}.sin"], state[f"{prefix}.cos"] = sin.clone(), cos.clone()
    return state


def load_released(state: Mapping[str, Tensor], config: VirtuesConfig) -> VirTues:
    """A VirTues with the weights of a released state, in evaluation mode. Strict: every entry must be known, there and of its shape.

    Rotary tables are not weights; those of the file must be the ones that the positions need (1e-3, float32 angles differ by 4e-5).
    VirtuesError: checkpoint_layout (names up to five entries), checkpoint_not_finite.
    """
    with torch.device("meta"):
        model = VirTues(config)
    wanted = {released_name(name): (name, value.shape) for name, value in model.state_dict().items()}
    tables = {name for name in state if THEIR_TABLE.match(name)}
    _refuse_other_layout(state, wanted, tables, config)
    ours = {name: state[theirs].detach().float() for theirs, (name, _) in wanted.items()}
    if not all(bool(torch.isfinite(value).all()) for value in ours.values()):
        raise VirtuesError("checkpoint_not_finite", "The weights hold numbers that are not finite.", "Take another copy of the file.")
    model = VirTues(config)
    model.load_state_dict(ours, strict=True)
    return model.eval()


def _refuse_other_layout(
    state: Mapping[str, Tensor], wanted: Mapping[str, tuple[str, torch.Size]], tables: set[str], config: VirtuesConfig
) -> None:
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys() - tables)
    other = sorted(name for name, (_, shape) in wanted.items() if name in state and state[name].shape != shape)
    wrong = []
    for name in sorted(tables):
        heads = config.num_encoder_heads if name.startswith("encoder") else config.num_decoder_heads
        cos, sin = rotary_tables(config.model_dim // heads, MAX_GRID)
        expected = cos if name.endswith("cos") else sin
        if state[name].shape != expected.shape or not torch.allclose(state[name].float(), expected, atol=1e-3, rtol=0):
            wrong.append(name)
    told = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (other, "of another shape"), (wrong, "tables of other positions"))
        if names
    ]
    if told:
        hint = "Give a file of the released layout with the configuration it was made with; weights of the first release (2025) differ."
        raise VirtuesError("checkpoint_layout", f"The file is not a VirTues of this configuration: entries {'; '.join(told)}.", hint)


def load_weights(path: str | Path, config: VirtuesConfig | None = None) -> VirTues:
    """A VirTues from a safetensors file, or a folder with model.safetensors and, unless config is given, config.json.

    A file without a configuration is read as the released one. VirtuesError: weights_missing, weights_unreadable, config_unreadable, and
    those of `load_released`.
    """
    path = Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        hint = "The published weights are virtues-sp31 (MIT), virtues-sp32 and virtues-imc14 (CC BY-NC 4.0), each a model.safetensors."
        raise VirtuesError("weights_missing", f"There is no file {file.name} with weights of VirTues.", hint)
    if config is None:
        config = _config_beside(file)
    try:
        state = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise VirtuesError("weights_unreadable", f"{file.name} cannot be read as safetensors.", "Take another copy of the file.") from error
    return load_released(state, config)


def _config_beside(file: Path) -> VirtuesConfig:
    beside = file.parent / CONFIG
    if not beside.is_file():
        return VirtuesConfig()
    try:
        values = json.loads(beside.read_text())
        return VirtuesConfig(**{name: values[name] for name in VirtuesConfig.model_fields if name in values})
    except (ValueError, TypeError) as error:
        raise VirtuesError(
            "config_unreadable", f"{CONFIG} beside {file.name} is no configuration of VirTues.", "Correct or remove it."
        ) from error


def save_weights(model: VirTues, folder: str | Path) -> Path:
    """Writes model.safetensors (released layout) and config.json into a folder, which is made if it is missing; gives the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(released_state(model), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(model.config.model_dump(mode="json"), indent=1))
    return folder
