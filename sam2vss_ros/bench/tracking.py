"""How well objects are followed on real video that are given by their masks on its first frame.

Frames are read, followed and forgotten one by one. Beside the pipeline, in the same run, stand the
simplest ways to follow a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sam2vss_ros.bench.clips import Clip, read_sequences
from sam2vss_ros.bench.followers import (
    Copy,
    Flow,
    Follower,
    PromptedPipeline,
    Size,
    resized,
    size_of,
)
from sam2vss_ros.bench.tubes import read_tubes
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.mask_scores import Mask, boundary_f, innermost, mask_iou
from sam2vss_ros.io.readers import DEFAULT_RATE, stamp_ns
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, Prompt

LATER = 16
"""Index of the frame of `j16`; that of the first frame is 0."""

FOUND_IOU = 0.5
"""Least IoU of an object with a track that has discovered it."""

DISCOVERY_FRAMES = 32
"""Frames within which an object is to be discovered."""

OURS = "pipeline"


class Moment(NamedTuple):
    """How an object's mask is on one frame, and whether there is anything of the object."""

    j: float
    f: float
    in_sight: bool


class Score(NamedTuple):
    """How one object was followed, each from 0 to 1; None where there is nothing to measure.

    j, f: means over the frames after the first one. j16: J on the frame of index `LATER`. last: J
    on the last frame. j_return: mean J of the frames in sight after it was out of sight.
    """

    j: float
    f: float
    j16: float | None
    last: float
    j_return: float | None

    @staticmethod
    def of(moments: Sequence[Moment]) -> Score:
        """The score from every frame after the first one, of which there must be one."""
        j, f, in_sight = zip(*moments, strict=True)
        gone = in_sight.index(False) if False in in_sight else len(in_sight)
        return Score(
            j=float(np.mean(j)),
            f=float(np.mean(f)),
            j16=j[LATER - 1] if len(j) >= LATER else None,
            last=j[-1],
            j_return=_mean([x for x, seen in zip(j[gone:], in_sight[gone:], strict=True) if seen]),
        )


class Discovered(NamedTuple):
    """What the pipeline found by itself in a clip. found: by object; tracks: how many it gave."""

    found: list[bool]
    tracks: int


def open_clips(folder: Path, frames: int = 0) -> list[Clip]:
    """The sequences of a folder or the tubes of labelled video, cut to `frames` (0: whole).

    Raises InputError for a folder that is neither, what is not usable in it, and fewer than two
    frames.
    """
    if not folder.is_dir():
        raise InputError(f"data: {folder} is not a folder")
    labelled = (folder / "images").is_dir() and (folder / "labels").is_dir()
    clips = read_tubes(folder) if labelled else read_sequences(folder)
    for clip in clips:
        if len(clip) < 2:
            raise InputError(f"data: {clip.name} has one frame; nothing can be followed there")
    return [clip.first(frames) for clip in clips] if frames else clips


def run_tracking(
    perception: Perception,
    config: PipelineConfig,
    clips: Sequence[Clip],
    size: Size | None = None,
    rate: float = DEFAULT_RATE,
    *,
    discovery: bool = False,
    clicks: bool = False,
) -> dict[str, Any]:
    """Measure all clips; size: of the images that the pipeline is given. rate: frames per second.

    Returns the figures of the pipeline: under `sequences` those of each object by its name, and
    `mean_j` and so on over them; the same of each baseline under `baselines`. With `discovery` also
    `recall` and `tracks`, by clip and in all, with `clicks` also `click_iou`.

    Raises InputError for files that cannot be read and options that do not do.
    """
    more: dict[str, float] = {}
    by_object: dict[str, dict[str, Any]] = {name: {} for clip in clips for name in clip.objects}
    if discovery:
        discovered = run_discovery(perception, config, clips, size, rate)
        for clip, result in zip(clips, discovered, strict=True):
            for name, found in zip(clip.objects, result.found, strict=True):
                by_object[name] |= {"found": found, "tracks": result.tracks}
        more["recall"] = float(np.mean([row["found"] for row in by_object.values()]))
        more["tracks"] = sum(result.tracks for result in discovered)
    if clicks:
        ious = run_clicks(perception, config, clips, size)
        for name, iou in ious.items():
            by_object[name]["click_iou"] = iou
        more["click_iou"] = float(np.mean(list(ious.values())))
    ways = run_followers(perception, config, clips, size, rate)
    ours = ways.pop(OURS)
    for name, row in ours["sequences"].items():
        row |= by_object[name]
    return {**ours, **more, "baselines": ways}


def run_followers(
    perception: Perception,
    config: PipelineConfig,
    clips: Sequence[Clip],
    size: Size | None = None,
    rate: float = DEFAULT_RATE,
) -> dict[str, dict[str, Any]]:
    """The scores by object and their means, for each way to follow: `OURS` and the baselines."""
    ways: dict[str, Callable[[], Follower]] = {
        "copy": Copy,
        "flow": Flow,
        OURS: lambda: PromptedPipeline(perception, config, size, rate),
    }
    scores: dict[str, dict[str, Score]] = {way: {} for way in ways}
    with tqdm(total=sum(map(len, clips)), unit="frame", desc="tracking") as progress:
        for clip in clips:
            followers = {way: new() for way, new in ways.items()}
            for way, found in follow(clip, followers, progress.update).items():
                scores[way].update(zip(clip.objects, found, strict=True))
    return {way: _summary(found) for way, found in scores.items()}


def follow(
    clip: Clip, followers: Mapping[str, Follower], tick: Callable[[], object] = lambda: None
) -> dict[str, list[Score]]:
    """Let all followers loose on one clip; returns the scores of its K objects for each.

    tick: called after every frame.
    """
    image, masks = clip.image(0), clip.masks(0)
    for follower in followers.values():
        follower.start(image, masks)
    tick()
    moments: dict[str, list[list[Moment]]] = {way: [[] for _ in masks] for way in followers}
    for t in range(1, len(clip)):
        image, masks = clip.image(t), clip.masks(t)
        for way, follower in followers.items():
            for past, truth, found in zip(moments[way], masks, follower.step(image), strict=True):
                j, f = mask_iou(truth, found), boundary_f(truth, found)
                past.append(Moment(j, f, bool(truth.any())))
        tick()
    return {way: [Score.of(past) for past in objects] for way, objects in moments.items()}


def run_discovery(
    perception: Perception,
    config: PipelineConfig,
    clips: Sequence[Clip],
    size: Size | None = None,
    rate: float = DEFAULT_RATE,
) -> list[Discovered]:
    """What the pipeline finds in each clip without any prompt.

    Raises InputError where the options keep it from looking.
    """
    if config.discovery == "off" or config.mode == "network":
        raise InputError(
            f"discover: with discovery {config.discovery} and mode {config.mode} nothing is looked "
            "for"
        )
    clips = [clip.first(DISCOVERY_FRAMES) for clip in clips]
    with tqdm(total=sum(map(len, clips)), unit="frame", desc="discovery") as progress:
        return [
            discover(VssPipeline(perception, config), clip, size, rate, progress.update)
            for clip in clips
        ]


def discover(
    pipeline: VssPipeline,
    clip: Clip,
    size: Size | None = None,
    rate: float = DEFAULT_RATE,
    tick: Callable[[], object] = lambda: None,
) -> Discovered:
    """Run a fresh pipeline over a clip. An object is found where some track covers it once."""
    found = np.zeros(len(clip.objects), bool)
    tracks: set[int] = set()
    for t in range(len(clip)):
        image = clip.image(t)
        shown = resized(image, size or size_of(image))
        answer = pipeline.process(Frame(shown, stamp_ns(t, rate)))
        instances = cv2.resize(
            answer.instance_image, size_of(image), interpolation=cv2.INTER_NEAREST
        )
        found |= [best_iou(mask, instances) >= FOUND_IOU for mask in clip.masks(t)]
        tracks |= {obj.track_id for obj in answer.objects}
        tick()
    return Discovered(found.tolist(), len(tracks))


def best_iou(mask: Mask, instances: npt.NDArray[np.integer]) -> float:
    """Greatest IoU of an (H, W) mask with one of the (H, W) instances; 0 is none."""
    areas = np.bincount(instances.ravel())
    both = np.bincount(instances[mask], minlength=len(areas))
    iou = both / np.maximum(np.count_nonzero(mask) + areas - both, 1)
    return float(iou[1:].max(initial=0.0))


def run_clicks(
    perception: Perception,
    config: PipelineConfig,
    clips: Sequence[Clip],
    size: Size | None = None,
) -> dict[str, float]:
    """IoU of what one click in the middle of each object marks on the first frame, by its name."""
    with tqdm(total=sum(len(c.objects) for c in clips), unit="click", desc="clicks") as progress:
        ious = {}
        for clip in clips:
            image = clip.image(0)
            for name, mask in zip(clip.objects, clip.masks(0), strict=True):
                prompt = click(mask, size or size_of(image))
                (answer,) = PromptedPipeline(perception, config, size).prompt(image, [prompt])
                ious[name] = mask_iou(mask, answer)
                progress.update()
        return ious


def click(mask: Mask, size: Size) -> Prompt:
    """A point on the innermost pixel of an (H, W) mask, in pixels of an image of `size`."""
    x, y = innermost(mask)
    height, width = mask.shape
    point = ((x + 0.5) * size[0] / width, (y + 0.5) * size[1] / height)
    return Prompt(points=np.array([point], np.float32), point_labels=np.ones(1, np.int32))


def _summary(scores: Mapping[str, Score]) -> dict[str, Any]:
    """The scores by object and their means, over the objects that have one."""
    columns = zip(*scores.values(), strict=True)
    means = {
        f"mean_{name}": _mean([x for x in column if x is not None])
        for name, column in zip(Score._fields, columns, strict=True)
    }
    return {"sequences": {name: score._asdict() for name, score in scores.items()}, **means}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
