"""These tests need vision_msgs; where ROS has none, test_vision_msgs.py runs them with its own."""

import importlib.util
from pathlib import Path

if importlib.util.find_spec("vision_msgs") is None:
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py")]
