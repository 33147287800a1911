"""Count by class how many objects a bag's camera has met."""

import argparse
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

from sam2vss_ros.cli import main as sam2vss
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.io.bags import Bag, FrameDecoder
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import TrackState

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bag", nargs="?", type=Path, help="rosbag2 (default: the drawn street as one)")
parser.add_argument("--topic", help="(the only one with images)")
parser.add_argument("--frames", type=int, default=60, help="at most (60)")
args = parser.parse_args()

if args.bag is None:
    args.bag = Path(tempfile.mkdtemp()) / "street"
    clip = street_clip(Path(tempfile.gettempdir()), (640, 480))
    sam2vss(["bag", "make", "--images", str(clip), "--out", str(args.bag)])
bag = Bag(args.bag)
topic = bag.find_image_topic(args.topic)
config = PipelineConfig()
pipeline, decoder = VssPipeline(Perception.load(config), config), FrameDecoder(bag, topic)
class_of = {}  # by track id: an object that returns is not counted again
for connection, recorded_ns, data in islice(bag.messages(topic), args.frames):
    frame = decoder.frame(bag.decode(connection, data), recorded_ns)
    for seen in pipeline.process(frame).objects:
        if seen.state == TrackState.CONFIRMED:
            class_of[seen.track_id] = seen.class_name or "unknown"
for name, count in Counter(class_of.values()).most_common():
    print(f"{name:<16}{count:4}")
