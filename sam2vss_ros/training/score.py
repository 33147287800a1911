"""How well a SAM 2 follows and finds regions on procedural clips that training never saw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.sam2.masklets import Masklets
from sam2vss_ros.sam2.masks import iou_of
from sam2vss_ros.sam2.tracker import Tracker
from sam2vss_ros.training.nano import BOX, POINT, sample_prompts
from sam2vss_ros.training.procedural import make_clip

HELD_OUT_SEED = 2**62
"""Training draws its clips' seeds below this."""

LEAST_SHARE = 0.001


@torch.inference_mode()
def score_sam2(model: Sam2Model, clips: int, frames: int) -> dict[str, float]:
    """Mean IoU, at a quarter of the model's resolution, of regions of at least 0.1 % of the image.

    track: masks given on frame 0 and followed, over the later frames where the region is visible;
    track_last: on the last frame; copy: the mask of frame 0, not moved; point, box: one decoding
    on frame 0 by a point inside or a box (best predicted of three masks, and token 0);
    presence: share of right decisions whether the region is there; regions: how many.
    """
    size = model.network.image_size
    rng = np.random.default_rng(0)
    scores: dict[str, list[float]] = {
        k: [] for k in ("track", "track_last", "copy", "point", "box", "presence")
    }
    count = 0
    for i in tqdm(range(clips), unit="clip", desc="score"):
        clip = make_clip(HELD_OUT_SEED + i, frames, (size, size))
        regions = torch.from_numpy(clip.instances.astype(np.int64))
        ids = _ids(regions[0])
        truth = (regions[None, :, 2::4, 2::4] == ids[:, None, None, None]).to(model.device)
        count += len(ids)
        _score_tracking(model, clip.frames, truth, scores)
        whole = (regions[0][None] == ids[:, None, None]).numpy()
        for name, kind in (("point", POINT), ("box", BOX)):
            scores[name] += _prompted_iou(model, clip.frames[0], whole, truth[:, 0], kind, rng)
    return {k: float(np.mean(v)) for k, v in scores.items()} | {"regions": count}


def _ids(first: Tensor) -> Tensor:
    ids, areas = first.unique(return_counts=True)
    chosen: Tensor = ids[(areas >= LEAST_SHARE * first.numel()) & (ids > 0)]
    return chosen


def _score_tracking(
    model: Sam2Model, frames: np.ndarray, truth: Tensor, scores: dict[str, list[float]]
) -> None:
    masklets = Masklets(Tracker(model, len(truth)))
    for t, frame in enumerate(frames):
        pixels = functional.image_tensor(frame, model.network.image_size, model.device)
        features = functional.encode_image(model.network, pixels)
        if t == 0:
            slots = list(range(len(truth)))
            masklets.begin(features, masklets.tracker.from_masks(features, slots, truth[:, 0]))
            continue
        tracked = masklets.advance(features)
        here = truth[:, t].flatten(1).any(1)
        iou = iou_of(tracked.masks > 0, truth[:, t])[here].tolist()
        scores["track"] += iou
        scores["copy"] += iou_of(truth[:, 0], truth[:, t])[here].tolist()
        scores["presence"] += ((tracked.score > 0) == here).float().tolist()
        if t == len(frames) - 1:
            scores["track_last"] += iou


def _prompted_iou(
    model: Sam2Model,
    frame: np.ndarray,
    whole: np.ndarray,
    truth: Tensor,
    kind: int,
    rng: np.random.Generator,
) -> list[float]:
    pixels = functional.image_tensor(frame, model.network.image_size, model.device)
    features = functional.encode_image(model.network, pixels)
    points, labels = sample_prompts(whole, [kind] * len(whole), rng)
    decoded = functional.decode(
        model.network,
        functional.without_memory(model.network, features),
        features.high_res,
        (points.to(model.device), labels.to(model.device)),
    )
    best = decoded.ious[:, 1:].argmax(1) + 1 if kind == POINT else 0
    masks = decoded.masks[torch.arange(len(truth)), best] > 0
    return [float(x) for x in iou_of(masks, truth)]
