"""One ready slide of a cohort, and the people around it. The slide is imported once; each test sees its own copy of the records."""

from pathlib import Path

import pytest
from slide_files import write_svs


@pytest.fixture(scope="session")
def made_slide(tmp_path_factory) -> dict:
    """A working slide and its facts, made once."""
    from ml.slides.scrub import make_working

    folder = tmp_path_factory.mktemp("working")
    facts = make_working(write_svs(folder / "original.svs"), folder / "working.tif")
    return {"path": folder / "working.tif", "facts": facts}


@pytest.fixture
def people(db) -> dict:
    from tissueboard.accounts.models import User

    return {name: User.objects.create_user(name, password="a long pass phrase") for name in ("viewer", "outsider")}


@pytest.fixture
def make_slide(people, made_slide, settings, tmp_path: Path):
    """`make_slide("TCGA-AA-0001", cohort="one")`: a ready slide in a cohort where `viewer` is a viewer."""
    import shutil

    from django.core.cache import cache

    from tissueboard.cohorts.models import Cohort, Membership, Patient, Sample
    from tissueboard.slides.models import Slide
    from tissueboard.store import store

    settings.STORE_ROOT = tmp_path / "store"
    cache.clear()

    def make(code: str, *, cohort: str = "ours", state: str = "ready", member: bool = True) -> Slide:
        owner, fresh = Cohort.objects.get_or_create(name=cohort)
        if fresh and member:
            Membership.objects.create(cohort=owner, user=people["viewer"], role="viewer")
        patient, _ = Patient.objects.get_or_create(cohort=owner, code=code)
        sample, _ = Sample.objects.get_or_create(patient=patient, code="01A")
        slide = Slide.objects.create(sample=sample, name=f"S-{code}", sealed_sha256=f"{code:0<64}"[:64])
        if state == "ready":
            facts = made_slide["facts"]
            slide.working_key, slide.working_sha256 = f"slides/{slide.pk}/working.tif", facts.sha256
            slide.mpp, (slide.width, slide.height) = facts.mpp, facts.size
            target = store.path(slide.working_key)
            target.parent.mkdir(parents=True)
            shutil.copy(made_slide["path"], target)
        slide.state = state
        slide.save()
        return slide

    return make
