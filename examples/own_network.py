"""Plug a network in: ONNX or TorchScript with a class file beside it (default: a toy)."""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline

CLASSES = """
name: colours
classes: [{id: 0, name: red, color: [200, 0, 0]}, {id: 1, name: green, color: [0, 200, 0]},
          {id: 2, name: blue, color: [0, 0, 200]}]
"""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", nargs="?", type=Path, help="or a folder (default: drawn)")
parser.add_argument("--network", type=Path, help=".onnx, .pt or .ts; NAME.yaml is beside it")
parser.add_argument("--frames", type=int, default=10, help="at most (10)")
args = parser.parse_args()

if args.network is None:  # (1, 3, H, W) images in, (1, classes, H, W) scores out
    args.network = Path(tempfile.mkdtemp()) / "colours.pt"
    torch.jit.script(torch.nn.Sequential(torch.nn.AvgPool2d(4))).save(str(args.network))
    args.network.with_suffix(".yaml").write_text(CLASSES)
config = PipelineConfig(network=str(args.network), mode="refine")
pipeline = VssPipeline(Perception.load(config), config)
video = args.video or street_clip(Path(tempfile.gettempdir()), (640, 480))
for frame in islice(open_frames(video), args.frames):
    labels = pipeline.process(frame).label_image
    shares = [f"{c.name} {np.mean(labels == c.id):.0%}" for c in pipeline.catalog.classes]
    print(f"{frame.stamp_ns / 1e9:6.2f} s  {', '.join(shares)}")
