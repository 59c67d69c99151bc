"""Encoders as model versions: checked, copied into the store, and loaded from there. Imports torch only where a network is built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from tissueboard.errors import Code, RoleMissing, TissueboardError
from tissueboard.jobs.code_version import code_version
from tissueboard.store import checksum, store

from .models import ModelVersion
from .services import NewVersion, WeightsMissing, register, weights_path

if TYPE_CHECKING:
    from ml.encoders.runtime import Encoder
    from ml.encoders.spec import EncoderSpec, Precision

FAMILY = "encoder"
WEIGHTS, PROVENANCE = "weights.safetensors", "provenance.json"
BUILT_IN = ("he-descriptors",)


class StaffOnly(RoleMissing):
    """Encoders are the house's, not a cohort's: bringing one takes a staff account."""

    def __init__(self) -> None:
        self.cohort_id = None
        TissueboardError.__init__(
            self, Code.ROLE_MISSING, "Bringing an encoder into use takes a staff account.", "Ask the people who run this server."
        )


def refused(error: Any, status: int = 409) -> TissueboardError:
    """An ml.encoders.EncoderError as the platform says it."""
    return TissueboardError(f"ENCODER_{error.code.upper()}", error.sentence, error.hint, status=status)


def register_encoder(user: Any, name: str, weights: Path | None = None) -> ModelVersion:
    """Checks an encoder's weight file, copies it into the store and registers it; the same file again gives the version that is there.

    user: staff, or None for the house itself. weights: the file; None takes the one in `WEIGHTS_ROOT/<encoder>/`.
    Errors: StaffOnly; TissueboardError ENCODER_UNKNOWN_ENCODER, ENCODER_WEIGHTS_MISSING, _GATED, _UNREADABLE,
    _MISMATCH, ENCODER_UNTRAINED.
    """
    require_staff(user)
    found = prepared(name, weights)
    return publish(user, found)


def require_staff(user: Any) -> None:
    """StaffOnly unless the user is staff or the house itself (None)."""
    if user is not None and not user.is_staff:
        raise StaffOnly


def prepared(name: str, weights: Path | None = None) -> NewVersion | ModelVersion:
    """The weights of an encoder, checked and in the store, ready to publish; or the version that holds the same file already."""
    from ml.encoders import EncoderError, encoder
    from ml.encoders.weights import find_weights

    try:
        spec = encoder(name)
        if not spec.needs_weights and not spec.weight_free:
            sentence = f"The encoder {name} is trained together with its head and has no weights of its own."
            raise EncoderError("untrained", sentence, "Train a model that holds it, or choose another encoder.")
        source = None if spec.weight_free else find_weights(spec, weights, Path(settings.WEIGHTS_ROOT))
        same = _same(spec, _identity(spec, source))
        return same or _stored(spec, source)
    except EncoderError as error:
        raise refused(error) from error


def publish(user: Any, found: NewVersion | ModelVersion) -> ModelVersion:
    """Registers what `prepared` gave and makes it the one in use of its encoder; encoders of different names stay in use side by side."""
    if isinstance(found, ModelVersion):
        return _in_use(found)
    name = found.config["encoder"]
    version: ModelVersion = register(found, cohorts=[], user=user, replaces=lambda older: older.config.get("encoder") == name)
    return version


def _stored(spec: EncoderSpec, source: Path | None) -> NewVersion:
    folder = store.new_temp()
    folder.mkdir()
    try:
        provenance = _write(spec, source, folder)
        sha = provenance["sha256"]
        key = f"models/{FAMILY}/{_plain(spec.name)}-{sha[:12]}"
        store.save(folder, key)
    except OSError as error:
        sentence = f"The weights of {spec.name} could not be written to the store: {error.strerror or error}."
        raise TissueboardError("WEIGHTS_NOT_KEPT", sentence, "Make room on the server's disk and try again.", status=409) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    taken = ModelVersion.objects.filter(family=FAMILY, name=spec.name).exists()
    return NewVersion(
        family=FAMILY,
        name=f"{spec.name} {sha[:8]}" if taken else spec.name,
        label=ModelVersion.Label.FIXED if spec.weight_free else ModelVersion.Label.RELEASED,
        config={"encoder": spec.name},
        key=key,
        sha256=sha,
        provenance=provenance,
        licence=spec.licence,
        metrics={},
        members={},
        pitch_um=spec.tile_um,
        pretraining_overlap=spec.pretraining_overlap,
    )


def _identity(spec: EncoderSpec, source: Path | None) -> str:
    """What makes a file the same: the checksum of what the person brought, or of the definition of fixed descriptors."""
    if source is None:
        from ml.encoders.descriptors import fingerprint

        return fingerprint()
    from ml.encoders.weights import missing

    if not source.is_file():
        raise missing(spec, f"The weight file {source.name} of encoder {spec.name} is not there.", Path(settings.WEIGHTS_ROOT))
    return checksum(source)


def _same(spec: EncoderSpec, identity: str) -> ModelVersion | None:
    versions = ModelVersion.objects.filter(family=FAMILY, config__encoder=spec.name)
    return next((v for v in versions if identity in v.provenance.get("inputs", {}).values() and store.exists(v.key)), None)


def _in_use(version: ModelVersion) -> ModelVersion:
    """Makes a version that was replaced the one in use again."""
    if not version.is_current:
        ModelVersion.objects.filter(family=FAMILY, config__encoder=version.config["encoder"]).update(is_current=False)
        version.is_current = True
        version.save(update_fields=["is_current"])
    return version


def _write(spec: EncoderSpec, source: Path | None, folder: Path) -> dict[str, Any]:
    """The weights as safetensors (never a pickle) and their provenance; nothing but the latter for fixed descriptors."""
    inputs = {source.name if source else "definition": _identity(spec, source)}
    sha = next(iter(inputs.values()))
    if source is not None:
        from ml.encoders.networks import checked_tensors
        from ml.encoders.weights import write_safetensors

        write_safetensors(source, checked_tensors(spec, source), folder / WEIGHTS)
        sha = checksum(folder / WEIGHTS)
    facts = {k: getattr(spec, k) for k in ("label", "repo", "file", "citation", "pretrained_on", "pretraining_overlap", "cohorts")}
    facts |= {"dim": spec.dim, "input_px": spec.input_px, "tile_um": spec.tile_um}
    provenance = {
        "inputs": inputs,
        "sha256": sha,
        "made_at": timezone.now().isoformat(timespec="seconds"),
        "code_version": code_version(),
        "facts": facts,
    }
    (folder / PROVENANCE).write_text(json.dumps({"encoder": spec.name, "licence": spec.licence, **provenance}, indent=1))
    return provenance


def load_version(version: ModelVersion, device: str = "cpu", precision: Precision | None = None) -> Encoder:
    """The encoder of a version, ready to use (ml.encoders.runtime.Encoder), from the file in the store and no other.

    Errors: model_registry.services.WeightsMissing; TissueboardError VERSION_IS_NO_ENCODER, WEIGHTS_CHANGED, ENCODER_*.
    """
    from ml.encoders import EncoderError, encoder
    from ml.encoders.runtime import load_encoder

    name = version.config.get("encoder", "")
    if version.family != FAMILY:
        raise TissueboardError("VERSION_IS_NO_ENCODER", f"{version} is no encoder.", "Choose a version of the family encoder.", status=409)
    file = Path(weights_path(version)) / WEIGHTS
    try:
        free = encoder(name).weight_free
        if not free and not file.exists():
            raise WeightsMissing(version)
        loaded = load_encoder(name, None if free else file, device, precision)
    except EncoderError as error:
        raise refused(error) from error
    if loaded.weights_sha256 != version.sha256:
        raise TissueboardError(
            "WEIGHTS_CHANGED",
            f"The weights of {version} are not those that were registered.",
            "Restore them from a backup, or register the encoder again.",
            status=409,
        )
    return loaded


def ensure_builtin_encoders() -> list[ModelVersion]:
    """Registers the encoders that need no weights, if they are not there: features can be made before anybody has brought a file."""
    return [register_encoder(None, name) for name in BUILT_IN]


def _plain(name: str) -> str:
    from ml.encoders.weights import folder_name

    return folder_name(name)
