"""manage.py import_clinical FILE --cohort NAME: brings one clinical table, or a table of events, into a cohort."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tissueboard.errors import TissueboardError
from tissueboard.intake.clinical import EndpointMapping, VariableMapping, import_clinical
from tissueboard.intake.people import cohort_for_command, user_for_command


class Command(BaseCommand):
    help = "Reads a CSV, TSV or XLSX table (also zipped), says what is wrong by row and column, and imports it whole or not at all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--cohort", required=True, help="Name of the cohort.")
        parser.add_argument("--create-cohort", action="store_true", help="Make the cohort if there is none.")
        parser.add_argument("--user", help="Name of the person who imports; without it the house itself does.")
        parser.add_argument("--mapping", type=Path, metavar="FILE.json", help="How columns are read; the report of a dry run has one.")
        parser.add_argument("--patient-column", metavar="C", help="The column of the patient's code.")
        parser.add_argument("--sample-column", metavar="C", help="The column of the sample's code.")
        parser.add_argument(
            "--endpoint",
            action="append",
            metavar="NAME=TIME:UNIT:STATUS:CODING",
            help="e.g. OS=survival_months:months:censorship:censored=1 (1 = censored), or ...:event=1; can be repeated.",
        )
        parser.add_argument(
            "--variable", action="append", metavar="NAME=COLUMN[:KIND[:UNIT]]", help="A clinical variable; can be repeated."
        )
        parser.add_argument("--time-zero", help='What times count from, e.g. "diagnosis".')
        parser.add_argument("--decimal", choices=[".", ","], help="The decimal sign.")
        parser.add_argument("--sheet", help="The sheet of a workbook; the first one if left out.")
        parser.add_argument("--only-known-patients", action="store_true", help="A row of an unknown patient is an error.")
        parser.add_argument("--dry-run", action="store_true", help="Only check; nothing is written.")
        parser.add_argument("--report", type=Path, metavar="FILE.json", help="Where to write the report.")

    def handle(self, *args: Any, file: Path, cohort: str, dry_run: bool, report: Path | None, **options: Any) -> None:
        person = user_for_command(options["user"])
        try:
            chosen = self._options(options)
            with cohort_for_command(person, cohort, options["create_cohort"], dry_run, self.stdout.write) as target:
                result = import_clinical(person, target, file, chosen, dry_run=dry_run)
        except TissueboardError as refusal:
            raise CommandError(f"{refusal.code}: {refusal.sentence} {refusal.hint}") from None
        for finding in result.findings:
            where = f" [{finding.where}]" if finding.where else ""
            self.stdout.write(f"{finding.severity}: {finding.code}{where} {finding.sentence} {finding.hint}")
        for name, count in result.counts.items():
            self.stdout.write(f"{name}: {count}")
        done = {"ready": "would be imported" if dry_run else "imported"}.get(result.state, "nothing was imported")
        self.stdout.write(f"{result.file}: {result.state}, {done}")
        if report is not None:
            report.write_text(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The options of `import_clinical`: the mapping file first, then what stands on the command line."""
        options: dict[str, Any] = {}
        if given["mapping"] is not None:
            try:
                options = json.loads(given["mapping"].read_text())
            except (OSError, ValueError) as reason:
                raise CommandError(f"The mapping {given['mapping']} cannot be read: {reason}") from None
            if not isinstance(options, dict):
                raise CommandError(f"The mapping {given['mapping']} has to be a JSON object.")
            options.pop("ignored", None)
        names = {"patient_column": "patient", "sample_column": "sample", "time_zero": "time_zero", "decimal": "decimal", "sheet": "sheet"}
        options |= {key: given[option] for option, key in names.items() if given[option]}
        if given["endpoint"]:
            options["endpoints"] = [vars(EndpointMapping.parse(text)) for text in given["endpoint"]]
        if given["variable"]:
            options["variables"] = [vars(VariableMapping.parse(text)) for text in given["variable"]]
        if given["only_known_patients"]:
            options["create_patients"] = False
        return options
