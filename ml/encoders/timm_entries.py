"""Any model of timm as an entry, by the name "timm:NAME": its figures are timm's pretrained configuration."""

from __future__ import annotations

from functools import lru_cache

from ml.encoders.spec import EncoderError, EncoderSpec

PITCH_UM = 0.5  # such models have no pitch of their own; tiles are read at the field's usual 0.5 um/px


@lru_cache(maxsize=32)
def timm_entry(name: str) -> EncoderSpec:
    """The entry of "timm:NAME", NAME as in `timm.list_pretrained()`. EncoderError: unknown_encoder."""
    import timm
    import torch

    model = name.removeprefix("timm:")
    cfg = timm.get_pretrained_cfg(model, allow_unregistered=False) if timm.is_model(model) else None
    if cfg is None or not cfg.has_weights:
        sentence = f"timm {timm.__version__} has no pretrained model {model!r}."
        raise EncoderError("unknown_encoder", sentence, "Its names are those of timm.list_pretrained().")
    with torch.device("meta"):
        dim = int(timm.create_model(model, pretrained=False, num_classes=0).num_features)
    if cfg.input_size[0] != 3 or cfg.input_size[1] != cfg.input_size[2]:
        raise EncoderError("unknown_encoder", f"timm's {model} does not take square RGB tiles.", "Choose another model.")
    px = int(cfg.input_size[2])
    return EncoderSpec(
        name=name,
        title=f"{model} of timm",
        timm_name=model,
        dim=dim,
        input_px=px,
        tile_um=px * PITCH_UM,
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        licence=cfg.license or "unknown: see its model card",
        label="pretrained, as timm describes it",
        vector_note="the model's own pooling, without its classifier",
        repo=cfg.hf_hub_id or f"timm/{cfg.architecture}.{cfg.tag}",
        file=cfg.hf_hub_filename or "model.safetensors",
        pretrained_on="see its model card",
        source="timm.get_pretrained_cfg",
        citation=cfg.paper_ids or "",
    )
