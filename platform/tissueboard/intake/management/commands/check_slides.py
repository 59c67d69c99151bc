"""manage.py check_slides --cohort NAME: reads every file of a cohort's slides and says which is no longer what came in."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tissueboard.cohorts.models import Cohort
from tissueboard.intake.people import user_for_command
from tissueboard.intake.verify import remake, verify_slide
from tissueboard.slides.models import Slide


class Command(BaseCommand):
    help = "Compares sealed originals and working slides with their checksums. Ends with 1 if a file is changed or missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--cohort", help="Name of the cohort; every cohort if left out.")
        parser.add_argument("--repair", action="store_true", help="Make changed or missing working slides anew from whole originals.")
        parser.add_argument("--user", help="Name of the person in whose name repairs are logged; without it the house itself.")
        parser.add_argument("--report", type=Path, metavar="FILE.json", help="Where to write the report: a list with one entry per slide.")

    def handle(self, *args: Any, cohort: str | None, repair: bool, report: Path | None, **options: Any) -> None:
        person = user_for_command(options["user"])
        slides = Slide.objects.select_related("sample__patient__cohort").order_by("pk")
        if cohort is not None:
            if not Cohort.objects.filter(name=cohort).exists():
                raise CommandError(f"There is no cohort {cohort}.")
            slides = slides.filter(sample__patient__cohort__name=cohort)
        lines, bad = [], 0
        for slide in slides.iterator():
            files = verify_slide(slide)
            if repair and not files.whole:
                files = remake(person, files)
            bad += not files.whole
            lines.append(files.to_dict())
            self.stdout.write(f"{slide.name:24} sealed {files.sealed:8} working {files.working:8} {slide.state}")
            for finding in files.findings:
                self.stdout.write(f"    {finding.severity}: {finding.code} [{finding.where}] {finding.sentence} {finding.hint}")
        if report is not None:
            report.write_text(json.dumps(lines, indent=1, ensure_ascii=False))
        self.stdout.write(f"{len(lines)} slides looked at, {bad} with a file that is changed or missing")
        if bad:
            raise CommandError(f"{bad} of {len(lines)} slides have a file that is changed or missing.")
