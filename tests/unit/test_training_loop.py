"""Training that can be interrupted: it goes on as if it had not been."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training import loop
from training.loop import Plan, train


class Interrupted(Exception):
    """Stands for the machine that goes down."""


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 1))


def plan(steps: int = 12) -> Plan:
    return Plan(steps, seed=1, is_hidden=lambda name: name == "0.weight", warm_up=2)


def run(folder: Path, trained: torch.nn.Module, stop: int | None = None) -> list[float]:
    losses: list[float] = []

    def step(number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        if number == stop:
            raise Interrupted
        inputs = torch.from_numpy(random.normal(size=(8, 2, 3, 3, 3)).astype(np.float32)) + torch.randn(1) * 0.01
        loss = (trained(inputs).squeeze(1) - inputs.mean((1, 2, 3, 4)) - 1).square().mean()
        losses.append(loss.item())
        return {"loss": loss}

    train("part", folder, trained, plan(), step)
    return losses


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after step 7 and started again, every loss and every weight is that of the run without a stop."""
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0)
    whole, halves = module(), module()
    losses = run(tmp_path / "whole", whole)
    with pytest.raises(Interrupted):
        run(tmp_path / "halves", halves, stop=7)
    again = module()
    assert run(tmp_path / "halves", again) == losses[7:]
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0)


def test_a_finished_training_is_only_loaded(tmp_path: Path) -> None:
    """A second run takes no step and gives the weights of the first; how long it took is written down."""
    first, second = module(), module()
    assert len(run(tmp_path, first)) == 12
    assert run(tmp_path, second) == []
    torch.testing.assert_close(second.state_dict(), first.state_dict())
    assert json.loads((tmp_path / "part.json").read_text())["steps"] == 12
    assert not (tmp_path / "part.state").exists()


def test_training_descends(tmp_path: Path) -> None:
    """Muon on the convolution and Adam on the rest fit what can be fitted."""
    trained = module()
    inputs = torch.randn(64, 2, 3, 3, 3, generator=torch.Generator().manual_seed(1))

    def step(_number: int, _random: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"loss": (trained(inputs).squeeze(1) - inputs[:, 0, 1, 1, 1] - 1).square().mean()}

    before = step(0, np.random.default_rng())["loss"].item()
    train("part", tmp_path, trained, plan(300), step)
    assert step(0, np.random.default_rng())["loss"].item() < before / 10


def test_weights_that_are_not_to_be_trained_stay(tmp_path: Path) -> None:
    """Only what ``trainable`` names changes."""
    trained, before = module(), module().state_dict()

    def step(_number: int, _random: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"loss": trained(torch.ones(1, 2, 3, 3, 3)).square().sum()}

    train("part", tmp_path, trained, plan(), step, lambda name: name.startswith("2"))
    torch.testing.assert_close(trained.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(trained.state_dict()["2.weight"], before["2.weight"])


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    """Nothing is averaged into the weights from then on."""
    trained = module()

    def step(_number: int, _random: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"loss": trained(torch.full((1, 2, 3, 3, 3), torch.nan)).sum()}

    with pytest.raises(ArithmeticError, match="part: the loss of step 0"):
        train("part", tmp_path, trained, plan(), step)


def test_the_rates_rise_then_fall_to_nothing() -> None:
    """The schedule is a trapezium that ends at zero."""
    rates = [plan(100).rate(step) for step in range(101)]
    assert rates[0] == 0.5
    assert max(rates) == 1
    assert rates[100] == 0
