"""Fetching a weight file from the Hugging Face hub, with the user's own token. Only called where a person allowed it."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ml.encoders.spec import EncoderSpec, WeightsMissing
from ml.encoders.weights import where_to_get

ETAG_SECONDS = 10.0
CONNECT_SECONDS = 5.0
HUB = "https://huggingface.co"
USUAL = ("model.safetensors", "pytorch_model.bin")


def fetch(spec: EncoderSpec, folder: Path) -> Path:
    """Downloads the entry's file into the encoder's weights folder and gives its path.

    A repository that holds the other of model.safetensors and pytorch_model.bin gives that one.
    Errors: WeightsMissing weights_gated (terms not accepted, or no valid token), weights_missing (no such file there),
    hub_unreachable (no network, or the transfer broke).
    """
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    unreachable = f"The hub at {endpoint} cannot be reached."
    if not _reachable(endpoint):
        raise _said("hub_unreachable", spec, unreachable, folder)
    files = [spec.file, *(name for name in USUAL if spec.file in USUAL and name != spec.file)]
    for file in files:
        try:
            return _download(spec, file, folder, endpoint)
        except GatedRepoError as error:
            raise _said("weights_gated", spec, f"The hub does not give {file} of {spec.repo} to this token.", folder) from error
        except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError that means: the hub could not be asked
            raise _said("hub_unreachable", spec, unreachable, folder) from error
        except RepositoryNotFoundError as error:  # the same answer for what is not there and for what nobody may know of
            raise _said("weights_gated", spec, f"The hub does not show {spec.repo} to this token.", folder) from error
        except EntryNotFoundError:
            continue
        except OSError as error:
            raise _said("hub_unreachable", spec, f"Fetching {file} of {spec.repo} failed.", folder) from error
    raise _said("weights_missing", spec, f"There is no file {' or '.join(files)} in {spec.repo}.", folder)


def _download(spec: EncoderSpec, file: str, folder: Path, endpoint: str) -> Path:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        spec.repo,
        file,
        repo_type=spec.hub_type,
        local_dir=folder,
        token=os.environ.get("HF_TOKEN") or None,
        endpoint=endpoint,
        etag_timeout=ETAG_SECONDS,
    )
    wanted = folder / Path(file).name
    if Path(path) != wanted:  # a file of a subfolder there lies at the top here
        shutil.move(path, wanted)
    return wanted


def _reachable(endpoint: str) -> bool:
    """Whether somebody listens there: the client finds that out only after half a minute. Behind a proxy only the client can tell."""
    url = urlsplit(endpoint)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    if getproxies().get(url.scheme) and not proxy_bypass(host):
        return True
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _said(code: str, spec: EncoderSpec, sentence: str, folder: Path) -> WeightsMissing:
    return WeightsMissing(code, sentence, where_to_get(spec, folder.parent))
