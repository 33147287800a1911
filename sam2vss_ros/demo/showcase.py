"""scripts/pictures: the pictures of README and site, from the pipeline's own answers.

Every frame of the drawn street is answered in turn, without ROS and without dropping any, so that
the speed of the machine does not show in the pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import STREET_RATE, STREET_SEED
from sam2vss_ros.io.outputs import write_bytes
from sam2vss_ros.io.overlay import contact_sheet, draw_overlay, track_colors
from sam2vss_ros.io.readers import stamp_ns
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Frame, SemanticFrame, instance_value

Rgb = npt.NDArray[np.uint8]

SIZE = (480, 640)
"""Height and width of the drawn street."""

STEP = 3
"""Frames of the street from one picture of the clip to the next: 10 a second."""

SHEET_CELL = 480  # pixels: width of each part of the still
CLIP_SIZE = (800, 300)  # width and height of a picture of the clip
CLIP_QUALITY, STILL_QUALITY = 55, 85  # of WebP and JPEG


def main() -> None:
    """Make the pictures; the arguments are those of scripts/pictures."""
    parser = argparse.ArgumentParser(prog="scripts/pictures", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="their folder (docs)")
    parser.add_argument(
        "--begin", type=int, default=60, help="frames seen before the first one shown (60)"
    )
    parser.add_argument("--frames", type=int, default=90, help="frames of the clip (90)")
    options = parser.parse_args()
    if options.begin < 0 or options.frames < 1:
        parser.error("begin is 0 or more, frames 1 or more")
    images: list[Rgb] = []
    with closing(Street(options.begin, options.frames)) as street:
        for image, answer in tqdm(street, "frames", options.frames, unit="frame"):
            if not images:
                write_bytes(options.out / "street.jpg", still(image, answer, street.catalog))
            images.append(np.hstack([image, draw_overlay(image, answer, street.catalog)]))
    write_bytes(options.out / "street.webp", clip(images[::STEP]))
    print(f"street.jpg and street.webp are in {options.out}")


class Street:
    """Frames of the street from `begin` on with their answers; what is before them is seen, too."""

    def __init__(self, begin: int, count: int) -> None:
        config = PipelineConfig(device="cpu")
        self._pipeline = VssPipeline(Perception.load(config), config)
        self._begin, self._count = begin, count
        self.catalog = self._pipeline.catalog

    def __iter__(self) -> Iterator[tuple[Rgb, SemanticFrame]]:
        frames = street_video(STREET_SEED, self._begin + self._count, SIZE)
        for index, (image, _, _) in enumerate(frames):
            answer = self._pipeline.process(Frame(image, stamp_ns(index, STREET_RATE)))
            if index >= self._begin:
                yield image, answer

    def close(self) -> None:
        """Give the memory of the stream back."""
        self._pipeline.close()


def still(image: Rgb, answer: SemanticFrame, catalog: ClassCatalog) -> bytes:
    """A JPEG of a frame and what is published of it: objects, labels and confidence."""
    labels = np.full((*answer.label_image.shape, 3), 255, np.uint8)
    for known in catalog.classes:
        labels[answer.label_image == known.id] = known.color
    confidence = cv2.cvtColor(answer.confidence_image, cv2.COLOR_GRAY2RGB)
    objects = np.zeros_like(labels)
    for index, seen in enumerate(o.track_id for o in answer.objects):
        objects[answer.instance_image == instance_value(seen)] = track_colors()[index + 1]
    sheet = contact_sheet([image, objects, labels, confidence], 2, SHEET_CELL, catalog)
    data = BytesIO()
    Image.fromarray(sheet).save(data, "JPEG", quality=STILL_QUALITY)
    return data.getvalue()


def clip(images: list[Rgb]) -> bytes:
    """An animated WebP that repeats for ever."""
    small = [
        Image.fromarray(cv2.resize(image, CLIP_SIZE, interpolation=cv2.INTER_AREA))
        for image in images
    ]
    data, milliseconds = BytesIO(), round(1000 * STEP / STREET_RATE)
    small[0].save(
        data,
        "WEBP",
        save_all=True,
        append_images=small[1:],
        duration=milliseconds,
        loop=0,
        quality=CLIP_QUALITY,
        method=6,
    )
    return data.getvalue()


if __name__ == "__main__":
    main()
