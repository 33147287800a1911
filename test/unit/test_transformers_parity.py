"""The exact engine against transformers' video models: a yardstick that shares no code with either
ours or Meta's. Same random weights, several objects, one of them added on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="comes with the extra networks")

from sam2vss_ros.bench.parity import LEAST_IOU, Parity, compare
from sam2vss_ros.bench.streams import EngineStream
from sam2vss_ros.bench.transformers_stream import transformers_model
from sam2vss_ros.sam2.build import Sam2Model, load_model, untrained_model
from sam2vss_ros.sam2.functional import image_tensor
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Prompt

FRAMES = 19  # longer than every buffer: 6 recent memories, 15 recent pointers
FLICKERING = 9
CLEAR = 0.05
"""An object score that no rounding turns."""

TINY = "sam2.1_hiera_tiny"


def clip_of(size: int) -> tuple[np.ndarray, dict[int, list[Prompt]]]:
    """Frames, and a mask and a point on the first of them, a box on the fourth."""
    clip = make_clip(4, FRAMES, (size, size), kind="abstract")
    ids, areas = np.unique(clip.instances[0], return_counts=True)
    largest = next(int(i) for i in ids[np.argsort(-areas)] if i)
    point = np.array([[0.3 * size, 0.5 * size]], np.float32)
    prompts = [
        Prompt(mask=clip.instances[0] == largest),
        Prompt(points=point, point_labels=np.array([1], np.int32)),
    ]
    box = (0.15 * size, 0.15 * size, 0.7 * size, 0.6 * size)
    return clip.frames, {0: prompts, 3: [Prompt(box=box)]}


def let_flicker(model: Sam2Model, frames: np.ndarray, prompts: dict[int, list[Prompt]]) -> None:
    """Shift the object score to where objects come and go, but none is there by a hair.

    A shift moves what is remembered, and with it the scores: it may take several.
    """
    bias = model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    images = [image_tensor(frame, model.image_size, model.device) for frame in frames]
    for _ in range(20):
        stream = EngineStream(model, 3, PRESETS["exact"])
        seen = [stream.advance(image, prompts.get(t, ())).score for t, image in enumerate(images)]
        scores = torch.cat(seen)
        scores = scores[scores != 10].sort().values  # 10: a mask prompt
        if scores[2] < 0 < scores[-3] and scores.abs().min() > CLEAR:
            return
        middle = scores[len(scores) // 4 : -len(scores) // 4]
        gap = int(middle.diff().argmax())
        bias.sub_(middle[gap : gap + 2].mean())
    pytest.fail("no shift was found")


def parity(model: Sam2Model, flicker: bool) -> Parity:
    frames, prompts = clip_of(model.image_size)
    if flicker:
        frames = frames[:FLICKERING]
        let_flicker(model, frames, prompts)
    else:
        model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(1e4)
    return compare(model, frames, prompts, yardstick="transformers")


@pytest.mark.parametrize("flicker", [False, True])
@pytest.mark.parametrize(("name", "size"), [("edgetam", 256), (TINY, 64)])
def test_the_engine_gives_transformers_masks(name: str, size: int, flicker: bool) -> None:
    result = parity(untrained_model(name, "cpu", image_size=size), flicker)
    assert (result.objects, result.frames) == (3, FLICKERING if flicker else FRAMES)
    assert result.mean_iou >= LEAST_IOU
    assert result.max_logit_diff < 1e-2
    assert 0 < result.seen < 1 if flicker else result.seen == 1


def test_upstream_has_no_edgetam() -> None:
    model = untrained_model("edgetam", "cpu", image_size=256)
    with pytest.raises(ValueError, match="yardstick: upstream has no edgetam; take transformers"):
        compare(model, [], {0: []})


def test_a_folder_of_sam2_as_transformers_saves_it(tmp_path: Path) -> None:
    """Weights go out by transformers and come back by ours; its configuration says the size."""
    model = untrained_model(TINY, "cpu", image_size=64)
    transformers_model(model.network).save_pretrained(tmp_path)
    loaded = load_model(TINY, str(tmp_path), device="cpu")
    assert loaded.image_size == 64
    before, after = model.network.state_dict(), loaded.network.state_dict()
    assert before.keys() == after.keys()
    assert not [key for key in before if not torch.equal(before[key], after[key])]
