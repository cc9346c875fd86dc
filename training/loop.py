"""The loop that every part is trained with: resumable, reproducible, and saying how far it is.

A step draws all its randomness from the part's seed and the step's number, so a training that was interrupted goes on
as if it had not been.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from safetensors.torch import load_file, save_file

Step = Callable[[int, np.random.Generator], Mapping[str, torch.Tensor]]
"""Takes the step's number and randomness (torch's is seeded too); gives losses, of which ``loss`` is minimised."""

_SAVE_SECONDS: Final = 60.0
_REPORT_STEPS: Final = 50
_GRADIENT_NORM: Final = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Plan:
    """How a part is trained.

    ``muon`` and ``adam`` are the learning rates of hidden matrices and of everything else; ``is_hidden`` tells by name
    which weights of two or more dimensions are hidden. The rates rise over ``warm_up`` steps and fall to zero over the
    last ``decay`` (0..1) of all steps. The result is a running mean of the weights over about ``average`` steps.
    """

    steps: int
    seed: int
    is_hidden: Callable[[str], bool]
    muon: float = 4e-3
    adam: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.97)
    weight_decay: float = 0.01
    warm_up: int = 50
    decay: float = 0.7
    average: int = 60

    def rate(self, step: int) -> float:
        """The share of the learning rates at ``step``."""
        rise = min(1.0, (step + 1) / self.warm_up)
        return rise * min(1.0, (1 - step / self.steps) / self.decay)


class _Optimiser:
    """Muon for hidden matrices (a convolution's kernel counts as output x everything else), AdamW for the rest.

    Muon: Jordan et al. 2024, with the scaling of Liu et al. 2025 (arXiv:2502.16982), by which the learning rates of
    both are alike.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], plan: Plan) -> None:
        hidden = [p for name, p in parameters.items() if p.ndim >= 2 and plan.is_hidden(name)]
        chosen = {id(p) for p in hidden}
        rest = [p for p in parameters.values() if id(p) not in chosen]
        # Views that share the parameters' storage, because torch's Muon takes matrices only.
        self._pairs = [(p, torch.nn.Parameter(p.data.flatten(1))) for p in hidden]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if hidden:
            matrices = [matrix for _, matrix in self._pairs]
            muon = torch.optim.Muon(
                matrices, lr=plan.muon, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append((muon, plan.muon))
        if rest:
            adam = torch.optim.AdamW(rest, lr=plan.adam, betas=plan.betas, weight_decay=0.0)
            self._parts.append((adam, plan.adam))
        self._parameters = list(parameters.values())

    def step(self, loss: torch.Tensor, rate: float) -> None:
        """Descend ``loss`` at ``rate`` of the learning rates."""
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types here
        torch.nn.utils.clip_grad_norm_(self._parameters, _GRADIENT_NORM)
        for parameter, matrix in self._pairs:
            matrix.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        for part, learning_rate in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * rate
            part.step()
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part, _ in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _every(_name: str) -> bool:
    return True


def train(
    name: str,
    folder: Path,
    module: torch.nn.Module,
    plan: Plan,
    step: Step,
    trainable: Callable[[str], bool] = _every,
) -> None:
    """Train the ``trainable`` parameters of ``module`` and leave it with the averaged weights.

    Goes on where an earlier run was interrupted; does nothing but load where one was finished. Writes
    ``name.safetensors`` and ``name.json`` (steps and seconds spent) to ``folder``.
    """
    done = folder / f"{name}.safetensors"
    if done.is_file():
        module.load_state_dict(load_file(done))
        return
    parameters = {key: p for key, p in module.named_parameters() if trainable(key)}
    run = _Run(name, folder, module, parameters, plan)
    run.resume()
    while run.step < plan.steps:
        torch.manual_seed(plan.seed * 1_000_003 + run.step)
        run.advance(step(run.step, np.random.default_rng((plan.seed, run.step))))
    run.finish(done)


class _Run:
    """One part's training: weights, their mean, optimiser, and how far it is."""

    def __init__(
        self,
        name: str,
        folder: Path,
        module: torch.nn.Module,
        parameters: dict[str, torch.nn.Parameter],
        plan: Plan,
    ) -> None:
        self.step = 0
        self._name, self._folder, self._module, self._plan = name, folder, module, plan
        self._parameters = parameters
        self._optimiser = _Optimiser(parameters, plan)
        self._mean = {key: p.detach().clone() for key, p in parameters.items()}
        self._seconds = 0.0
        self._since = self._saved = time.monotonic()
        self._losses: dict[str, list[float]] = {}

    @property
    def _state(self) -> Path:
        return self._folder / f"{self._name}.state"

    def resume(self) -> None:
        """Load what an interrupted run has saved, if there was one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._state.is_file():
            return
        state = torch.load(self._state, weights_only=True)
        with torch.no_grad():
            for key, parameter in self._parameters.items():
                parameter.copy_(state["weights"][key])
        self._optimiser.load_state_dict(state["optimiser"])
        self._mean, self.step, self._seconds = state["mean"], state["step"], state["seconds"]

    def advance(self, losses: Mapping[str, torch.Tensor]) -> None:
        """One step down ``losses["loss"]``."""
        loss = losses["loss"]
        if not math.isfinite(loss.item()):
            raise ArithmeticError(f"{self._name}: the loss of step {self.step} is {loss.item()}")
        self._optimiser.step(loss, self._plan.rate(self.step))
        self.step += 1
        kept = min(1 - 1 / self._plan.average, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._mean.values()), list(self._parameters.values()), 1 - kept)
        for key, value in losses.items():
            self._losses.setdefault(key, []).append(value.item())
        if self.step % _REPORT_STEPS == 0 or self.step == self._plan.steps:
            self._report()
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self._save()

    def _spent(self) -> float:
        return self._seconds + time.monotonic() - self._since

    def _report(self) -> None:
        spent = self._spent()
        left = spent / self.step * (self._plan.steps - self.step)
        means = {key: round(float(np.mean(values)), 4) for key, values in sorted(self._losses.items())}
        self._losses.clear()
        _log.info(self._name, step=f"{self.step}/{self._plan.steps}", spent=_clock(spent), left=_clock(left), **means)

    def _save(self) -> None:
        state = {
            "weights": {key: p.detach() for key, p in self._parameters.items()},
            "optimiser": self._optimiser.state_dict(),
            "mean": self._mean,
            "step": self.step,
            "seconds": self._spent(),
        }
        scratch = self._state.with_suffix(".partial")
        torch.save(state, scratch)
        scratch.replace(self._state)
        self._saved = time.monotonic()

    def finish(self, done: Path) -> None:
        """Give the module its averaged weights and write them."""
        with torch.no_grad():
            for key, parameter in self._parameters.items():
                parameter.copy_(self._mean[key])
        facts = {"steps": self.step, "seconds": round(self._spent())}
        (self._folder / f"{self._name}.json").write_text(json.dumps(facts))
        scratch = done.with_suffix(".partial")
        save_file({key: value.contiguous() for key, value in self._module.state_dict().items()}, scratch)
        scratch.replace(done)
        self._state.unlink(missing_ok=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
