"""The loop of a training run: steps, an averaged copy of the weights, a log and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from sam2vss_ros.training.curves import draw_curves
from sam2vss_ros.training.data import SeededStream
from sam2vss_ros.training.runs import load_checkpoint, open_log, open_run, save_checkpoint

PEAK_RATE = 2e-3
WARMUP_STEPS = 100
DECAY_SHARE = 0.5
"""Share of the steps, the last ones, in which the learning rate falls."""

MEMORY = 0.998
"""Share of the averaged weights that a step keeps."""

MOST_GRADIENT = 5.0
CHECKPOINT_EVERY = 100

B = TypeVar("B")

Step = Callable[[B, np.random.Generator], tuple[Tensor, dict[str, float]]]
"""The loss of a batch, and what the log shall say. Its only chance is torch's and that given."""


def run_steps(
    modules: nn.Module,
    optimiser: torch.optim.Optimizer,
    stream: Callable[[int], SeededStream[B]],
    step: Step[B],
    out: Path,
    *,
    steps: int,
    seed: int,
    resume: bool,
) -> None:
    """Train `modules` up to step `steps`; they end with their averaged weights, for inference.

    stream: batches from a step on; another process makes them. Of an optimiser's group, `share` is
    its part of the learning rate. `out` gets checkpoint.pt, log.jsonl and curves.png. A run may be
    resumed with more or fewer steps: the learning rate is level until the last half of them.
    Raises FileExistsError where `out` holds a run and `resume` is off.
    """
    checkpoint = open_run(out, resume)
    average = AveragedModel(modules, avg_fn=_follow, use_buffers=True)
    parts = {"modules": modules, "average": average, "optimiser": optimiser}
    done = load_checkpoint(checkpoint, parts) if checkpoint.exists() else 0
    batches = stream(done).in_background()
    with (
        open_log(out, done) as log,
        tqdm(total=steps, initial=done, unit="step", mininterval=5) as bar,
    ):
        while done < steps:
            # Chance depends on the step alone, so that a resumed run is the same run.
            rng = np.random.default_rng((seed, done, 1))
            torch.manual_seed(int(rng.integers(2**62)))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(done, steps) * group.get("share", 1.0)
            modules.train()
            optimiser.zero_grad(set_to_none=True)
            loss, record = step(next(batches), rng)
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), MOST_GRADIENT)
            optimiser.step()
            average.update_parameters(modules)
            done += 1
            bar.update()
            bar.set_postfix({k: f"{v:.2f}" for k, v in record.items()}, refresh=False)
            log.write(json.dumps({"step": done} | record) + "\n")
            if done % CHECKPOINT_EVERY == 0 or done == steps:
                save_checkpoint(checkpoint, done, parts)
    draw_curves(out / "log.jsonl", out / "curves.png")
    modules.eval().load_state_dict(average.module.state_dict())


def learning_rate(step: int, steps: int) -> float:
    """Up over the first steps, level, and linearly down to zero in the last ones of `steps`."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS, max(left, 0.0))


def _follow(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """The running mean of the weights; a young one follows faster."""
    kept = min(MEMORY, (int(count) + 1) / (int(count) + 20))
    return average * kept + current * (1 - kept)
