"""Train the classes of your own images (default: drawn ones), and name the pixels of one."""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from sam2vss_ros.cli import main as sam2vss
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.io.image_files import read_image
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Frame

if __name__ == "__main__":  # which the processes that prepare images need
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, help="folder with images/ and labels/")
    parser.add_argument("--classes", default="camvid", help="class file (camvid)")
    parser.add_argument("--steps", type=int, default=100, help="(100; for real some 4000)")
    parser.add_argument("--out", type=Path, default=Path("mine.safetensors"), help="semantics")
    args = parser.parse_args()
    data = args.data or Path(tempfile.mkdtemp())
    if args.data is None:
        for name in ("images", "labels"):
            (data / name).mkdir()
        for i, (image, labels, _) in enumerate(street_video(1, 20, (240, 320))):
            cv2.imwrite(str(data / f"images/{i:02}.png"), image[..., ::-1])
            cv2.imwrite(str(data / f"labels/{i:02}.png"), labels)
    options = ["--data", data, "--classes", args.classes, "--steps", args.steps, "--out", args.out]
    if code := sam2vss(["train", "semantics", *map(str, options)]):
        raise SystemExit(code)
    config = PipelineConfig(semantics=str(args.out), mode="network")
    pipeline = VssPipeline(Perception.load(config), config)
    answer = pipeline.process(Frame(read_image(min((data / "images").iterdir())), 0))
    for c in pipeline.catalog.classes:
        print(f"{c.name:<16}{np.mean(answer.label_image == c.id):7.1%}")
