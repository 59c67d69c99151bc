"""The loop trains, tells how far it is, stops when asked, and leaves nothing behind."""

import time

import lightning.pytorch as pl
import pytest
import torch

from ml.training.loop import Cancelled, TrainingDiverged, run_loop


class Line(pl.LightningModule):
    """Learns y = 3 x."""

    def __init__(self, lr=0.1):
        super().__init__()
        self.slope, self.lr = torch.nn.Parameter(torch.zeros(1)), lr

    def training_step(self, batch, index):
        x, y = batch
        return ((self.slope * x - y) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def batches(n, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        x = torch.randn(16, generator=generator)
        yield x, 3 * x * scale


def test_it_trains_and_says_what_it_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line, heard = Line(), []
    facts = run_loop(line, list(batches(60)), 60, progress=lambda fraction, text: heard.append((fraction, text)), accelerator="cpu")
    assert float(line.slope.detach()) == pytest.approx(3, abs=0.05)
    assert (facts.steps, facts.stopped_by) == (60, "steps") and facts.loss < 0.1
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and "step 60 of 60" in heard[-1][1]
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""


def test_stop_is_asked_after_every_step():
    asked = []
    with pytest.raises(Cancelled) as caught:
        run_loop(Line(), list(batches(50)), 50, stop=lambda: asked.append(1) or len(asked) == 3, accelerator="cpu")
    assert len(asked) == 3 and caught.value.sentence.endswith(".")


def test_the_time_limit_ends_it_and_the_facts_say_so(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    facts = run_loop(Line(), list(batches(500)), 500, max_seconds=5, accelerator="cpu")
    assert facts.stopped_by == "max_seconds" and facts.steps < 500


def test_a_loss_that_is_no_number_is_an_error_not_a_model():
    with pytest.raises(TrainingDiverged, match="not a number"):
        run_loop(Line(), list(batches(10, scale=float("nan"))), 10, accelerator="cpu")
