"""manage.py import_cells COHORT IMAGE --mask MASK [--table CELLS.csv]: the cells of a multiplex image, as another program found them."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tissueboard.accounts.models import User
from tissueboard.assays.cells import CellsAsked, add_cells
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError


class Command(BaseCommand):
    help = "Keeps the cells of a multiplex image: a label mask (TIFF, npz), and a table with a row per cell (CSV, Parquet) if there is one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cohort", help="Name of the cohort.")
        parser.add_argument("image", help="Name of the multiplex image in the cohort (M-...).")
        parser.add_argument("--mask", type=Path, help="TIFF of labels, or npz with the key mask; without it the one that is there.")
        parser.add_argument("--table", type=Path, help="CSV or Parquet.")
        parser.add_argument("--id-column", default="", help="Column of the cells' ids; found by its name without it.")
        parser.add_argument("--type-columns", default="", metavar="A,B", help="Columns of cell types; found by their name without it.")
        parser.add_argument("--table-image", default="", metavar="NAME", help="What the table calls this image, where it holds several.")
        parser.add_argument("--confirmed", action="store_true", help="The size of the cells was looked at, and is right.")
        parser.add_argument("--user", help="Name of the person who imports; without it the house itself does.")
        parser.add_argument("--dry-run", action="store_true", help="Only check; nothing is written.")

    def handle(self, *args: Any, cohort: str, image: str, mask: Path | None, table: Path | None, **options: Any) -> None:
        target = Cohort.objects.filter(name=cohort).first()
        if target is None:
            raise CommandError(f"There is no cohort {cohort}.")
        images = list(MultiplexImage.objects.filter(sample__patient__cohort=target, name=image).select_related("sample__patient__cohort"))
        if len(images) != 1:
            raise CommandError(f"The cohort {cohort} has {len(images)} multiplex images called {image}.")
        person = User.objects.filter(username=options["user"]).first()
        if options["user"] and person is None:
            raise CommandError(f"There is no user {options['user']}.")
        asked = CellsAsked(options["id_column"], options["type_columns"], options["table_image"], options["confirmed"])
        try:
            found = add_cells(person, images[0], mask, table, asked, dry_run=options["dry_run"])
        except TissueboardError as refusal:
            where = f" [{refusal.where}]" if refusal.where else ""
            raise CommandError(f"{refusal.code}{where}: {refusal.sentence} {refusal.hint}") from None
        for one in found.findings:
            where = f" [{one.where}]" if one.where else ""
            self.stdout.write(f"    {one.severity}: {one.code}{where} {one.sentence} {one.hint}")
        rows = f", {found.facts['table']['n_rows']} rows" if found.facts["table"] else ""
        self.stdout.write(f"{image}: {found.facts['mask']['n_cells']} cells{rows}; {found.state}.")
        if options["dry_run"]:
            self.stdout.write("Dry run, nothing was written.")
