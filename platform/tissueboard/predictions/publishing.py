"""How an output takes the place of the one before it: the row and its file change together, or not at all."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from tissueboard.store import store

from .models import Prediction
from .sources import Source


def publish_output(source: Source, kind: str, fields: dict[str, Any]) -> Prediction:
    """Makes an output the one of its kind, slide and version; call it in a transaction. fields: of the Prediction, key and job_id too.

    The key must be of this content alone (a checksum in it): nobody reads a new file under an older row. The file that is replaced goes
    when the new row is certain.
    """
    where = {"slide": source.slide, "kind": kind, "version": source.version}
    older = Prediction.objects.filter(**where).values_list("key", flat=True).first()
    prediction, _ = Prediction.objects.update_or_create(**where, defaults={"patient": source.slide.sample.patient, **fields})
    if older and older != prediction.key:
        transaction.on_commit(lambda: store.delete(older))
    return prediction
