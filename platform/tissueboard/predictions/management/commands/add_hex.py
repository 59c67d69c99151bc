"""Brings a HEX checkpoint of the released code into use."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tissueboard.errors import TissueboardError
from tissueboard.predictions.hex_release import LICENCE, register_released


class Command(BaseCommand):
    help = "Registers a checkpoint.pth of the released HEX code (head alone or with its encoder) as a version of the family hex."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("name", help="name of the version")
        parser.add_argument("checkpoint", type=Path)
        parser.add_argument("--encoder", default="musk", help="entry of the catalogue (default: musk)")
        parser.add_argument("--markers", default="", help="names of its outputs in order, comma-separated (default: the 40 of the paper)")
        parser.add_argument("--tile-um", type=float, default=56.0)
        parser.add_argument("--licence", default=LICENCE)

    def handle(self, **options: Any) -> None:
        markers = [m.strip() for m in options["markers"].split(",") if m.strip()] or None
        try:
            version = register_released(
                None,
                options["name"],
                options["checkpoint"],
                encoder=options["encoder"],
                markers=markers,
                tile_um=options["tile_um"],
                licence=options["licence"],
            )
        except TissueboardError as error:
            raise CommandError(f"{error.sentence} {error.hint}".strip()) from error
        self.stdout.write(f"{version} is registered (id {version.pk}). Measure it on a cohort before its maps are shown.")
