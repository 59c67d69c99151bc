"""MICA on disk: a folder of fold{k}.safetensors + config.json + provenance.json, and the authors' plain state dicts in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ml.mica.config import MicaFitConfig
from ml.mica.data import MicaInputs
from ml.mica.errors import MicaError
from ml.mica.labels import Bins
from ml.mica.model import BILINEAR_HIDDEN, MicaNet
from ml.mica.weights import MicaFold, MicaWeights
from ml.slides.files import sha256_file, whole_file
from ml.training.splits import membership

if TYPE_CHECKING:
    from ml.mica.cohort import Cohort
    from ml.mica.train import MicaFit

FORMAT = 1
AGAIN = "Copy the folder again."


# -- a folder of weights ---------------------------------------------------------------------------------------------------------------


def save_fit(
    fit: MicaFit,
    folder: str | Path,
    *,
    salt: str,
    code_version: str,
    label: str,
    inputs: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a fitted MICA and gives its provenance back.

    salt: secret with which patients' codes are hashed into the membership lists (never stored). code_version: of the code that made it.
    label: e.g. "trained on simulated tissue", shown wherever a number of it shows. inputs: name -> SHA-256 of what it was fitted on.
    No patient is named, and no outcome is kept.
    """
    folder, weights = Path(folder), fit.weights
    folder.mkdir(parents=True, exist_ok=True)
    checksums = {f"fold{k}.safetensors": write_fold(folder, k, fold, "") for k, fold in enumerate(weights.folds)}
    provenance = {
        "format": FORMAT,
        "label": label,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version,
        "inputs": dict(inputs),
        "weights_sha256": checksums,
        "membership": membership(fit.fold_of, salt),
        "metrics": fit.metrics(),
        "facts": dict(facts or {}),
    }
    described = {
        "family": "mica",
        "fit": weights.config.model_dump(mode="json"),
        "inputs": {**vars(weights.inputs), "markers": list(weights.markers)},
        "endpoint": weights.endpoint,
    }
    for name, content in (("config.json", described), ("provenance.json", provenance)):
        with whole_file(folder / name) as part:
            part.write_bytes(_json(content))
    return provenance


def load(folder: str | Path) -> MicaWeights:
    """The weights of a folder, strictly: every tensor is there, of its shape and of the checksum written; MicaError else."""
    folder = Path(folder)
    described, provenance = _read_json(folder, "config.json"), _read_json(folder, "provenance.json")
    if described.get("family") != "mica" or provenance.get("format") != FORMAT:
        sentence = f"The folder {folder.name} does not hold MICA weights of format {FORMAT}."
        raise MicaError("not_mica", sentence, "Name another model.", folder.name)
    try:
        config = MicaFitConfig.model_validate(described["fit"])
        inputs = MicaInputs(**{**described["inputs"], "markers": tuple(described["inputs"]["markers"])})
        lists = tuple(tuple(hashes) for hashes in provenance["membership"])
        checksums, endpoint = dict(provenance["weights_sha256"]), str(described["endpoint"])
    except (KeyError, TypeError, ValidationError) as error:
        sentence = f"The config of the weights in {folder.name} is not complete."
        raise MicaError("config_wrong", sentence, "Save the model again.", "config.json") from error
    names = [f"fold{k}.safetensors" for k in range(len(lists))]
    if sorted(names) != sorted(checksums):
        raise MicaError("config_wrong", f"The config in {folder.name} contradicts itself.", "Save the model again.", "config.json")
    for name in names:
        if not (folder / name).is_file():
            raise MicaError("weights_absent", f"The weight file {name} is not in {folder.name}.", AGAIN, name)
        if sha256_file(folder / name) != checksums[name]:
            raise MicaError("weights_changed", f"The weight file {name} is not the one that was saved.", AGAIN, name)
    folds = tuple(read_fold(folder, k, config, inputs) for k in range(len(names)))
    return MicaWeights(config, inputs, endpoint, folds, lists, provenance)


# -- one fold --------------------------------------------------------------------------------------------------------------------------


def write_fold(folder: Path, k: int, fold: MicaFold, mark: str) -> str:
    """Writes fold{k}.safetensors (whole or not at all) and gives its SHA-256. mark: fingerprint of what it was fitted on."""
    folder.mkdir(parents=True, exist_ok=True)
    # cloned: a shared transformer has two names, and safetensors takes no memory twice
    tensors = {f"model.{key}": value.clone().contiguous() for key, value in fold.model.state_dict().items()}
    tensors["bins.edges"] = torch.from_numpy(fold.bins.edges.copy())
    content = save(tensors, {"mark": mark, "facts": json.dumps(_clean(dict(fold.facts)))})
    with whole_file(folder / f"fold{k}.safetensors") as part:
        part.write_bytes(content)
    return sha256(content).hexdigest()


def read_fold(folder: Path, k: int, config: MicaFitConfig, inputs: MicaInputs) -> MicaFold:
    """The fold's network in eval mode, on the CPU. MicaError names the tensors that do not fit."""
    name = f"fold{k}.safetensors"
    tensors, header = _tensors(folder / name)
    edges = tensors.pop("bins.edges", None)
    if edges is None or edges.shape != (config.bins + 1,):
        raise MicaError("tensors_wrong", f"The weight file {name} has no intervals that fit its config.", "Save the model again.", name)
    model = MicaNet(inputs.tile_dim, inputs.codex_dim, config)
    _fill(model, {key.removeprefix("model."): value for key, value in tensors.items()}, name)
    return MicaFold(model, Bins(edges.numpy()), json.loads(header.get("facts", "{}")))


def fingerprint(cohort: Cohort, config: MicaFitConfig) -> str:
    """SHA-256 of all that decides a fit: bags, outcomes, folds and config."""
    o = cohort.outcomes
    decides = [
        cohort.digest,
        list(o.patients),
        np.asarray(o.time, float).tolist(),
        np.asarray(o.event, bool).tolist(),
        None if o.entry is None else np.asarray(o.entry, float).tolist(),
        cohort.fold.tolist(),
        config.model_dump(mode="json", exclude={"permutations", "bootstrap", "compare"}),
    ]
    return sha256(json.dumps(decides).encode()).hexdigest()


def read_fold_if_same(folder: Path, k: int, mark: str, config: MicaFitConfig, inputs: MicaInputs) -> MicaFold | None:
    """A finished fold of the very same fit, else None (it is then fitted, and the file replaced)."""
    path = folder / f"fold{k}.safetensors"
    if not path.is_file():
        return None
    try:
        return read_fold(folder, k, config, inputs) if _tensors(path)[1].get("mark") == mark else None
    except MicaError:
        return None


# -- the authors' state dicts ----------------------------------------------------------------------------------------------------------


def authors_state(model: MicaNet) -> dict[str, Tensor]:
    """The tensors under the authors' keys. MicaError("not_theirs") for a network of one branch: they have none."""
    if model.config.modality != "both":
        raise MicaError("not_theirs", "A MICA of one branch has no counterpart in the released code.", "Export one of both bags.")
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def load_authors(state: Mapping[str, Tensor], pooling: Literal["gap", "attn"] = "attn", heads: int = 8) -> MicaNet:
    """A network from a state dict of the authors, in eval mode.

    Widths, layers, intervals, fusion and sharing are read from the tensors. What leaves no trace in them is asked for: the pooling (their
    trainer's default is attn) and the number of heads of the transformers. Raises MicaError("tensors_wrong").
    """
    state = {key: value.float() for key, value in state.items()}
    try:
        width, tile_dim = state["wsi_net.0.weight"].shape
        bilinear = "mm.encoder1.0.weight" in state
        shared = [key for key in state if key.startswith(("path_transformer.", "path_rho.", "path_attention_head."))]
        config = MicaFitConfig(
            width=width,
            heads=heads,
            layers=1 + max(int(key.split(".")[2]) for key in state if key.startswith("path_transformer.layers.")),
            ffn=state["path_transformer.layers.0.linear1.weight"].shape[0],
            bins=state["classifier.weight"].shape[0],
            pooling=pooling,
            fusion="bilinear" if bilinear else "concat",
            transformer_mode="shared"
            if all(torch.equal(state[key], state[key.replace("path_", "codex_", 1)]) for key in shared)
            else "separate",
        )
        codex_dim = state["codex_net.0.weight"].shape[1]
        model = MicaNet(tile_dim, codex_dim, config)
    except (KeyError, ValueError, IndexError) as error:
        sentence = f"The state dict is not one of MICA's: {error}."
        raise MicaError("tensors_wrong", sentence, "Give a MICA checkpoint, and the number of heads that it was made with.") from error
    if bilinear and state["mm.encoder1.0.weight"].shape[0] != BILINEAR_HIDDEN:
        raise MicaError("tensors_wrong", f"The bilinear fusion of the state dict is not {BILINEAR_HIDDEN} wide.", "Give a MICA checkpoint.")
    _fill(model, state, "state dict")
    return model


def write_authors(weights: MicaWeights, folder: str | Path) -> list[Path]:
    """s_{fold}_checkpoint.pt per fold, as the released trainer writes them: plain state dicts."""
    folder, written = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for k, fold in enumerate(weights.folds):
        with whole_file(folder / f"s_{k}_checkpoint.pt") as part:
            torch.save(authors_state(fold.model), part)
        written.append(folder / f"s_{k}_checkpoint.pt")
    return written


def read_authors(
    folder: str | Path,
    bins: Sequence[Bins],
    markers: Sequence[str],
    *,
    pooling: Literal["gap", "attn"] = "attn",
    heads: int = 8,
    endpoint: str = "OS",
    fold_of: Mapping[str, int] | None = None,
    salt: str = "",
    label: str = "released or foreign MICA weights",
) -> MicaWeights:
    """Weights from a folder of s_{fold}_checkpoint.pt, as many as there are `bins`.

    bins: per fold, its intervals in days: a state dict does not hold them (`ml.mica.labels.make_bins` of the table it was trained on; the
    released trainer made the same for all folds). fold_of: patient -> fold of the split files, hashed with `salt`, so that nobody is
    predicted by a fold that saw her; without it the membership is unknown and must be said to be. Raises MicaError.
    """
    nets = [load_authors(_read_pt(Path(folder) / f"s_{k}_checkpoint.pt"), pooling, heads) for k in range(len(bins))]
    for k, (net, made) in enumerate(zip(nets, bins)):
        if net.config.bins != len(made) or net.config != nets[0].config:
            sentence = f"Checkpoint {k} has other sizes than its intervals or the first one."
            raise MicaError("tensors_wrong", sentence, "Give the files of one run.")
    config = nets[0].config.model_copy(update={"folds": max(2, len(nets))})
    inputs = MicaInputs(nets[0].wsi_net[0].in_features, nets[0].codex_net[0].in_features, tuple(markers), "", "")
    lists = tuple(tuple(hashes) for hashes in membership(fold_of, salt)) if fold_of is not None else ()
    folds = tuple(MicaFold(net, made, {}) for net, made in zip(nets, bins))
    return MicaWeights(config, inputs, endpoint, folds, lists, {"label": label})


# -- bytes -----------------------------------------------------------------------------------------------------------------------------


def _fill(model: MicaNet, state: Mapping[str, Tensor], name: str) -> None:
    """Strictly; leaves the network in eval mode, without gradients."""
    wanted = {key: tuple(v.shape) for key, v in model.state_dict().items()}
    given = {key: tuple(v.shape) for key, v in state.items()}
    wrong = [f"{key} is absent" for key in sorted(wanted.keys() - given.keys())]
    wrong += [f"{key} is not known" for key in sorted(given.keys() - wanted.keys())]
    wrong += [f"{key} is {given[key]}, not {wanted[key]}" for key in sorted(wanted.keys() & given.keys()) if wanted[key] != given[key]]
    if wrong:
        sentence = f"The tensors of {name} do not fit the model: {wrong[0]}" + (f" and {len(wrong) - 1} more." if len(wrong) > 1 else ".")
        raise MicaError("tensors_wrong", sentence, "Use the config that it was saved with.", name)
    model.load_state_dict(dict(state))
    model.eval().requires_grad_(False)


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise MicaError("weights_unreadable", f"The weight file {path.name} cannot be read.", AGAIN, path.name) from error


def _read_pt(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        sentence = f"There is no {path.name} in {path.parent.name}."
        raise MicaError("weights_absent", sentence, "Name the folder of the checkpoints.", path.name)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {key: value for key, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # torch raises whatever the damaged bytes lead to; pickled code is never run
        sentence = f"The file {path.name} does not hold tensors alone."
        raise MicaError("weights_unreadable", sentence, "Give a state dict.", path.name) from error


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text())
    except FileNotFoundError as error:
        sentence = f"There is no {name} in {folder.name}."
        raise MicaError("folder_incomplete", sentence, "Name a folder that a MICA was saved to.", name) from error
    except (OSError, ValueError) as error:
        raise MicaError("json_wrong", f"The file {name} in {folder.name} cannot be read as JSON.", AGAIN, name) from error
    if not isinstance(content, dict):
        raise MicaError("json_wrong", f"The file {name} in {folder.name} is not a table of fields.", AGAIN, name)
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(_clean(dict(content)), indent=1, sort_keys=True).encode()


def _clean(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
