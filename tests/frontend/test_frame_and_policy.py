"""What holds on every page: the notice, no inline script or style, nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from django.urls import reverse

ROOT = Path(__file__).resolve().parents[2] / "frontend"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def pages(part):
    slide = f"?slide={part.slide.pk}"
    return {
        "cohorts": reverse("cohorts"),
        "cohort": reverse("cohort", args=[part.cohort.pk]),
        "slides": reverse("cohort_slides", args=[part.cohort.pk]),
        "cases": reverse("cases"),
        "case": reverse("case", args=[part.patient.pk]),
        "similar": reverse("case_similar", args=[part.patient.pk]) + slide,
        "jobs": reverse("jobs"),
        "job": reverse("job", args=[part.jobs["done"].pk]),
        "models": reverse("versions"),
        "model": reverse("version", args=[part.map.version_id]),
        "import": reverse("import_", args=[part.import_.pk]),
    }


def test_every_page_says_research_use_only_and_keeps_the_strict_policy(people):
    client = people.client("manager")
    for name, url in pages(people.lung).items():
        answer = client.get(url)
        assert answer.status_code == 200, (name, answer.status_code)
        text = answer.content.decode()
        assert "Research use only." in text, name
        assert "unsafe" not in answer["Content-Security-Policy"], name
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), name
        assert not [s for s in re.findall(r"<script([^>]*)>", text) if "src=" not in s], name


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda p: p.name)
def test_no_template_reaches_outside_or_writes_inline(template):
    text = template.read_text()
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)


def test_the_lockfile_holds_no_address_of_a_registry():
    assert "resolved" not in (ROOT / "package-lock.json").read_text()


def test_a_fragment_for_somebody_signed_out_moves_the_whole_page_to_the_login(people):
    answer = people.client("anonymous").get(reverse("jobs"), headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/login/"
    assert "password" not in answer.content.decode()
