"""Training of presence: on clips whose things leave and return, is a mask where it should be?

The pipeline's own stage follows things that begin with their true masks. What it sees of each on
every frame is a sample, and the share of the mask that is on the thing the answer. A teacher
decides by the truth in its place; for some things he does not, so that their pasts go wrong as
they do where the network errs. First samples are gathered, clip by clip, then the network is
fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.affinity.correction import Correction
from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.affinity.presence import PresenceNet, Sign
from sam2vss_ros.affinity.tracker import AffinityTracker
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.io.outputs import write_bytes
from sam2vss_ros.sam2 import functional, policy
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stages.track import follow
from sam2vss_ros.stream.objects import Track
from sam2vss_ros.stream.reid import colour_maps, embed
from sam2vss_ros.stream.requests import Taken
from sam2vss_ros.stream.state import StreamState
from sam2vss_ros.training.leaving import leaving_clip
from sam2vss_ros.training.pasted import Pictures
from sam2vss_ros.training.procedural.returns import returns_video
from sam2vss_ros.types import Frame

CLIPS, FRAMES = 52, 48
"""Of the material: half of it drawn, half pasted."""

DRAWN_SEED = 100_000
"""Of the first drawn clip; those that measure have lower ones."""

INPUT = 384
"""Longer side of the model's input in pixels."""

HELD_OUT = 5
"""One of so many clips is not trained on, but says how often the network is right."""

SLOTS = 12
LEAST_AREA = 0.002
"""Share of a picture from which a thing begins."""

SEARCH = 8
"""Frames from one look for what is not followed to the next."""

TRUSTED = 0.7
"""Share of the things about which the teacher decides."""

SURE = 10.0
"""Logit of what the teacher says."""

RATE, DECAY, BATCH = 3e-3, 1e-4, 512


def train_presence(
    pictures: Pictures,
    model: AffinityModel,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    resume: bool = False,
) -> PresenceNet:
    """Gather the samples, of which `out` keeps those of each clip, and fit for `steps` steps.

    Raises FileExistsError where `out` holds samples and `resume` is off.
    """
    small = dataclasses.replace(model, image_size=INPUT)
    clips = gather(pictures, small, out, seed, resume)
    torch.manual_seed(seed)
    network = PresenceNet()
    fit(network, torch.cat([c for i, c in enumerate(clips) if i % HELD_OUT]), steps)
    print(rightness(network, torch.cat(clips[::HELD_OUT])))
    return network


def gather(
    pictures: Pictures, model: AffinityModel, out: Path, seed: int, resume: bool
) -> list[Tensor]:
    """Of each clip, (N, signs + 1): signs, and from 0 to 1 how much of the mask was right."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("clip_*.f32")) and not resume:
        raise FileExistsError(f"{out} holds samples: give --resume to go on or another --out")
    for clip in tqdm(range(CLIPS), unit="clip"):
        path = out / f"clip_{clip:03}.f32"
        if not path.exists():
            rng = np.random.default_rng((seed, clip))
            teacher = Teacher(model)
            observe(teacher, model, _video(pictures, rng, clip), rng)
            rows = np.stack(teacher.samples)
            write_bytes(path, rows.tobytes())
    return [
        torch.from_numpy(np.fromfile(path, np.float32).reshape(-1, len(Sign) + 1))
        for path in sorted(out.glob("clip_*.f32"))
    ]


def fit(network: PresenceNet, samples: Tensor, steps: int) -> None:
    """Fit to (N, signs + 1) samples; what is usual is learned from them, too."""
    signs, right = samples[:, :-1], samples[:, -1]
    network.centre.copy_(signs.mean(0))
    network.scale.copy_(signs.std(0).clamp(min=1e-3))
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(signs), (BATCH,))
        loss = F.binary_cross_entropy_with_logits(network(signs[chosen]), right[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()


def rightness(network: PresenceNet, samples: Tensor) -> str:
    """How often it is right, of masks that are mostly on their things and of those that are not."""
    with torch.no_grad():
        believed = network(samples[:, :-1]) > 0
    on = samples[:, -1] >= 0.5
    right, wrong = (float((believed[part] == on[part]).float().mean()) for part in (on, ~on))
    return (
        f"held out: right of {int(on.sum())} masks that are on their things {right:.3f}, "
        f"of {int((~on).sum())} others {wrong:.3f}"
    )


def _video(
    pictures: Pictures, rng: np.random.Generator, clip: int
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]:
    if clip % 2:
        return leaving_clip(pictures, rng, FRAMES)
    return returns_video(DRAWN_SEED + clip, FRAMES, (192, 256))


class Teacher(AffinityTracker):
    """A tracker that is told the truth, and notes signs and answers.

    truth: (h, w) ids on the frame in hand. owner: slot -> the id of its thing. trusted: the slots
    whose presence the truth decides; others are there while they have a mask.
    """

    def __init__(self, model: AffinityModel, correction: Correction | None = None) -> None:
        super().__init__(
            model.outline,
            PresenceNet(),
            correction or Correction(model.decoder, SLOTS, model.device),
            SLOTS,
            PRESETS["exact"],
            model.device,
            model.trunk_dtype,
        )
        self.truth = torch.zeros(0)
        self.owner: dict[int, int] = {}
        self.trusted: set[int] = set()
        self.samples: list[npt.NDArray[np.float32]] = []

    def weigh(self, tracked: Tracked, signs: Tensor) -> Tracked:
        """As `AffinityTracker.weigh`, by the truth."""
        scores = []
        for slot, mask, row in zip(tracked.slots, tracked.masks > 0, signs, strict=True):
            area = int(mask.sum())
            right = float((self.truth[mask] == self.owner[slot]).sum()) / max(1, area)
            if area:
                self.samples.append(np.append(row.cpu().numpy(), np.float32(right)))
            there = area and (right >= 0.5 or slot not in self.trusted)
            scores.append(SURE if there else -SURE)
        return dataclasses.replace(tracked, score=tracked.score.new_tensor(scores))


@torch.inference_mode()
def observe(
    tracker: Teacher,
    model: AffinityModel,
    video: Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]],
    rng: np.random.Generator,
) -> None:
    """Let a teacher follow the things of a clip."""
    config = PipelineConfig(max_objects=SLOTS)
    stream = StreamState(tracker, config, Words.fixed(load_catalog("camvid")))
    things: dict[int, Track] = {}
    for time, (image, truth) in enumerate(video):
        context = stream.begin(Frame(image, (time + 1) * 33_333_333), Taken(config))
        features = _seen(model, stream, image)
        size = features.image.mask_size  # type: ignore[attr-defined]
        tracker.truth = _shrunk(truth, size)
        batch = follow(stream, context, features)
        for i in policy.worth_remembering(batch.tracked):
            embedding = batch.embeddings[i]
            assert embedding is not None
            stream.objects.learn(batch.tracks[i], embedding)
        if time % SEARCH == 0:
            _search(stream, tracker, features, config, things, rng)
        stream.frames += 1


def _seen(model: AffinityModel, stream: StreamState, image: npt.NDArray[np.uint8]) -> FrameFeatures:
    """What the stage that follows reads of a frame."""
    size = model.input_size((image.shape[0], image.shape[1]))
    encoded = model.encode(functional.image_tensor(image, size, model.device))
    fine = encoded.pyramid[0]
    colours = colour_maps(image, (fine.shape[-2], fine.shape[-1]), model.device)
    flow = stream.motion.follow(image)
    return FrameFeatures(image=encoded, colours=colours, flow=flow)


def _search(
    stream: StreamState,
    tracker: Teacher,
    features: FrameFeatures,
    config: PipelineConfig,
    things: dict[int, Track],
    rng: np.random.Generator,
) -> None:
    """Begin the things that are in sight and not followed; what was known is known again."""
    ids, areas = torch.unique(tracker.truth, return_counts=True)
    large = areas >= LEAST_AREA * tracker.truth.numel()
    for number in ids[large & (ids > 0)].tolist():
        track = things.get(number)
        if track is not None and (track.track_id not in stream.objects or track.in_sight):
            if track.in_sight and track.track_id in stream.objects:
                continue
            track = None
        if track is None:
            if not stream.objects.room():
                continue
            track = stream.objects.start(stream.objects.new_id(), ClassPosterior(1))
            things[number] = track
            tracker.owner[track.slot] = number
            tracker.trusted.discard(track.slot)
            if rng.random() < TRUSTED:
                tracker.trusted.add(track.slot)
        stream.objects.find(track, config)
        mask = (tracker.truth == number)[None]
        found = tracker.from_masks(features.image, [track.slot], mask)  # type: ignore[arg-type]
        tracker.start(features.image, found)  # type: ignore[arg-type]
        stream.objects.rate(track, 1.0, 1.0)
        whole = embed(features.image.pyramid, features.colours, mask)[0]
        stream.objects.begin(track, whole)
        stream.objects.learn(track, whole)


def _shrunk(truth: npt.NDArray[np.uint16], size: tuple[int, int]) -> Tensor:
    """(h, w) int64 ids, of the nearest pixels."""
    ids = torch.from_numpy(truth.astype(np.float32))[None, None]
    return F.interpolate(ids, size, mode="nearest-exact")[0, 0].long()
