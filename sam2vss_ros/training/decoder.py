"""Training of the mask decoder: on clips whose things are known, what should have been read?

The pipeline's own stage follows things that begin with their true masks, as in `presence`. What is
read of them there, and what the decoder sees beside it, are the samples; the true masks are the
answers. Memory remembers what was read, so samples do not depend on the network that learns from
them: they are gathered once, clip by clip, before it is trained.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.affinity.correction import Correction
from sam2vss_ros.affinity.decoder import (
    COLOURS,
    CUES,
    MASKS,
    UNIT,
    WINDOW,
    MaskDecoder,
    Seen,
    Windows,
)
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.affinity.object_pointers import sampled
from sam2vss_ros.io.outputs import write_bytes
from sam2vss_ros.sam2.build import native_bfloat16
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.training.data import SeededStream
from sam2vss_ros.training.leaving import leaving_clip
from sam2vss_ros.training.loop import run_steps
from sam2vss_ros.training.pasted import Pictures
from sam2vss_ros.training.presence import INPUT, SLOTS, Teacher, observe
from sam2vss_ros.training.procedural.returns import returns_video

CLIPS, FRAMES = 320, 48
"""Of the material; all are lively but for the drawn ones."""

DRAWN = 8
"""One of so many clips is drawn."""

DRAWN_SEED = 200_000
"""Of the first drawn clip."""

NOTED = 0.6
"""Share of what is read that becomes samples."""

MISPLACED = 0.08
"""Most by which the window of a sample lies elsewhere, as a share of its side."""

BATCH = 48
WEIGHT_DECAY = 0.02
COLOUR_NOISE = 0.2
"""Deviation of gain and offset of a sample's colours."""

UPSIDE_DOWN = 0.2
"""Share of batches that are; half of them are mirrored."""

SHAPES = ((MASKS + COLOURS, WINDOW, WINDOW), (CUES, WINDOW // 2, WINDOW // 2), (WINDOW, WINDOW))
"""Of a sample's parts: `Seen`, and the true mask, from 0 to 1."""

LENGTHS = [int(np.prod(shape)) for shape in SHAPES]


class Samples(NamedTuple):
    """What is seen of B objects, and their (B, WINDOW, WINDOW) true masks."""

    seen: Seen
    truth: Tensor


Rows = npt.NDArray[np.float16]
"""(N, sum(LENGTHS)) samples, their parts one after the other."""


def train_decoder(
    pictures: Pictures,
    model: AffinityModel,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    resume: bool = False,
) -> MaskDecoder:
    """Gather the samples, of which `out` keeps those of each clip, and train for `steps` steps.

    The run is one of `loop.run_steps`. Raises FileExistsError where `out` holds one, or samples,
    and `resume` is off.
    """
    small = dataclasses.replace(model, image_size=INPUT)
    files = gather(pictures, small, out, range(CLIPS), seed=seed, resume=resume)
    torch.manual_seed(seed)
    network = MaskDecoder().to(model.device)

    def step(batch: Samples, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        fine, cues, truth = (part.to(model.device) for part in (*batch.seen, batch.truth))
        bfloat16 = native_bfloat16(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            change = network(Seen(fine, cues))
        read = fine[:, 0] * UNIT
        return decoder_loss(read + change.float(), truth, read)

    run_steps(
        network,
        torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY),
        lambda first: SampleStream(files, seed=seed, first_step=first),
        step,
        out,
        steps=steps,
        seed=seed,
        resume=resume,
    )
    return network


def gather(
    pictures: Pictures, model: AffinityModel, out: Path, clips: range, *, seed: int, resume: bool
) -> list[Path]:
    """Files of `Rows`, one of each clip of which anything was read."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("clip_*.npy")) and not resume:
        raise FileExistsError(f"{out} holds samples: give --resume to go on or another --out")
    files = [out / f"clip_{clip:03}.npy" for clip in clips]
    for clip, path in zip(tqdm(clips, unit="clip"), files, strict=True):
        if not path.exists():
            rng = np.random.default_rng((seed, clip))
            if clip % DRAWN:
                video = leaving_clip(pictures, rng, FRAMES, lively=True)
            else:
                video = returns_video(DRAWN_SEED + clip, FRAMES, (192, 256))
            recorder = Recorder(model, rng)
            observe(recorder.teacher, model, video, rng)
            whole = io.BytesIO()
            np.save(whole, recorder.rows())
            write_bytes(path, whole.getvalue())
    return [path for path in files if len(np.load(path, mmap_mode="r"))]


class Recorder(Correction):
    """Notes what the decoder would see, and the truth that `teacher` is told; corrects nothing."""

    def __init__(self, model: AffinityModel, rng: np.random.Generator) -> None:
        super().__init__(model.decoder, SLOTS, model.device)
        self.teacher = Teacher(model, self)
        self._rng = rng
        self._noted: list[Rows] = []

    def rows(self) -> Rows:
        """All samples."""
        return np.concatenate([np.zeros((0, sum(LENGTHS)), np.float16), *self._noted])

    def correct(
        self,
        features: TrunkFeatures,
        objects: list[int],
        read: Tensor,
        before: Tensor,
        flow: Flow | None,
    ) -> Tensor:
        """As `Correction.correct`, but masks stay as they were read."""
        self._looked_at = set(objects)
        there = (read > 0) | (before > 0.5)
        chosen = torch.from_numpy(self._rng.random(len(read)) < NOTED).to(read.device)
        some: list[int] = (there.flatten(1).any(1) & chosen).nonzero()[:, 0].tolist()
        if some:
            windows = self._misplaced(Windows.around(there[some]))
            things = [objects[n] for n in some]
            seen = self.see(features, things, read, before, some, windows)
            numbers = torch.tensor([self.teacher.owner[i] for i in things])[:, None, None]
            truth = (self.teacher.truth == numbers).float().to(read.device)
            size = (read.shape[-2], read.shape[-1])
            cut = sampled(truth[:, None], windows.grid(WINDOW, size))
            parts = [part.flatten(1).half().cpu().numpy() for part in (*seen, cut)]
            self._noted.append(np.concatenate(parts, 1))
        return read

    def _misplaced(self, windows: Windows) -> Windows:
        left, top, side = windows
        shift = self._rng.uniform(-MISPLACED, MISPLACED, (2, len(side)))
        x, y = torch.from_numpy(shift).to(side)
        return Windows(left + x * side, top + y * side, side)


class SampleStream(SeededStream[Samples]):
    """Endless batches of the samples of files, in other colours, some of them turned over."""

    def __init__(self, files: list[Path], *, seed: int, first_step: int) -> None:
        super().__init__(seed, first_step)
        self._files = files

    def batch(self, rng: np.random.Generator) -> Samples:
        """The next one."""
        clips = [np.load(path, mmap_mode="r") for path in self._files]
        ends = np.cumsum([len(clip) for clip in clips])
        chosen = np.sort(rng.integers(ends[-1], size=BATCH))
        places = np.searchsorted(ends, chosen, side="right")
        rows = np.stack([clips[i][n - ends[i]] for i, n in zip(places, chosen, strict=True)])
        parts = torch.from_numpy(rows.astype(np.float32)).split(LENGTHS, 1)
        fine, cues, truth = (part.unflatten(1, s) for part, s in zip(parts, SHAPES, strict=True))
        change = torch.from_numpy(rng.normal(0, COLOUR_NOISE, (2, BATCH, COLOURS, 1, 1))).float()
        fine[:, MASKS:] = fine[:, MASKS:] * (1 + change[0]) + change[1]
        axes = [axis for axis, share in ((-1, 0.5), (-2, UPSIDE_DOWN)) if rng.random() < share]
        return Samples(Seen(fine.flip(axes), cues.flip(axes)), truth.flip(axes))


def decoder_loss(logits: Tensor, truth: Tensor, read: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of (B, h, w) logits; truth: (B, h, w), 0 to 1.

    Returns with it the mean IoU, and that of what was `read`.
    """
    share = truth.mean((1, 2)).clamp(0.05, 0.5)[:, None, None]
    # A small thing counts for more than its pixels, though not for as much as all the rest.
    balance = torch.where(truth > 0.5, 0.5 / share, 0.5 / (1 - share)).sqrt()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, balance)
    there = truth.flatten(1).amax(1) > 0.5
    soft = logits.sigmoid()
    both = (soft * truth).sum((1, 2))
    overlap = both / (soft + truth - soft * truth).sum((1, 2)).clamp(min=1)
    loss = entropy + (1 - overlap[there]).sum() / there.sum().clamp(min=1)
    with torch.no_grad():
        record = {"loss": float(loss), "iou": _iou(logits, truth), "read": _iou(read, truth)}
    return loss, record


def _iou(logits: Tensor, truth: Tensor) -> float:
    """Mean IoU of the masks of things that are in sight."""
    mask, inside = logits > 0, truth > 0.5
    there = inside.flatten(1).any(1)
    both, either = (mask & inside).sum((1, 2)), (mask | inside).sum((1, 2))
    return float((both[there] / either[there]).mean())
