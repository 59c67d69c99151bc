"""A real H&E slide through the real product: import by command, pipeline in the workers, case page and REST."""

import json
import re
import urllib.parse
import urllib.request

import pytest

pytestmark = pytest.mark.realdata
COHORT = "real"


@pytest.fixture(scope="module")
def imported(site, data, tmp_path_factory):
    """cmu-1 and the slide without mpp, in a cohort of the manager."""
    report = tmp_path_factory.mktemp("report") / "report.json"
    files = [str(data / "wsi" / name) for name in ("cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs")]
    site.manage("import_slides", *files, "--cohort", COHORT, "--create-cohort", "--user", "manager", "--report", str(report))
    site.manage("run_pipeline", "case", "--cohort", COHORT)
    site.wait_for_jobs()
    return {row["file"]: row for row in json.loads(report.read_text())}


@pytest.fixture(scope="module")
def get(site):
    """GET of a REST address as the manager, as JSON."""
    body = json.dumps({"username": "manager", "password": site.password}).encode()
    request = urllib.request.Request(f"{site.base_url}/api/v1/token/", body, {"Content-Type": "application/json"})
    token = json.loads(urllib.request.urlopen(request).read())["token"]

    def call(path: str) -> dict:
        asked = urllib.request.Request(f"{site.base_url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})
        return json.loads(urllib.request.urlopen(asked).read())

    return call


def test_the_report_says_ready_and_needs_attention(imported):
    assert imported["cmu-1-small-region.svs"]["state"] == "ready"
    missing = imported["tcga-cr-7395-01a-01-ts1.svs"]
    assert missing["state"] == "needs attention" and "MPP_MISSING" in [f["code"] for f in missing["findings"]]


def test_a_map_of_a_real_slide_is_labelled_as_trained_on_simulated_tissue(imported, get):
    found = get("slides/?" + urllib.parse.urlencode({"cohort": COHORT, "state": "ready"}))
    (slide,) = found["results"]
    maps = get(f"slides/{slide['id']}/maps/")
    (virtual,) = maps["results"] if isinstance(maps, dict) else maps
    assert "trained on simulated tissue" in json.dumps(virtual)


def test_the_case_page_says_what_it_stands_on_and_why_there_is_no_risk(imported, site, get):
    slide = get("slides/?" + urllib.parse.urlencode({"cohort": COHORT, "state": "ready"}))["results"][0]
    page = site.shell(
        "from django.test import Client; from tissueboard.accounts.models import User; from tissueboard.slides.models import Slide; "
        f"c = Client(); c.force_login(User.objects.get(username='manager')); p = Slide.objects.get(pk={slide['id']}).sample.patient_id; "
        "r = c.get(f'/cases/{p}/'); print(r.status_code); print(r.content.decode())"
    )
    assert page.startswith("200")
    text = re.sub(r"\s+", " ", page)
    assert "trained on simulated tissue" in text and "Research use only" in text
    assert "No risk model was fitted on the cohort real" in text


def test_an_override_makes_the_other_slide_ready(imported, site, data, tmp_path):
    report = tmp_path / "again.json"
    path = str(data / "wsi" / "tcga-cr-7395-01a-01-ts1.svs")
    site.manage("import_slides", path, "--cohort", COHORT, "--user", "manager", "--mpp", "0.5", "--report", str(report))
    (row,) = json.loads(report.read_text())
    assert row["state"] == "ready"
