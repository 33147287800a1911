"""Do objects keep their ids? Measured on scenes whose figures leave and return among their likes.

Three times: the whole pipeline; the pipeline whose discovery is handed true masks, which leaves
tracking and re-identification; and re-identification alone, on true masks throughout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.discovery import Candidates, View
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stream.objects import ObjectMemory
from sam2vss_ros.stream.reid import colour_maps, embed
from sam2vss_ros.tracking import TrackingModel
from sam2vss_ros.training.procedural.returns import returns_video
from sam2vss_ros.types import Frame

LEAST_SHARE = 0.003
"""Regions smaller than this share of the image count as out of sight."""

AWAY = 10
"""Frames out of sight that make coming back a return."""

MATCH_IOU = 0.5
"""A track is on a region where their masks overlap at least so much."""

SIZE = (256, 256)
FIRST_SEED = 1000
"""Thresholds were chosen on the scenes from 100 on."""


@dataclass
class _Region:
    """A true region. `track` is the last one on it; `hidden` counts frames out of sight."""

    visible: int = 0
    matched: int = 0
    hidden: int = 0
    track: int | None = None
    ids: set[int] = field(default_factory=set)
    returning: bool = False


class IdentityScore:
    """Compares the tracks of one stream with the truth, frame by frame.

    switches: changes of the track on a region (MOT's IDSW). returns: regions that were on a track
    come back after at least `AWAY` frames; returns_tracked: those of them that get a track again;
    recognised: those that get the one they had. false_revivals: a track that was out of sight
    comes back on another region; drifts: it moves to another region in full sight.
    """

    def __init__(self) -> None:
        self.switches = self.returns = self.returns_tracked = self.recognised = 0
        self.false_revivals = self.drifts = 0
        self._regions: dict[int, _Region] = {}
        self._owner: dict[int, int] = {}
        self._unseen: set[int] = set()

    def update(self, truth: npt.NDArray[np.uint16], tracks: npt.NDArray[np.uint16]) -> None:
        """Take in a frame: (H, W) region ids and (H, W) track ids, 0 for none."""
        shown = set(np.unique(tracks).tolist())
        self._unseen |= {track for track in self._owner if track not in shown}
        here = visible_regions(truth)
        for region in here:
            self._regions.setdefault(region, _Region())
        for region, known in self._regions.items():
            self._show(known, region in here)
        for region, track in matches(truth, tracks):
            if region in here:
                self._match(region, track)

    def _show(self, region: _Region, visible: bool) -> None:
        if not visible:
            region.hidden += 1
            region.returning = region.returning and region.hidden < AWAY
            return
        if region.hidden >= AWAY and region.track is not None:
            region.returning = True
            self.returns += 1
        region.hidden = 0
        region.visible += 1

    def _match(self, index: int, track: int) -> None:
        region = self._regions[index]
        region.matched += 1
        region.ids.add(track)
        self.switches += region.track not in (None, track)
        if region.returning:
            self.returns_tracked += 1
            self.recognised += region.track == track
        region.track, region.returning = track, False
        if self._owner.get(track, index) != index:
            if track in self._unseen:
                self.false_revivals += 1
            else:
                self.drifts += 1
        self._owner[track] = index
        self._unseen.discard(track)

    def tracked(self) -> tuple[int, int, int, int]:
        """Regions seen for AWAY frames or more: how many, how many were on a track for 80 % of
        their frames in sight, how many ever were on a track, and the ids given to those."""
        regions = [r for r in self._regions.values() if r.visible >= AWAY]
        found = [r for r in regions if r.ids]
        mostly = sum(r.matched >= 0.8 * r.visible for r in regions)
        return len(regions), mostly, len(found), sum(len(r.ids) for r in found)


def visible_regions(truth: npt.NDArray[np.uint16]) -> list[int]:
    """The region ids, but 0, that cover at least `LEAST_SHARE` of an (H, W) image."""
    ids, areas = np.unique(truth, return_counts=True)
    chosen: list[int] = ids[(areas >= LEAST_SHARE * truth.size) & (ids > 0)].tolist()
    return chosen


def matches(truth: npt.NDArray[np.uint16], tracks: npt.NDArray[np.uint16]) -> list[tuple[int, int]]:
    """Pairs of region and track whose IoU is above `MATCH_IOU`; one to one, as ids are disjoint."""
    pairs, both = np.unique(
        np.stack([truth.ravel(), tracks.ravel()], 1), axis=0, return_counts=True
    )
    region_area, track_area = (
        dict(zip(*(x.tolist() for x in np.unique(image, return_counts=True)), strict=True))
        for image in (truth, tracks)
    )
    return [
        (region, track)
        for (region, track), overlap in zip(pairs.tolist(), both.tolist(), strict=True)
        if region and track
        and overlap > MATCH_IOU * (region_area[region] + track_area[track] - overlap)
    ]  # fmt: skip


class TrueRegions:
    """A discovery that is never wrong: the true masks of the current frame."""

    def __init__(self) -> None:
        self.truth = np.zeros((1, 1), np.uint16)

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        """As `discovery.Source.propose`."""
        small = _shrunk(self.truth, (unexplained.shape[0], unexplained.shape[1]))
        regions = np.array(visible_regions(self.truth), np.uint16)
        masks = torch.from_numpy(small[None] == regions[:, None, None]).to(unexplained.device)
        return Candidates(masks, torch.ones(len(regions), device=unexplained.device))


def score_pipeline(
    perception: Perception,
    config: PipelineConfig,
    clips: int,
    frames: int,
    seed: int,
    true_discovery: bool = False,
) -> dict[str, Any]:
    """The ids of the whole pipeline on `clips` scenes of `frames` frames, each afresh."""
    scores = []
    stamp = 0
    source = TrueRegions() if true_discovery else None
    name = "true discovery" if true_discovery else "pipeline"
    with (
        closing(VssPipeline(perception, config, source=source)) as pipeline,
        tqdm(total=clips * frames, unit="frame", desc=name) as bar,
    ):
        for clip in range(clips):
            pipeline.reset()
            score = IdentityScore()
            for image, truth in returns_video(seed + clip, frames, SIZE):
                stamp += 33_333_333
                if source is not None:
                    source.truth = truth
                score.update(truth, pipeline.process(Frame(image, stamp)).instance_image)
                bar.update()
            scores.append(score)
    return summary(scores)


def summary(scores: Sequence[IdentityScore]) -> dict[str, Any]:
    """The figures of several streams together."""
    regions, mostly, found, ids = (sum(column) for column in zip(*(s.tracked() for s in scores)))  # noqa: B905
    names = ("switches", "returns", "returns_tracked", "recognised", "false_revivals", "drifts")
    counts = {name: sum(getattr(s, name) for s in scores) for name in names}
    return {
        **counts,
        "share_recognised": counts["recognised"] / max(1, counts["returns_tracked"]),
        "regions": regions,
        "mostly_tracked": mostly / max(1, regions),
        "ids_per_region": ids / max(1, found),
    }


# -- re-identification alone


class Sight(NamedTuple):
    """The regions of a frame: their ids, pixels at a quarter of the resolution, and embeddings."""

    regions: list[int]
    areas: list[int]
    embeddings: Tensor


@torch.inference_mode()
def look(
    model: TrackingModel, video: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]
) -> Iterator[Sight]:
    """The regions of each frame with the embeddings of their true masks."""
    for image, truth in video:
        camera = image.shape[0], image.shape[1]
        pixels = functional.image_tensor(image, model.input_size(camera), model.device)
        features, size = model.encode(pixels), model.mask_size(camera)
        small = _shrunk(truth, size)
        regions = [r for r in visible_regions(truth) if (small == r).any()]
        masks = torch.from_numpy(small[None] == np.array(regions)[:, None, None]).to(model.device)
        fine = features.pyramid[0]
        colours = colour_maps(image, (fine.shape[-2], fine.shape[-1]), model.device)
        embeddings = embed(features.pyramid, colours, masks).cpu()
        yield Sight(regions, masks.flatten(1).sum(1).tolist(), embeddings)


def _shrunk(truth: npt.NDArray[np.uint16], size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """The ids of (H, W) at the centres of `size` cells, height x width."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * n / cells).astype(int)
        for cells, n in zip(size, truth.shape, strict=True)
    )
    return truth[rows[:, None], columns]


class Replay(NamedTuple):
    """What became of the candidates: the known that came back and how many of them were
    recognised; candidates that got another's id; candidates in all."""

    returns: int
    recognised: int
    false_revivals: int
    candidates: int


def replay(sights: Sequence[Sight], config: PipelineConfig, every: int = 8) -> Replay:
    """Follow the regions as a perfect tracker would, from frame to frame while they are in sight.

    What is lost or new is a candidate on each `every`-th frame, and `ObjectMemory` says who it is.
    """
    memory, owner = ObjectMemory(config.max_objects), dict[int, int]()
    returns = recognised = false = candidates = 0
    for time, sight in enumerate(sights):
        at = {region: i for i, region in enumerate(sight.regions)}
        memory.age_lost(config)
        for track in memory.active():
            i = at.get(owner[track.track_id])
            memory.rate(track, 1.0, visibility=float(i is not None))
            memory.observe(track, 0 if i is None else sight.areas[i], config)
            if i is not None and track.in_sight:
                memory.learn(track, sight.embeddings[i])
        if time % every:
            continue
        followed = {owner[t.track_id] for t in memory.active() if t.in_sight}
        unseen = {owner[t.track_id] for t in memory.all() if not t.in_sight}
        fresh = [i for i, region in enumerate(sight.regions) if region not in followed]
        for i, known in zip(fresh, memory.recognise(sight.embeddings[fresh], config), strict=True):
            region = sight.regions[i]
            candidates += 1
            returns += region in unseen
            if known is not None:
                right = owner[known.track_id] == region
                recognised, false = recognised + right, false + (not right)
            elif memory.room():
                known = memory.start(memory.new_id(), ClassPosterior(1))
            else:
                continue
            owner = {k: 0 if v == region else v for k, v in owner.items()}
            owner[known.track_id] = region
            memory.find(known, config)
            memory.learn(known, sight.embeddings[i])
    return Replay(returns, recognised, false, candidates)


def score_alone(
    model: TrackingModel, clips: int, frames: int, seed: int, thresholds: Sequence[float]
) -> list[dict[str, Any]]:
    """Re-identification alone, by its threshold: share recognised and false revivals."""
    videos = [
        list(look(model, returns_video(seed + clip, frames, SIZE)))
        for clip in tqdm(range(clips), unit="clip", desc="alone")
    ]
    rows = []
    for threshold in thresholds:
        config = PipelineConfig(max_objects=256, revive_similarity=threshold)
        total = Replay(*(sum(x) for x in zip(*(replay(v, config) for v in videos), strict=True)))
        rows.append(
            {
                "revive_similarity": threshold,
                **total._asdict(),
                "share_recognised": total.recognised / max(1, total.returns),
            }
        )
    return rows


def run_identity(
    perception: Perception,
    config: PipelineConfig,
    clips: int,
    frames: int,
    seed: int = FIRST_SEED,
) -> dict[str, Any]:
    """All three measurements: `pipeline`, `true_discovery`, and `alone` by threshold."""
    thresholds = sorted({0.6, 0.7, 0.75, 0.8, 0.85, 0.9, config.revive_similarity})
    return {
        "clips": clips,
        "frames": frames,
        "seed": seed,
        "options": dataclasses.asdict(config),
        "pipeline": score_pipeline(perception, config, clips, frames, seed),
        "true_discovery": score_pipeline(perception, config, clips, frames, seed, True),
        "alone": score_alone(perception.model, clips, frames, seed, thresholds),
    }
