"""What models gave about multiplex images, as files that leave the house: by a checked download, each one logged."""

from __future__ import annotations

from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.errors import TissueboardError
from tissueboard.store import checksum, store

from .feature_export import Download, plain_name
from .selectors import get_image_output

ENDINGS = {"embedding": ".h5", "cells": ".parquet", "virtual stain": ".h5"}


def download_image_output(user: Any, image_id: int, prediction_id: int) -> Download:
    """The niches (HDF5), the cells (Parquet) or a virtual stain (HDF5) of an image; leaves a row in the access log.

    Errors: NotVisible; TissueboardError OUTPUT_MISSING, OUTPUT_CHANGED (409).
    """
    found = get_image_output(user, image_id, prediction_id)
    image = found.image
    assert image is not None
    if not store.exists(found.key):
        raise TissueboardError("OUTPUT_MISSING", "The file is not in the store.", "Run VirTues on this image again.", status=409)
    path = store.path(found.key)
    if checksum(path) != found.sha256:
        said = "The file is not the one that was made: its checksum is another."
        raise TissueboardError(
            "OUTPUT_CHANGED", said, "Nothing of it is given out. Restore it from a backup, or make it again.", status=409
        )
    record(user, f"export {found.kind}", found, cohort_id=found.patient.cohort_id, patient_code=found.patient.code)
    name = f"{plain_name(image.name)}-{plain_name(found.kind)}-{plain_name(found.version.name)}{ENDINGS[found.kind]}"
    return Download(path, name, path.stat().st_size, found.sha256, str(found.version), found.version.label)
