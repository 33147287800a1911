"""What depth costs beside the segmentation: objects in space and clouds, frame by frame."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.cloud import LAYOUTS, PixelLabels, labelled_cloud
from sam2vss_ros.geometry.depth import to_metres
from sam2vss_ros.geometry.objects import place_objects
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, Prompt

WIDTH, HEIGHT = 640, 480
COLUMNS, ROWS = 5, 2
OBJECTS = COLUMNS * ROWS
CAMERA = PinholeCamera(580.0, 580.0, 319.5, 239.5)
SEGMENTATION = "segmentation"


def draw() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """(H, W, 3) RGB, (H, W) depth in millimetres, (H, W) ids: discs before a wall, from 1 on."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number in range(OBJECTS):
        row, column = divmod(number, COLUMNS)
        cx, cy = (column + 0.5) * WIDTH / COLUMNS, (row + 0.5) * HEIGHT / ROWS
        ids[np.hypot(x - cx, y - cy) < 0.45 * WIDTH / COLUMNS] = number + 1
    colours = np.random.default_rng(0).integers(0, 256, (OBJECTS + 1, 3), np.uint8)
    noise = np.random.default_rng(1).normal(0, 5, ids.shape)
    millimetres = np.where(ids > 0, 1500 + 100 * ids.astype(float), 4000) + noise
    return colours[ids], millimetres.astype(np.uint16), ids


def time_depth(pipeline: VssPipeline, frames: int, warm_up: int) -> dict[str, list[float]]:
    """Milliseconds of each of `frames` frames at 640x480 with OBJECTS objects: of the segmentation,
    and of what depth adds to it. The first `warm_up` are not counted."""
    image, millimetres, ids = draw()
    pipeline.reserve_ids(OBJECTS)
    for number in range(1, OBJECTS + 1):
        pipeline.add_prompt(Prompt(mask=ids == number), number)
    pipeline.wants_entropy = True
    spent: dict[str, list[float]] = {}

    def lap(what: str, start: float) -> float:
        now = time.perf_counter()
        if index >= warm_up:
            spent.setdefault(what, []).append((now - start) * 1e3)
        return time.perf_counter()

    for index in range(warm_up + frames):
        start = time.perf_counter()
        answer = pipeline.process(Frame(image, index * 33_000_000))
        start = lap(SEGMENTATION, start)
        depth = to_metres(millimetres)
        start = lap("depth in metres", start)
        place_objects(answer.objects, depth, CAMERA)
        start = lap(f"{len(answer.objects)} objects", start)
        labels = PixelLabels(
            answer.label_image,
            answer.confidence_image,
            answer.instance_image,
            answer.entropy_image,
        )
        for layout in LAYOUTS:
            start = time.perf_counter()
            labelled_cloud(depth, CAMERA, image, labels, layout)
            lap(f"cloud {layout}", start)
    return spent
