"""The text models of test/fixtures, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from colour_scenes import COLOURS, Scene, draw_scene
from sam2vss_ros.semantics.vocabulary.loading import open_text_model
from sam2vss_ros.semantics.vocabulary.text_model import TextModel, soft_masks

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

TRAINED = ("tipsv2", "siglip", "clip")


def folder_of(family: str) -> str:
    """The folder of a trained model: tipsv2, siglip or clip."""
    return str(FIXTURES / f"colours_{family}")


def text_model(family: str) -> TextModel:
    """That model."""
    return open_text_model(folder_of(family), torch.device("cpu"))


def accuracy(
    model: TextModel, pool: Callable[[Scene, Tensor], Tensor], scenes: int = 40, seed: int = 7
) -> float:
    """Share of boxes, three to a scene, whose vector is most like the text of their colour."""
    rng, names = np.random.default_rng(seed), list(COLOURS)
    texts, right = model.texts(names), []
    with torch.inference_mode():
        for _ in range(scenes):
            scene = draw_scene(rng, 3)
            masks = torch.from_numpy(np.stack(scene.masks))
            found = (pool(scene, masks) @ texts.T).argmax(1).tolist()
            shown = masks.flatten(1).sum(1) >= 16
            right += [names[f] == n for f, n, s in zip(found, scene.names, shown, strict=True) if s]
    return float(np.mean(right))


def pooled_naively(model: TextModel, scene: Scene, masks: Tensor) -> Tensor:
    """What one would do: the mean of the last hidden states, projected."""
    pixels = model.prepare.tensor(scene.image, model.device)
    hidden = model.model.vision_model(pixel_values=pixels).last_hidden_state[0]
    side = round((len(hidden) - len(hidden) % 2) ** 0.5)
    hidden = hidden[-side * side :]
    if hasattr(model.model, "visual_projection"):
        hidden = model.model.visual_projection(model.model.vision_model.post_layernorm(hidden))
    return F.normalize(soft_masks(masks, (side, side)).flatten(1) @ hidden, dim=1)
