"""Channels as proteins: both families of accessions, the conventions of the house, and what is unknown stays unknown."""

import pandas as pd
import pytest

from ml.multiplex.marker_names import CONVENTIONS, NO_PROTEIN, NUCLEAR_DYES, PROTEINS
from ml.multiplex.uniprot import accession, channel_key, default_protein, is_accession, proteins_of, shared, usable
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError


@pytest.mark.parametrize("text", ["P07766", "Q9NZQ7", "O00585", "A6NI73", "A0A0B4J2F0", "P08575-8", "A0A022YWF9-12", "R4GMX3", "Z9JZJ0"])
def test_accessions_of_both_families_with_ten_characters_and_isoforms(text):
    assert is_accession(text) and accession(f" {text.lower()} ") == text


@pytest.mark.parametrize(
    "text", ["", "CD3", "P0776", "P07766-0", "P07766-", "P077665", "AA6NI73", "A0A0B4J2F", "16NI73", "P07766 Q9NZQ7", "CD3E_HUMAN"]
)
def test_what_is_no_accession_is_refused(text):
    assert not is_accession(text)
    with pytest.raises(SlideError) as refused:
        accession(text)
    assert refused.value.code == Code.UNIPROT_INVALID


def test_the_house_table_is_sound():
    assert len(PROTEINS) > 200
    assert all(is_accession(one) for one in (*PROTEINS, *(uniprot for uniprot, _ in CONVENTIONS.values())))
    whose: dict[str, str] = {}
    for uniprot, aliases in (*PROTEINS.items(), *((u, names) for names, (u, _) in CONVENTIONS.items())):
        for alias in aliases.split(", "):
            assert whose.setdefault(channel_key(alias), uniprot) == uniprot, alias
    for names in (*NO_PROTEIN, *NUCLEAR_DYES):
        for alias in names.split(", "):
            assert channel_key(alias) not in whose, alias


@pytest.mark.parametrize(
    ("name", "uniprot"),
    [
        ("CD3e", "P07766"), ("cd 3", "P07766"), ("CD8α", "P01732"), ("PD-L1", "Q9NZQ7"), ("PDL1", "Q9NZQ7"), ("141Pr_CD3", "P07766"),
        ("CD20 (Dy161)", "P11836"), ("CD68 (2)", "P34810"), ("CD103", "P38570"), ("β-catenin", "P35222"), ("NeuN", "A6NFN3"),
        ("Ki-67", "P46013"), ("panCK", "P02533"), ("CD45RA+CD45RO", "P08575-8"), ("CD45RA/CD45RO", "P08575-8"), ("CD15", "P22083"),
        ("H3K27Ac", "P68431"), ("S100", "P26447"), ("HLADRDPDQ", "P01903"), ("Cytokeratin 5", "P13647"), ("Cytokeratin 8/18", "P05787"),
    ],
)  # fmt: skip
def test_common_names_in_the_spellings_that_panels_have(name, uniprot):
    found = default_protein(name)
    assert (found.channel, found.uniprot) == (name, uniprot) and found.why.endswith(".")


@pytest.mark.parametrize("name", ["Pr141", "XYZ", "CDH", "CD16/32", "", "Cd116", "channel 3", "Autofluorescence", "PNAd"])
def test_what_is_not_known_has_no_protein(name):
    assert default_protein(name).uniprot is None


@pytest.mark.parametrize("name", ["DAPI", "DNA1", "Iridium (V2)", "191Ir", "Hoechst", "DNA1 (Ir191)", "DAPI (2)"])
def test_a_dye_of_dna_is_histone_h3_only_where_asked(name):
    assert default_protein(name).uniprot is None and "dye" in default_protein(name).why
    assert default_protein(name, nuclear_as_histone=True).uniprot == "P68431"
    assert default_protein("PNAd", nuclear_as_histone=True).uniprot is None


def test_the_example_panel_of_43_markers(data):
    """Every convention of the published example panel, and the two kinds of channels that it drops."""
    table = pd.read_parquet(data / "imc/virtues_example/imc/channels.parquet")
    stated = [None if pd.isna(u) else u for u in table.uniprot_id]
    assert [one.uniprot for one in proteins_of(list(table.channel_name))] == stated and len(stated) == 43
    dropped = [one.channel for one in proteins_of(list(table.channel_name)) if one.uniprot is None]
    assert dropped == ["PNAd", "Iridium", "Iridium (V2)"]
    embedded = {path.stem for path in (data / "imc/virtues_example/marker_embeddings").glob("*.pt")}
    assert {u for u in stated if u} == embedded


def test_a_cohort_may_say_otherwise():
    own = {channel_key("CD3"): ("P04234", "Cohort's table."), channel_key("CD4"): (None, "It failed."), "xyz": ("A6NI73", "Ours.")}
    found = proteins_of(["cd3", "CD4", "XYZ", "CD8"], own)
    assert [tuple(one) for one in found[:3]] == [
        ("cd3", "P04234", "Cohort's table."),
        ("CD4", None, "It failed."),
        ("XYZ", "A6NI73", "Ours."),
    ]
    assert usable(found) == [0, 2, 3]


def test_two_channels_of_one_protein_are_told_and_a_panel_without_any_is_refused():
    assert shared(proteins_of(["CD45", "CD45RO", "CD3"])) == {"P08575": ["CD45", "CD45RO"]}
    with pytest.raises(SlideError) as refused:
        usable(proteins_of(["DAPI", "Pr141", "Blank"]))
    assert refused.value.code == Code.NO_KNOWN_MARKER and "DAPI, Pr141, Blank" in refused.value.sentence
