"""What a cohort takes its channels for: the house's table, changed by the cohort for itself, with history, as CSV in and out."""

import pytest
from multiplex_pictures import image_of

from ml.multiplex.uniprot import usable
from ml.slides.findings import SlideError
from tissueboard.accounts.models import AccessLog
from tissueboard.assays.errors import AssayRefused
from tissueboard.assays.models import ChannelProtein, MultiplexImage
from tissueboard.assays.proteins import channel_rows, proteins_from_csv, proteins_to_csv, set_protein
from tissueboard.assays.selectors import protein_changes_of, proteins_of
from tissueboard.errors import NotVisible, RoleMissing

pytestmark = pytest.mark.usefixtures("store_folder")


@pytest.fixture
def image(people):
    found = image_of(people.lung.sample)
    found.channels = ["DAPI", "CD3", "PanCK", "XYZ", "CD45", "CD45RO"]
    found.save()
    return found


def test_the_house_says_what_it_knows_and_lists_the_rest(people, image):
    assert [one.uniprot for one in proteins_of(image)] == [None, "P07766", "P02533", None, "P08575", "P08575"]
    assert proteins_of(image, nuclear_as_histone=True)[0].uniprot == "P68431"
    rows = channel_rows(people.viewer, people.lung.cohort)
    assert [row.channel for row in rows[:2]] == ["DAPI", "XYZ"] and rows[2].channel == "CD3" and rows[2].n_images == 1
    assert next(row for row in rows if row.channel == "CD45").others == ("CD45RO",)
    with pytest.raises(NotVisible):
        channel_rows(people.outsider, people.lung.cohort)


def test_a_cohort_says_otherwise_for_itself_with_history(people, image):
    cohort = people.lung.cohort
    set_protein(people.contributor, cohort, "xyz", " a6ni73 ", "from the vendor's sheet")
    set_protein(people.contributor, cohort, "cd 3", "none", "the antibody failed")
    mine = {one.channel: one for one in proteins_of(image)}
    assert mine["XYZ"].uniprot == "A6NI73" and "vendor's sheet" in mine["XYZ"].why and mine["CD3"].uniprot is None
    other = image_of(people.breast.sample)
    assert proteins_of(other)[1].uniprot == "P07766"
    assert set_protein(people.contributor, cohort, "CD3", "none", "the antibody failed") is None
    set_protein(people.manager, cohort, "CD3", "house")
    assert proteins_of(image)[1].uniprot == "P07766"
    assert [(one.channel, one.uniprot, one.house) for one in protein_changes_of(people.viewer, cohort)] == [
        ("CD3", "", True), ("cd 3", "", False), ("xyz", "A6NI73", False),
    ]  # fmt: skip
    assert ChannelProtein.objects.filter(cohort=cohort, replaced_at=None).count() == 2
    assert AccessLog.objects.filter(verb="set protein of channel", cohort_id=cohort.pk).count() == 3
    assert not protein_changes_of(people.outsider, cohort).exists()


def test_roles_and_what_is_no_accession(people, image):
    cohort = people.lung.cohort
    with pytest.raises(RoleMissing):
        set_protein(people.viewer, cohort, "CD3", "P07766")
    with pytest.raises(NotVisible):
        set_protein(people.outsider, cohort, "CD3", "P07766")
    for channel, uniprot, code in (
        ("CD3", "CD3E", "UNIPROT_INVALID"),
        ("?!", "P07766", "CHANNEL_NAME_INVALID"),
        ("CD3", "", "UNIPROT_INVALID"),
    ):
        with pytest.raises(AssayRefused) as refused:
            set_protein(people.contributor, cohort, channel, uniprot)
        assert refused.value.code == code
    assert not ChannelProtein.objects.exists()


def test_a_table_goes_out_and_comes_in_whole_or_not_at_all(people, image):
    cohort = people.lung.cohort
    assert (
        proteins_from_csv(people.contributor, cohort, b"\xef\xbb\xbfChannel;UniProt;Note\nXYZ;A6NI73;ours\nCD3;;\nDAPI;none;a dye\n") == 2
    )
    text = proteins_to_csv(people.viewer, cohort)
    assert text.splitlines()[0] == "channel,uniprot,note,source,images"
    assert "XYZ,A6NI73,ours,cohort,1" in text and "DAPI,none,a dye,cohort,1" in text and "CD3,P07766,House table.,house,1" in text
    assert proteins_from_csv(people.contributor, cohort, b"channel,uniprot\nXYZ,house\n") == 1
    before = list(ChannelProtein.objects.values())
    for data, code in (
        (b"channel,uniprot\nXYZ,P07766\nCD3,nonsense\n", "UNIPROT_INVALID"),
        (b"a,b\n1,2\n", "PROTEIN_TABLE_INVALID"),
        (b"", "PROTEIN_TABLE_INVALID"),
        (b"\xff\xfe", "PROTEIN_TABLE_INVALID"),
        (b"x" * (2 << 20), "PROTEIN_TABLE_INVALID"),
    ):
        with pytest.raises(AssayRefused) as refused:
            proteins_from_csv(people.contributor, cohort, data)
        assert refused.value.code == code
    assert refused.value.status == 413 and list(ChannelProtein.objects.values()) == before
    with pytest.raises(AssayRefused) as where:
        proteins_from_csv(people.contributor, cohort, b"channel,uniprot\nXYZ,P07766\nCD3,nonsense\n")
    assert where.value.where == "row 3"


def test_a_formula_in_a_name_is_no_formula_in_the_file(people, image):
    MultiplexImage.objects.filter(pk=image.pk).update(channels=["=cmd()", "CD3"])
    text = proteins_to_csv(people.viewer, people.lung.cohort)
    assert "'=cmd()" in text
    set_protein(people.contributor, people.lung.cohort, "'=cmd()", "none")
    assert channel_rows(people.viewer, people.lung.cohort)[0].own


def test_an_image_without_any_known_marker_is_refused_to_models(people, image):
    image.channels = ["DAPI", "XYZ"]
    with pytest.raises(SlideError) as refused:
        usable(proteins_of(image))
    assert refused.value.code == "NO_KNOWN_MARKER"


def test_rest_reads_and_changes_the_table(people, image):
    address = f"/api/v1/cohorts/{people.lung.cohort.pk}/channels"
    answer = people.api("contributor").post(f"{address}/", {"channel": "XYZ", "uniprot": "A6NI73"})
    assert (
        answer.status_code == 200 and {"channel": "XYZ", "uniprot": "A6NI73"}.items() <= next(r for r in answer.json() if r["own"]).items()
    )
    assert people.api("viewer").post(f"{address}/", {"channel": "XYZ", "uniprot": "none"}).status_code == 403
    given = people.api("viewer").get(f"{address}.csv")
    assert given["Content-Type"].startswith("text/csv") and b"A6NI73" in given.content
    assert people.api("contributor").post(f"{address}.csv", {"csv": "channel,uniprot\nXYZ,none\n"}).json() == {"changed": 1}
    listed = people.api("viewer").get(f"/api/v1/assays/{image.pk}/proteins/").json()
    assert [one["uniprot"] for one in listed][:4] == [None, "P07766", "P02533", None]
