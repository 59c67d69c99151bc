"""The road through the hub: the real client against a hub of ours on this machine, and against none."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ml.encoders.runtime import load_encoder
from ml.encoders.spec import WeightsMissing

NAME = "timm:resnet18.a1_in1k"
FILE = "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"


@pytest.fixture
def hub(monkeypatch):
    """Answers like the hub: `hub.files` are there; `hub.refusal` is (status, error code) for all others."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body):
            server.asked.append((self.path, self.headers.get("Authorization", "")))
            body = server.files.get(self.path)
            if body is None:
                self.send_response(server.refusal[0])
                self.send_header("X-Error-Code", server.refusal[1])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.refusal, server.asked = {}, (404, "EntryNotFound"), []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("TISSUEBOARD_HUB", "1")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_comes_with_my_token_and_stays_in_the_weights_folder(hub, tmp_path):
    import timm
    from safetensors.torch import save

    hub.files[FILE] = save(timm.create_model("resnet18").state_dict())
    found = load_encoder(NAME, root=tmp_path)
    kept = tmp_path / "timm-resnet18.a1_in1k" / "model.safetensors"
    assert kept.read_bytes() == hub.files[FILE] and found.weights_sha256 == hashlib.sha256(hub.files[FILE]).hexdigest()
    assert {token for path, token in hub.asked if path == FILE} == {"Bearer hf_mine"}
    hub.asked.clear()
    load_encoder(NAME, root=tmp_path)
    assert not hub.asked, "what is here is not asked for again"


def test_a_repository_with_the_other_usual_file_gives_that_one(hub, tmp_path):
    import timm
    import torch

    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.bin")
    hub.files[FILE.replace("model.safetensors", "pytorch_model.bin")] = (tmp_path / "w.bin").read_bytes()
    load_encoder(NAME, root=tmp_path)
    assert (tmp_path / "timm-resnet18.a1_in1k" / "pytorch_model.bin").is_file()


@pytest.mark.parametrize(
    ("refusal", "code", "words"),
    [
        ((403, "GatedRepo"), "weights_gated", "does not give pytorch_model.bin of MahmoodLab/UNI to this token"),
        ((404, "RepoNotFound"), "weights_gated", "does not show MahmoodLab/UNI"),
        ((404, "EntryNotFound"), "weights_missing", "There is no file pytorch_model.bin or model.safetensors in MahmoodLab/UNI"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_accept_and_where_to_put_the_file(hub, tmp_path, refusal, code, words):
    hub.refusal = refusal
    with pytest.raises(WeightsMissing, match=words) as caught:
        load_encoder("uni", root=tmp_path)
    assert caught.value.code == code
    assert f"Accept the terms at MahmoodLab/UNI, then put pytorch_model.bin into {tmp_path}/uni/" in caught.value.hint


def test_a_hub_that_is_not_there_is_said_to_be(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(WeightsMissing, match="cannot be reached") as caught:
        load_encoder("phikon", root=tmp_path)
    assert caught.value.code == "hub_unreachable" and "Get pytorch_model.bin from owkin/phikon and put it into" in caught.value.hint


def test_nothing_is_asked_of_the_hub_unless_it_was_allowed(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("TISSUEBOARD_HUB", "0")
    with pytest.raises(WeightsMissing):
        load_encoder("phikon", root=tmp_path)
    assert not hub.asked


def test_a_broken_file_of_the_hub_is_refused(hub, tmp_path):
    from ml.encoders.spec import WeightsMismatch

    hub.files[FILE] = b"<html>please log in</html>"
    with pytest.raises(WeightsMismatch, match="cannot be read"):
        load_encoder(NAME, root=tmp_path)
