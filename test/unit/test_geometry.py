"""Objects in space, on drawn scenes where every box is known and on real depth with known poses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from boxes import CAMERA, HEIGHT, WIDTH, Box, draw, look_from, tracked
from sam2vss_ros.errors import InputError
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.depth import to_metres
from sam2vss_ros.geometry.objects import (
    MOST_PIXELS,
    Placement,
    main_cluster,
    place,
    place_objects,
    shrunk,
)

CUBES = [
    Box((-0.7, 0.1, 3.0), (0.3, 0.4, 0.2)),
    Box((0.4, -0.3, 2.0), (0.25, 0.25, 0.25)),
    Box((1.0, 0.5, 5.0), (0.5, 0.3, 0.4)),
]


def placed(
    depth: npt.NDArray[np.float32], ids: npt.NDArray[np.integer], number: int = 1
) -> Placement:
    found = place(tracked(ids, number), depth, CAMERA).placement
    assert found is not None
    return found


def cluster(*depths: float) -> tuple[float, float]:
    return main_cluster(np.array(depths, np.float32))


def test_millimetres_and_metres_are_told_apart_by_their_type() -> None:
    in_mm = np.array([[0, 1, 1500, 65535]], np.uint16)
    np.testing.assert_allclose(to_metres(in_mm), [[np.nan, 0.001, 1.5, 65.535]], rtol=1e-6)
    in_m = np.array([[np.nan, np.inf, -np.inf, 0, -1, 1.5]], np.float32)
    np.testing.assert_array_equal(to_metres(in_m), [[np.nan] * 5 + [1.5]])
    assert to_metres(in_m.astype(">f4"))[0, 5] == 1.5
    assert np.isinf(in_m[0, 1])  # what came is as it was


def test_depth_scale_overrides_the_type() -> None:
    assert to_metres(np.array([[15000]], np.uint16), 1e-4)[0, 0] == pytest.approx(1.5)
    assert to_metres(np.array([[1500]], np.float32), 1e-3)[0, 0] == pytest.approx(1.5)
    for scale in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="^depth_scale: "):
            to_metres(np.ones((1, 1), np.uint16), scale)


@pytest.mark.parametrize("pixels", [np.ones((2, 2), np.uint8), np.ones((2, 2, 3), np.uint16)])
def test_what_is_no_depth_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="one number per pixel"):
        to_metres(pixels)


def test_a_camera_without_calibration_is_refused() -> None:
    with pytest.raises(InputError, match="^K: .*calibrated"):
        PinholeCamera.of([0.0] * 9)
    with pytest.raises(InputError, match="9 numbers"):
        PinholeCamera.of([580.0, 0.0, 320.0])


@pytest.mark.parametrize("in_mm", [False, True])
def test_boxes_before_the_camera_are_found_where_they_are(in_mm: bool) -> None:
    scene = draw(CUBES)
    depth = to_metres(scene.depth)
    if in_mm:
        depth = to_metres((1000 * np.nan_to_num(scene.depth, posinf=0)).round().astype(np.uint16))
    found = place_objects([tracked(scene.ids, n) for n in (1, 2, 3)], depth, CAMERA)
    for box, seen in zip(CUBES, found, strict=True):
        assert seen.placement is not None and seen.valid_depth == 1
        # Of a box that is met head on, the front is seen best; behind it lies what is not seen.
        front = np.array(box.center) - (0, 0, box.size[2] / 2)
        distance = float(np.linalg.norm(front))
        nearest = seen.placement.center - (0, 0, seen.placement.size[2] / 2)
        assert np.abs(nearest - front).max() < 0.02 * distance
        assert np.abs(seen.placement.size - box.size)[:2].max() < 0.02 * distance


def test_an_oblique_camera_sees_boxes_upright_in_the_world() -> None:
    """Sizes do not come by turning the camera's: every point is turned."""
    boxes = [
        Box((4.0, 1.0, 0.2), (0.4, 0.3, 0.4)),
        Box((5.0, -0.6, 0.4), (0.3, 0.6, 0.8)),
    ]
    pose = look_from((2.2, -1.4, 2.6), (4.5, 0.2, 0.2))
    scene = draw(boxes, pose)
    objects = [tracked(scene.ids, n) for n in (1, 2)]
    for box, seen in zip(
        boxes, place_objects(objects, to_metres(scene.depth), CAMERA, pose), strict=True
    ):
        assert seen.placement is not None
        distance = float(np.linalg.norm(np.array(box.center) - pose[:3, 3]))
        assert np.linalg.norm(seen.placement.center - box.center) < 0.02 * distance
        assert np.abs(seen.placement.size - box.size).max() < 0.02 * distance
    in_camera = place(objects[1], to_metres(scene.depth), CAMERA).placement
    assert in_camera is not None
    back = pose[:3, :3] @ in_camera.centroid + pose[:3, 3]
    in_world = place(objects[1], to_metres(scene.depth), CAMERA, pose).placement
    assert in_world is not None
    np.testing.assert_allclose(back, in_world.centroid, atol=1e-4)
    turned = pose[:3, :3] @ in_camera.covariance @ pose[:3, :3].T
    np.testing.assert_allclose(turned, in_world.covariance, rtol=1e-3, atol=1e-9)


def test_what_shines_through_a_mask_does_not_count() -> None:
    scene = draw([Box((0.0, 0.0, 2.0), (0.5, 0.5, 0.1))])
    depth, mask = to_metres(scene.depth), scene.ids == 1
    clean = placed(depth, scene.ids)
    rng = np.random.default_rng(0)
    depth[mask & (rng.random(mask.shape) < 0.3)] = 6.0  # a wall behind a fence
    assert placed(depth, scene.ids).size[2] < 0.01
    np.testing.assert_allclose(placed(depth, scene.ids).center, clean.center, atol=0.01)
    depth[mask & (rng.random(mask.shape) < 0.1)] = 0.4  # rain before it
    assert placed(depth, scene.ids).center[2] == pytest.approx(clean.center[2], abs=0.01)


def test_gaps_grow_with_depth() -> None:
    assert cluster(2.0, 2.09, 2.18) == pytest.approx((2.0, 2.18))
    assert cluster(2.0, 2.11, 2.11) == pytest.approx((2.11, 2.11))
    assert cluster(2.0, 2.0, 2.11) == pytest.approx((2.0, 2.0))
    assert cluster(20.0, 20.0, 20.5, 21.0) == pytest.approx((20.0, 21.0))
    assert cluster(20.0, 20.0, 20.0, 20.7) == pytest.approx((20.0, 20.0))
    assert cluster(1, 1, 3, 3, 3, 5, 5) == pytest.approx((3, 3))
    assert cluster(7) == pytest.approx((7, 7))


def test_a_mask_loses_a_tenth_of_its_radius() -> None:
    disc = np.zeros((201, 201), bool)
    y, x = np.mgrid[-100:101, -100:101]
    disc = np.hypot(x, y) <= 100
    inner = np.sqrt(shrunk(disc).sum() / np.pi)
    assert inner == pytest.approx(90, abs=1.5)


def test_a_pole_keeps_its_middle() -> None:
    pole = np.ones((300, 4), bool)
    assert shrunk(pole)[10:-10, 1:3].all() and not shrunk(pole)[:, [0, 3]].any()
    assert shrunk(np.ones((1, 30), bool)).any()


def test_where_the_image_ends_no_border_is_taken_off() -> None:
    mask = np.ones((100, 100), bool)
    assert shrunk(mask, (False,) * 4).all()
    inner = shrunk(mask, (True, True, False, True))
    assert inner[50, 0] and not inner[50, 99] and not inner[0, 50] and not inner[99, 50]

    whole = np.ones((HEIGHT, WIDTH), np.uint8)
    found = placed(np.full((HEIGHT, WIDTH), 2.0, np.float32), whole)
    wanted = 0.96 * 2 * np.array([WIDTH / CAMERA.fx, HEIGHT / CAMERA.fy])
    np.testing.assert_allclose(found.size[:2], wanted, rtol=0.03)


def test_borders_that_bleed_do_not_count() -> None:
    scene = draw([Box((0.0, 0.0, 2.0), (0.5, 0.5, 0.1))])
    depth = to_metres(np.nan_to_num(scene.depth, posinf=3.0).astype(np.float32))
    blurred = cv2.blur(depth, (7, 7))
    found = placed(blurred, scene.ids)
    assert found.center[2] == pytest.approx(1.95, abs=0.005) and found.size[2] < 0.01


@pytest.mark.parametrize(
    ("holes", "has_place"), [(0.5, True), (0.65, True), (0.75, False), (1.0, False)]
)
def test_an_object_with_little_depth_stays_without_a_place(holes: float, has_place: bool) -> None:
    scene = draw([Box((0.0, 0.0, 2.0), (0.4, 0.4, 0.1))])
    depth, rng = to_metres(scene.depth), np.random.default_rng(0)
    depth[rng.random(depth.shape) < holes] = np.nan
    found = place(tracked(scene.ids, 1), depth, CAMERA)
    assert (found.placement is not None) == has_place
    assert found.valid_depth == pytest.approx(1 - holes, abs=0.03)


@pytest.mark.parametrize(("pixels", "has_place"), [(19, False), (20, True)])
def test_an_object_needs_twenty_points(pixels: int, has_place: bool) -> None:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[100:102, 50 : 50 + pixels // 2] = 1
    ids[100, 50 : 50 + pixels - pixels // 2] = 1
    found = place(tracked(ids, 1), np.full((HEIGHT, WIDTH), 2.0, np.float32), CAMERA)
    assert found.points == pixels and found.valid_depth == 1
    assert (found.placement is not None) == has_place


def test_nothing_vanishes() -> None:
    scene = draw(CUBES[:1])
    found = place_objects(
        [tracked(scene.ids, 9), tracked(scene.ids, 1)], to_metres(scene.depth), CAMERA
    )
    assert [seen.tracked.track_id for seen in found] == [9, 1]
    assert found[0].placement is None and (found[0].points, found[0].valid_depth) == (0, 0)
    assert found[1].placement is not None


def test_large_objects_are_looked_at_in_part_and_are_as_exact() -> None:
    scene = draw([Box((0.0, 0.0, 2.0), (1.6, 1.2, 0.2))])
    found = place(tracked(scene.ids, 1), to_metres(scene.depth), CAMERA)
    assert found.placement is not None
    assert MOST_PIXELS / 3 < found.points <= MOST_PIXELS
    np.testing.assert_allclose(found.placement.center[:2], (0, 0), atol=0.01)
    # The outer percentiles are not part of the box.
    np.testing.assert_allclose(found.placement.size[:2], (0.96 * 1.6, 0.96 * 1.2), rtol=0.03)


def test_the_covariance_is_that_of_the_centroid() -> None:
    rng = np.random.default_rng(1)
    depth = (2 + rng.normal(0, 0.02, (HEIGHT, WIDTH))).astype(np.float32)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[200:260, 300:360] = 1
    found = placed(depth, ids)
    assert found.covariance[2, 2] == pytest.approx(0.02**2 / found.points, rel=0.1)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    np.testing.assert_allclose(found.covariance, found.covariance.T)


def test_centres_of_real_objects_with_known_poses(shared: Path) -> None:
    """YCB-Video with its true masks: the pose is that of the object's model, whose origin is
    inside, so that the middle of what the camera sees lies before it."""
    folder = shared / "data" / "ycb"
    errors: dict[int, list[float]] = {}
    for name, frame in json.loads((folder / "meta.json").read_text()).items():
        camera = PinholeCamera.of(np.ravel(frame["K"]).tolist())
        raw = cv2.imread(str(folder / "depth" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        ids = cv2.imread(str(folder / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        depth = to_metres(raw, 1 / frame["depth_factor"])
        objects = [tracked(ids, number) for number in frame["object_ids"]]
        for seen in place_objects(objects, depth, camera):
            assert seen.placement is not None
            truth = np.array(frame["poses"][str(seen.tracked.track_id)])[:, 3]
            error = float(np.linalg.norm(seen.placement.center - truth))
            errors.setdefault(seen.tracked.track_id, []).append(error)
    for number, of_one in errors.items():
        print(
            f"object {number}: centre error median {np.median(of_one) * 100:.2f} cm, "
            f"worst {max(of_one) * 100:.2f} cm of {len(of_one)} frames"
        )
    everything = np.concatenate([*errors.values()])
    print(f"all: median {np.median(everything) * 100:.2f} cm")
    assert len(everything) == 30
    assert np.median(everything) < 0.02 and everything.max() < 0.025
