"""Give classes in words, to a text model that `sam2vss models --fetch` has brought."""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", nargs="?", type=Path, help="or a folder (default: drawn)")
parser.add_argument("--names", default="car,person,tree,house", help="with commas between")
parser.add_argument("--text-model", default="google/tipsv2-b14", help="(google/tipsv2-b14)")
parser.add_argument("--frames", type=int, default=30, help="at most (30)")
args = parser.parse_args()

frames = open_frames(args.video or street_clip(Path(tempfile.gettempdir()), (640, 480)))
names = tuple(args.names.split(","))
config = PipelineConfig(vocabulary=names, text_model=args.text_model)
pipeline = VssPipeline(Perception.load(config), config)
for frame in islice(frames, args.frames):
    for seen in pipeline.process(frame).objects:
        if seen.class_name:
            print(f"{seen.class_name} {seen.track_id}: {seen.class_score:.2f} at {seen.box}")
