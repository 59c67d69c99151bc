"""manage.py run_pipeline NAME --cohort C: a run of a pipeline over a cohort, or a pipeline on a few of its slides."""

import time

from django.core.management.base import BaseCommand, CommandError

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.pipelines.cohort_plan import plan_cohort
from tissueboard.pipelines.feeding import feed
from tissueboard.pipelines.models import CohortRun, RunItem
from tissueboard.pipelines.run_services import start_run
from tissueboard.pipelines.services import plan, run_pipeline
from tissueboard.slides.models import Slide

POLL_SECONDS = 2.0


class Command(BaseCommand):
    help = "Starts a pipeline on a cohort (the queue's workers do the work; what exists is not made again)."

    def add_arguments(self, parser):
        parser.add_argument("name", nargs="?", default="case", help="Name of the pipeline (default: case).")
        parser.add_argument("--cohort", required=True, help="Name of the cohort.")
        parser.add_argument(
            "--choose", action="append", default=[], dest="versions", metavar="FAMILY=ID", help="Version of a family, e.g. encoder=3."
        )
        parser.add_argument("--slide", type=int, action="append", help="Only this slide (may be repeated).")
        parser.add_argument("--despite-disk", action="store_true", help="Start although the estimate does not fit on the disk.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would run.")
        parser.add_argument("--wait", action="store_true", help="Tell the progress until the run ends; fails where a step failed.")

    def handle(self, *args, name, cohort, versions, slide, despite_disk, dry_run, wait, **options):
        found = Cohort.objects.filter(name=cohort).first()
        if found is None:
            raise CommandError(f"There is no cohort {cohort}.")
        chosen = dict(self._version(text) for text in versions)
        try:
            if slide:
                self._on_slides(name, found, slide, chosen, dry_run)
                return
            self._tell(plan_cohort(None, found, name, chosen))
            if dry_run:
                return
            run = start_run(None, found, name, chosen, despite_disk=despite_disk)
        except TissueboardError as error:
            raise CommandError(f"{error.code}: {error.sentence} {error.hint}") from error
        self.stdout.write(f"Run {run.pk} is {run.state}.{' ' + run.note if run.note else ''}")
        if wait:
            self._follow(run)

    def _version(self, text):
        family, _, number = text.partition("=")
        if not family or not number.isdecimal():
            raise CommandError(f"--choose takes FAMILY=ID, for example encoder=3, not {text}.")
        return family, int(number)

    def _on_slides(self, name, cohort, ids, chosen, dry_run):
        slides = Slide.objects.filter(sample__patient__cohort=cohort, state=Slide.State.READY, pk__in=ids)
        slides = list(slides.select_related("sample__patient__cohort"))
        if not slides:
            raise CommandError(f"The cohort {cohort.name} has no such ready slide.")
        for one in slides:
            for step in plan(None, name, one, chosen):
                self.stdout.write(f"{one.name}: {step.step.title}: {step.version or 'left out. ' + step.why_not}")
        if not dry_run:
            jobs = run_pipeline(None, name, slides=slides, options=chosen)
            self.stdout.write(f"{len(jobs)} jobs: {', '.join(str(job.pk) for job in jobs)}")

    def _tell(self, found):
        for p in found.steps:
            counts = found.counts[p.step.kind]
            told = f"{counts['run']} will run, {counts['exists']} exist, {counts['skip']} cannot run"
            self.stdout.write(f"{p.step.title} ({p.version or 'no model'}): {told}")
        for row in found.skipped():
            self.stdout.write(f"  {row.patient.code} {row.tissue or ''}: {row.step.title}: {row.reason}")
        if found.n_run:
            told, gib = found.estimate, 2**30
            seconds = f"about {told.seconds:.0f} s" if told.seconds is not None else f"unknown, {told.why_no_time}"
            disk = f"about {told.disk_bytes / gib:.2f} GiB" if told.disk_bytes is not None else f"unknown, {told.why_no_disk}"
            self.stdout.write(f"Time: {seconds}. Disk: {disk}; {told.free_bytes / gib:.1f} GiB free.")

    def _follow(self, run):
        """One line whenever a count changed, until the run stops going on."""
        last = ""
        while True:
            feed(run.pk)
            run.refresh_from_db()
            items = RunItem.objects.filter(run=run).with_state()
            counts = {state: items.filter(state=state).count() for state in RunItem.STATES}
            line = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
            if line != last:
                self.stdout.write(line)
                self.stdout.flush()
                last = line
            if run.state != CohortRun.State.RUNNING:
                break
            time.sleep(POLL_SECONDS)
        if run.state != CohortRun.State.DONE:
            raise CommandError(f"The run is {run.state}. {run.note}".strip())
        if counts["failed"]:
            raise CommandError(f"{counts['failed']} steps failed; the page of run {run.pk} says why.")
