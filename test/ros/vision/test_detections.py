"""The node with vision_msgs: detections in the image and in space, and what labels mean."""

from __future__ import annotations

import pytest
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

from depth_scene import CAR_METRES, TRACK_ID, DepthScene, follow_car
from harness import LATCHED, Start, header
from sam2vss_ros.msg import TrackedObjectArray
from sam2vss_ros.semantics.catalog import load_catalog


def test_detections_say_what_objects_say(start: Start) -> None:
    bench = start(min_class_score=0.0, discovery="off")
    objects = bench.record("/vss/objects", TrackedObjectArray)
    detections = bench.record("/vss/detections", Detection2DArray)
    bench.active().send(0)
    assert bench.wait_for_answer(detections, 0).detections == []
    follow_car(bench)
    bench.send(100)
    message = bench.wait_for_answer(detections, 100)
    (tracked,) = bench.wait_for_answer(objects, 100).objects
    (found,) = message.detections
    assert message.header == found.header == header(100)
    assert found.id == str(tracked.track_id) == str(TRACK_ID)
    (result,) = found.results
    assert result.hypothesis.class_id == tracked.class_name != ""
    assert result.hypothesis.score == pytest.approx(tracked.class_score)
    assert result.pose.covariance[0] == -1
    box = tracked.box
    assert (found.bbox.size_x, found.bbox.size_y) == (box.width, box.height)
    assert found.bbox.center.position.x == box.x_offset + box.width / 2
    assert found.bbox.center.position.y == box.y_offset + box.height / 2


def test_detections_in_space(start: Start) -> None:
    bench = start(min_class_score=0.0, discovery="off", depth_slop=2.0)
    detections = bench.record("/vss/detections_3d", Detection3DArray)
    scene = DepthScene(bench).ready()
    scene.send(100)
    message = bench.wait_for_answer(detections, 100)
    assert message.header == header(100)
    (car,) = message.detections
    assert car.id == str(TRACK_ID)
    assert car.bbox.center.position.z == pytest.approx(CAR_METRES, abs=0.02)
    assert car.bbox.size.x == pytest.approx(0.52, abs=0.06)
    (result,) = car.results
    assert result.hypothesis.class_id in {c.name for c in load_catalog("camvid").classes}
    assert result.pose.covariance[0] > 0
    assert result.pose.pose.position.z == pytest.approx(CAR_METRES, abs=0.02)


def test_label_info_is_latched_and_republished_on_change(start: Start) -> None:
    bench = start(min_class_score=0.4).active()
    infos = bench.record("/vss/label_info", LabelInfo, LATCHED)  # a late subscriber
    bench.ros.wait_until(lambda: infos, "label_info")
    known = {c.id: c.name for c in load_catalog("camvid").classes}
    assert {c.class_id: c.class_name for c in infos[-1].class_map} == known
    assert infos[-1].threshold == pytest.approx(0.4)
    assert 255 not in known
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    assert len(infos) == 1  # not with every frame
    bench.set(min_class_score=0.2)
    bench.ros.wait_until(lambda: len(infos) == 2, "the new threshold")
    assert infos[-1].threshold == pytest.approx(0.2)
