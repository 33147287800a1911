"""Training of the semantics on labelled images: the dense head, then the mask classifier beside it.

The trunk below them stays as it is, since the tracker compares its features. Both learn from the
same views. The classifier sees masks as good and as bad as a tracker's, and learns which share of
each every class has: so its scores say how pure a mask is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.affinity.trunk import TAPS, folded_weights
from sam2vss_ros.errors import one_line
from sam2vss_ros.sam2.build import native_bfloat16
from sam2vss_ros.sam2.checkpoint import read_weights
from sam2vss_ros.sam2.functional import normalise
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.model import SemanticModel, new_semantics, read_semantics
from sam2vss_ros.semantics.networks.class_mapping import same_classes
from sam2vss_ros.training.data import VOID, VOID_LABEL, LabelledStill, pixel_counts
from sam2vss_ros.training.loop import run_steps
from sam2vss_ros.training.losses import class_weights, dense_losses
from sam2vss_ros.training.masks import sample_masks
from sam2vss_ros.training.middles import middle_loss
from sam2vss_ros.training.views import Views, ViewStream

VIEWS_PER_STEP = 8
VIEW_SIZE = 320
STAGES_RATE = 0.5
"""Share of the learning rate for the stages of the trunk's kind, which are trained already."""

GENTLE = 0.15
"""Share of the learning rate for semantics that are trained already, unless said."""

TAKEN = 0.7
"""How far such semantics go from what they were to what they have learned: on the way is what knows
the old and the new (Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", 2022)."""

WEIGHT_DECAY = 0.02
OVERLAP_SHARE, MIDDLE_SHARE, MASK_SHARE = 0.7, 0.3, 0.3
"""Weights of the losses beside the cross entropy of the pixels."""


def train_semantics(
    trunk: AffinityModel,
    stills: list[LabelledStill],
    catalog: ClassCatalog,
    out: Path,
    *,
    steps: int,
    pretrained: Path | None = None,
    start: SemanticModel | None = None,
    rate: float | None = None,
    seed: int = 0,
    resume: bool = False,
    views: int = VIEWS_PER_STEP,
    size: int = VIEW_SIZE,
) -> SemanticModel:
    """Train for `steps` steps of `views` views of `size` pixels square; returns averaged weights.

    pretrained: the published MobileNetV2 (.pt) whose stages the head begins with, and the eyes of
    the world are; None: those of the embedded semantics. start: semantics of the same classes to go
    on from instead, with their normalisation as it is and `TAKEN` of the way in the end; they are
    changed. rate: share of the learning rate; None: all of it, with a start `GENTLE`.
    `out` gets checkpoint.pt, log.jsonl and curves.png. A run may be resumed with more or fewer
    steps: the learning rate is level until the last half of them.
    Raises FileExistsError where `out` holds a run and `resume` is off, ValueError for no stills and
    for a start of other classes.
    """
    if not stills:
        raise ValueError("no stills to train on")
    torch.manual_seed(seed)
    if rate is None:
        rate = 1.0 if start is None else GENTLE
    if start is None:
        semantics = _new_semantics(catalog, pretrained)
    elif same_classes(start.catalog, catalog):
        semantics = replace(start, catalog=catalog)
    else:
        raise ValueError(f"start: its classes are not those of {catalog.name}")
    head = semantics.head.to(trunk.device).requires_grad_(True)
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    semantics.classifier.to(trunk.device).requires_grad_(True)
    modules = nn.ModuleDict({"head": semantics.head, "classifier": semantics.classifier})
    begun = deepcopy(modules.state_dict())
    weights = loss_weights(stills, catalog).to(trunk.device)

    def step(batch: Views, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        if start is not None:
            _keep_normalisation(semantics.head)
        return _loss(trunk, semantics, batch, weights, rng)

    def stream(first: int) -> ViewStream:
        return ViewStream(stills, catalog, count=views, size=size, seed=seed, first_step=first)

    run_steps(
        modules,
        _optimiser(modules, rate),
        stream,
        step,
        out,
        steps=steps,
        seed=seed,
        resume=resume,
    )
    if start is not None:
        _go_back(modules, begun)
    return semantics


def loss_weights(stills: list[LabelledStill], catalog: ClassCatalog) -> Tensor:
    """(K,) what a pixel of each class weighs in the loss."""
    return class_weights(pixel_counts(stills, len(catalog)))


def _new_semantics(catalog: ClassCatalog, pretrained: Path | None) -> SemanticModel:
    semantics = new_semantics(catalog)
    street = read_semantics("street")
    semantics.world.eyes.load_state_dict(street.world.eyes.state_dict())
    semantics.world.elsewhere.copy_(street.world.elsewhere)
    if pretrained is None:
        semantics.head.stages.load_state_dict(street.head.stages.state_dict())
    else:
        finest, _, coarsest = TAPS
        head_blocks = (block for stage in semantics.head.stages for block in stage.children())
        load_published(enumerate(head_blocks, finest + 1), pretrained)
        load_published(enumerate(semantics.world.eyes, coarsest + 1), pretrained)
    return semantics


def _keep_normalisation(head: nn.Module) -> None:
    """Images of two kinds together would have a mean that neither has."""
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _go_back(modules: nn.Module, begun: Mapping[str, Tensor]) -> None:
    """Leave `TAKEN` of the way from what the modules were."""
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.lerp_(begun[name], 1 - TAKEN)


def _optimiser(modules: nn.ModuleDict, rate: float) -> torch.optim.Optimizer:
    """rate: share of the learning rate of a run."""
    trained = dict(modules.named_parameters())
    stages = [p for name, p in trained.items() if name.startswith("head.stages.")]
    own = [p for name, p in trained.items() if not name.startswith("head.stages.")]
    return torch.optim.AdamW(
        [
            {
                "params": [p for p in own if p.ndim > 1],
                "share": rate,
                "weight_decay": WEIGHT_DECAY,
            },
            {"params": [p for p in own if p.ndim <= 1], "share": rate, "weight_decay": 0.0},
            {"params": stages, "share": STAGES_RATE * rate, "weight_decay": WEIGHT_DECAY},
        ]
    )


def load_published(blocks: Iterable[tuple[int, nn.Module]], path: Path) -> None:
    """Give blocks, each with its number from the stem of a MobileNetV2, 0, its published weights.

    Raises ValueError for a file (.pt) that holds none.
    """
    numbered = dict(blocks)
    named = nn.ModuleDict({f"{number}": block for number, block in numbered.items()})
    try:
        weights = folded_weights(read_weights(path), numbered)
        nn.ModuleDict({"blocks": named}).load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} holds no MobileNetV2: {one_line(error)}") from error


def _loss(
    trunk: AffinityModel,
    semantics: SemanticModel,
    batch: Views,
    weights: Tensor,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, float]]:
    device = weights.device
    labels, images = batch.labels.to(device), normalise(batch.images.to(device))
    with torch.no_grad():
        finest = trunk.encode_finest(images)
    with torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device)):
        dense = semantics.head(finest)
    entropy, overlap = dense_losses(dense.logits.float(), labels, weights)
    middles = middle_loss(dense.middles.float(), batch.middles.to(device))
    # The classifier reads the head's features but does not shape them.
    masks, right = _mask_loss(semantics, dense.hidden.detach().float(), batch.labels, rng)
    losses = {"entropy": entropy, "overlap": overlap, "middles": middles, "masks": masks}
    loss = entropy + OVERLAP_SHARE * overlap + MIDDLE_SHARE * middles + MASK_SHARE * masks
    return loss, {k: float(v.detach()) for k, v in losses.items()} | {"masks_right": right}


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
