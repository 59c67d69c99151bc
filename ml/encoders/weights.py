"""Weight files: where they are looked for, how they are read, and what is said when they are not there. Torch is imported late."""

from __future__ import annotations

import os
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from ml.encoders.spec import EncoderError, EncoderSpec, WeightsMismatch, WeightsMissing

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".torch")
WRAPPINGS = ("state_dict", "model", "teacher")


def weights_folder(spec: EncoderSpec, root: Path | None = None) -> Path:
    """Where a person puts this encoder's file: `<root>/<encoder>/`; root None: `$TISSUEBOARD_HOME/weights`."""
    home = Path(os.environ.get("TISSUEBOARD_HOME") or Path(__file__).resolve().parents[2] / "var")
    return (root or home / "weights") / folder_name(spec.name)


def folder_name(name: str) -> str:
    """An encoder's name as a folder's: `timm:vit_small_patch16_224` has a colon, which no file system likes."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def missing(spec: EncoderSpec, sentence: str, root: Path | None = None) -> WeightsMissing:
    """The refusal that says what to accept, and where to put which file."""
    code = "weights_gated" if spec.gated else "weights_missing"
    if not spec.repo:
        return WeightsMissing(code, sentence, "Name the file.")
    return WeightsMissing(code, sentence, where_to_get(spec, root))


def where_to_get(spec: EncoderSpec, root: Path | None = None) -> str:
    """What to accept, and where to put which file, for a person."""
    folder = f"{weights_folder(spec, root)}/"
    token = "TISSUEBOARD_HUB=1 and a token in HF_TOKEN" if spec.gated else "TISSUEBOARD_HUB=1"
    if spec.gated:
        terms = f"Accept the terms at {spec.repo}, then put {Path(spec.file).name} into"
    else:
        terms = f"Get {spec.file} from {spec.repo} and put it into"
    return f"{terms} {folder}, or set {token}. Its licence is {spec.licence}."


def local_weights(spec: EncoderSpec, root: Path | None = None) -> Path | None:
    """The file in the encoder's weights folder: the released name first, else the only weight file there; None where there is none.

    EncoderError("weights_ambiguous") when several files lie there and none has the released name.
    """
    folder = weights_folder(spec, root)
    released = folder / Path(spec.file).name if spec.file else None
    if released is not None and released.is_file():
        return released
    found = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES) if folder.is_dir() else []
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise EncoderError("weights_ambiguous", f"The folder {folder} holds several weight files: {names}.", "Leave one of them there.")
    return found[0] if found else None


def read_tensors(spec: EncoderSpec, path: Path) -> dict[str, Any]:
    """Name -> tensor of a .safetensors or .bin/.pth file (tensors only, pickled code is never run). WeightsMissing, WeightsMismatch.

    A training checkpoint is opened: what lies under "state_dict", "model" or "teacher", without the "module." of parallel training.
    """
    if not path.is_file():
        raise missing(spec, f"The weight file {path.name} of encoder {spec.name} is not there.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        state = dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # every reader has its own exceptions; what a person needs is the same for all of them
        raise WeightsMismatch("weights_unreadable", f"The weight file {path.name} cannot be read as tensors.", "Fetch it again.") from error
    state = next((dict(state[k]) for k in WRAPPINGS if isinstance(state.get(k), dict)), state)
    return {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, torch.Tensor)}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_weights(spec: EncoderSpec, given: Path | None, root: Path | None = None) -> Path:
    """The weight file to use: the one given, else the one in the weights folder, else from the hub where that is allowed.

    Errors: WeightsMissing (weights_missing, weights_gated, hub_unreachable), EncoderError (weights_ambiguous).
    """
    if given is not None:
        return given
    found = local_weights(spec, root)
    if found is None and spec.repo and hub_allowed():
        from ml.encoders.hub import fetch

        found = fetch(spec, weights_folder(spec, root))
    if found is None:
        raise missing(spec, f"The weights of encoder {spec.name} are not here.", root)
    return found


def hub_allowed() -> bool:
    """Whether weight files may be fetched from the Hugging Face hub: only where TISSUEBOARD_HUB is 1 (the token is HF_TOKEN)."""
    return os.environ.get("TISSUEBOARD_HUB", "").lower() in ("1", "true")


def write_safetensors(source: Path, state: dict[str, Any], target: Path) -> None:
    """The tensors of `source` as safetensors: a file that is one already is copied as it is, another is written anew."""
    if source.suffix == ".safetensors":
        shutil.copyfile(source, target)
        return
    from safetensors.torch import save_file

    own, seen = {}, set()
    for name, tensor in state.items():
        storage = tensor.untyped_storage()
        # safetensors takes no two tensors of one memory, and no part of a larger one
        shared = storage.data_ptr() in seen or storage.nbytes() != tensor.numel() * tensor.element_size()
        seen.add(storage.data_ptr())
        own[name] = tensor.clone().contiguous() if shared else tensor.contiguous()
    save_file(own, target)
