"""Training of the outline network: prompts on pictures whose regions are known."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.affinity.outline import OutlineNet
from sam2vss_ros.affinity.pointing import INSIDE, NOWHERE, OUTSIDE, Pointers, points_of_box
from sam2vss_ros.sam2.build import native_bfloat16
from sam2vss_ros.sam2.functional import normalise
from sam2vss_ros.training.data import SeededStream
from sam2vss_ros.training.loop import run_steps
from sam2vss_ros.training.pasted import Ids, Pictures, Rgb, Scene

PICTURES, PROMPTS = 2, 6
"""In a step, and on each picture."""

SIZES = ((288, 512), (288, 384), (384, 512), (320, 320), (384, 288))
"""Heights and widths of pictures."""

THINGS = 0.85
"""Share of prompts that mean a thing, where there is one."""

BOXES, CORRECTED = 0.22, 0.28
"""Shares of prompts that are boxes, and that are several points; the others are one click."""

MOST_POINTS = 9
JITTER = 0.03
"""Deviation of a box's sides, as a share of its size."""

LEAST_AREA = 40
"""Pixels of the smallest region that is pointed at."""

NEAR = 41
"""Diameter in pixels of what surrounds a thing, where points outside lie."""

WEIGHT_DECAY = 0.02
OTHERS = 0.05
"""Weight of the masks that were not meant: one that never learns would never be meant."""


class Prompted(NamedTuple):
    """Pictures of one size with prompts on each.

    images: (P, 3, H, W) uint8. pointers: one for each picture. masks: (P, B, H, W) bool.
    """

    images: Tensor
    pointers: list[Pointers]
    masks: Tensor


class PromptStream(SeededStream[Prompted]):
    """Endless random pictures with random prompts."""

    def __init__(self, pictures: Pictures, *, seed: int, first_step: int) -> None:
        super().__init__(seed, first_step)
        self._pictures = pictures

    def batch(self, rng: np.random.Generator) -> Prompted:
        size = SIZES[rng.integers(len(SIZES))]
        images: list[Rgb] = []
        pointers: list[Pointers] = []
        masks: list[Tensor] = []
        while len(images) < PICTURES:
            scene = self._pictures.scene(rng, size)
            regions = pointable(scene)
            if not any(regions):
                continue
            prompts = [_prompt(scene.ids, *regions, rng) for _ in range(PROMPTS)]
            points, labels, boxes, meant = (torch.stack(x) for x in zip(*prompts, strict=True))
            images.append(scene.image)
            pointers.append(Pointers(points, labels, boxes))
            masks.append(meant)
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return Prompted(stacked, pointers, torch.stack(masks))


def pointable(scene: Scene) -> tuple[list[int], list[int]]:
    """The things, and the stuff, of which enough is seen."""
    areas = np.bincount(scene.ids.ravel(), minlength=max([0, *scene.things, *scene.stuff]) + 1)
    things, stuff = ([i for i in x if areas[i] >= LEAST_AREA] for x in (scene.things, scene.stuff))
    return things, stuff


def _prompt(
    ids: Ids, things: list[int], stuff: list[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, labels and box of a prompt, and the (H, W) bool mask that it means."""
    group = things if things and (not stuff or rng.random() < THINGS) else stuff
    mask = _in_one_part(ids == group[rng.integers(len(group))])
    points = torch.zeros(MOST_POINTS, 2)
    labels = torch.full((MOST_POINTS,), NOWHERE)
    box = torch.zeros(4)
    kind = rng.random()
    if kind < BOXES:
        box = _box(mask, rng)
        points, labels = points_of_box(box)
        return points, labels, box, torch.from_numpy(mask)
    depth = _depth(mask)
    points[0], labels[0] = _place(depth, rng, middle=rng.random() < 0.5), INSIDE
    if kind < BOXES + CORRECTED:
        near = cv2.dilate(mask.astype(np.uint8), np.ones((NEAR, NEAR), np.uint8)) > 0
        around = _depth(near & ~mask)
        for i in range(1, int(rng.integers(2, 6))):
            if rng.random() < 0.5 or not around.any():
                points[i], labels[i] = _place(depth, rng), INSIDE
            else:
                points[i], labels[i] = _place(around, rng), OUTSIDE
    return points, labels, box, torch.from_numpy(mask)


def _in_one_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected part, unless the others are mere crumbs."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] >= 0.9 * mask.sum():
        return mask
    return np.asarray(parts == largest)


def _box(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    """The box of a mask as shares of the image, drawn by an unsteady hand."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    corners = np.array([x, y, x + w, y + h]) + rng.normal(0, JITTER, 4) * (w, h, w, h)
    height, width = mask.shape
    x0, y0, x1, y1 = np.clip(corners / (width, height, width, height), 0, 1)
    return torch.tensor([x0, y0, max(x1, x0 + 1 / width), max(y1, y0 + 1 / height)]).float()


def _depth(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(H, W): how far from its border each pixel of a mask is."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def _place(
    depth: npt.NDArray[np.float32], rng: np.random.Generator, *, middle: bool = False
) -> Tensor:
    """A point as shares of the image; the deeper, the more often; `middle`: among the deepest."""
    flat = depth.ravel()
    if middle:
        index = int(rng.choice(np.flatnonzero(flat >= 0.85 * flat.max())))
    else:
        index = int(np.searchsorted(np.cumsum(flat), rng.random() * flat.sum()))
    height, width = depth.shape
    y, x = divmod(min(index, flat.size - 1), width)
    return torch.tensor([(x + 0.5) / width, (y + 0.5) / height])


def train_outline(
    pictures: Pictures,
    model: AffinityModel,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    resume: bool = False,
) -> OutlineNet:
    """Train for `steps` steps on the frozen trunk of a model; returns the averaged weights.

    The run is one of `loop.run_steps`.
    """
    torch.manual_seed(seed)
    network = OutlineNet().to(model.device)

    def step(batch: Prompted, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        images = normalise(batch.images.to(model.device))
        with torch.no_grad():
            features = model.encode(images)
        halves = F.avg_pool2d(images, 2)
        losses, records = [], []
        for i, pointers in enumerate(batch.pointers):
            fine, middle, coarse = (level[i : i + 1].float() for level in features.pyramid)
            bfloat16 = native_bfloat16(model.device)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                masks = network(
                    (fine, middle, coarse), halves[i : i + 1], pointers.to(model.device)
                )
            truth = F.avg_pool2d(batch.masks[i].to(model.device).float(), 2).round()
            loss, record = outline_loss(masks.float(), truth)
            losses.append(loss)
            records.append(record)
        means = {key: float(np.mean([r[key] for r in records])) for key in records[0]}
        return torch.stack(losses).mean(), means

    run_steps(
        network,
        torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY),
        lambda first: PromptStream(pictures, seed=seed, first_step=first),
        step,
        out,
        steps=steps,
        seed=seed,
        resume=resume,
    )
    return network


def outline_loss(masks: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of (B, K, h, w) mask logits; truth: (B, h, w), 0 or 1.

    Of the masks of a prompt the best one learns. Returns with it the mean IoU of the best masks.
    """
    wanted = truth[:, None].expand_as(masks)
    share = truth.mean((1, 2)).clamp(0.02, 0.5)[:, None, None, None]
    # A small thing counts for more than its pixels, though not for as much as all the rest.
    balance = torch.where(wanted > 0.5, 0.5 / share, 0.5 / (1 - share)).sqrt()
    entropy = F.binary_cross_entropy_with_logits(masks, wanted, balance, reduction="none")
    soft = masks.sigmoid()
    both = (soft * wanted).sum((2, 3))
    overlap = both / (soft + wanted - soft * wanted).sum((2, 3)).clamp(min=1)
    each = entropy.mean((2, 3)) + 1 - overlap
    with torch.no_grad():
        hard, inside = masks > 0, wanted > 0.5
        iou = (hard & inside).sum((2, 3)) / (hard | inside).sum((2, 3)).clamp(min=1)
    best = each.amin(1).mean()
    record = {"loss": float(best.detach()), "iou": float(iou.amax(1).mean())}
    return best + OTHERS * each.mean(), record
