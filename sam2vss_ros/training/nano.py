"""Training of nano: prompts on the first frame of short clips, then tracking, with a class loss.

Every step sees clips (a region is prompted on the first frame and followed to the last, as SAM 2 is
trained) and labelled stills (a dense head on the image features learns their classes, so that the
features carry meaning that the later, frozen training of classes can use).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from tqdm import tqdm

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.weights_file import save_weights
from sam2vss_ros.training.auxiliary import AuxiliaryHead
from sam2vss_ros.training.data import VOID, Clips, ClipStream, LabelledStill, pixel_counts
from sam2vss_ros.training.losses import class_weights, decoder_loss, label_loss, region_contrast
from sam2vss_ros.training.runs import load_checkpoint, open_log, open_run, save_checkpoint


@dataclass(frozen=True)
class Phase:
    """`steps` training steps on `clips` clips of `frames` frames, `size` pixels square."""

    steps: int
    size: int
    frames: int
    clips: int
    objects: int
    stills: int


# Small clips first: prompts and features are learned cheaply at 128 pixels, memory at 256, and a
# full memory on the longer clips at the end.
SCHEDULE = (
    Phase(steps=1000, size=128, frames=2, clips=6, objects=36, stills=6),
    Phase(steps=1450, size=256, frames=4, clips=3, objects=12, stills=4),
    Phase(steps=100, size=256, frames=8, clips=2, objects=10, stills=2),
)
STILL_SIZE = 256
PEAK_RATE = 1e-3
WARMUP_STEPS = 100
DECAY_SHARE = 0.4
EMA_DECAY = 0.998
CHECKPOINT_EVERY = 50
LEAST_REGION = 12
MASK, POINT, BOX = 0, 1, 2
PROMPT_SHARES = (0.8, 0.12, 0.08)  # mostly masks: from these the pipeline starts its objects


@dataclass
class _State:
    """What a checkpoint holds: everything that the next step depends on."""

    network: SAM2Base
    average: SAM2Base
    head: AuxiliaryHead
    optimiser: torch.optim.Optimizer
    step: int = 0

    def parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "average": self.average,
            "head": self.head,
            "optimiser": self.optimiser,
        }


def train_nano(
    stills: list[LabelledStill],
    catalog: ClassCatalog,
    out: Path,
    *,
    schedule: tuple[Phase, ...] = SCHEDULE,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
) -> SAM2Base:
    """Train nano and return the averaged network; `out` gets checkpoint.pt and log.jsonl.

    With `resume` a run goes on from its last checkpoint, to the weights it would have had without
    the break. Raises FileExistsError where `out` holds a run and `resume` is off, ValueError for no
    stills.
    """
    if not stills:
        raise ValueError("no stills to train on")
    checkpoint = open_run(out, resume)
    torch.manual_seed(seed)
    state = _new_state(len(catalog), device)
    if checkpoint.exists():
        state.step = load_checkpoint(checkpoint, state.parts())
    weights = class_weights(pixel_counts(stills, len(catalog))).to(device)
    total = sum(p.steps for p in schedule)
    first = 0
    with (
        open_log(out, state.step) as log,
        tqdm(total=total, initial=state.step, unit="step", mininterval=5) as bar,
    ):
        for phase in schedule:
            last = first + phase.steps
            if state.step < last:
                functional.set_image_size(state.network, phase.size)
                batches = _clips(stills, phase, seed, state.step)
                while state.step < last:
                    done = state.step / total
                    _set_rate(state, done)
                    record = _train_step(state, next(batches), phase, weights, done, seed)
                    state.step += 1
                    bar.update()
                    bar.set_postfix({k: f"{v:.2f}" for k, v in record.items() if k != "seconds"})
                    log.write(json.dumps({"step": state.step, "size": phase.size} | record) + "\n")
                    if state.step % CHECKPOINT_EVERY == 0 or state.step == last:
                        save_checkpoint(checkpoint, state.step, state.parts())
            first = last
    return state.average


def _new_state(classes: int, device: str) -> _State:
    network = build_nano().to(device).train()
    _start_local(network)
    # An object is taken to be there until the score head has learned otherwise.
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(2.0)
    head = AuxiliaryHead(network.hidden_dim, classes).to(device).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    parameters = [p for m in (network, head) for p in m.parameters()]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.03},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=PEAK_RATE,
        betas=(0.9, 0.98),
    )
    return _State(network, average, head, optimiser)


def _start_local(network: SAM2Base) -> None:
    """Let memory attention look at the same place first.

    Equal biases of queries and keys on the fast RoPE frequencies make their product peak where the
    positions agree; a short training then need not find that out.
    """
    for layer in network.memory_attention.layers:
        attention = layer.cross_attn_image
        quarter = attention.internal_dim // 4
        for linear in (attention.q_proj, attention.k_proj):
            linear.weight.data.mul_(0.7)
            linear.bias.data.zero_()
            for frequency in (*range(4), *range(quarter, quarter + 4)):
                linear.bias.data[2 * frequency] = math.sqrt(8)


def _clips(
    stills: list[LabelledStill], phase: Phase, seed: int, first_step: int
) -> Iterator[Clips]:
    return ClipStream(
        stills,
        seed=seed,
        first_step=first_step,
        clips=phase.clips,
        frames=phase.frames,
        size=phase.size,
        still_count=phase.stills,
        still_size=STILL_SIZE,
    ).in_background()


def _set_rate(state: _State, done: float) -> None:
    """Warm up, hold, and fall by a half cosine over the last `DECAY_SHARE` of the run."""
    warm = min(1.0, (state.step + 1) / WARMUP_STEPS)
    fall = max(0.0, (done - (1 - DECAY_SHARE)) / DECAY_SHARE)
    rate = PEAK_RATE * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))
    for group in state.optimiser.param_groups:
        group["lr"] = rate


def _train_step(
    state: _State, batch: Clips, phase: Phase, weights: Tensor, done: float, seed: int
) -> dict[str, float]:
    started = time.monotonic()
    # Chance depends on the step alone, so that a resumed run is the same run.
    rng = np.random.default_rng((seed, state.step, 1))
    torch.manual_seed(int(rng.integers(2**62)))
    device = weights.device
    focus = min(0.7, done / 0.6)
    clips = functional.encode_image(
        state.network, functional.normalise(batch.frames.flatten(0, 1).to(device))
    )
    contrast = region_contrast(clips.pyramid, batch.regions.flatten(0, 1).to(device))
    tracking, record = _clip_loss(state.network, clips, batch.regions.to(device), phase, focus, rng)
    stills = functional.normalise(batch.stills.images.to(device))
    logits = state.head(functional.encode_image(state.network, stills).pyramid)
    labels = label_loss(logits, batch.stills.labels.to(device), weights, VOID)
    loss = tracking + labels + 0.5 * max(0.2, 1 - done) * contrast
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(
        [p for group in state.optimiser.param_groups for p in group["params"]], 1.0
    )
    state.optimiser.step()
    _update_average(state)
    return record | {
        "loss": float(loss.detach()),
        "labels": float(labels.detach()),
        "contrast": float(contrast.detach()),
        "seconds": time.monotonic() - started,
    }


@torch.no_grad()
def _update_average(state: _State) -> None:
    decay = min(EMA_DECAY, (1 + state.step) / (10 + state.step))
    for slow, fast in zip(state.average.parameters(), state.network.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def _clip_loss(
    network: SAM2Base,
    features: functional.ImageFeatures,
    regions: Tensor,
    phase: Phase,
    focus: float,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Prompt regions on each clip's first frame, follow them, and compare with the truth."""
    clip_index, region_ids = _choose_regions(regions, phase.objects, rng)
    truth = (regions[clip_index] == region_ids.view(-1, 1, 1, 1)).float()
    low = F.avg_pool2d(truth, 4)
    present = low.flatten(2).sum(2) > 0.25
    kinds = torch.from_numpy(rng.choice([MASK, POINT, BOX], len(truth), p=PROMPT_SHARES))
    kinds = kinds.sort().values.to(truth.device)
    losses: list[Tensor] = []
    memories: list[Tensor] = []
    pointers: list[Tensor] = []
    record: dict[str, float] = {}
    for t in range(phase.frames):
        frame = features.select(clip_index * phase.frames + t)
        if t == 0:
            decoded = _decode_prompts(network, frame, truth[:, 0], kinds, rng)
        else:
            decoded = _decode_tracked(network, frame, memories, pointers, t)
        multimask = (kinds == POINT) & (t == 0)
        loss, best, iou = decoder_loss(decoded, low[:, t : t + 1], present[:, t], multimask, focus)
        losses.append(loss)
        record |= _record(iou, kinds, present[:, t], t, phase.frames)
        if t == phase.frames - 1:
            break
        rows = torch.arange(len(truth), device=truth.device)
        here = present[:, t, None].float()
        if t == 0:
            # What a point has not found yet would teach nothing about following it.
            masks = truth[:, :1] * 20 - 10
        else:
            masks = functional.hide_absent(decoded.masks[rows, best][:, None], here)
            masks = functional.full_size(masks, phase.size)
        memory = functional.encode_memory(network, frame, masks, here)
        memories.append(memory.flatten(2).transpose(1, 2))
        pointers.append(functional.object_pointer(network, decoded.tokens[rows, best], here))
    return torch.stack(losses).mean(), record


def _choose_regions(regions: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(B,) clip indices and (B,) ids of up to `count` regions seen on first frames."""
    per_clip = -(-count // len(regions))
    least = max(LEAST_REGION, regions.shape[-1] ** 2 // 800)
    chosen: list[tuple[int, int]] = []
    for i, first in enumerate(regions[:, 0].cpu().numpy()):
        areas = np.bincount(first.ravel(), minlength=256)
        areas[0] = 0
        ids = np.flatnonzero(areas >= least)
        rng.shuffle(ids)
        chosen += [(i, int(k)) for k in ids[:per_clip]]
    index, ids_chosen = zip(*chosen, strict=True)
    device = regions.device
    return torch.tensor(index, device=device), torch.tensor(
        ids_chosen, dtype=regions.dtype, device=device
    )


def _decode_prompts(
    network: SAM2Base,
    frame: functional.ImageFeatures,
    masks: Tensor,
    kinds: Tensor,
    rng: np.random.Generator,
) -> functional.Decoded:
    """Decode mask prompts, then point and box prompts; `kinds` is sorted, masks come first."""
    split = int((kinds == MASK).sum())
    rows = torch.arange(len(masks), device=masks.device)
    parts = []
    if split:
        parts.append(
            functional.decode_mask_prompt(network, frame.select(rows[:split]), masks[:split, None])
        )
    if split < len(masks):
        some = frame.select(rows[split:])
        points = sample_prompts(masks[split:].cpu().numpy() > 0.5, kinds[split:].tolist(), rng)
        points = (points[0].to(masks.device), points[1].to(masks.device))
        pixels = functional.without_memory(network, some)
        parts.append(functional.decode(network, pixels, some.high_res, points))
    return functional.Decoded(
        *(torch.cat([getattr(p, k) for p in parts]) for k in ("masks", "ious", "tokens", "score"))
    )


def _decode_tracked(
    network: SAM2Base,
    frame: functional.ImageFeatures,
    memories: list[Tensor],
    pointers: list[Tensor],
    t: int,
) -> functional.Decoded:
    """Decode frame t from the first frame's memory and the most recent ones."""
    recent = range(max(1, t - network.num_maskmem + 1), t)
    times = [network.num_maskmem - 1] + [t - k - 1 for k in recent]
    ages = torch.tensor([float(t - k) for k in range(t)], device=frame.top.device)
    pixels = functional.attend_to_memory(
        network,
        frame,
        torch.stack([memories[0]] + [memories[k] for k in recent], 1),
        torch.tensor(times, device=frame.top.device),
        torch.stack(pointers, 1),
        ages.expand(len(frame.top), -1),
    )
    return functional.decode(network, pixels, frame.high_res)


def _record(iou: Tensor, kinds: Tensor, present: Tensor, t: int, frames: int) -> dict[str, float]:
    """Mean IoU by kind of prompt on the first frame and of tracked masks on the last."""

    def mean(which: Tensor) -> float:
        return float(iou[which].mean()) if which.any() else math.nan

    if t == 0:
        return {
            name: mean(kinds == k) for name, k in (("mask", MASK), ("point", POINT), ("box", BOX))
        }
    return {"track": mean((kinds == MASK) & present)} if t == frames - 1 else {}


def sample_prompts(
    masks: npt.NDArray[np.bool_], kinds: list[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """One point inside, or the two corners of a jittered box, for each (S, S) mask.

    Returns (B, 2, 2) float32 pixels and (B, 2) int32 labels in upstream's code (-1 pads).
    """
    side = masks.shape[-1]
    points = np.zeros((len(masks), 2, 2), np.float32)
    labels = np.full((len(masks), 2), -1, np.int32)
    for i, (mask, kind) in enumerate(zip(masks, kinds, strict=True)):
        if kind == BOX:
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            jitter = rng.normal(0, 0.05, (2, 2)) * (w, h)
            points[i] = np.clip(np.array([(x, y), (x + w, y + h)]) + jitter, 0, side - 1)
            labels[i] = 2, 3
        else:
            points[i, 0] = inner_point(mask) if rng.random() < 0.5 else random_point(mask, rng)
            labels[i, 0] = 1
    return torch.from_numpy(points), torch.from_numpy(labels)


def inner_point(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The x, y of the pixel farthest from the mask's boundary."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def random_point(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """The x, y of a random pixel of the mask."""
    inside = np.flatnonzero(mask)
    y, x = divmod(int(inside[rng.integers(len(inside))]), mask.shape[1])
    return x, y


def save_nano(network: SAM2Base, path: Path) -> None:
    """Write the weights in half precision, by upstream's keys."""
    save_weights(path, network.state_dict())
