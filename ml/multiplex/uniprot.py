"""Which protein a channel measures, as a UniProt accession: what a model that knows markers by their protein needs.

House defaults: common names and aliases of antibodies on human tissue. An antibody against a family, and a mixture of antibodies under
one name, get ONE protein by convention, because a channel has one embedding (VirTues, Methods, marker embeddings; those of its example
panel are restated in CONVENTIONS). A dye and a carbohydrate have no sequence; a carbohydrate may stand for the enzyme that makes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from ml.multiplex.marker_names import CONVENTIONS, NO_PROTEIN, NUCLEAR_DYES, PROTEINS
from ml.slides.findings import FindingCode, SlideError

# Both families of accession, 6 or 10 characters, and the suffix of an isoform (UniProt, "Accession numbers").
ACCESSION = re.compile(r"([OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(-[1-9][0-9]{0,2})?")
HISTONE_H3 = "P68431"
GREEK = {"α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "κ": "k", "λ": "l", "µ": "u", "μ": "u"}
METALS = "Y|Pd|Ag|Cd|In|La|Ce|Pr|Nd|Sm|Eu|Gd|Tb|Dy|Ho|Er|Tm|Yb|Lu|Ir|Pt|Pb|Bi"
# "141Pr", "Pr141", and what stands around them; a channel that is called by its metal alone keeps it.
MASS = r"(?:89|1\d\d|20\d)"
TAG = re.compile(rf"(?<![A-Za-z0-9])(?:{MASS}(?:{METALS})|(?:{METALS}){MASS})(?:Di|Dd)?(?![A-Za-z0-9])")
NUMBERED = re.compile(r"\s*\((?:V?\d+)\)\s*$", re.IGNORECASE)


class ProteinOf(NamedTuple):
    """One channel. uniprot: an accession, or None where the channel has no known protein; why: one sentence."""

    channel: str
    uniprot: str | None
    why: str


def is_accession(text: str) -> bool:
    """Whether it is written as a UniProt accession, with or without an isoform; it says nothing of whether UniProt has it."""
    return ACCESSION.fullmatch(text) is not None


def accession(text: str) -> str:
    """The accession as typed, in capitals and without spaces. SlideError UNIPROT_INVALID."""
    found = text.strip().upper()
    if not is_accession(found):
        sentence = f"{text.strip()[:20]!r} is no UniProt accession."
        hint = "Look it up in UniProt; it looks like P07766, A6NI73, A0A0B4J2F0 or P08575-8."
        raise SlideError(FindingCode.UNIPROT_INVALID, sentence, hint)
    return found


def channel_key(name: str) -> str:
    """What two spellings of one channel share: small letters and digits, "+" and "/" between parts; "PD-L1" and "pdl1" are one."""
    text = "".join(GREEK.get(c, c) for c in name).lower()
    return re.sub(r"[^a-z0-9+]", "", text.replace("/", "+").replace("&", "+")).strip("+")


def default_protein(name: str, nuclear_as_histone: bool = False) -> ProteinOf:
    """What the house takes a channel for. nuclear_as_histone: a DNA dye stands for histone H3, which lies where it does."""
    for spelling in dict.fromkeys((name, NUMBERED.sub("", name), TAG.sub(" ", NUMBERED.sub("", name)))):
        key = channel_key(spelling)
        if not key:
            continue
        if (known := _keys(0).get(key)) is not None:
            uniprot, reason = CONVENTIONS[known]
            return ProteinOf(name, uniprot, f"By convention: {reason}.")
        if (known := _keys(1).get(key)) is not None:
            return ProteinOf(name, known, "House table.")
        if key in _keys(2):
            if nuclear_as_histone:
                return ProteinOf(name, HISTONE_H3, "A DNA dye, taken as histone H3 as was asked.")
            return ProteinOf(name, None, "A DNA dye: it binds no protein; it may be taken as histone H3 (P68431).")
        if (known := _keys(3).get(key)) is not None:
            return ProteinOf(name, None, f"{NO_PROTEIN[known]}.")
    return ProteinOf(name, None, "Unknown marker: give its UniProt accession if it measures a protein.")


def proteins_of(
    channels: Sequence[str], overrides: Mapping[str, tuple[str | None, str]] | None = None, nuclear_as_histone: bool = False
) -> list[ProteinOf]:
    """The protein of every channel, in the order of the planes. overrides: channel_key -> (accession or None, reason), which win."""
    found = []
    for name in channels:
        if overrides and (given := overrides.get(channel_key(name))) is not None:
            found.append(ProteinOf(name, *given))
        else:
            found.append(default_protein(name, nuclear_as_histone))
    return found


def usable(proteins: Sequence[ProteinOf]) -> list[int]:
    """Indices of the channels that have a protein. SlideError NO_KNOWN_MARKER where there is none: then a model has nothing to see."""
    known = [i for i, one in enumerate(proteins) if one.uniprot is not None]
    if not known:
        names = ", ".join(one.channel for one in proteins[:6]) + (" ..." if len(proteins) > 6 else "")
        sentence = f"None of the {len(proteins)} channels ({names}) is a marker whose protein is known."
        raise SlideError(FindingCode.NO_KNOWN_MARKER, sentence, "Give the accessions of its channels in the cohort's table of markers.")
    return known


def shared(proteins: Sequence[ProteinOf]) -> dict[str, list[str]]:
    """Accessions that stand for several channels, with their names: legal, and the same embedding."""
    counts = Counter(one.uniprot for one in proteins if one.uniprot)
    return {uniprot: [one.channel for one in proteins if one.uniprot == uniprot] for uniprot, n in counts.items() if n > 1}


@cache
def _keys(which: int) -> dict[str, str]:
    """Look-ups by channel_key: conventions, proteins, dyes, channels without a protein."""
    if which == 1:
        return {channel_key(alias): uniprot for uniprot, aliases in PROTEINS.items() for alias in aliases.split(", ")}
    table = (CONVENTIONS, {}, dict.fromkeys(NUCLEAR_DYES, ""), NO_PROTEIN)[which]
    return {channel_key(alias): name for name in table for alias in name.split(", ")}
