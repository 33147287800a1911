"""`sam2vss run` with depth and prompts: where objects are, in metres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from boxes import CAMERA, HEIGHT, WIDTH, Box, draw
from cli_streams import run
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.image_files import read_depth_pixels
from sam2vss_ros.io.intrinsics import load_intrinsics

BOXES = [Box((-0.6, 0.1, 2.5), (0.5, 0.6, 0.2)), Box((0.5, -0.2, 2.0), (0.4, 0.4, 0.4))]
IDS = (7, 300)  # which need 16 bits
FRAMES = 3
K = [CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0]
QUICK = ("--device", "cpu", "--image-size", 256, "--discovery", "off")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames `a_8.png`... with depth in millimetres, the last without; the first has prompts."""
    root = tmp_path_factory.mktemp("recording")
    scene = draw(BOXES)
    colours = np.array([(120, 140, 160), (200, 40, 40), (40, 60, 200)], np.uint8)
    prompts = np.array([0, *IDS], np.uint16)[scene.ids]
    depth = (1000 * np.nan_to_num(scene.depth, posinf=0)).round().astype(np.uint16)
    for folder in ("color", "depth", "metres", "prompts"):
        (root / folder).mkdir()
    for i in range(8, 8 + FRAMES):
        Image.fromarray(colours[scene.ids]).save(root / "color" / f"a_{i}.png")
    for i in (8, 9):
        Image.fromarray(depth).save(root / "depth" / f"a_{i}_depth.png")
        Image.fromarray(scene.depth).save(root / "metres" / f"a_{i}.tif")
    Image.fromarray(prompts).save(root / "prompts" / "a_8.png")
    (root / "k.json").write_text(json.dumps({"K": np.reshape(K, (3, 3)).tolist()}))
    return root


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "objects_3d.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("depth", ["depth", "metres"])
def test_objects_are_where_they_are_drawn(depth: str, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments: list[object] = ["--depth", recording / depth, "--camera-info", recording / "k.json"]
    arguments += ["--prompts", recording / "prompts", "--out", out, *QUICK]
    assert run("run", recording / "color", *arguments) == 0

    lines = lines_of(out)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    for line in lines[:2]:
        assert [o["id"] for o in line["objects"]] == list(IDS)
        for seen, box in zip(line["objects"], BOXES, strict=True):
            front = np.array(box.center) - (0, 0, box.size[2] / 2)
            distance = float(np.linalg.norm(front))
            assert seen["valid"] is True and seen["points"] > 500 and seen["valid_depth"] > 0.95
            assert np.abs(seen["center"] - front)[:2].max() < 0.02 * distance
            assert abs(seen["center"][2] - seen["size"][2] / 2 - front[2]) < 0.02 * distance
            assert np.linalg.eigvalsh(seen["covariance"])[1:].min() > 0  # the front is flat
    for seen in lines[2]["objects"]:  # has no depth
        assert seen["valid"] is False and seen["points"] == 0
        assert seen["center"] is seen["size"] is seen["centroid"] is seen["covariance"] is None
    assert not (out / "clouds").exists()


def test_clouds_are_points_with_colours_and_ids(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments: list[object] = ["--depth", recording / "depth", "--camera-info"]
    arguments += [recording / "k.json", "--prompts", recording / "prompts", "--clouds"]
    assert run("run", recording / "color", *arguments, "--out", out, *QUICK) == 0
    assert "1 of 3 frames have no depth" in capsys.readouterr().out
    assert sorted(path.name for path in (out / "clouds").iterdir()) == ["000000.ply", "000001.ply"]
    header, data = (out / "clouds" / "000000.ply").read_bytes().split(b"end_header\n")
    kinds = {"float": "<f4", "uchar": "u1", "ushort": "<u2", "uint": "<u4"}
    fields = [line.split() for line in header.decode().splitlines() if line.startswith("property")]
    points = np.frombuffer(data, [(name, kinds[kind]) for _, kind, name in fields])
    depth = np.asarray(Image.open(recording / "depth" / "a_8_depth.png"))
    assert len(points) == (depth > 0).sum()
    red = points[points["red"] == 200]
    assert (red["instance"] == IDS[0]).mean() > 0.9
    assert red["x"].mean() == pytest.approx(-0.6, abs=0.05)
    assert red["z"].min() == pytest.approx(2.4, abs=0.001)

    # A later run without depth leaves none of it behind.
    assert run("run", recording / "color", "--out", out, *QUICK) == 0
    assert sorted(path.name for path in out.iterdir()) == ["labels", "objects.jsonl", "overlay.mp4"]


def test_depth_beside_a_video_is_joined_by_number(recording: Path, tmp_path: Path) -> None:
    video = cv2.VideoWriter(
        str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (WIDTH, HEIGHT)
    )
    for path in sorted((recording / "color").iterdir()):
        video.write(cv2.imread(str(path)))
    video.release()
    for name, given in (("depth", "depth/a_8_depth.png"), ("prompts", "prompts/a_8.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000001.png").write_bytes((recording / given).read_bytes())
    arguments: list[object] = ["--depth", tmp_path / "depth", "--camera-info"]
    arguments += [recording / "k.json", "--prompts", tmp_path / "prompts", "--out", tmp_path / "o"]
    assert run("run", tmp_path / "v.mp4", *arguments, *QUICK) == 0
    lines = lines_of(tmp_path / "o")
    assert [[o["id"] for o in line["objects"]] for line in lines] == [[], [*IDS], [*IDS]]
    assert [[o["valid"] for o in line["objects"]] for line in lines[1:]] == [
        [True] * 2,
        [False] * 2,
    ]


def test_what_does_not_fit_is_told_by_name(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    for i in (8, 9):
        Image.fromarray(np.full((240, 320), 900, np.uint16)).save(small / f"a_{i}.png")
    eight = tmp_path / "eight"
    eight.mkdir()
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(eight / "a_8.png")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"K": K, "width": 1280, "height": 720}))
    depth, k = recording / "depth", recording / "k.json"
    for arguments, told in (
        (
            ["--depth", small, "--camera-info", k],
            "a_8.png is 320 x 240 pixels, its image 640 x 480",
        ),
        (["--depth", depth, "--camera-info", other], "other.json is of a camera of 1280 x 720"),
        (
            ["--depth", eight, "--camera-info", k],
            "a_8.png is an image of mode L; depth has 16 bits",
        ),
        (["--depth", recording / "gone", "--camera-info", k], "gone is not a folder"),
        (["--depth", depth, "--camera-info", tmp_path / "no.yaml"], "no.yaml does not exist"),
        (["--depth", depth], "depth: give the camera"),
        (["--clouds"], "clouds: says nothing without --depth"),
        (["--camera-info", k], "camera-info: says nothing without --depth"),
        (["--depth", depth, "--camera-info", k, "--depth-scale", -1], "depth_scale: -1"),
        (["--prompts", small], "a_8.png is 320 x 240 pixels, its image 640 x 480"),
        (["--prompts", recording / "prompts", "--max-objects", 1], "a_8.png: object 300: max_obj"),
    ):
        out = tmp_path / "out"
        assert run("run", recording / "color", *arguments, "--out", out, *QUICK) == 2, told
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("sam2vss: error: ") and told in error, error
        assert not out.exists()
    assert run("run", "0", "--prompts", small, "--out", tmp_path / "out") == 2
    assert "prompts: goes with a video or a folder" in capsys.readouterr().err


CALIBRATION = """image_width: 640
image_height: 480
camera_matrix: {rows: 3, cols: 3, data: [580., 0, 315, 0, 575, 242, 0, 0, 1]}
"""


@pytest.mark.parametrize(
    ("text", "size", "unit"),
    [
        (CALIBRATION, (640, 480), None),
        (json.dumps({"K": K}), None, None),
        (json.dumps({"k": K, "width": 640, "height": 480}), (640, 480), None),
        ("K: [[580, 0, 315], [0, 575, 242], [0, 0, 1]]", None, None),
        (
            json.dumps(
                {"01": {"K": K, "depth_factor": 5000}, "02": {"K": K, "depth_factor": 5000}}
            ),
            None,
            0.0002,
        ),
    ],
)
def test_cameras_are_read_as_they_are_found(
    text: str, size: tuple[int, int] | None, unit: float | None, tmp_path: Path
) -> None:
    (tmp_path / "camera").write_text(text)
    found = load_intrinsics(tmp_path / "camera")
    assert (found.camera, found.size, found.metres_per_unit) == (CAMERA, size, unit)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "it has no K"),
        ("{K: [1, 2, 3]}", "it has no K .* of nine numbers"),
        (json.dumps({"K": [0] * 9}), "fx 0, fy 0"),
        (json.dumps({"a": {"K": K}, "b": {"K": [9.0, *K[1:]]}}), "2 different cameras"),
        (json.dumps({"K": K, "depth_factor": 0}), "depth_factor is units per metre"),
        (json.dumps({"K": K, "width": -4, "height": 3}), "width is pixels"),
    ],
)
def test_cameras_that_are_none(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "camera").write_text(text)
    with pytest.raises(InputError, match=f"^.*camera: no camera can be read from it: .*{told}"):
        load_intrinsics(tmp_path / "camera")


def test_depth_files_keep_their_numbers(tmp_path: Path) -> None:
    values = np.array([[0, 1, 65535]], np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        read = read_depth_pixels(tmp_path / name)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, values)
    metres = np.array([[0.5, np.nan, np.inf]], np.float32)
    Image.fromarray(metres).save(tmp_path / "m.tiff")
    np.testing.assert_array_equal(read_depth_pixels(tmp_path / "m.tiff"), metres)
