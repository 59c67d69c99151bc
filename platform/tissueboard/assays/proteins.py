"""What a cohort takes its channels for: the house's table, and what people of the cohort say instead, with history; as CSV in and out."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from ml.slides.findings import SlideError
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort

from .errors import AssayCode, AssayRefused, refused
from .models import ChannelProtein, MultiplexImage
from .selectors import cohort_proteins

HEADER = ("channel", "uniprot", "note")
NO_PROTEIN = ("none", "-", "no protein")
HOUSE = ("house", "default")
MAX_NAME, MAX_NOTE = 80, 200
MAX_ROWS, MAX_BYTES = 2000, 1 << 20


@dataclass(frozen=True)
class ChannelRow:
    """One channel of a cohort. uniprot: None for no known protein. own: the cohort's table says it. n_images: that have it.
    others: other channels of the cohort with the same protein. note: what the cohort says to it."""

    channel: str
    key: str
    uniprot: str | None
    why: str
    own: bool
    n_images: int
    others: tuple[str, ...] = ()
    note: str = ""


def channel_rows(user: Any, cohort: Cohort) -> list[ChannelRow]:
    """The channels of a cohort's images and of its table, those without a known protein first, then by name. Needs viewer."""
    from ml.multiplex.uniprot import channel_key, default_protein

    require(user, cohort, Role.VIEWER)
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    ready = MultiplexImage.objects.visible_to(user).filter(sample__patient__cohort=cohort)
    for channels in ready.values_list("channels", flat=True):
        for name in dict.fromkeys(channels):
            counts[channel_key(name)] += 1
            names.setdefault(channel_key(name), name)
    own = cohort_proteins(cohort)
    for row in ChannelProtein.objects.filter(cohort=cohort, replaced_at__isnull=True, house=False):
        names.setdefault(row.key, row.channel)
    found = [(key, name, *(own.get(key) or default_protein(name)[1:])) for key, name in names.items()]
    sharing: dict[str, list[str]] = {}
    for _, name, uniprot, _ in found:
        if uniprot:
            sharing.setdefault(uniprot, []).append(name)
    notes = _notes(cohort)
    rows = [
        ChannelRow(
            name,
            key,
            uniprot,
            why,
            key in own,
            counts[key],
            tuple(n for n in sharing.get(uniprot or "", []) if n != name),
            notes.get(key, ""),
        )
        for key, name, uniprot, why in found
    ]
    return sorted(rows, key=lambda row: (row.uniprot is not None, row.channel.lower()))


def set_protein(user: Any, cohort: Cohort, channel: str, uniprot: str, note: str = "") -> ChannelProtein | None:
    """Says what a channel of the cohort measures. Needs contributor. None if nothing changed.

    uniprot: an accession, "none" for no protein, "house" to follow the house's table again.
    Errors: NotVisible, RoleMissing, AssayRefused UNIPROT_INVALID, CHANNEL_NAME_INVALID.
    """
    require(user, cohort, Role.CONTRIBUTOR)
    with transaction.atomic():
        kept = _set(user, cohort, *_checked(channel, uniprot, note))
        if kept is not None:
            record(user, "set protein of channel", kept, cohort_id=cohort.pk)
    return kept


def proteins_from_csv(user: Any, cohort: Cohort, data: bytes) -> int:
    """Sets the proteins of all rows of a CSV (channel, uniprot, note), whole or not at all; how many changed. Needs contributor.

    A row with an empty uniprot is left as it is; "none" and "house" as in `set_protein`. Errors: as there, with the row, and AssayRefused
    PROTEIN_TABLE_INVALID.
    """
    require(user, cohort, Role.CONTRIBUTOR)
    wanted = []
    for number, row in enumerate(_rows_of(data), 2):
        if not row["uniprot"]:
            continue
        try:
            wanted.append(_checked(row["channel"], row["uniprot"], row["note"]))
        except AssayRefused as error:
            raise AssayRefused(error.code, error.sentence, error.hint, where=f"row {number}") from error
    with transaction.atomic():
        changed = [kept for one in wanted if (kept := _set(user, cohort, *one)) is not None]
        if changed:
            record(user, "set proteins of channels", changed[0], cohort_id=cohort.pk)
    return len(changed)


def proteins_to_csv(user: Any, cohort: Cohort) -> str:
    """The table of a cohort as CSV: channel, uniprot (empty where unknown), note, source (cohort, house), images. Needs viewer."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEADER, "source", "images"])
    for row in channel_rows(user, cohort):
        note = row.note if row.own else row.why
        uniprot = row.uniprot or ("none" if row.own else "")
        writer.writerow([_safe(row.channel), uniprot, _safe(note), "cohort" if row.own else "house", row.n_images])
    return out.getvalue()


def _notes(cohort: Cohort) -> dict[str, str]:
    rows = ChannelProtein.objects.filter(cohort=cohort, replaced_at__isnull=True, house=False)
    return dict(rows.values_list("key", "note"))


def _set(user: Any, cohort: Cohort, channel: str, key: str, uniprot: str, house: bool, note: str) -> ChannelProtein | None:
    current = ChannelProtein.objects.select_for_update().filter(cohort=cohort, key=key, replaced_at__isnull=True).first()
    same = current is not None and (current.uniprot, current.house, current.note) == (uniprot, house, note)
    if same or (current is None and house):
        return None
    if current is not None:
        current.replaced_at = timezone.now()
        current.save(update_fields=["replaced_at"])
    return ChannelProtein.objects.create(cohort=cohort, channel=channel, key=key, uniprot=uniprot, house=house, note=note, by=user)


def _checked(channel: str, uniprot: str, note: str) -> tuple[str, str, str, bool, str]:
    """(channel, key, accession or "", follows the house, note) as they are kept."""
    from ml.multiplex.header import cleaned
    from ml.multiplex.uniprot import accession, channel_key

    name, said = cleaned(channel.removeprefix("'")), uniprot.strip()
    key = channel_key(name)
    if not key or len(name) > MAX_NAME:
        hint = "Give it as the images have it, at most 80 characters."
        raise AssayRefused(AssayCode.CHANNEL_NAME_INVALID, f"{channel[:40]!r} is no name of a channel.", hint)
    if said.lower() in (*HOUSE, *NO_PROTEIN):
        return name, key, "", said.lower() in HOUSE, cleaned(note)[:MAX_NOTE]
    try:
        return name, key, accession(said), False, cleaned(note)[:MAX_NOTE]
    except SlideError as error:
        raise refused(error) from error


def _rows_of(data: bytes) -> list[dict[str, str]]:
    hint = "Send the columns channel, uniprot and note, as the download has them."
    if len(data) > MAX_BYTES:
        raise AssayRefused(AssayCode.PROTEIN_TABLE_INVALID, "The table has more than 1 MB.", hint, status=413)
    try:
        text = data.decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        rows = list(csv.DictReader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True))
    except (UnicodeDecodeError, csv.Error) as reason:
        sentence = f"The table cannot be read ({type(reason).__name__})."
        raise AssayRefused(AssayCode.PROTEIN_TABLE_INVALID, sentence, "Save it as CSV in UTF-8.") from reason
    columns = {(name or "").strip().lower() for name in (rows[0] if rows else {})}
    if not {"channel", "uniprot"} <= columns or len(rows) > MAX_ROWS:
        sentence = f"The table has {len(rows)} rows and the columns {', '.join(sorted(columns))[:120] or 'of nothing'}."
        raise AssayRefused(AssayCode.PROTEIN_TABLE_INVALID, sentence, hint)
    found = []
    for row in rows:
        plain = {(k or "").strip().lower(): v.strip() for k, v in row.items() if isinstance(v, str)}
        found.append({name: plain.get(name, "").replace("\0", "") for name in HEADER})
    return found


def _safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" and text[:1] else text
