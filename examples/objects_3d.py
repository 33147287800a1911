"""Where objects are in metres, from depth beside the images (default: a flat street)."""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.objects import place_objects
from sam2vss_ros.io.calibration import pinhole
from sam2vss_ros.io.depth_folder import DepthFolder
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("images", nargs="?", type=Path, help="folder or video (default: drawn)")
parser.add_argument("--depth", type=Path, help="folder of depth images, named as the images")
parser.add_argument("--camera-info", type=Path, help="their camera: YAML or JSON with its K")
parser.add_argument("--frames", type=int, default=30, help="at most (30)")
args = parser.parse_args()

images = args.images or street_clip(Path(tempfile.gettempdir()), (640, 480))
folder = DepthFolder.open(images, args.depth, args.camera_info) if args.depth else None
config = PipelineConfig()
pipeline = VssPipeline(Perception.load(config), config)
for index, frame in enumerate(islice(open_frames(images), args.frames)):
    objects, (height, width) = pipeline.process(frame).objects, frame.image.shape[:2]
    camera = folder.camera if folder else PinholeCamera.of(pinhole(width, height, 60.0).k)
    slope = camera.rays(height, width)[1].clip(0.01)  # metres down for each metre ahead, by rows
    ground = np.repeat(1.5 / slope[:, None], width, axis=1)  # of a camera 1.5 m above it
    depth = folder.read(index, (width, height)) if folder else ground
    for found in [] if depth is None else place_objects(objects, depth, camera):
        if found.placement is not None:
            name, (x, y, z) = found.tracked.class_name or "thing", found.placement.center
            print(f"{index:4}  {name} {found.tracked.track_id}: {z:.1f} m ahead, {x:+.1f} m right")
