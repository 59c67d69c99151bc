"""The catalogue of encoders as it stands on this server: what is ready, and what a person has to do for the others. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from tissueboard.errors import NotVisible
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue

from .encoders import FAMILY, require_staff
from .models import ModelVersion
from .selectors import versions_for

if TYPE_CHECKING:
    from ml.encoders.spec import EncoderSpec

READY, HERE, MISSING, WITH_HEAD = "ready", "file is here", "weights missing", "trained with its head"
KIND = "model_registry.add_encoder"


@dataclass(frozen=True)
class EncoderState:
    """One entry on this server.

    version: the one in use, or None. sentence: what to do, for this reader. file: its name if it is here.
    fetchable: the server may fetch it from the hub.
    """

    spec: EncoderSpec
    state: str
    version: ModelVersion | None
    sentence: str = ""
    file: str = ""
    fetchable: bool = False


def catalogue(user: Any) -> list[EncoderState]:
    """All entries, in the catalogue's order, and the encoders in use that are not in it (timm:NAME). Staff is told the server's folders."""
    from ml.encoders import CATALOGUE, EncoderError, encoder

    current = {v.config.get("encoder", ""): v for v in versions_for(user).filter(family=FAMILY, is_current=True).order_by("created_at")}
    specs = list(CATALOGUE.values())
    for name in sorted(current.keys() - CATALOGUE.keys()):
        try:
            specs.append(encoder(name))
        except EncoderError:  # a version of an encoder that this release does not know any more: it is listed among the models
            continue
    return [_state(user, spec, current.get(spec.name)) for spec in specs]


def _state(user: Any, spec: EncoderSpec, version: ModelVersion | None) -> EncoderState:
    from ml.encoders import EncoderError
    from ml.encoders.weights import hub_allowed, local_weights, where_to_get

    root = Path(settings.WEIGHTS_ROOT)
    if version is not None:
        return EncoderState(spec, READY, version)
    if not spec.needs_weights:
        if spec.weight_free:
            return EncoderState(spec, HERE, None, "It needs no file.")
        return EncoderState(spec, WITH_HEAD, None, "It has no weights of its own: a model that holds it is trained as a whole.")
    try:
        file = local_weights(spec, root)
    except EncoderError as error:
        return EncoderState(spec, MISSING, None, f"{error.sentence} {error.hint}" if user.is_staff else "Several files lie in its folder.")
    if file is not None:
        return EncoderState(spec, HERE, None, "Its file is here and waits for a staff account to bring it into use.", file.name)
    sentence = where_to_get(spec, root if user.is_staff else Path("weights"))
    return EncoderState(spec, MISSING, None, sentence, fetchable=hub_allowed())


def ask_for_encoder(user: Any, name: str) -> Job:
    """Asks for the job that brings an encoder of the catalogue into use. Errors: StaffOnly, NotVisible (no such entry)."""
    from ml.encoders import CATALOGUE, EncoderError
    from ml.encoders.weights import local_weights

    require_staff(user)
    if name not in CATALOGUE:
        raise NotVisible("encoder")
    try:
        file = local_weights(CATALOGUE[name], Path(settings.WEIGHTS_ROOT))
    except EncoderError:
        file = None  # the job says why
    stat = file.stat() if file else None
    mark = f"{file.name} {stat.st_size} {stat.st_mtime_ns}" if file and stat else ""
    return enqueue(user, KIND, {"encoder": name}, key=mark)
