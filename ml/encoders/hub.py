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


def fetch(spec: EncoderSpec, folder: Path) -> Path:
    """Downloads the entry's file into the encoder's weights folder and gives its path.

    Errors: WeightsMissing weights_gated (terms not accepted, or no valid token), weights_missing (no such file there),
    hub_unreachable (no network, or the transfer broke).
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    if not _reachable(endpoint):
        raise _said("hub_unreachable", spec, f"The hub at {endpoint} cannot be reached.", folder)
    try:
        path = hf_hub_download(
            spec.repo,
            spec.file,
            repo_type=spec.hub_type,
            local_dir=folder,
            token=os.environ.get("HF_TOKEN") or None,
            endpoint=endpoint,
            etag_timeout=ETAG_SECONDS,
        )
    except GatedRepoError as error:
        raise _said("weights_gated", spec, f"The hub does not give {spec.file} of {spec.repo} to this token.", folder) from error
    except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError that means: the hub could not be asked
        raise _said("hub_unreachable", spec, f"The hub at {endpoint} cannot be reached.", folder) from error
    except RepositoryNotFoundError as error:  # the hub answers the same for what is not there and for what nobody may know of
        raise _said("weights_gated", spec, f"The hub does not show {spec.repo} to this token.", folder) from error
    except EntryNotFoundError as error:
        raise _said("weights_missing", spec, f"There is no file {spec.file} in {spec.repo}.", folder) from error
    except OSError as error:
        raise _said("hub_unreachable", spec, f"Fetching {spec.file} of {spec.repo} failed.", folder) from error
    wanted = folder / Path(spec.file).name
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
