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


class Noisy(Line):
    """Its steps also depend on the random state, as dropout does."""

    def training_step(self, batch, index):
        x, y = batch
        return ((self.slope * x * (1 + 0.1 * torch.randn(())) - y) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def epoch_batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    return [(x, 3 * x) for x in torch.randn(10, 16, generator=generator)]


@pytest.mark.parametrize("stopped_after", [23, 30])
def test_one_that_was_killed_goes_on_from_its_checkpoint_and_ends_the_same(tmp_path, stopped_after):
    settings = {"epochs": 6, "seed": 4, "accelerator": "cpu"}
    whole = Noisy(0.01)
    run_loop(whole, epoch_batches, 10, **settings)
    asked = []
    with pytest.raises(Cancelled):
        stop = lambda: asked.append(1) or len(asked) == stopped_after  # noqa: E731
        run_loop(Noisy(0.01), epoch_batches, 10, stop=stop, checkpoints=tmp_path, every=2, **settings)
    resumed, heard = Noisy(0.01), []
    facts = run_loop(resumed, epoch_batches, 10, checkpoints=tmp_path, every=2, progress=lambda f, _: heard.append(f), **settings)
    assert heard[0] > 2 / 6 and facts.steps == 60, "the first two epochs are not done again"
    assert torch.equal(resumed.slope, whole.slope) and float(whole.slope.detach()) < 1, "it is far from its end, where all runs meet"


def test_curves_and_measurements_are_recorded_by_the_epoch():
    points, line = [], Line(0.2)
    measure = lambda epoch: {"validation": float((line.slope.detach() - 3) ** 2)}  # noqa: E731
    facts = run_loop(line, epoch_batches, 10, epochs=3, measure=measure, record=lambda *p: points.append(p), accelerator="cpu")
    training, validation = ([p[1:] for p in points if p[0] == name] for name in ("training", "validation"))
    assert tuple(training) == facts.curve and training[-1][0] == 3 and training[-1][1] < training[0][1] / 4
    assert [x for x, _ in validation] == [1, 2, 3] and validation[0][1] > validation[-1][1]


def test_gradients_are_accumulated_and_the_last_smaller_group_counts():
    line, batch = Line(0.1), [(torch.ones(1), torch.full((1,), 3.0))] * 3
    facts = run_loop(line, batch, 3, accumulate=2, accelerator="cpu", clip=None)
    # two batches at slope 0 (gradient -6 each, averaged), then one alone: half of its gradient, as its group is divided by two too
    first = 0.1 * 6
    assert float(line.slope.detach()) == pytest.approx(first + 0.1 * 2 * (3 - first) / 2) and facts.curve[0][1] == pytest.approx(9)


def test_a_total_ends_an_epoch_early():
    assert run_loop(Line(), epoch_batches, 10, epochs=2, total=13, accelerator="cpu").steps == 13
