"""HEX on files, without the platform.

    python -m ml.hex fit FOLDER --out MODEL [--released] [--set epochs=20 --set encoder=he-descriptors]
    torchrun --nproc-per-node 8 -m ml.hex fit FOLDER --out MODEL --released --devices 8 --encoder-weights model.safetensors
    python -m ml.hex map MODEL SLIDE... --out maps/ [--stride-um 14] [--as-released]
    python -m ml.hex convert checkpoint.pth --out MODEL [--encoder musk --encoder-weights model.safetensors]

FOLDER is laid out as the authors lay out theirs. A stopped `fit` goes on where it was when it is called again. `map` writes an OME-Zarr per
slide, with --as-released the .h5 and .npy of the authors, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml.encoders.spec import EncoderError
from ml.hex.errors import HexDataError, HexError
from ml.slides.findings import SlideError

SALT = "ml.hex"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where the work said no."""
    parser = argparse.ArgumentParser(prog="python -m ml.hex", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    fit = commands.add_parser("fit", help="train on a folder of tiles and label tables")
    fit.add_argument("folder", type=Path)
    fit.add_argument("--released", action="store_true", help="start from the published recipe instead of the compact one")
    fit.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting of ml.hex.config.HexFitConfig")
    fit.add_argument("--markers", default="", help="names of the channels in order, comma-separated, where the tables number them")
    fit.add_argument("--devices", type=int, default=1, help="processes of torchrun that share the batches")
    maps = commands.add_parser("map", help="virtual CODEX of slides")
    maps.add_argument("model", type=Path)
    maps.add_argument("slides", nargs="+", type=Path)
    maps.add_argument("--stride-um", type=float)
    maps.add_argument("--mpp", type=float, help="um per px of level 0, for files that do not state it")
    maps.add_argument("--as-released", action="store_true", help="also {slide}.h5 and {slide}.npy as the authors write them")
    convert = commands.add_parser("convert", help="a checkpoint of the released code as a model of ours")
    convert.add_argument("checkpoint", type=Path)
    convert.add_argument("--encoder", default="musk")
    convert.add_argument("--markers", default="")
    for command, run in ((fit, _fit), (maps, _map), (convert, _convert)):
        command.add_argument("--out", required=True, type=Path)
        command.add_argument("--encoder-weights", type=Path, help="weight file of the encoder, where it needs one")
        command.set_defaults(run=run)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except (HexError, EncoderError, SlideError) as error:
        print(f"{error.sentence} {error.hint}".strip(), file=sys.stderr)
        return 1
    return 0


def _fit(given: argparse.Namespace) -> None:
    from ml.hex.checkpoint import save_fit
    from ml.hex.released import read_released_folder
    from ml.hex.train import fit

    split, folds = _splits(given.folder)
    tiles = read_released_folder(given.folder, split, _names(given.markers) or None)
    config = _config(given.released, {"markers": tiles.markers, **_settings(given.set)})
    found = fit(
        tiles.images,
        tiles.labels,
        tiles.patients.tolist(),
        tiles.slides.tolist(),
        tiles.markers,
        config,
        progress=lambda fraction, text: print(f"{fraction:4.0%} {text}", file=sys.stderr, flush=True),
        checkpoint_dir=given.out / "running",
        encoder_weights=str(given.encoder_weights) if given.encoder_weights else None,
        devices=given.devices,
        folds=folds,
    )
    save_fit(found, given.out, salt=SALT, code_version="", label="trained on your files", inputs={}, encoder_weights=given.encoder_weights)
    print(f"median within-slide r on held-out patients: {found.metrics()['median_r_within']:.3f}")


def _splits(folder: Path) -> tuple[Any, dict[str, int] | None]:
    """Whose each slide is, and the fold of each patient, from splits_*.csv; (None, None) where there are none (each slide a patient then).

    Several files are the folds of a cross-validation; one file's two sides are two folds.
    """
    from ml.hex.released import check_splits, read_split

    splits = [read_split(path) for path in sorted(folder.glob("splits_*.csv"))]
    if not splits:
        return None, None
    check_splits(splits)
    sides = [[patient for patient, _ in split.val] for split in splits]
    if len(splits) == 1:
        sides.append([patient for patient, _ in splits[0].train])
    return splits[0], {patient: k for k, patients in enumerate(sides) for patient in patients}


def _config(released: bool, values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from ml.hex.config import HexFitConfig

    try:
        return HexFitConfig.released(**values) if released else HexFitConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the settings"
        raise HexDataError("config_invalid", f"{name}: {first['msg']}.", "See ml/hex/config.py.", name) from error


def _settings(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE, the value as JSON where it is some, else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _map(given: argparse.Namespace) -> None:
    import torch

    from ml.hex.checkpoint import load
    from ml.hex.maps import to_map
    from ml.hex.predict import infer
    from ml.hex.released_maps import released_map, write_map_file, write_predictions
    from ml.slides.grid import tile_grid
    from ml.slides.map_files import write_map
    from ml.slides.reader import open_slide
    from ml.slides.resample import TORCH
    from ml.slides.tissue import tissue_mask

    weights = load(given.model, given.encoder_weights, "cuda" if torch.cuda.is_available() else "cpu")
    metrics = weights.provenance.get("metrics", {})
    given.out.mkdir(parents=True, exist_ok=True)
    for path in given.slides:
        with open_slide(path, mpp=given.mpp) as slide:
            side = weights.config.tile_um
            grid = tile_grid(tissue_mask(slide), slide, side, given.stride_um or side)
            if not len(grid):
                raise HexDataError("no_tiles", f"The slide {path.name} has no tile with enough tissue.", "Look at the slide.", path.name)
            # as the released pictures: the slide's own pixels where there are enough of them, made smaller once
            px = min(max(weights.config.input_px, 224), max(1, int(grid.tile_px0)))
            found = infer(weights, slide.tile_array(grid, px, TORCH))
            virtual = to_map(found.values, grid, weights.markers, found.out_of_range, metrics.get("effective_resolution_um"))
            write_map(given.out / f"{path.stem}.ome.zarr", virtual, mpp=grid.mpp)
            if given.as_released:
                write_predictions(given.out / f"{path.stem}.h5", found.values, grid.xy)
                write_map_file(given.out / f"{path.stem}.npy", released_map(grid.xy, found.values, slide.size, grid.mpp))
        far = "unknown" if found.out_of_range is None else f"{np.mean(found.out_of_range > 1):.0%}"
        print(f"{path.name}: {len(grid)} tiles, {virtual.pitch_um:.1f} um per cell, out of range: {far}", flush=True)


def _convert(given: argparse.Namespace) -> None:
    from ml.hex.checkpoint import save_weights
    from ml.hex.panel import HEX_PANEL
    from ml.hex.released_weights import as_weights, load_released

    markers = _names(given.markers) or HEX_PANEL
    model, smoothing = load_released(given.checkpoint, given.encoder, markers, given.encoder_weights)
    weights = as_weights(model, given.encoder, markers, whole=given.encoder_weights is None)
    about = {"label": "released", "code_version": "", "inputs": {}, "facts": {"membership": "unknown"}}
    save_weights(weights, given.out, [[]], about, given.encoder_weights)
    held = "with the smoothing of a training checkpoint (left out)" if smoothing is not None else "without smoothing"
    print(f"{given.checkpoint.name}: {len(markers)} proteins on {given.encoder}, {held}.")


if __name__ == "__main__":
    sys.exit(main())
