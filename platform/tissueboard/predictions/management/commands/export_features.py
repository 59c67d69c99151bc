"""manage.py export_features COHORT OUT --model-version N: feature bags of a cohort as TRIDENT or CLAM write them."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.intake.people import user_for_command
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.feature_export import export_features


class Command(BaseCommand):
    help = "Exports the feature bags of one version of a cohort. Each slide leaves a row in the access log."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cohort", help="Name of the cohort.")
        parser.add_argument("out", type=Path, help="Folder to write to; it is made.")
        parser.add_argument("--model-version", type=int, required=True, dest="number", help="Id of the version.")
        parser.add_argument("--layout", choices=("trident", "clam"), default="trident", help="Whose files to write (default: trident).")
        parser.add_argument("--user", help="Name of the person who exports; without it the house itself does.")

    def handle(self, *args: Any, cohort: str, out: Path, number: int, layout: str, **options: Any) -> None:
        source, version = Cohort.objects.filter(name=cohort).first(), ModelVersion.objects.filter(pk=number).first()
        if source is None:
            raise CommandError(f"There is no cohort {cohort}.")
        if version is None:
            raise CommandError(f"There is no version {number}; the page Models lists them.")
        try:
            written, failed = export_features(user_for_command(options["user"]), source, version, out, layout)
        except TissueboardError as error:
            raise CommandError(f"{error.code}: {error.sentence} {error.hint}") from error
        for name in written:
            self.stdout.write(name)
        self.stdout.write(f"{len(written)} slides exported to {out} as {layout} writes them; features of {version} ({version.label}).")
        if failed:
            raise CommandError("\n".join(f"{error.where}: {error.code}: {error.sentence} {error.hint}" for error in failed))
