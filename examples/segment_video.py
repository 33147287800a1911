"""Segment a video: print the objects of every frame and write an overlay."""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.io.overlay import draw_overlay
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.io.video_writer import VideoWriter
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", nargs="?", type=Path, help="or a folder (default: drawn)")
parser.add_argument("--out", type=Path, default=Path("overlay.mp4"), help="(overlay.mp4)")
parser.add_argument("--frames", type=int, default=60, help="at most (60)")
args = parser.parse_args()

source = open_frames(args.video or street_clip(Path(tempfile.gettempdir()), (640, 480)))
config = PipelineConfig()
pipeline = VssPipeline(Perception.load(config), config)
with VideoWriter(args.out, source.rate) as video:
    for frame in islice(source, args.frames):
        answer = pipeline.process(frame)
        video.write(draw_overlay(frame.image, answer, pipeline.catalog))
        names = [f"{o.class_name or 'thing'} {o.track_id}" for o in answer.objects]
        print(f"{frame.stamp_ns / 1e9:6.2f} s  {', '.join(names)}")
