"""VirTues on files, without the platform.

    python -m ml.virtues pretrain FOLDER... --bank EMBEDDINGS --out MODEL [--released] [--set epochs=20] [--start MODEL]
    torchrun --nproc-per-node 8 -m ml.virtues pretrain FOLDER... --bank EMBEDDINGS --out MODEL --released --devices 8
    python -m ml.virtues evaluate MODEL FOLDER... --salt SALT --out figures.json
    python -m ml.virtues embed MODEL FOLDER... --out EMBEDDINGS [--set max_medoids=16]
    python -m ml.virtues stain MODEL FOLDER IMAGE UNIPROT --bank EMBEDDINGS --out painted.npy
    python -m ml.virtues proteins SEQUENCES.fasta --model ESM2_FOLDER --out EMBEDDINGS/all.safetensors

A FOLDER is a data set in the authors' layout (spora), or holds images.csv (see ml.virtues.cohort_files). EMBEDDINGS is a folder with one
vector per protein; `proteins` computes them by ESM-2 from files of that model. A stopped `pretrain` or `embed` goes on where it was when it
is called again. `evaluate` takes patients that the model did not see. `embed` writes niches (HDF5) and, where there is a mask, cells.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.slides.findings import SlideError
from ml.training.splits import SplitError, patient_hash
from ml.virtues.errors import VirtuesError

if TYPE_CHECKING:
    from ml.virtues.cohort_files import Cohort
    from ml.virtues.data import Source
    from ml.virtues.preprocess import Standard
    from ml.virtues.weights import VirtuesWeights

SALT = "ml.virtues"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where the work said no."""
    parser = argparse.ArgumentParser(prog="python -m ml.virtues", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    pretrain = commands.add_parser("pretrain", help="train on folders of images")
    pretrain.add_argument("folders", nargs="+", type=Path)
    pretrain.add_argument("--bank", required=True, type=Path, help="folder of marker embeddings")
    pretrain.add_argument("--released", action="store_true", help="start from the paper's recipe instead of the compact one")
    pretrain.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting of VirtuesPretrainConfig")
    pretrain.add_argument("--start", type=Path, help="a model or released file to go on from")
    pretrain.add_argument("--devices", type=int, default=1, help="processes of torchrun that share the crops")
    measure = commands.add_parser("evaluate", help="reconstruct what is masked, on patients that the model did not see")
    measure.add_argument("model", type=Path)
    measure.add_argument("folders", nargs="+", type=Path)
    measure.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting of VirtuesEvaluateConfig")
    paint = commands.add_parser("stain", help="paint a marker that was not measured")
    paint.add_argument("model", type=Path)
    paint.add_argument("folder", type=Path)
    paint.add_argument("image", help="name of the image: tissue_id, or file of images.csv")
    paint.add_argument("protein", help="UniProt accession")
    paint.add_argument("--bank", type=Path, help="folder of marker embeddings, for a protein that training did not have")
    look = commands.add_parser("embed", help="niches, tissue and cells of every image")
    look.add_argument("model", type=Path)
    look.add_argument("folders", nargs="+", type=Path)
    look.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting of VirtuesEmbedConfig")
    sequences = commands.add_parser("proteins", help="embeddings of proteins by ESM-2")
    sequences.add_argument("fasta", type=Path)
    sequences.add_argument("--model", required=True, type=Path, help="folder with the files of the protein model")
    tasks = ((pretrain, _pretrain), (measure, _evaluate), (paint, _stain), (look, _embed), (sequences, _proteins))
    for command, run in tasks:
        command.add_argument("--out", required=True, type=Path)
        command.add_argument("--cache", type=Path, help="where pixels are kept at the pitch (default: beside --out)")
        command.add_argument("--salt", default=SALT, help="secret with which patients' codes are hashed")
        command.set_defaults(run=run)
    given = parser.parse_args(arguments)
    given.cache = given.cache or given.out.parent / f"{given.out.name}.pixels"
    try:
        given.run(given)
    except (VirtuesError, SlideError, SplitError) as error:
        print(f"{error.sentence} {error.hint}".strip(), file=sys.stderr)
        return 1
    return 0


def _pretrain(given: argparse.Namespace) -> None:
    from ml.virtues.checkpoint import load_weights
    from ml.virtues.cohort_files import read_cohort
    from ml.virtues.markers import MarkerBank
    from ml.virtues.pretrain_config import VirtuesPretrainConfig
    from ml.virtues.train import fit
    from ml.virtues.weights import save_fit

    config = _config(VirtuesPretrainConfig.released if given.released else VirtuesPretrainConfig, given.set)
    cohort, first = read_cohort(given.folders, config.pitch_um, given.cache), int(os.environ.get("RANK", "0")) == 0
    running = given.out / "running"
    found = fit(
        cohort.images,
        cohort.proteins,
        cohort.patients,
        cohort.datasets,
        config,
        MarkerBank.from_folder(given.bank),
        progress=_say if first else None,
        checkpoint_dir=running,
        start=load_weights(given.start) if given.start else None,
        split=cohort.split,
        devices=given.devices,
    )
    if first:
        save_fit(found, given.out, salt=given.salt, code_version="", label="trained on your files", inputs={})
        shutil.rmtree(running, ignore_errors=True)
        print(f"{len(found.split.fit)} patients, {len(found.proteins)} proteins, {found.facts.steps} steps, loss {found.facts.loss:.3f}")


def _evaluate(given: argparse.Namespace) -> None:
    from ml.virtues.cohort_files import read_cohort
    from ml.virtues.evaluate import crops_of, evaluate
    from ml.virtues.pretrain_config import VirtuesEvaluateConfig, VirtuesPretrainConfig
    from ml.virtues.weights import load

    config, weights = _config(VirtuesEvaluateConfig, given.set), load(given.model)
    recipe = VirtuesPretrainConfig(**weights.provenance["fit"])
    cohort, told = read_cohort(given.folders, weights.pitch_um, given.cache), {}
    seen = [patient_hash(patient, given.salt) in weights.membership for patient in cohort.patients]
    for dataset in sorted(set(cohort.datasets)):
        mine = [i for i, d in enumerate(cohort.datasets) if d == dataset]
        sides = [[_source(cohort, i, weights) for i in mine if seen[i] is side] for side in (False, True)]
        # Of a data set that training did not have, markers' partners are learnt from its other patients; none may be in both.
        held, fitted = sides if sides[1] else _halves(sides[0])
        figures = evaluate(weights.model, *(crops_of(s, recipe.crop, recipe.min_tissue) for s in (held, fitted)), config, _say)
        told[dataset] = {masking: one.summary() for masking, one in figures.items()}
        for masking, one in told[dataset].items():
            print(f"{dataset}, {masking}: " + ", ".join(f"{method} r {f['mean']:.3f}" for method, f in one["r"].items()))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(told))


def _halves(sources: list[Source]) -> tuple[list[Source], list[Source]]:
    units = sorted({s.unit for s in sources})
    first = set(units[: (len(units) + 1) // 2])
    return [s for s in sources if s.unit in first], [s for s in sources if s.unit not in first]


def _source(cohort: Cohort, index: int, weights: VirtuesWeights) -> Source:
    """One image as the model sees it; a data set that it does not know is standardised by its own images."""
    from ml.virtues.data import source_of

    image, proteins, dataset = cohort.images[index], cohort.proteins[index], cohort.datasets[index]
    return source_of(image, proteins, weights.bank, _standard(cohort, dataset, weights), unit=cohort.patients[index], dataset=dataset)


def _standard(cohort: Cohort, dataset: str, weights: VirtuesWeights) -> Standard:
    """Means and deviations of a data set: the model's, else those of its own images."""
    from ml.virtues.data import standard_of

    mine = [image for image, d in zip(cohort.images, cohort.datasets) if d == dataset]
    return weights.standards.get(dataset) or standard_of(mine, [None] * len(mine))


def _stain(given: argparse.Namespace) -> None:
    from ml.virtues.cohort_files import read_cohort
    from ml.virtues.markers import MarkerBank
    from ml.virtues.preprocess import preprocess
    from ml.virtues.staining import stain
    from ml.virtues.weights import load

    weights = load(given.model)
    cohort = read_cohort([given.folder], weights.pitch_um, given.cache)
    if given.image not in cohort.names:
        hint = f"There are {', '.join(cohort.names[:5])}{' and others' if len(cohort.names) > 5 else ''}."
        raise VirtuesError("image_unknown", f"There is no image {given.image}.", hint, given.image)
    bank = MarkerBank.from_folder(given.bank) if given.bank else weights.bank
    wanted = bank.embedding(given.protein)
    source = _source(cohort, cohort.names.index(given.image), weights)
    image = preprocess(np.asarray(source.raw[source.kept]), source.upper, source.mean, source.std)
    painted = stain(weights.model, image, source.embeddings, wanted, progress=_say)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.save(given.out, painted)
    seen = "" if given.protein in weights.bank else " Training never saw this protein."
    print(f"{given.image}: {given.protein} painted from {len(source.names)} markers, in deviations; not a measurement.{seen}")


def _embed(given: argparse.Namespace) -> None:
    from ml.virtues.cohort_files import read_cohort
    from ml.virtues.embed_config import VirtuesEmbedConfig
    from ml.virtues.weights import load

    weights = load(given.model)
    config = _config(VirtuesEmbedConfig, [f"crop_px={weights.provenance['fit']['crop']}", *given.set])
    cohort = read_cohort(given.folders, weights.pitch_um, given.cache)
    given.out.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(cohort.names):
        stem = f"{cohort.datasets[number]}-{name}".replace("/", "-")
        if not (given.out / f"{stem}.h5").is_file():
            _say(number / len(cohort.names), name)
            _embed_one(cohort, number, weights, config, given.out, stem)
    print(f"{len(cohort.names)} images in {given.out.name}")


def _embed_one(cohort: Cohort, number: int, weights: VirtuesWeights, config: Any, out: Path, stem: str) -> None:
    from ml.slides.files import whole_file
    from ml.virtues.embed import embed
    from ml.virtues.embedding_files import cell_frame, write_cells, write_embedding
    from ml.virtues.panel import prepare

    standard = _standard(cohort, cohort.datasets[number], weights)
    image, state = cohort.images[number], out / f"{stem}.running"
    ready = prepare(image, cohort.proteins[number], weights.bank, standard)
    found = embed(weights.model, ready, image.mask, config, folder=state)
    about = {"pitch_um": weights.pitch_um, "dropped": list(ready.dropped), "config": config.model_dump(mode="json")}
    if found.cells is not None and image.mask is not None:
        with whole_file(out / f"{stem}.cells.parquet") as part:
            write_cells(part, cell_frame(found.cells, np.asarray(image.mask), 1.0), about)
    with whole_file(out / f"{stem}.h5") as part:
        write_embedding(part, found, ready, 1.0, about)
    shutil.rmtree(state, ignore_errors=True)


def _proteins(given: argparse.Namespace) -> None:
    from ml.virtues.markers import MarkerBank
    from ml.virtues.protein_model import embed_sequences, read_fasta

    if not given.fasta.is_file():
        raise VirtuesError("fasta", f"There is no file {given.fasta.name}.", "Give a FASTA file with UniProt headers.")
    bank = MarkerBank(embed_sequences(read_fasta(given.fasta.read_text()), given.model, progress=_say))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    bank.save(given.out)
    print(f"{len(bank)} proteins, {bank.dim} numbers each, in {given.out.name}")


def _config(make: Any, pairs: list[str]) -> Any:
    """A config with NAME=VALUE settings, the value as JSON where it is some, else as text; network.NAME=VALUE sets one of the network's."""
    from pydantic import ValidationError

    values: dict[str, Any] = {}
    network: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        target = network if name.startswith("network.") else values
        target[name.removeprefix("network.")] = value
    try:
        if network:
            values["network"] = make().network.model_dump() | network
        return make(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the settings"
        raise VirtuesError("config_invalid", f"{name}: {first['msg']}.", "See ml/virtues/*_config.py.", name) from error


def _say(fraction: float, text: str) -> None:
    print(f"{fraction:4.0%} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
