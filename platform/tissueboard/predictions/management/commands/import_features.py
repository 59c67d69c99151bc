"""manage.py import_features COHORT FOLDER --encoder NAME: takes in features that TRIDENT or CLAM made, without encoding again."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.intake.people import user_for_command
from tissueboard.jobs import execution
from tissueboard.jobs.models import Job, State
from tissueboard.predictions.feature_import import ImportPlan, import_bags, plan_import, version_name


class Command(BaseCommand):
    help = (
        "Imports feature bags of a TRIDENT or CLAM folder into a cohort. Every file and every slide without one has a line in the report."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cohort", help="Name of the cohort.")
        parser.add_argument("folder", type=Path, help="What TRIDENT or CLAM wrote: holds features_<encoder>, or h5_files or pt_files.")
        parser.add_argument("--encoder", required=True, help="Which encoder made the features, e.g. uni.")
        parser.add_argument(
            "--mapping", type=Path, metavar="CSV", help="Columns slide and file, where files are named otherwise than slides."
        )
        parser.add_argument("--coords", type=Path, metavar="FOLDER", help="CLAM's patch files, where they are not beside the features.")
        parser.add_argument("--user", help="Name of the person who imports; without it the house itself does.")
        parser.add_argument("--dry-run", action="store_true", help="Only check; nothing is written.")
        parser.add_argument("--report", type=Path, metavar="FILE.json", help="Where to write all findings.")

    def handle(self, *args: Any, cohort: str, folder: Path, encoder: str, **options: Any) -> None:
        target = Cohort.objects.filter(name=cohort).first()
        if target is None:
            raise CommandError(f"There is no cohort {cohort}.")
        person = user_for_command(options["user"])
        try:
            plan = plan_import(person, target, folder, encoder, options["mapping"], options["coords"])
            self._say(plan, options["report"])
            if options["dry_run"]:
                self.stdout.write("Dry run, nothing was written.")
                return
            jobs = import_bags(person, plan, f"{plan.layout} folder {folder.resolve().name}")
        except TissueboardError as error:
            raise CommandError(f"{error.code}: {error.sentence} {error.hint}") from error
        self._publish(jobs)

    def _say(self, plan: ImportPlan, report: Path | None) -> None:
        for finding in plan.findings:
            self.stdout.write(f"{finding.severity}: {finding.code} {finding.file}: {finding.sentence} {finding.hint}")
        due, done = len(plan.due), len(plan.bags) - len(plan.due)
        self.stdout.write(f"{due} to import, {done} here already, tiles of {plan.tile_um:g} um, version {version_name(plan.encoder)}.")
        if report is not None:
            report.write_text(json.dumps([finding.to_dict() for finding in plan.findings], indent=1, ensure_ascii=False))

    def _publish(self, jobs: list[Job]) -> None:
        """Does the short publishing jobs here, so that they also end where no worker runs; a worker that was faster is welcome."""
        for job in jobs:
            execution.execute(job.pk, job.attempt, worker="import_features")
            job.refresh_from_db()
        failed = [job for job in jobs if job.state not in (State.SUCCEEDED, State.RUNNING, State.SAVING)]
        self.stdout.write(f"{len(jobs) - len(failed)} imported.")
        for job in failed:
            self.stdout.write(f"error: job {job.pk}: {job.error_code} {job.error_sentence}")
        if failed:
            raise CommandError(f"{len(failed)} of {len(jobs)} were not imported.")
