"""The stages of the embedded model that run elsewhere: networks, and what their tensors are.

What follows objects with the keys, and what makes labels of the logits, is no network and stays in
Python.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.keys import KeyNet, load_keys
from sam2vss_ros.affinity.model import input_size, longer_side, read_trunk
from sam2vss_ros.affinity.outline import OutlineNet, contrast, load_outline
from sam2vss_ros.affinity.pointing import INSIDE, NOWHERE, OUTSIDE, Pointers, points_of_box
from sam2vss_ros.affinity.trunk import Trunk
from sam2vss_ros.packing import folded
from sam2vss_ros.sam2.cards import ModelCard, model_card
from sam2vss_ros.sam2.functional import PIXEL_MEAN, PIXEL_STD, normalise
from sam2vss_ros.sam2.weights import EMBEDDED_FOLDER
from sam2vss_ros.semantics.catalog import catalog_data
from sam2vss_ros.semantics.familiarity import FAMILIAR, STRANGE, World
from sam2vss_ros.semantics.model import read_semantics
from sam2vss_ros.semantics.segmenter import MIDDLE_SCALE, DenseHead
from sam2vss_ros.training.procedural import make_clip

POINTS = 16
"""Rows for points of the outline stage, which are labelled -1 where there are fewer."""

NON_COMMERCIAL = (
    "weights trained on CamVid (CC BY-NC 4.0): for research and other non-commercial use; trunk "
    "alone: Apache-2.0"
)

PYRAMID = {
    "fine": "the trunk's features at stride 4",
    "middle": "the trunk's features at stride 8",
    "coarse": "the trunk's features at stride 16",
}

IMAGE = {
    "image": "the camera's image, squashed to input_size (OpenCV's INTER_AREA; INTER_LINEAR where "
    "a side grows); NCHW, RGB, float32 from 0 to 255; normalised in the network: value / 255, less "
    f"{PIXEL_MEAN}, divided by {PIXEL_STD}"
}


@dataclass(frozen=True)
class Stage:
    """A network, in float32 on the CPU, whose inputs and outputs are tensors of fixed shapes.

    inputs, outputs: what each tensor is, by name and in order. examples: inputs to try it on.
    about: what else its users must know, by name.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    examples: tuple[tuple[Tensor, ...], ...]
    about: Mapping[str, str]


class TrunkStage(nn.Module):
    """The trunk and the keys of what it sees; image: (1, 3, h, w) float32 RGB from 0 to 255."""

    def __init__(self, trunk: Trunk, key_net: KeyNet) -> None:
        super().__init__()
        self.trunk, self.key_net = trunk, key_net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pyramid = self.trunk(normalise(image))
        return (*pyramid, self.key_net(pyramid), self.key_net.fine_keys(pyramid))


class HeadStage(nn.Module):
    """The dense head on the trunk's features, and how far it is at home in what they show."""

    def __init__(self, head: DenseHead, world: World) -> None:
        super().__init__()
        self.head, self.world = head, world

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, ...]:
        return (*self.head(fine), self.world(coarse))


class OutlineStage(nn.Module):
    """The outline network, on one prompt of points or a box."""

    def __init__(self, outline: OutlineNet) -> None:
        super().__init__()
        self.outline = outline

    def forward(
        self,
        fine: Tensor,
        middle: Tensor,
        coarse: Tensor,
        image: Tensor,
        points: Tensor,
        labels: Tensor,
        box: Tensor,
    ) -> tuple[Tensor, Tensor]:
        pyramid = fine, middle, coarse
        colours = F.avg_pool2d(normalise(image), 2)  # as `TrunkFeatures.colours`
        pointers = _with_points_of_box(Pointers(points, labels, box))
        masks = self.outline(pyramid, colours, pointers)
        return masks, contrast(pyramid, masks[0].sigmoid())


def _with_points_of_box(pointers: Pointers) -> Pointers:
    """A prompt with the points that its box says as well; where it has none, they are nowhere."""
    points, labels = points_of_box(pointers.boxes[0])
    labels = torch.where(pointers.boxed, labels, NOWHERE)
    return Pointers(
        torch.cat([pointers.points, points[None]], 1),
        torch.cat([pointers.labels, labels[None].to(pointers.labels)], 1),
        pointers.boxes,
    )


def load_stages(
    model: str, camera: tuple[int, int], semantics: str = "street", image_size: int = 0
) -> list[Stage]:
    """The stages of the embedded model for a camera: trunk, head, outline.

    camera: height and width of its images. semantics, image_size: as the options of the pipeline.
    Raises ValueError, naming the option, for another model, and for what cannot be used;
    FileNotFoundError for a file that is missing; ModelUnavailableError for damaged weights.
    """
    card = model_card(model)
    if not card.by_affinity:
        raise ValueError(f"model: {model} cannot be exported, only mobile, the embedded one")
    size = input_size(camera, longer_side(card, image_size))
    about = {
        "model": card.name,
        "camera_size": f"{camera[1]}x{camera[0]}",
        "input_size": f"{size[1]}x{size[0]}",
    }
    picture = _street(size)
    with torch.no_grad():
        trunk = _trunk_stage(card, picture, about)
        pyramid = trunk.module(picture)[:3]
    head = _head_stage(semantics, pyramid, about)
    return [trunk, head, _outline_stage(card, pyramid, picture, about)]


def _trunk_stage(card: ModelCard, picture: Tensor, about: Mapping[str, str]) -> Stage:
    key_net = load_keys(EMBEDDED_FOLDER / f"{card.name}_keys.safetensors", torch.device("cpu"))
    return Stage(
        "trunk",
        TrunkStage(read_trunk(card), key_net),
        IMAGE,
        {
            **PYRAMID,
            "keys": "what places are compared by: vectors of length 1, last, at stride 8",
            "fine_keys": "the same for small objects, at stride 4",
        },
        ((picture,),),
        {**about, "licence": NON_COMMERCIAL},
    )


def _head_stage(semantics: str, pyramid: tuple[Tensor, ...], about: Mapping[str, str]) -> Stage:
    fine, _, coarse = pyramid
    known = read_semantics(semantics)
    return Stage(
        "head",
        HeadStage(folded(known.head), known.world.eval().requires_grad_(False)),
        {name: PYRAMID[name] for name in ("fine", "coarse")},
        {
            "logits": "of the classes, in the order of `classes`, at stride 4",
            "hidden": "what the logits are made of, at stride 4",
            "middles": "at stride 4: a logit of being the middle of a thing, and x and y from "
            f"here to the middle of the thing here, in {round(4 * MIDDLE_SCALE)} pixels",
            "likeness": "of the scene to those that the classes are of: they are believed from "
            f"{FAMILIAR} on and not at all below {STRANGE}",
        },
        ((fine, coarse),),
        {
            **about,
            "classes": json.dumps(catalog_data(known.catalog)),
            "licence": NON_COMMERCIAL if semantics == "street" else "weights: of who trained them",
        },
    )


def _outline_stage(
    card: ModelCard, pyramid: tuple[Tensor, ...], picture: Tensor, about: Mapping[str, str]
) -> Stage:
    path = EMBEDDED_FOLDER / f"{card.name}_outline.safetensors"
    points, no_points = torch.zeros(1, POINTS, 2), torch.full((1, POINTS), NOWHERE)
    points[0, :2] = torch.tensor([[0.5, 0.6], [0.2, 0.1]])
    labels = no_points.clone()
    labels[0, :2] = torch.tensor([INSIDE, OUTSIDE])
    box, no_box = torch.tensor([[0.3, 0.4, 0.6, 0.8]]), torch.zeros(1, 4)
    return Stage(
        "outline",
        OutlineStage(load_outline(path, torch.device("cpu"))),
        {
            **PYRAMID,
            **IMAGE,
            "points": "x and y of points, in shares of the image's width and height",
            "labels": f"of the points: {INSIDE} inside, {OUTSIDE} outside, {NOWHERE} no point",
            "box": "x0, y0, x1, y1 in the same shares; all 0 for none",
        },
        {
            "masks": "logits of three masks that the prompt may mean, at stride 2",
            "contrast": "how much each differs from its surroundings: of points, the engine takes "
            "the mask where it is highest; of a box, the one whose own box fits it best",
        },
        (
            (*pyramid, picture, points, labels.int(), no_box),
            (*pyramid, picture, points, no_points.int(), box),
        ),
        {**about, "licence": NON_COMMERCIAL},
    )


def _street(size: tuple[int, int]) -> Tensor:
    """(1, 3, h, w) float32 from 0 to 255: a drawn street."""
    drawn = make_clip(7, 1, (288, 512)).frames[0]
    picture = np.asarray(cv2.resize(drawn, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float()
