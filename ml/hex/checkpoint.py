"""HEX on disk: a folder of fold{k}.safetensors + config.json + provenance.json, and the authors' head by their keys.

A head on an encoder that was never trained here is kept without it: the encoder's own weight file is asked for again, by its checksum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ml.encoders.catalogue import architecture, encoder
from ml.encoders.weights import file_sha256
from ml.hex.config import HexFitConfig
from ml.hex.data import HexDataset, LabelScale
from ml.hex.errors import CheckpointError
from ml.hex.model import HexHead, HexModel, tower
from ml.hex.ranges import FeatureRange
from ml.hex.weights import HexFold, HexWeights
from ml.slides.files import whole_file
from ml.training.splits import membership

if TYPE_CHECKING:
    from ml.hex.train import HexFit

FORMAT = 1
HEAD_KEYS = tuple(
    f"{layer}.{part}" for layer in ("regression_head.0", "regression_head.3", "regression_head1.0") for part in ("weight", "bias")
)


# -- a folder of weights ---------------------------------------------------------------------------------------------------------------


def save_fit(
    fit: HexFit,
    folder: str | Path,
    *,
    salt: str,
    code_version: str,
    label: str,
    inputs: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
    seen_before: Mapping[int, Sequence[str]] | None = None,
    encoder_weights: str | Path | None = None,
) -> dict[str, Any]:
    """Writes a fitted HEX and gives its provenance back.

    seen_before: fold -> hashes of patients that the model it was fine-tuned from had seen. encoder_weights: the file of its encoder, whose
    checksum is kept where the encoder itself is not.

    salt: secret with which patients' codes are hashed into the membership lists (never stored). code_version: of the code that made it.
    label: e.g. "trained on simulated tissue", shown wherever a number of it shows. inputs: name -> SHA-256 of what it was fitted on.
    """
    lists = membership(fit.fold_of, salt)
    seen = [sorted({*hashes, *(seen_before or {}).get(k, ())}) for k, hashes in enumerate(lists)]
    about = {"label": label, "code_version": code_version, "inputs": dict(inputs), "facts": dict(facts or {})}
    measured = {"metrics": fit.metrics(), "card": [vars(row) for row in fit.card]}
    return save_weights(fit.weights, folder, seen, {**about, **measured}, encoder_weights)


def save_weights(
    weights: HexWeights,
    folder: str | Path,
    seen: Sequence[Sequence[str]],
    about: Mapping[str, Any],
    encoder_weights: str | Path | None = None,
) -> dict[str, Any]:
    """Writes weights of whatever origin and gives their provenance. seen: hashes of patients per model; about: label, code_version, inputs
    ...

    encoder_weights: the file of an encoder that is not kept with its heads.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checksums = {f"fold{k}.safetensors": write_fold(folder, k, fold, "", weights.config) for k, fold in enumerate(weights.folds)}
    spec = encoder(weights.config.encoder)
    provenance = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights_sha256": checksums,
        "encoder": {k: getattr(spec, k) for k in ("name", "label", "licence", "pretraining_overlap")}
        | {"weights_sha256": file_sha256(Path(encoder_weights)) if encoder_weights else ""},
        "membership": [list(hashes) for hashes in seen],
        # released weights are one model, whatever number of folds their recipe names
        **({"models": len(weights.folds)} if len(weights.folds) != weights.config.folds else {}),
        **about,
    }
    config = {
        "family": "hex",
        "fit": weights.config.model_dump(mode="json"),
        "input_px": weights.config.input_px,
        "label_scale": {"kind": weights.scale.kind, "factor": weights.scale.factor.tolist()},
    }
    _write(folder / "config.json", _json(config))
    _write(folder / "provenance.json", _json(provenance))
    return provenance


def load(folder: str | Path, encoder_weights: str | Path | None = None, device: str = "cpu") -> HexWeights:
    """The weights of a folder, strictly: every tensor is there, of its shape and of the checksum written; CheckpointError else.

    encoder_weights: the file of the encoder, for a head that was fitted on one which is not kept with it. device: where the models lie.
    """
    folder = Path(folder)
    described, provenance = _read_json(folder, "config.json"), _read_json(folder, "provenance.json")
    if described.get("family") != "hex" or provenance.get("format") != FORMAT:
        raise CheckpointError(
            "not_hex", f"The folder {folder.name} does not hold HEX weights of format {FORMAT}.", "Name another model.", folder.name
        )
    try:
        config = HexFitConfig.model_validate(described["fit"])
        scale = LabelScale(described["label_scale"]["kind"], np.asarray(described["label_scale"]["factor"], np.float32))
        lists = tuple(tuple(hashes) for hashes in provenance["membership"])
        checksums = provenance["weights_sha256"]
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            "config_wrong", f"The config of the weights in {folder.name} is not complete.", "Save the model again.", "config.json"
        ) from error
    if len(lists) != provenance.get("models", config.folds) or scale.factor.shape != (len(config.markers),):
        raise CheckpointError("config_wrong", f"The config in {folder.name} contradicts itself.", "Save the model again.", "config.json")
    network = _kept_apart(folder, config, provenance, encoder_weights)
    folds = []
    for k in range(len(lists)):
        name = f"fold{k}.safetensors"
        if not (folder / name).is_file():
            raise CheckpointError("weights_absent", f"The weight file {name} is not in {folder.name}.", "Copy the folder again.", name)
        if sha256((folder / name).read_bytes()).hexdigest() != checksums.get(name):
            raise CheckpointError(
                "weights_changed", f"The weight file {name} is not the one that was saved.", "Copy the folder again.", name
            )
        folds.append(read_fold(folder, k, config, network))
        folds[-1].model.to(device)
    return HexWeights(config, scale, tuple(folds), lists, provenance)


def _kept_apart(folder: Path, config: HexFitConfig, provenance: Mapping[str, Any], weights: str | Path | None) -> nn.Module | None:
    """The frozen encoder of heads that are kept without it; None where every fold holds its own."""
    if config.trained_layers != 0:
        return None
    wanted = provenance.get("encoder", {}).get("weights_sha256", "")
    if wanted and weights is None:
        sentence = f"The model {folder.name} stands on the encoder {config.encoder}, whose weights are not kept with it."
        raise CheckpointError(
            "encoder_weights_missing", sentence, "Bring the encoder into use first, or name its weight file.", folder.name
        )
    if wanted and weights is not None and file_sha256(Path(weights)) != wanted:
        sentence = f"The weight file {Path(weights).name} is not the one of {config.encoder} that the model {folder.name} was fitted on."
        raise CheckpointError("encoder_weights_differ", sentence, "Name the same file.", Path(weights).name)
    return tower(config, weights)


# -- one fold --------------------------------------------------------------------------------------------------------------------------


def write_fold(folder: Path, k: int, fold: HexFold, mark: str, config: HexFitConfig) -> str:
    """Writes fold{k}.safetensors (whole or not at all) and gives its SHA-256. mark: fingerprint of what it was fitted on."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = fold.model.state_dict()
    if config.trained_layers == 0:
        kept = {key: value for key, value in kept.items() if not key.startswith("encoder.")}
    tensors = {f"model.{key}": value.contiguous() for key, value in kept.items()}
    if (r := fold.range) is not None:
        for key, value in (("mean", r.mean), ("sd", r.sd), ("whiten", r.whiten), ("p99", np.array([r.p99]))):
            tensors[f"range.{key}"] = torch.from_numpy(np.ascontiguousarray(value))
    content = save(tensors, {"mark": mark, "facts": json.dumps(fold.facts), "range": "known" if r is not None else "unknown"})
    _write(folder / f"fold{k}.safetensors", content)
    return sha256(content).hexdigest()


def read_fold(folder: Path, k: int, config: HexFitConfig, network: nn.Module | None = None) -> HexFold:
    """The fold's model in eval mode, on the CPU; network: a frozen encoder that is kept apart. CheckpointError names tensors that do not
    fit."""
    name = f"fold{k}.safetensors"
    tensors, header = _tensors(folder / name)
    spec = encoder(config.encoder)
    model = HexModel(network or architecture(config.encoder), HexHead(spec.dim, len(config.markers), config.hidden, config.dropout), spec)
    state = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    wanted = {key: tuple(v.shape) for key, v in model.state_dict().items() if network is None or not key.startswith("encoder.")}
    _check(name, wanted, {key: tuple(v.shape) for key, v in state.items()})
    model.load_state_dict(state, strict=network is None, assign=True)
    model = model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    if header.get("range") == "unknown":
        return HexFold(model, None, json.loads(header.get("facts", "{}")))
    try:
        mean, sd, whiten, p99 = (tensors[f"range.{key}"].numpy() for key in ("mean", "sd", "whiten", "p99"))
    except KeyError as error:
        raise CheckpointError(
            "tensors_wrong", f"The weight file {name} has no range of its fitting tiles.", "Save the model again.", name
        ) from error
    return HexFold(model, FeatureRange(mean, sd, whiten, float(p99[0])), json.loads(header.get("facts", "{}")))


def fingerprint(
    data: HexDataset,
    config: HexFitConfig,
    folds: Mapping[str, int],
    encoder_weights: str | None,
    start: Mapping[int, tuple[HexModel, Sequence[str]]] | None = None,
) -> str:
    """SHA-256 of all that decides a fit: pixels, labels, ids, config, folds, the encoder's starting weights, and a model to start from."""
    digest = sha256()
    for array in (data.images, data.labels):
        digest.update(np.ascontiguousarray(array).data)
    weights = file_sha256(Path(encoder_weights)) if encoder_weights else ""
    digest.update(
        json.dumps([data.slides.tolist(), data.patients.tolist(), config.model_dump(mode="json"), sorted(folds.items()), weights]).encode()
    )
    for k in sorted(start or {}):
        for key, value in (start or {})[k][0].state_dict().items():
            digest.update(f"{k}{key}".encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def read_fold_if_same(folder: Path, k: int, mark: str, config: HexFitConfig, network: nn.Module | None = None) -> HexFold | None:
    """A finished fold of the very same fit, else None (it is then fitted, and the file replaced)."""
    path = folder / f"fold{k}.safetensors"
    if not path.is_file():
        return None
    try:
        if _tensors(path)[1].get("mark") != mark:
            return None
        return read_fold(folder, k, config, network)
    except CheckpointError:
        return None


# -- the authors' head -----------------------------------------------------------------------------------------------------------------


def export_authors_head(model: HexModel | HexHead) -> dict[str, Tensor]:
    """The six tensors of the head under the authors' keys."""
    head = model.head if isinstance(model, HexModel) else model
    return {key: value.detach().clone() for key, value in head.state_dict().items()}


def load_authors_head(state: Mapping[str, Tensor]) -> HexHead:
    """A head from a state dict of the authors, in eval mode; backbone (`visual.*`) and FDS buffers (`FDS.*`) may be there and are left out.

    Sizes are read from the tensors. Raises CheckpointError where one of the six tensors is absent or they do not fit together.
    """
    mine = {key: value for key, value in state.items() if not key.startswith(("visual.", "FDS."))}
    absent = [key for key in HEAD_KEYS if key not in mine]
    if absent:
        raise CheckpointError("tensors_wrong", f"The state dict has no {absent[0]}.", "Give a HEX checkpoint.", absent[0])
    (first, dim), (second, _), (markers, _) = (
        mine[f"{k}.weight"].shape for k in ("regression_head.0", "regression_head.3", "regression_head1.0")
    )
    head = HexHead(dim, markers, (first, second))
    _check("state dict", {k: tuple(v.shape) for k, v in head.state_dict().items()}, {k: tuple(v.shape) for k, v in mine.items()})
    head.load_state_dict(mine)
    return head.eval()


# -- bytes -----------------------------------------------------------------------------------------------------------------------------


def _check(name: str, wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [f"{k} is absent" for k in sorted(wanted.keys() - given.keys())] + [
        f"{k} is not known" for k in sorted(given.keys() - wanted.keys())
    ]
    wrong += [f"{k} is {given[k]}, not {wanted[k]}" for k in sorted(wanted.keys() & given.keys()) if wanted[k] != given[k]]
    if wrong:
        sentence = f"The tensors of {name} do not fit the model: {wrong[0]}" + (f" and {len(wrong) - 1} more." if len(wrong) > 1 else ".")
        raise CheckpointError("tensors_wrong", sentence, "Use the config that it was saved with.", name)


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "weights_unreadable", f"The weight file {path.name} cannot be read.", "Copy the folder again.", path.name
        ) from error


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            "folder_incomplete", f"There is no {name} in {folder.name}.", "Name a folder that a HEX was saved to.", name
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "json_wrong", f"The file {name} in {folder.name} cannot be read as JSON.", "Copy the folder again.", name
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError("json_wrong", f"The file {name} in {folder.name} is not a table of fields.", "Copy the folder again.", name)
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(clean(dict(content)), indent=1, sort_keys=True).encode()


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(content)
