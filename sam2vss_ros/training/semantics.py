"""Training of the semantics on frozen SAM 2 features: the dense head and the mask classifier.

Both learn from the same augmented stills. The classifier sees the connected regions of the labels,
roughened to look like predicted masks, with and without their object pointer.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.evaluation.metrics import ConfusionMatrix
from sam2vss_ros.sam2 import stages
from sam2vss_ros.sam2.models import Sam2Model
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.classifier import geometry, pool_features
from sam2vss_ros.semantics.model import SemanticModel, new_semantics
from sam2vss_ros.semantics.segmenter import label_of
from sam2vss_ros.training.data import (
    VOID,
    LabelledStill,
    Stills,
    StillStream,
    label_regions,
    pixel_counts,
)
from sam2vss_ros.training.losses import class_weights, label_loss
from sam2vss_ros.training.runs import load_checkpoint, open_log, open_run, save_checkpoint

PEAK_RATE = 2e-3
WARMUP_STEPS = 50
CHECKPOINT_EVERY = 100
STILLS_PER_STEP = 6
REGIONS_PER_STILL = 8
LEAST_REGION = 4
POINTER_SHARE = 0.5
SMOOTHING = 0.05


@dataclass
class _State:
    semantics: SemanticModel
    optimiser: torch.optim.Optimizer
    step: int = 0

    def parts(self) -> dict[str, Any]:
        return {
            "head": self.semantics.head,
            "classifier": self.semantics.classifier,
            "optimiser": self.optimiser,
        }


def train_semantics(
    model: Sam2Model,
    stills: list[LabelledStill],
    catalog: ClassCatalog,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    resume: bool = False,
) -> SemanticModel:
    """Train for `steps` steps; `out` gets checkpoint.pt and log.jsonl.

    Raises FileExistsError where `out` holds a run and `resume` is off, ValueError for no stills.
    """
    if not stills:
        raise ValueError("no stills to train on")
    checkpoint = open_run(out, resume)
    torch.manual_seed(seed)
    state = _new_state(model, catalog)
    if checkpoint.exists():
        state.step = load_checkpoint(checkpoint, state.parts())
    weights = class_weights(pixel_counts(stills, len(catalog))).to(model.device)
    stream = StillStream(
        stills, STILLS_PER_STEP, model.network.image_size, seed=seed, first_step=state.step
    )
    batches = stream.in_background()
    with (
        open_log(out, state.step) as log,
        tqdm(total=steps, initial=state.step, unit="step", mininterval=5) as bar,
    ):
        while state.step < steps:
            _set_rate(state, steps)
            record = _train_step(model, state, next(batches), weights, seed)
            state.step += 1
            bar.update()
            bar.set_postfix({k: f"{v:.2f}" for k, v in record.items()})
            log.write(json.dumps({"step": state.step} | record) + "\n")
            if state.step % CHECKPOINT_EVERY == 0 or state.step == steps:
                log.flush()
                save_checkpoint(checkpoint, state.step, state.parts())
    state.semantics.head.eval()
    state.semantics.classifier.eval()
    return state.semantics


@torch.inference_mode()
def dense_score(
    model: Sam2Model, semantics: SemanticModel, stills: list[LabelledStill]
) -> ConfusionMatrix:
    """The dense head's predictions on whole stills against their labels."""
    catalog = semantics.catalog
    matrix = ConfusionMatrix(catalog)
    ids = np.full(256, 255 if catalog.ignore_id is None else catalog.ignore_id)
    ids[: len(catalog)] = catalog.ids
    for still in tqdm(stills, unit="image", desc="score"):
        size = (still.labels.shape[0], still.labels.shape[1])
        pixels = stages.image_tensor(still.image, model.network.image_size, model.device)
        logits = semantics.head(stages.encode_image(model.network, pixels).pyramid).logits
        matrix.update(ids[still.labels], catalog.ids[label_of(logits, size).cpu().numpy()])
    return matrix


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
    model: Sam2Model, state: _State, batch: Stills, weights: Tensor, seed: int
) -> dict[str, float]:
    # Chance depends on the step alone, so that a resumed run is the same run.
    rng = np.random.default_rng((seed, state.step, 1))
    torch.manual_seed(int(rng.integers(2**62)))
    labels = batch.labels.to(model.device)
    with torch.no_grad():
        pixels = stages.normalise(batch.images.to(model.device))
        features = stages.encode_image(model.network, pixels)
    dense = state.semantics.head(features.pyramid)
    dense_loss = label_loss(dense.logits, labels, weights, VOID)
    losses, right, count = [], 0, 0
    for i in range(len(labels)):
        masks, classes = region_masks(batch.labels[i].numpy(), rng)
        if not len(masks):
            continue
        masks, target = masks.to(model.device), classes.to(model.device)
        logits = _classify(model, state.semantics, features, dense.hidden, i, masks, rng)
        losses.append(F.cross_entropy(logits, target, weights, label_smoothing=SMOOTHING))
        right += int((logits.argmax(1) == target).sum())
        count += len(target)
    mask_loss = torch.stack(losses).mean() if losses else dense_loss * 0
    loss = dense_loss + 0.5 * mask_loss
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    state.optimiser.step()
    return {
        "dense": float(dense_loss.detach()),
        "masks": float(mask_loss.detach()),
        "masks_right": right / max(1, count),
    }


def _classify(
    model: Sam2Model,
    semantics: SemanticModel,
    features: stages.ImageFeatures,
    hidden: Tensor,
    i: int,
    masks: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """Class logits of (R, S/4, S/4) masks on image `i` of a batch of features."""
    image = features.select(torch.tensor([i], device=masks.device))
    # The classifier reads the head's features but does not shape them.
    pooled = pool_features((*image.pyramid, hidden[i : i + 1].detach()), masks)
    pointers = pooled.new_zeros(len(masks), model.network.hidden_dim)
    if rng.random() < POINTER_SHARE:
        with torch.no_grad():
            prompts = stages.full_size(masks[:, None].float(), model.network.image_size).round()
            token = stages.decode_mask_prompt(model.network, image, prompts).tokens[:, 0]
            pointers = stages.object_pointer(model.network, token, token.new_ones(len(masks), 1))
    logits: Tensor = semantics.classifier(pooled, pointers, geometry(masks))
    return logits


def region_masks(labels: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Up to REGIONS_PER_STILL roughened regions of an (S, S) label map, at quarter size.

    Returns (R, S/4, S/4) bool masks and their (R,) int64 class index.
    """
    bytes_of_labels = np.where(labels == VOID, 255, labels).astype(np.uint8)
    regions = label_regions(bytes_of_labels)[2::4, 2::4]
    quarter = labels[2::4, 2::4]
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    ids = np.flatnonzero(areas >= LEAST_REGION)
    rng.shuffle(ids)
    masks, classes = [], []
    for k in ids[:REGIONS_PER_STILL]:
        mask = _roughen((regions == k).astype(np.uint8), rng)
        if mask.any():
            masks.append(mask > 0)
            classes.append(int(quarter[regions == k][0]))
    side = regions.shape[0]
    stacked = np.stack(masks) if masks else np.zeros((0, side, side), bool)
    return torch.from_numpy(stacked), torch.tensor(classes, dtype=torch.int64)


def _roughen(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift, grow, shrink or cut a mask a little: what SAM 2 finds is not the label's outline."""
    kind = rng.integers(5)
    kernel = np.ones((3, 3), np.uint8)
    if kind == 0:
        return np.asarray(cv2.dilate(mask, kernel))
    if kind == 1:
        eroded = np.asarray(cv2.erode(mask, kernel))
        return eroded if eroded.any() else mask
    if kind == 2:
        return np.asarray(np.roll(mask, rng.integers(-1, 2, 2), (0, 1)))
    if kind == 3:
        x, y, w, h = cv2.boundingRect(mask)
        cut = mask.copy()
        if rng.random() < 0.5:
            cut[:, x + (w + 1) // 2 :] = 0
        else:
            cut[y + (h + 1) // 2 :] = 0
        return cut if cut.any() else mask
    return mask
