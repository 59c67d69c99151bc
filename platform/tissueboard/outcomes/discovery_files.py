"""The two files of a discovery: written once, given out checked and logged, deleted when one of their patients is withdrawn."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Patient
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.predictions.feature_export import Download, plain_name
from tissueboard.store import checksum, store

from .models import Discovery
from .selectors import get_discovery

FILES = {"cells": ".parquet", "patients": ".csv"}


def write_cells(folder: str, columns: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[str, str]:
    """(key, checksum) of a Parquet with one row per cell; about is kept as metadata under "tissueboard"."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temp = store.new_temp(".parquet")
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    told = json.dumps({**about, "research_use_only": True}, sort_keys=True).encode()
    pq.write_table(table.replace_schema_metadata({b"tissueboard": told}), temp, compression="zstd")
    key = f"{folder}/cells-{checksum(temp)[:12]}.parquet"
    return key, store.save(temp, key)


def write_patients(folder: str, columns: Mapping[str, list[Any]], about: Mapping[str, Any]) -> tuple[str, str]:
    """(key, checksum) of a CSV with one row per patient; comment lines say what it is."""
    temp = store.new_temp(".csv")
    with temp.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["# Research use only"])
        writer.writerows([f"# {name}: {value}"] for name, value in about.items())
        writer.writerow([_safe(name) for name in columns])
        writer.writerows([_safe(cell) for cell in row] for row in zip(*columns.values()))
    key = f"{folder}/patients-{checksum(temp)[:12]}.csv"
    return key, store.save(temp, key)


def _safe(cell: Any) -> Any:
    """A cell that a spreadsheet will not take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in tuple("=+-@\t\r") else cell


def download_discovery(user: Any, discovery_id: int, what: str) -> Download:
    """One file of a discovery; leaves a row in the access log. Needs contributor: it says of each patient what is hidden from viewers.

    what: a name in FILES. Errors: NotVisible, RoleMissing; TissueboardError OUTPUT_WITHDRAWN, OUTPUT_MISSING, OUTPUT_CHANGED (409).
    """
    found = get_discovery(user, discovery_id)
    if what not in FILES:
        raise NotVisible("file")
    require(user, found.cohort, Role.CONTRIBUTOR)
    key, sha = getattr(found, f"{what}_key"), getattr(found, f"{what}_sha256")
    if not key:
        said = "The files of this discovery were deleted when one of its patients was withdrawn."
        raise TissueboardError("OUTPUT_WITHDRAWN", said, "Run it again on the patients that are left.", status=409)
    if not store.exists(key):
        raise TissueboardError("OUTPUT_MISSING", "The file is not in the store.", "Run the discovery again.", status=409)
    path = store.path(key)
    if checksum(path) != sha:
        said = "The file is not the one that was made: its checksum is another."
        raise TissueboardError("OUTPUT_CHANGED", said, "Nothing of it is given out. Restore it from a backup, or run it again.", status=409)
    record(user, "export discovery", found, cohort_id=found.cohort_id)
    name = f"{plain_name(found.cohort.name)}-{plain_name(found.kind)}-{found.pk}-{what}{FILES[what]}"
    return Download(path, name, path.stat().st_size, sha, str(found.version), found.version.label)


def forget(patient: Patient) -> set[str]:
    """Keys of the files that name a patient who is withdrawn; the rows no longer point to them, and their figures stay."""
    mine = Discovery.objects.filter(patients=patient)
    keys = {key for pair in mine.values_list("cells_key", "patients_key") for key in pair if key}
    Discovery.objects.filter(pk__in=list(mine.values_list("pk", flat=True))).update(
        cells_key="", cells_sha256="", patients_key="", patients_sha256=""
    )
    return keys
