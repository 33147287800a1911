"""Follow what one click shows: print where it is, and write its masks."""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Prompt

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", nargs="?", type=Path, help="or a folder (default: drawn)")
parser.add_argument("--at", nargs=2, type=float, default=(48, 261), help="x y (48 261)")
parser.add_argument("--out", type=Path, default=Path("masks"), help="folder (masks)")
parser.add_argument("--frames", type=int, default=30, help="at most (30)")
args = parser.parse_args()

frames = open_frames(args.video or street_clip(Path(tempfile.gettempdir()), (640, 480)))
config = PipelineConfig(discovery="off")  # nothing but what is asked for
pipeline = VssPipeline(Perception.load(config), config)
args.out.mkdir(exist_ok=True)
for index, frame in enumerate(islice(frames, args.frames)):
    answer = pipeline.process(frame)  # a click points into the last image
    for thing in answer.objects:
        print(f"{index:4}  box {thing.box}, {thing.area} pixels, {thing.state.name}")
        mask = (answer.instance_image == thing.track_id).astype(np.uint8) * 255
        cv2.imwrite(str(args.out / f"{index:06}.png"), mask)
    if index == 0:
        point = np.array([args.at], np.float32)
        pipeline.add_prompt(Prompt(points=point, point_labels=np.ones(1, np.int32)))
