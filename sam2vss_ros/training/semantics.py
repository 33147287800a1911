"""Training of the semantics on frozen SAM 2 features: the dense head and the mask classifier.

Both learn from the same views of stills. The classifier sees masks as good and as bad as a
tracker's, and learns which share of each every class has: so its scores say how pure a mask is.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.evaluation.metrics import ConfusionMatrix
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.model import SemanticModel, new_semantics
from sam2vss_ros.semantics.segmenter import Dense, label_of
from sam2vss_ros.training.curves import draw_curves
from sam2vss_ros.training.data import VOID, LabelledStill, pixel_counts
from sam2vss_ros.training.features import FeatureCache, View
from sam2vss_ros.training.losses import class_weights, label_loss
from sam2vss_ros.training.runs import load_checkpoint, open_log, open_run, save_checkpoint

PEAK_RATE = 2e-3
WARMUP_STEPS = 50
CHECKPOINT_EVERY = 100
EXAMINE_EVERY = 200
PATIENCE = 5
"""Examinations without a better score after which training stops."""

VIEWS_PER_STEP = 6
TEMPERATURES = np.geomspace(0.3, 3.0, 61)


@dataclass(frozen=True)
class Examination:
    """What held-out views show.

    dense: the head's labels against the truth. masks_right: share of the masks whose likeliest
    class is the one most of their pixels have. dense_error, masks_error: expected calibration
    error of the two, 0 to 1 (Guo et al., "On calibration of modern neural networks", 2017).
    """

    dense: ConfusionMatrix
    masks: int
    masks_right: float
    dense_error: float
    masks_error: float

    @property
    def score(self) -> float:
        """What training keeps the best of: mean IoU and masks in equal parts."""
        return (self.dense.miou() + self.masks_right) / 2


@dataclass
class _Best:
    """The weights with the best examination so far."""

    score: float = -1.0
    step: int = 0
    weights: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.score, self.step, self.weights = state["score"], state["step"], state["weights"]


@dataclass
class _State:
    semantics: SemanticModel
    optimiser: torch.optim.Optimizer
    best: _Best = field(default_factory=_Best)
    step: int = 0

    def modules(self) -> dict[str, Any]:
        return {"head": self.semantics.head, "classifier": self.semantics.classifier}

    def parts(self) -> dict[str, Any]:
        return self.modules() | {"optimiser": self.optimiser, "best": self.best}

    def examine(self, cache: FeatureCache, held_out: list[int]) -> Examination:
        """Score the held-out stills; what is better than ever is kept."""
        found = examine(self.semantics, cache, held_out)
        if found.score > self.best.score:
            weights = {k: m.state_dict() for k, m in self.modules().items()}
            self.best = _Best(found.score, self.step, copy.deepcopy(weights))
        return found


def train_semantics(
    model: Sam2Model,
    stills: list[LabelledStill],
    catalog: ClassCatalog,
    out: Path,
    *,
    steps: int,
    held_out: Collection[int] = (),
    seed: int = 0,
    resume: bool = False,
) -> tuple[SemanticModel, Examination | None]:
    """Train for at most `steps` steps on all stills but those of index `held_out`.

    With held-out stills the best weights on them are kept, training stops where they get no
    better, and the scores are calibrated on them; what they show of the result is returned. `out`
    gets features/, checkpoint.pt, log.jsonl and curves.png.

    Raises FileExistsError where `out` holds a run and `resume` is off, or other features;
    ValueError for no stills to train on.
    """
    used = [i for i in range(len(stills)) if i not in held_out]
    if not used:
        raise ValueError("no stills to train on")
    checkpoint = open_run(out, resume)
    torch.manual_seed(seed)
    state = _new_state(model, catalog)
    if checkpoint.exists():
        state.step = load_checkpoint(checkpoint, state.parts())
    cache = FeatureCache(model, stills, len(catalog), out / "features", seed)
    kept = sorted(held_out)
    weights = class_weights(pixel_counts([stills[i] for i in used], len(catalog)))
    with (
        open_log(out, state.step) as log,
        tqdm(total=steps, initial=state.step, unit="step", mininterval=5) as bar,
    ):
        while state.step < steps and not _stopped(state, kept):
            _set_rate(state, steps)
            record = _train_step(state, cache, used, weights.to(model.device), seed)
            state.step += 1
            bar.update()
            bar.set_postfix({k: f"{v:.2f}" for k, v in record.items()})
            if kept and (state.step % EXAMINE_EVERY == 0 or state.step == steps):
                found = state.examine(cache, kept)
                record |= {"held_out_miou": found.dense.miou(), "held_out_masks": found.masks_right}
            log.write(json.dumps({"step": state.step} | record) + "\n")
            if state.step % CHECKPOINT_EVERY == 0 or state.step == steps:
                log.flush()
                save_checkpoint(checkpoint, state.step, state.parts())
    draw_curves(out / "log.jsonl", out / "curves.png")
    for name, module in state.modules().items():
        if state.best.weights:
            module.load_state_dict(state.best.weights[name])
        module.eval()
    if not kept:
        return state.semantics, None
    calibrate(state.semantics, cache, kept)
    return state.semantics, examine(state.semantics, cache, kept)


def _stopped(state: _State, held_out: list[int]) -> bool:
    return bool(held_out) and state.step - state.best.step > PATIENCE * EXAMINE_EVERY


def _new_state(model: Sam2Model, catalog: ClassCatalog) -> _State:
    network = model.network
    semantics = new_semantics(catalog, model.card.name, network.image_size, network.hidden_dim)
    modules = (semantics.head, semantics.classifier)
    for module in modules:
        module.to(model.device).train()
    parameters = [p for m in modules for p in m.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.02)
    return _State(semantics, optimiser)


def _set_rate(state: _State, steps: int) -> None:
    warm = min(1.0, (state.step + 1) / WARMUP_STEPS)
    rate = PEAK_RATE * warm * 0.5 * (1 + math.cos(math.pi * state.step / steps))
    for group in state.optimiser.param_groups:
        group["lr"] = rate


def _train_step(
    state: _State, cache: FeatureCache, used: list[int], weights: Tensor, seed: int
) -> dict[str, float]:
    # Chance depends on the step alone, so that a resumed run is the same run.
    rng = np.random.default_rng((seed, state.step, 1))
    torch.manual_seed(int(rng.integers(2**62)))
    drawn = zip(
        rng.choice(used, VIEWS_PER_STEP).tolist(),
        rng.integers(1, cache.views + 1, VIEWS_PER_STEP).tolist(),
        strict=True,
    )
    views = [cache.view(still, number) for still, number in drawn]
    device = weights.device
    a, b, c = (
        torch.stack([v.pyramid[level] for v in views]).float().to(device) for level in range(3)
    )
    labels = torch.stack([v.labels for v in views]).long().to(device)
    dense = state.semantics.head((a, b, c))
    dense_loss = label_loss(dense.logits, labels.where(labels != 255, VOID), weights, VOID)
    # The classifier reads the head's features but does not shape them.
    hidden = dense.hidden.detach()
    logits = [
        state.semantics.classifier(hidden[i : i + 1], view.masks.to(device))
        for i, view in enumerate(views)
    ]
    scores, truth = torch.cat(logits).log_softmax(1), torch.cat([v.shares for v in views])
    truth = truth.to(device)
    mask_loss = -(truth * scores).sum() / max(1, len(truth))
    loss = dense_loss + 0.5 * mask_loss
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    state.optimiser.step()
    right = (scores.argmax(1) == truth.argmax(1)).sum().item() / max(1, len(truth))
    return {
        "dense": float(dense_loss.detach()),
        "masks": float(mask_loss.detach()),
        "masks_right": right,
    }


# -- held-out stills


def _forward(semantics: SemanticModel, view: View) -> tuple[Dense, Tensor]:
    """The dense prediction of a view, and the class logits of its masks."""
    device = next(semantics.head.parameters()).device
    a, b, c = (level[None].float().to(device) for level in view.pyramid)
    dense = semantics.head((a, b, c))
    return dense, semantics.classifier(dense.hidden, view.masks.to(device))


@torch.inference_mode()
def examine(semantics: SemanticModel, cache: FeatureCache, held_out: list[int]) -> Examination:
    """Dense head and classifier on whole stills."""
    catalog = semantics.catalog
    matrix = ConfusionMatrix(catalog)
    ids = np.full(256, 255 if catalog.ignore_id is None else catalog.ignore_id)
    ids[: len(catalog)] = catalog.ids
    modules = (semantics.head, semantics.classifier)
    training = [module.training for module in modules]
    for module in modules:
        module.eval()
    pixels, masks, right, count = [], [], 0, 0
    for index in held_out:
        view = cache.view(index, 0)
        dense, logits = _forward(semantics, view)
        labels = view.labels.numpy()
        size = (labels.shape[0], labels.shape[1])
        prediction = label_of(dense.logits, size).cpu().numpy()
        matrix.update(ids[labels], catalog.ids[prediction])
        quarter = view.labels[2::4, 2::4]
        known = quarter != 255
        score, best = (x[0].cpu() for x in dense.logits.softmax(1).max(1))
        pixels.append(torch.stack([score[known], (best == quarter)[known].float()], 1))
        score, best = (x.cpu() for x in logits.softmax(1).max(1))
        # What a mask's score should be is the share of its pixels that have the class.
        masks.append(torch.stack([score, view.shares.gather(1, best[:, None])[:, 0]], 1))
        right += int((best == view.shares.argmax(1)).sum())
        count += len(best)
    for part, was in zip(modules, training, strict=True):
        part.train(was)
    return Examination(
        matrix,
        count,
        right / max(1, count),
        calibration_error(torch.cat(pixels)),
        calibration_error(torch.cat(masks)),
    )


def calibration_error(scores: Tensor, bins: int = 15) -> float:
    """Mean distance of what was right, column 1, from the score, column 0, of (N, 2), by bins."""
    index = (scores[:, 0] * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins).index_add_(0, index, scores[:, 1] - scores[:, 0])
    return float(gap.abs().sum() / max(1, len(scores)))


@torch.inference_mode()
def calibrate(semantics: SemanticModel, cache: FeatureCache, held_out: list[int]) -> None:
    """Divide the last layers of head and classifier by the temperature that held-out stills like.

    The temperature is that of the least cross entropy (Guo et al., section 4.2).
    """
    grid = torch.from_numpy(TEMPERATURES).float()
    pixels, masks = torch.zeros(len(grid)), torch.zeros(len(grid))
    for index in held_out:
        view = cache.view(index, 0)
        dense, logits = _forward(semantics, view)
        quarter = view.labels[2::4, 2::4].long()
        labels = quarter.where(quarter != 255, VOID)[None]
        for k, temperature in enumerate(grid.tolist()):
            pixels[k] += F.cross_entropy(
                dense.logits.cpu() / temperature, labels, ignore_index=VOID, reduction="sum"
            )
            masks[k] -= (view.shares * (logits.cpu() / temperature).log_softmax(1)).sum()
    for layer, losses in (
        (semantics.head.classify, pixels),
        (semantics.classifier.layers[-1], masks),
    ):
        for parameter in layer.parameters():
            parameter.data.div_(float(grid[losses.argmin()]))
