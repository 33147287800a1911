"""Training of the semantics on labelled images: the dense head, then the mask classifier beside it.

The trunk below them stays as it is, since the tracker compares its features. Both learn from the
same views. The classifier sees masks as good and as bad as a tracker's, and learns which share of
each every class has: so its scores say how pure a mask is.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.affinity.trunk import Bottleneck, Trunk, folded_weights
from sam2vss_ros.sam2.build import native_bfloat16
from sam2vss_ros.sam2.functional import normalise
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.model import SemanticModel, new_semantics, read_semantics
from sam2vss_ros.training.curves import draw_curves
from sam2vss_ros.training.data import VOID, VOID_LABEL, LabelledStill, pixel_counts
from sam2vss_ros.training.losses import class_weights, dense_losses
from sam2vss_ros.training.masks import sample_masks
from sam2vss_ros.training.middles import middle_loss
from sam2vss_ros.training.runs import load_checkpoint, open_log, open_run, save_checkpoint
from sam2vss_ros.training.views import Views, ViewStream

VIEWS_PER_STEP = 8
VIEW_SIZE = 320
PEAK_RATE = 2e-3
DEEP_RATE = 0.5
"""Share of the rate for the deepest stages, which are trained already."""

WARMUP_STEPS = 100
DECAY_SHARE = 0.5
"""Share of the steps, the last ones, in which the learning rate falls."""

WEIGHT_DECAY = 0.02
OVERLAP_SHARE, MIDDLE_SHARE, MASK_SHARE = 0.7, 0.3, 0.3
"""Weights of the losses beside the cross entropy of the pixels."""

MEMORY = 0.998
"""Share of the averaged weights that a step keeps."""

CHECKPOINT_EVERY = 100


@dataclass
class _State:
    semantics: SemanticModel
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    step: int = 0

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"head": self.semantics.head, "classifier": self.semantics.classifier})

    def parts(self) -> dict[str, Any]:
        return {
            "modules": self.modules(),
            "average": self.average,
            "optimiser": self.optimiser,
        }


def train_semantics(
    trunk: AffinityModel,
    stills: list[LabelledStill],
    catalog: ClassCatalog,
    out: Path,
    *,
    steps: int,
    pretrained: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    views: int = VIEWS_PER_STEP,
    size: int = VIEW_SIZE,
) -> SemanticModel:
    """Train for `steps` steps of `views` views of `size` pixels square; returns averaged weights.

    pretrained: the published MobileNetV2 (.pt) whose last stages the head begins with; None: those
    of the embedded semantics. `out` gets checkpoint.pt, log.jsonl and curves.png. A run may be
    resumed with more or fewer steps: the learning rate is level until the last half of them.
    Raises FileExistsError where `out` holds a run and `resume` is off, ValueError for no stills.
    """
    if not stills:
        raise ValueError("no stills to train on")
    checkpoint = open_run(out, resume)
    torch.manual_seed(seed)
    state = _new_state(catalog, pretrained, trunk.device)
    if checkpoint.exists():
        state.step = load_checkpoint(checkpoint, state.parts())
    weights = loss_weights(stills, catalog).to(trunk.device)
    batches = ViewStream(
        stills, catalog, count=views, size=size, seed=seed, first_step=state.step
    ).in_background()
    with (
        open_log(out, state.step) as log,
        tqdm(total=steps, initial=state.step, unit="step", mininterval=5) as bar,
    ):
        while state.step < steps:
            _set_rate(state, steps)
            record = _train_step(trunk, state, next(batches), weights, seed)
            state.step += 1
            bar.update()
            bar.set_postfix({k: f"{v:.2f}" for k, v in record.items()}, refresh=False)
            log.write(json.dumps({"step": state.step} | record) + "\n")
            if state.step % CHECKPOINT_EVERY == 0 or state.step == steps:
                save_checkpoint(checkpoint, state.step, state.parts())
    draw_curves(out / "log.jsonl", out / "curves.png")
    state.modules().eval().load_state_dict(state.average.module.state_dict())
    return state.semantics


def loss_weights(stills: list[LabelledStill], catalog: ClassCatalog) -> Tensor:
    """(K,) what a pixel of each class weighs in the loss."""
    return class_weights(pixel_counts(stills, len(catalog)))


def learning_rate(step: int, steps: int) -> float:
    """Up over the first steps, level, and linearly down to zero in the last ones of `steps`."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS, max(left, 0.0))


def _set_rate(state: _State, steps: int) -> None:
    rate = learning_rate(state.step, steps)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["share"]


def _new_state(catalog: ClassCatalog, pretrained: Path | None, device: torch.device) -> _State:
    semantics = new_semantics(catalog)
    head, classifier = semantics.head.to(device), semantics.classifier.to(device)
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if pretrained is None:
        head.deep.load_state_dict(read_semantics("street").head.deep.state_dict())
    else:
        load_deep_stages(head.deep, pretrained)
    deep = {id(p) for p in head.deep.parameters()}
    own = [p for m in (head, classifier) for p in m.parameters() if id(p) not in deep]
    groups = [
        {"params": [p for p in own if p.ndim > 1], "share": 1.0, "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in own if p.ndim <= 1], "share": 1.0, "weight_decay": 0.0},
        {
            "params": list(head.deep.parameters()),
            "share": DEEP_RATE,
            "weight_decay": WEIGHT_DECAY,
        },
    ]
    modules = nn.ModuleDict({"head": head, "classifier": classifier})
    average = AveragedModel(modules, avg_fn=_follow, use_buffers=True)
    return _State(semantics, average, torch.optim.AdamW(groups))


def load_deep_stages(deep: nn.Sequential, path: Path) -> None:
    """Give the head's deepest stages the published weights of a MobileNetV2 (.pt).

    Raises ValueError for a file that holds none.
    """
    first = len(Trunk().blocks)
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
        blocks = {first + i: block for i, block in enumerate(deep) if isinstance(block, Bottleneck)}
        weights = folded_weights(published, blocks)
        deep.load_state_dict(
            {
                f"{int(n) - first}.{rest}": value
                for name, value in weights.items()
                for n, rest in [name.removeprefix("blocks.").split(".", 1)]
            }
        )
    except (KeyError, TypeError, AttributeError, RuntimeError, EOFError,
            pickle.UnpicklingError) as error:  # fmt: skip
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} holds no MobileNetV2: {reason}") from error


def _follow(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """The running mean of the weights; a young one follows faster."""
    kept = min(MEMORY, (int(count) + 1) / (int(count) + 20))
    return average * kept + current * (1 - kept)


def _train_step(
    trunk: AffinityModel, state: _State, batch: Views, weights: Tensor, seed: int
) -> dict[str, float]:
    # Chance depends on the step alone, so that a resumed run is the same run.
    rng = np.random.default_rng((seed, state.step, 1))
    torch.manual_seed(int(rng.integers(2**62)))
    device = weights.device
    labels, images = batch.labels.to(device), normalise(batch.images.to(device))
    modules = state.modules().train()
    with torch.inference_mode():
        maps = trunk.encode(images).pyramid
    fine, middle, coarse = (level.clone() for level in maps)
    with torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device)):
        dense = state.semantics.head((fine, middle, coarse))
    entropy, overlap = dense_losses(dense.logits.float(), labels, weights)
    middles = middle_loss(dense.middles.float(), batch.middles.to(device))
    # The classifier reads the head's features but does not shape them.
    masks, right = _mask_loss(state.semantics, dense.hidden.detach().float(), batch.labels, rng)
    loss = entropy + OVERLAP_SHARE * overlap + MIDDLE_SHARE * middles + MASK_SHARE * masks
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(modules.parameters(), 5.0)
    state.optimiser.step()
    state.average.update_parameters(modules)
    losses = {"entropy": entropy, "overlap": overlap, "middles": middles, "masks": masks}
    return {k: float(v.detach()) for k, v in losses.items()} | {"masks_right": right}


def _mask_loss(
    semantics: SemanticModel, hidden: Tensor, labels: Tensor, rng: np.random.Generator
) -> tuple[Tensor, float]:
    """Cross entropy of the classifier on masks in (B, S, S) labels, and how many it has right."""
    classes = len(semantics.catalog)
    known = labels.where(labels != VOID, VOID_LABEL).numpy().astype(np.uint8)
    scores, truths = [], []
    for i, view in enumerate(known):
        masks, shares = sample_masks(view, classes, rng)
        if len(masks):
            scores.append(semantics.classifier(hidden[i : i + 1], masks.to(hidden.device)))
            truths.append(shares)
    if not scores:
        return hidden.new_zeros(()), 0.0
    score, truth = torch.cat(scores).log_softmax(1), torch.cat(truths).to(hidden.device)
    right = (score.argmax(1) == truth.argmax(1)).float().mean()
    return -(truth * score).sum() / len(truth), float(right)
