"""Training of the embedded segmentation network on labelled images, from random weights."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from sam2vss_ros.evaluation.confusion import ConfusionMatrix
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.networks.embedded import (
    NetworkCard,
    StreetNet,
    native_bfloat16,
    normalised,
    ready,
)
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.training.curves import draw_curves
from sam2vss_ros.training.data import VOID, LabelledStill, Stills, pixel_counts
from sam2vss_ros.training.losses import class_weights
from sam2vss_ros.training.runs import load_checkpoint, open_log, open_run, save_checkpoint
from sam2vss_ros.training.views import ViewStream
from sam2vss_ros.types import Frame

VIEWS_PER_STEP = 8
VIEW_SIZE = 288
PEAK_RATE = 2e-3
WARMUP_STEPS = 200
DECAY_SHARE = 0.45
"""Share of the steps, the last ones, in which the learning rate falls."""

WEIGHT_DECAY = 0.03
OVERLAP_SHARE = 0.7
DEEP_SHARE = 0.3
"""Weights of the overlap loss, and of the cross entropy at coarser strides, in the loss."""

MEMORY = 0.999
"""Share of the averaged weights that a step keeps."""

CHECKPOINT_EVERY = 200
CORRECTIONS = np.linspace(0, 1, 6)
TEMPERATURES = np.geomspace(0.6, 3, 24)
CONFIDENCE_BINS = 15


def split_off(
    stills: list[LabelledStill], share: float
) -> tuple[list[LabelledStill], list[LabelledStill]]:
    """Stills to train on, and the last `share` of each recording, kept out.

    Names of one recording differ in their final digits alone. Single frames from its midst would
    be too like those that are trained on.
    """
    recordings: dict[str, list[LabelledStill]] = {}
    for still in stills:
        recordings.setdefault(re.sub(r"\d+$", "", still.name), []).append(still)
    used: list[LabelledStill] = []
    kept: list[LabelledStill] = []
    for recording in recordings.values():
        cut = len(recording) - round(share * len(recording))
        used += recording[:cut]
        kept += recording[cut:]
    return used, kept


@dataclass
class _State:
    network: StreetNet
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    step: int = 0

    def parts(self) -> dict[str, Any]:
        return {"network": self.network, "average": self.average, "optimizer": self.optimiser}


def train_network(
    stills: list[LabelledStill],
    catalog: ClassCatalog,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    resume: bool = False,
    device: torch.device,
    views: int = VIEWS_PER_STEP,
    size: int = VIEW_SIZE,
) -> StreetNet:
    """Train for `steps` steps of `views` views; returns the averaged weights.

    `out` gets checkpoint.pt, log.jsonl and curves.png. A run may be resumed with more or fewer
    steps: the learning rate is level until the last of them.
    Raises FileExistsError where `out` holds a run and `resume` is off, ValueError for no stills.
    """
    if not stills:
        raise ValueError("no stills to train on")
    checkpoint = open_run(out, resume)
    torch.manual_seed(seed)
    state = _new_state(len(catalog), device)
    if checkpoint.exists():
        state.step = load_checkpoint(checkpoint, state.parts())
    weights = loss_weights(stills, catalog).to(device)
    batches = ViewStream(
        stills, len(catalog), count=views, size=size, seed=seed, first_step=state.step
    ).in_background()
    with (
        open_log(out, state.step) as log,
        tqdm(total=steps, initial=state.step, unit="step", mininterval=5) as bar,
    ):
        while state.step < steps:
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(state.step, steps)
            record = _train_step(state, next(batches), weights, device)
            state.step += 1
            bar.update()
            bar.set_postfix({k: f"{v:.2f}" for k, v in record.items()}, refresh=False)
            log.write(json.dumps({"step": state.step} | record) + "\n")
            if state.step % CHECKPOINT_EVERY == 0 or state.step == steps:
                log.flush()
                save_checkpoint(checkpoint, state.step, state.parts())
    draw_curves(out / "log.jsonl", out / "curves.png")
    trained = state.average.module.eval()
    assert isinstance(trained, StreetNet)
    return trained


def loss_weights(stills: list[LabelledStill], catalog: ClassCatalog) -> Tensor:
    """(K,) what a pixel of each class weighs in the loss."""
    return class_weights(pixel_counts(stills, len(catalog)))


def learning_rate(step: int, steps: int) -> float:
    """Up over the first steps, level, and linearly down to zero in the last ones of `steps`."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS, max(left, 0.0))


def _new_state(classes: int, device: torch.device) -> _State:
    network = StreetNet(classes).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    )
    return _State(network, AveragedModel(network, avg_fn=_follow, use_buffers=True), optimiser)


def _follow(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """The running mean of the weights; a young one follows faster."""
    kept = min(MEMORY, (int(count) + 1) / (int(count) + 20))
    return average * kept + current * (1 - kept)


def _train_step(
    state: _State, batch: Stills, weights: Tensor, device: torch.device
) -> dict[str, float]:
    labels = batch.labels.to(device)
    images = normalised(batch.images.to(device).contiguous(memory_format=torch.channels_last))
    state.network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device)):
        logits, *coarser = (x.float() for x in state.network.all_logits(images))
    entropy, overlap = dense_losses(logits, labels, weights)
    deep = torch.stack([coarse_loss(x, labels, weights) for x in coarser]).sum()
    loss = entropy + OVERLAP_SHARE * overlap + DEEP_SHARE * deep
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimiser.step()
    state.average.update_parameters(state.network)
    return {"entropy": float(entropy.detach()), "overlap": float(overlap.detach())}


def dense_losses(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy, and one minus the mean soft IoU of the batch's classes.

    logits: (B, C, h, w), upsampled to half of the labels' size; labels: (B, H, W), VOID is skipped.
    """
    half = labels[:, ::2, ::2]
    upsampled = F.interpolate(logits, size=half.shape[-2:], mode="bilinear", align_corners=False)
    log_probability = upsampled.log_softmax(1)
    entropy = F.nll_loss(log_probability, half, weights, ignore_index=VOID)
    known = half != VOID
    probability = log_probability.exp() * known.unsqueeze(1)
    index = half.clamp(min=0)
    right = probability.gather(1, index.unsqueeze(1)).flatten()
    both = right.new_zeros(logits.shape[1]).index_add(0, index.flatten(), right)
    area = torch.bincount(half[known], minlength=logits.shape[1])
    iou = both / (probability.sum((0, 2, 3)) + area - both + 1)
    there = area > 0
    return entropy, 1 - (iou * there).sum() / there.sum().clamp(min=1)


def coarse_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross entropy of (B, C, h, w) logits with the labels in the middle of each cell."""
    stride = labels.shape[-1] // logits.shape[-1]
    middles = labels[:, stride // 2 :: stride, stride // 2 :: stride]
    return F.cross_entropy(logits, middles, weights, ignore_index=VOID)


@dataclass(frozen=True)
class NetworkScore:
    """A network on labelled images.

    matrix: of all pixels. scores: (N, K) log probabilities of every fourth row's and column's
    pixels, with truth: (N,) class index.
    """

    matrix: ConfusionMatrix
    scores: Tensor
    truth: Tensor

    def as_json(self) -> dict[str, Any]:
        """mIoU, IoU by class (None where a class is not there) and calibration error, 0..1."""
        ious = self.matrix.per_class_iou()
        return {
            "miou": round(self.matrix.miou(), 4),
            "calibration_error": round(self.calibration_error(), 4),
            "per_class_iou": {
                name: None if np.isnan(iou) else round(float(iou), 4)
                for name, iou in zip(self.matrix.names, ious, strict=True)
            },
        }

    def calibration_error(self) -> float:
        """Mean gap, 0..1, between confidence and accuracy, over bins of confidence.

        The expected calibration error of Guo et al. (2017) with 15 bins.
        """
        confidence, best = self.scores.softmax(1).max(1)
        bins = (confidence * CONFIDENCE_BINS).long().clamp(max=CONFIDENCE_BINS - 1)
        gap = (best == self.truth).double() - confidence.double()
        gaps = torch.zeros(CONFIDENCE_BINS, dtype=torch.double).index_add(0, bins, gap)
        return float(gaps.abs().sum() / max(1, len(self.truth)))


@torch.inference_mode()
def score_network(network: SegmentationNetwork, stills: list[LabelledStill]) -> NetworkScore:
    """Predict whole stills, upsampled to their size, and compare with their labels."""
    catalog = network.catalog
    matrix = ConfusionMatrix(catalog)
    scores, truths = [], []
    for still in tqdm(stills, unit="image", desc="score"):
        size = (still.labels.shape[0], still.labels.shape[1])
        low = network.log_probabilities(Frame(still.image, 0))[None]
        upsampled = F.interpolate(low, size=size, mode="bilinear", align_corners=False)[0].cpu()
        known = still.labels != 255
        best = upsampled.argmax(0).numpy()
        matrix.update(catalog.ids[still.labels[known]][None], catalog.ids[best[known]][None])
        sampled = torch.from_numpy(known[::4, ::4])
        scores.append(upsampled[:, ::4, ::4][:, sampled].T)
        truths.append(torch.from_numpy(still.labels[::4, ::4])[sampled].long())
    return NetworkScore(matrix, torch.cat(scores), torch.cat(truths))


def calibrated(
    network: StreetNet,
    card: NetworkCard,
    weights: Tensor,
    kept: list[LabelledStill],
    device: torch.device,
) -> tuple[StreetNet, NetworkCard, NetworkScore]:
    """Network and card whose probabilities are right on stills that were kept out of training.

    weights: (K,), those of the classes in the loss. They make rare classes too likely: a part of
    that is taken back, which the bias of the last convolution holds.
    """
    rough = score_network(ready(network, card, "", device), kept)
    correction, temperature = best_calibration(rough.scores, rough.truth, weights)
    network = deepcopy(network)
    assert network.classify.bias is not None
    network.classify.bias.data -= correction * card.temperature * weights.log().to(device)
    card = replace(card, temperature=round(card.temperature * temperature, 3))
    score = score_network(ready(network, card, "", device), kept)
    return network, replace(card, training=card.training | {"held_out": score.as_json()}), score


def best_calibration(scores: Tensor, truth: Tensor, weights: Tensor) -> tuple[float, float]:
    """c and t for which softmax((scores - c log weights) / t) has the least cross entropy.

    scores: (N, K) log probabilities; truth: (N,) class index; weights: (K,). The temperature t
    is that of Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    entropies = {
        (c, t): float(F.cross_entropy((scores - c * weights.log()) / t, truth))
        for c in CORRECTIONS.tolist()
        for t in TEMPERATURES.tolist()
    }
    return min(entropies, key=entropies.__getitem__)
