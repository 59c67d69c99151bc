"""How an output takes the place of the one before it: the row and its file change together, or not at all."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from tissueboard.assays.models import MultiplexImage
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .models import Prediction
from .sources import Source


def publish_output(source: Source, kind: str, fields: dict[str, Any]) -> Prediction:
    """Makes an output the one of its kind, slide and version; see `publish_of`."""
    return publish_of(source.slide, source.version, kind, fields)


def publish_of(tissue: Slide | MultiplexImage, version: ModelVersion, kind: str, fields: dict[str, Any]) -> Prediction:
    """Makes an output the one of its kind, tissue and version; call it in a transaction. fields: of the Prediction, key and job_id too.

    The key must be of this content alone (a checksum in it): nobody reads a new file under an older row. The file that is replaced goes
    when the new row is certain.
    """
    where = {"image" if isinstance(tissue, MultiplexImage) else "slide": tissue, "kind": kind, "version": version}
    older = Prediction.objects.filter(**where).values_list("key", flat=True).first()
    prediction, _ = Prediction.objects.update_or_create(**where, defaults={"patient": tissue.sample.patient, **fields})
    if older and older != prediction.key:
        transaction.on_commit(lambda: store.delete(older))
    return prediction


def withdraw_output(tissue: Slide | MultiplexImage, version: ModelVersion, kind: str) -> None:
    """Takes an output away whose ground is gone (the cells of an image without a cell mask); call it in a transaction."""
    where = {"image" if isinstance(tissue, MultiplexImage) else "slide": tissue, "kind": kind, "version": version}
    for row in Prediction.objects.filter(**where):
        key = row.key
        row.delete()
        transaction.on_commit(lambda key=key: store.delete(key))
