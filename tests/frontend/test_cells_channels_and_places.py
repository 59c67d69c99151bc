"""Cells, proteins and places of multiplex images on pages: viewers read, contributors change, what is refused is told beside the form."""

import json
import re
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from multiplex_pictures import cells_of, draw, image_of, placed, small_labels

from tissueboard.assays.models import Alignment, CellMask, ChannelProtein
from tissueboard.intake.models import Import


@pytest.fixture
def image(people):
    return image_of(people.lung.sample)


def npz(labels):
    file = BytesIO()
    np.savez_compressed(file, mask=labels)
    return SimpleUploadedFile("mask.npz", file.getvalue())


def test_the_image_says_what_else_is_known_of_it(people, image, words):
    address = reverse("multiplex_image", args=[image.pk])
    bare = words(people.client("contributor").get(address))
    assert "No mask of cells. Add one" in bare and "not placed" in bare and "3 channels, 1 without a protein (DAPI)" in bare
    assert "Cell outlines" not in bare
    cells_of(image)
    placed(image, people.lung.slide)
    page = people.client("viewer").get(address)
    assert "99 cells, median 36 µm²" in words(page) and "Cell outlines" in words(page) and "not placed" not in words(page)
    data = json.loads(unescape(re.search(r'data-multiplex="([^"]*)"', page.content.decode()).group(1)))
    assert data["cells"].endswith("/cells/") and people.client("anonymous").get(f"{data['cells']}0/0_0.png").status_code == 200


def test_cells_are_shown_to_a_viewer_and_sent_by_a_contributor(people, image, words):
    address = reverse("multiplex_cells", args=[image.pk])
    assert "no cells yet" in words(people.client("viewer").get(address))
    assert b'name="mask"' not in people.client("viewer").get(address).content
    client = people.client("contributor")
    checked = client.post(address, {"mask": npz(small_labels()), "dry_run": "yes"})
    assert checked.status_code == 200 and "The files can be added" in words(checked) and not CellMask.objects.exists()
    wrong = client.post(address, {"mask": npz(small_labels()[1:])})
    assert wrong.status_code == 400 and "400 x 299" in words(wrong) and "400 x 300" in words(wrong)
    cells_of(image, "needs attention")
    assert "Waits for a person" in words(client.get(address))
    assert client.post(address, {"action": "confirm"}).status_code == 302
    text = words(people.client("viewer").get(address))
    assert "99 cells" in text and "T cell" in text and "50.5%" in text
    table = people.client("viewer").get(reverse("multiplex_cell_table", args=[image.pk]))
    assert table.content.startswith(b"cell_id,cell_type,area\n3,") and table.content.count(b"\n") == 100
    assert client.post(address, {"action": "remove"}).status_code == 302
    assert people.client("viewer").get(reverse("multiplex_cell_table", args=[image.pk])).status_code == 404
    refused = client.post(address, {"action": "remove"})
    assert refused.status_code == 409 and "There are no such cells" in words(refused)


def test_the_table_of_channels_is_read_by_viewers_and_changed_by_contributors(people, image, words):
    address = reverse("cohort_channels", args=[people.lung.cohort.pk])
    page = people.client("viewer").get(address)
    assert "3 channels; 1 without a protein" in words(page) and b'name="uniprot"' not in page.content
    client = people.client("contributor")
    assert client.post(address, {"channel": "DAPI", "uniprot": "p68431", "note": "as histone"}).status_code == 302
    text = words(client.get(address))
    assert "all have a protein" in text and "as histone" in text and "What was changed last" in text
    wrong = client.post(address, {"channel": "DAPI", "uniprot": "H3"})
    assert wrong.status_code == 400 and "is no UniProt accession" in words(wrong)
    file = SimpleUploadedFile("t.csv", b"channel,uniprot\nDAPI,house\nCD3,bad\n")
    assert "row 3" in words(client.post(address, {"file": file})) and ChannelProtein.objects.count() == 1
    file = SimpleUploadedFile("t.csv", b"channel,uniprot\nDAPI,house\n")
    assert client.post(address, {"file": file}).status_code == 302 and ChannelProtein.objects.count() == 2
    csv = people.client("viewer").get(reverse("cohort_channels_csv", args=[people.lung.cohort.pk]))
    assert b"CD3,P07766" in csv.content


def test_an_image_is_placed_by_matrix_or_landmarks_and_previewed(people, image, words):
    slide = people.lung.slide
    address, scale = reverse("multiplex_place", args=[image.pk, slide.pk]), image.mpp / slide.mpp
    assert "A contributor of lung can do it" in words(people.client("viewer").get(address))
    client = people.client("contributor")
    pairs = [{"image": p, "slide": [scale * p[0] + 9, scale * p[1]]} for p in ([0, 0], [400, 0], [0, 300])]
    seen = client.post(address, {"action": "preview", "by": "landmarks", "landmarks": json.dumps(pairs)})
    assert seen.status_code == 200 and seen.json()["residual_um"] < 1e-6 and not Alignment.objects.exists()
    for name, query in (("place_slide_picture", {}), ("place_channel_picture", {"c": "1:ff0000:0:99"})):
        picture = people.client("viewer").get(reverse(name, args=[image.pk, slide.pk]), {"m": seen.json()["m"], **query})
        assert picture.status_code == 200 and picture["Content-Type"].startswith("image/")
        assert people.client("viewer").get(reverse(name, args=[image.pk, slide.pk]), query).status_code == 404
        assert people.client("viewer").get(reverse(name, args=[image.pk, slide.pk]), {"m": "1,2", **query}).status_code == 400
    line = client.post(address, {"action": "preview", "by": "landmarks", "landmarks": json.dumps(pairs[:2])})
    assert line.status_code == 400 and line.json()["code"] == "LANDMARKS_TOO_FEW"
    assert client.post(address, {"action": "save", "by": "landmarks", "landmarks": json.dumps(pairs)}).status_code == 302
    wrong = client.post(address, {"action": "save", "by": "matrix", "matrix": "1 2 3"})
    assert wrong.status_code == 400 and "2 x 3" in words(wrong) and "1 2 3" in wrong.content.decode()
    assert client.post(address, {"action": "save", "by": "matrix", "matrix": f"{scale} 0 5; 0 {scale} 6"}).status_code == 302
    here = Alignment.objects.get(replaced_at=None)
    assert here.matrix == [[scale, 0, 5], [0, scale, 6]] and "Earlier places" in words(client.get(address))
    assert people.client("viewer").post(address, {"action": "remove"}).status_code == 403
    assert client.post(address, {"action": "remove"}).status_code == 302 and not Alignment.objects.filter(replaced_at=None).exists()
    assert client.get(reverse("multiplex_place", args=[image.pk, people.breast.slide.pk])).status_code == 404


def test_a_panel_is_sent_with_the_stack(people, tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "stack.tif", draw(), photometric="minisblack", metadata=None)
    address = reverse("upload_multiplex", args=[people.lung.cohort.pk])
    client = people.client("contributor")

    def send(panel):
        stack = SimpleUploadedFile("stack.tif", (tmp_path / "stack.tif").read_bytes())
        return client.post(address, {"file": stack, "panel": SimpleUploadedFile("panel.csv", panel), "mpp": "1"})

    assert send(b"channel,name,keep\nIr191,DNA,1\nPr141,CD3,0\n").status_code == 302
    assert Import.objects.latest("pk").options["panel"] == [["DNA", True], ["CD3", False]]
    wrong = send(b"no,panel\n1,2\n")
    assert wrong.status_code == 400 and b"The panel cannot be read" in wrong.content
