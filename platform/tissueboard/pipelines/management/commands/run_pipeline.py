"""manage.py run_pipeline NAME --cohort C: starts a declared pipeline on the ready slides of a cohort."""

from django.core.management.base import BaseCommand, CommandError

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.pipelines.services import plan, run_pipeline
from tissueboard.slides.models import Slide


class Command(BaseCommand):
    help = "Starts a pipeline on the ready slides of a cohort (the queue's workers do the work)."

    def add_arguments(self, parser):
        parser.add_argument("name", nargs="?", default="case", help="Name of the pipeline (default: case).")
        parser.add_argument("--cohort", required=True, help="Name of the cohort.")
        parser.add_argument("--slide", type=int, action="append", help="Only this slide (may be repeated).")
        parser.add_argument("--dry-run", action="store_true", help="Say what would run.")

    def handle(self, *args, name, cohort, slide, dry_run, **options):
        found = Cohort.objects.filter(name=cohort).first()
        if found is None:
            raise CommandError(f"There is no cohort {cohort}.")
        slides = Slide.objects.filter(sample__patient__cohort=found, state=Slide.State.READY).select_related("sample__patient__cohort")
        if slide:
            slides = slides.filter(pk__in=slide)
        if not slides:
            raise CommandError(f"The cohort {cohort} has no such ready slide.")
        try:
            for one in slides:
                for step in plan(None, name, one):
                    self.stdout.write(f"{one.name}: {step.step.title}: {step.version or 'left out. ' + step.why_not}")
            if not dry_run:
                jobs = run_pipeline(None, name, slides=slides)
                self.stdout.write(f"{len(jobs)} jobs: {', '.join(str(job.pk) for job in jobs)}")
        except TissueboardError as error:
            raise CommandError(f"{error.code}: {error.sentence} {error.hint}") from error
