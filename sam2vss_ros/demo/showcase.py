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
from sam2vss_ros.io.overlay import draw_overlay
from sam2vss_ros.io.readers import stamp_ns
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Frame

Rgb = npt.NDArray[np.uint8]

SIZE = (480, 640)
"""Height and width of the drawn street."""

STEP = 3
"""Frames of the street from one picture of the clip to the next: 10 a second."""

CLIP_SIZE = (800, 300)  # width and height of a picture of the clip
CLIP_QUALITY, STILL_QUALITY = 55, 85  # of WebP and JPEG


def main() -> None:
    """Make the pictures; the arguments are those of scripts/pictures."""
    parser = argparse.ArgumentParser(prog="scripts/pictures", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="their folder (docs)")
    parser.add_argument(
        "--begin", type=int, default=60, help="frames seen before the first one shown (60)"
    )
    parser.add_argument("--frames", type=int, default=90, help="frames of the clip (90)")
    options = parser.parse_args()
    if options.begin < 0 or options.frames < 1:
        parser.error("begin is 0 or more, frames 1 or more")
    pairs = list(tqdm(answered(options.begin, options.frames), "frames", options.frames))
    write_bytes(options.out / "street.jpg", still(pairs[0]))
    write_bytes(options.out / "street.webp", clip(pairs[::STEP]))
    print(f"street.jpg and street.webp are in {options.out}")


def answered(begin: int, count: int) -> Iterator[Rgb]:
    """(H, 2 W, 3) RGB: frames of the street from `begin` on, each beside its overlay."""
    config = PipelineConfig(device="cpu")
    with closing(VssPipeline(Perception.load(config), config)) as pipeline:
        for index, (rgb, _, _) in enumerate(street_video(STREET_SEED, begin + count, SIZE)):
            answer = pipeline.process(Frame(rgb, stamp_ns(index, STREET_RATE)))
            if index >= begin:
                yield np.hstack([rgb, draw_overlay(rgb, answer, pipeline.catalog)])


def still(image: Rgb) -> bytes:
    """A JPEG of one picture."""
    data = BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=STILL_QUALITY)
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
