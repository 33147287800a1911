"""Our messages, decoded as the semantic layer of Nav2's costmap does.

After kiwicampus/semantic_segmentation_layer, a70cf6e: `syncSegmConfPointcloudCb` and
`SegmentationBuffer::bufferSegmentation`, with its checks, its reading of pixels and points, and the
parameters of config/nav2_semantic.yaml.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import Image, PointCloud2, PointField
from vision_msgs.msg import LabelInfo

from depth_scene import CAR_METRES, GROUND_METRES, DepthScene
from harness import BEST_EFFORT, LATCHED, Start
from sam2vss_ros.semantics.catalog import load_catalog

RESOLUTION = 0.05
Tile = tuple[int, int]


class Layer:
    """What the layer keeps of a frame: for each tile the class and the confidence of a pixel."""

    def __init__(self, source: dict[str, Any]) -> None:
        self.source = source
        self.max_cost = {
            name: source[kind]["max_cost"]
            for kind in source["class_types"]
            for name in source[kind]["classes"]
        }
        self.cost_by_id: dict[int, int] = {}
        self.critical_errors: list[str] = []

    def label_info(self, message: LabelInfo) -> None:
        """createSegmentationCostMultimap: names that are no parameters are told and left out."""
        for one in message.class_map:
            if one.class_name not in self.max_cost:
                self.critical_errors.append(one.class_name)
                continue
            self.cost_by_id[one.class_id & 255] = self.max_cost[one.class_name]

    def buffer(
        self, segmentation: Image, confidence: Image, cloud: PointCloud2
    ) -> dict[Tile, tuple[int, int]]:
        """The observations that are pushed into the tile map."""
        assert segmentation.width * segmentation.height == cloud.width * cloud.height
        expected = segmentation.width * segmentation.height
        assert len(segmentation.data) >= expected and len(confidence.data) >= expected
        assert self.cost_by_id, "a class map before the first mask"
        x, y, z = (floats(cloud, axis) for axis in "xyz")
        low, high = (self.source[f"{end}_obstacle_distance"] for end in ("min", "max"))
        best: dict[Tile, int] = {}
        for v in range(segmentation.height):
            for u in range(segmentation.width):
                pixel = v * segmentation.width + u
                if not math.isfinite(z[pixel]):
                    continue
                if not low < math.sqrt(x[pixel] ** 2 + y[pixel] ** 2 + z[pixel] ** 2) < high:
                    continue
                # As tf2 brings the optical frame to that of a robot: x ahead, y to the left.
                tile = math.floor(z[pixel] / RESOLUTION), math.floor(-x[pixel] / RESOLUTION)
                if tile not in best or self.cost(segmentation, pixel) > self.cost(
                    segmentation, best[tile]
                ):
                    best[tile] = pixel
        return {
            tile: (segmentation.data[pixel], confidence.data[pixel])
            for tile, pixel in best.items()
            if segmentation.data[pixel] in self.cost_by_id
        }

    def cost(self, segmentation: Image, pixel: int) -> int:
        return self.cost_by_id.get(segmentation.data[pixel], 0)


def floats(cloud: PointCloud2, name: str) -> np.ndarray:
    """PointCloud2ConstIterator<float>: by the field's offset, point by point."""
    (field,) = (f for f in cloud.fields if f.name == name)
    assert field.datatype == PointField.FLOAT32
    data = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    return np.ascontiguousarray(data[:, field.offset : field.offset + 4]).view("<f4")[:, 0]


@pytest.fixture
def parameters(root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "config/nav2_semantic.yaml").read_text(encoding="utf-8")))


def layer_of(parameters: dict[str, Any]) -> dict[str, Any]:
    return dict(parameters["local_costmap"]["local_costmap"]["ros__parameters"]["semantic_layer"])


def test_the_costmap_gets_what_the_camera_sees(start: Start, parameters: dict[str, Any]) -> None:
    ours = parameters["/**/vss"]["ros__parameters"] | {"output_width": 80, "autostart": True}
    source = layer_of(parameters)["vss"]
    bench = start(min_class_score=0.0, discovery="off", depth_slop=2.0, **ours)
    labels = bench.record(source["segmentation_topic"], Image, BEST_EFFORT)
    confidences = bench.record(source["confidence_topic"], Image, BEST_EFFORT)
    clouds = bench.record(source["pointcloud_topic"], PointCloud2, BEST_EFFORT)
    infos = bench.record(source["labels_topic"], LabelInfo, LATCHED)
    scene = DepthScene(bench).ready()
    bench.ros.wait_until(lambda: infos, "label_info")
    scene.send(100)
    cloud = bench.wait_for_answer(clouds, 100)
    label, confidence = (bench.wait_for_answer(m, 100) for m in (labels, confidences))
    # Its synchroniser pairs by stamp, exactly where it is told to.
    assert label.header.stamp == confidence.header.stamp == cloud.header.stamp
    layer = Layer(source)
    layer.label_info(infos[-1])
    assert layer.critical_errors == []
    tiles = layer.buffer(label, confidence, cloud)
    ahead = {tile[0] for tile in tiles}
    assert math.floor(CAR_METRES / RESOLUTION) in ahead
    assert math.floor(GROUND_METRES / RESOLUTION) not in ahead  # beyond its reach
    ids = np.frombuffer(label.data, np.uint8)
    z = floats(cloud, "z")
    on_car = np.isfinite(z) & (abs(z - CAR_METRES) < 0.1)
    assert on_car.sum() > 200
    assert {tile_class for tile_class, _ in tiles.values()} <= set(ids[on_car].tolist())
    assert all(0 <= sure <= 255 for _, sure in tiles.values())


def test_unlabelled_pixels_are_skipped(start: Start, parameters: dict[str, Any]) -> None:
    ours = {"cloud_size": "labels", "output_width": 40}
    bench = start(min_class_score=1.0, discovery="off", depth_slop=2.0, **ours)
    labels = bench.record("/vss/label_image", Image)
    clouds = bench.record("/vss/labelled_cloud", PointCloud2)
    infos = bench.record("/vss/label_info", LabelInfo, LATCHED)
    scene = DepthScene(bench).ready()
    bench.ros.wait_until(lambda: infos, "label_info")
    scene.send(100)
    cloud, label = bench.wait_for_answer(clouds, 100), bench.wait_for_answer(labels, 100)
    assert set(label.data) == {255}
    layer = Layer(layer_of(parameters)["vss"])
    layer.label_info(infos[-1])
    assert layer.buffer(label, label, cloud) == {}


def test_every_class_is_a_parameter_of_the_costmap(parameters: dict[str, Any]) -> None:
    source = layer_of(parameters)["vss"]
    named = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    assert sorted(named) == sorted(c.name for c in load_catalog("camvid").classes)
    for kind in source["class_types"]:
        assert set(source[kind]) == {
            "classes", "base_cost", "max_cost", "mark_confidence", "samples_to_max_cost",
            "dominant_priority",
        }  # fmt: skip
