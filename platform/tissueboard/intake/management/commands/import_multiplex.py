"""manage.py import_multiplex COHORT PATH...: brings images of measured channels (CODEX, IMC, MIBI, Vectra ...) into a cohort."""

import json
import logging
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.intake.errors import IntakeCode, error
from tissueboard.intake.management.commands.import_slides import positive
from tissueboard.intake.multiplex_import import MultiplexImportResult, import_multiplex
from tissueboard.intake.people import cohort_for_command, user_for_command
from tissueboard.intake.uploads import channel_names, panel_rows

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Checks and imports multi-channel images: OME-TIFF, QPTIFF, OME-Zarr, stacks, or folders and zips with one TIFF per marker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cohort", help="Name of the cohort.")
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="Each is one image: a TIFF, a zip, or a folder.")
        parser.add_argument("--create-cohort", action="store_true", help="Make the cohort if there is none.")
        parser.add_argument("--user", help="Name of the person who imports; without it the house itself does.")
        parser.add_argument("--patient", help="Code of the patient, if all images are hers.")
        parser.add_argument("--sample", help="Code of the sample, if all images are of it.")
        parser.add_argument("--technology", default="", choices=["", *MultiplexImage.Technology.values], help="How it was measured.")
        parser.add_argument("--channels", help="Names in the order of the planes, with commas between.")
        parser.add_argument("--channels-file", type=Path, metavar="FILE", help="The names, one a line.")
        parser.add_argument(
            "--panel", type=Path, metavar="panel.csv", help="The panel of a stack, as steinbock writes it (channel,name,keep)."
        )
        parser.add_argument("--mpp", type=positive, help="um per pixel, for files that do not state it.")
        parser.add_argument("--trust-mpp", action="store_true", help="--mpp also wins over files that state another value.")
        parser.add_argument("--dry-run", action="store_true", help="Only check; nothing is written.")
        parser.add_argument("--report", type=Path, metavar="FILE.json", help="Where to write the report: a list with one entry per image.")

    def handle(self, *args: Any, cohort: str, paths: list[Path], dry_run: bool, report: Path | None, **options: Any) -> None:
        if options["trust_mpp"] and options["mpp"] is None:
            raise CommandError("--trust-mpp needs --mpp.")
        given = {
            "patient_code": options["patient"],
            "sample_code": options["sample"],
            "technology": options["technology"],
            "channels": _channels(options["channels"], options["channels_file"]),
            "panel": _panel(options["panel"]),
            "mpp": options["mpp"],
            "trust_mpp": options["trust_mpp"],
            "dry_run": dry_run,
        }
        person = user_for_command(options["user"])
        with cohort_for_command(person, cohort, options["create_cohort"], dry_run, self.stdout.write) as target:
            results = [self._one(person, target, path, given) for path in paths]
        if report is not None:
            report.write_text(json.dumps([result.to_dict() for result in results], indent=1, ensure_ascii=False))
        counts = {state: sum(r.state == state for r in results) for state in ("ready", "needs attention", "rejected")}
        self.stdout.write(", ".join(f"{n} {state}" for state, n in counts.items()) + (" (dry run, nothing was written)" if dry_run else ""))

    def _one(self, user: Any, cohort: Cohort, path: Path, given: dict[str, Any]) -> MultiplexImportResult:
        """One image, whatever is in it; an unexpected failure is a finding of this file and a traceback in the log."""
        try:
            result = import_multiplex(user, cohort, path, **given)
        except TissueboardError as refusal:
            result = _failed(path, refusal.code, refusal.sentence, refusal.hint)
        except Exception:
            log.exception("import of a multiplex image failed")
            result = _failed(
                path, IntakeCode.IMPORT_FAILED, "The import stopped with an unexpected error.", "The log says more; try again."
            )
        self.stdout.write(f"{result.state:16} {path.name}")
        for finding in result.findings:
            where = f" [{finding.where}]" if finding.where else ""
            self.stdout.write(f"    {finding.severity}: {finding.code}{where} {finding.sentence} {finding.hint}")
        return result


def _channels(text: str | None, file: Path | None) -> list[str] | None:
    """The names from the command line. CommandError if both or unusable ones are given."""
    if text and file:
        raise CommandError("Give --channels or --channels-file, not both.")
    if file is not None and not file.is_file():
        raise CommandError(f"There is no file {file.name}.")
    given = text or (file.read_text(encoding="utf-8-sig") if file else "")
    try:
        return channel_names(given) if given.strip() else None
    except TissueboardError as refusal:
        raise CommandError(f"{refusal.sentence} {refusal.hint}") from None


def _panel(file: Path | None) -> list[Any] | None:
    """The rows of a panel. CommandError if there is no such file or it is none."""
    if file is None:
        return None
    if not file.is_file():
        raise CommandError(f"There is no file {file.name}.")
    try:
        return panel_rows(file.read_bytes())
    except TissueboardError as refusal:
        raise CommandError(f"{refusal.sentence} {refusal.hint}") from None


def _failed(path: Path, code: str, sentence: str, hint: str) -> MultiplexImportResult:
    return MultiplexImportResult(path.name, "rejected", [error(code, sentence, hint, file=path.name)])
