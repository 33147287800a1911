"""`sam2vss metrics`: label images that somebody else made, right and wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam2vss_ros.cli import main
from sam2vss_ros.evaluation.metrics import Scoreboard
from sam2vss_ros.semantics.catalog import load_catalog

HEIGHT, WIDTH = 24, 32
SKY, ROAD, CAR, VOID = 0, 3, 8, 11


def scene(index: int) -> np.ndarray:
    """(H, W) labels: sky above, road below, and a car that drives to the right."""
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[10:] = ROAD
    labels[8:16, 2 * index : 2 * index + 8] = CAR
    labels[-2:] = VOID
    return labels


def shifted(index: int) -> np.ndarray:
    return np.roll(scene(index), 1, axis=1)


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, image in images.items():
        assert cv2.imwrite(str(folder / f"{stem}.png"), image)
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Two streams of ten frames."""
    frames = {f"{name}_{i:02d}": scene(i) for name in ("a", "b") for i in range(10)}
    return save(tmp_path / "labels", frames)


def run(*arguments: object) -> int:
    return main([str(a) for a in ("metrics", *arguments)])


def figures(labels: Path, predictions: Path, *more: object) -> dict[str, Any]:
    file = predictions.parent / "figures.json"
    code = run("--labels", labels, "--predictions", predictions, "--classes", "camvid",
               "--json", file, *more)  # fmt: skip
    assert code == 0
    return json.loads(file.read_text())


def scoreboard(*streams: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    board = Scoreboard(load_catalog("camvid"))
    for stream in streams:
        board.start_stream()
        for truth, prediction in stream:
            board.update(truth, prediction)
    return json.loads(json.dumps(board.as_json()))


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "sam2vss metrics --labels" in text


def test_figures_are_the_scoreboards(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = {f"{name}_{i:02d}": shifted(i) for name in ("a", "b") for i in range(10)}
    found = figures(labels, save(tmp_path / "found", frames))
    stream = [(scene(i), shifted(i)) for i in range(10)]
    expected = scoreboard(stream, stream)
    assert expected["mvc8"] is not None and expected["mvc16"] is None
    assert {key: found[key] for key in expected} == expected
    assert (found["streams"], found["frames"], found["frames_scored"]) == (2, 20, 20)
    assert found["frames_unmatched"] == 0
    printed = capsys.readouterr().out
    assert re.search(rf"mIoU +{100 * expected['miou']:.2f} %", printed)
    assert re.search(r"^Car +\d+\.\d +\d+\.\d +\d+\.\d", printed, re.MULTILINE)
    assert re.search(r"^Fence +- +- +- +0\.0$", printed, re.MULTILINE)
    assert "mVC16" not in printed  # no stream is that long


def test_missing_predictions_are_counted_and_no_window_reaches_across(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = [i for i in range(10) if i != 4]
    predictions = save(tmp_path / "found", {f"a_{i:02d}": shifted(i) for i in there})
    found = figures(labels, predictions)
    assert (found["frames_unmatched"], found["frames_scored"]) == (11, 9)
    parts = [[(scene(i), shifted(i)) for i in part] for part in (range(4), range(5, 10))]
    assert found["flicker"] == scoreboard(*parts)["flicker"]
    assert found["mvc8"] is None
    assert "11 labelled frames have no prediction" in capsys.readouterr().out


def test_predictions_without_labels_count_for_the_flow_only(tmp_path: Path) -> None:
    """Labels stand still while the scene moves; only the first frame has ground truth."""
    truth = np.where(np.arange(90) // 15 % 2, ROAD, SKY).astype(np.uint8)[None].repeat(60, 0)
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (60, 120), np.uint8)
    wide = np.asarray(cv2.normalize(cv2.blur(noise, (5, 5)), None, 0, 255, cv2.NORM_MINMAX))
    images = {f"{i}": wide[:, 3 * i : 3 * i + 90] for i in range(4)}
    predictions = save(tmp_path / "found", {f"{i}": truth for i in range(4)})
    found = figures(
        save(tmp_path / "labels", {"0": truth}),
        predictions,
        "--images",
        save(tmp_path / "images", images),
    )
    assert (found["frames"], found["frames_scored"], found["frames_unmatched"]) == (4, 1, 0)
    assert found["streams"] == 1  # names without a `_` go together
    assert found["miou"] == 1 and found["flicker"] is None
    assert found["flow_consistency"] == pytest.approx(12 / 18, abs=0.05)


def test_object_ids_give_stq(labels: Path, tmp_path: Path) -> None:
    """In one of the two streams the car changes its id halfway."""
    stems = [f"{name}_{i:02d}" for name in ("a", "b") for i in range(10)]
    truth = {stem: scene(int(stem[2:])) for stem in stems}
    ids = save(tmp_path / "ids", {s: (t == CAR).astype(np.uint8) for s, t in truth.items()})
    tracks = {
        s: (t == CAR) * np.uint16(300 if s[0] == "b" and s > "b_04" else 7)
        for s, t in truth.items()
    }
    found = figures(
        labels, labels, "--ids", ids, "--predicted-ids", save(tmp_path / "tracks", tracks)
    )
    assert found["aq"] == pytest.approx((1 + 0.5) / 2) and found["sq"] == 1
    assert found["stq"] == pytest.approx(0.75**0.5)
    assert {"stq", "aq", "sq", "miou"} <= found["rules"].keys()


def test_predictions_may_have_their_own_classes(labels: Path, tmp_path: Path) -> None:
    """Ids are another, a class is missing, and one is not of the truth's."""
    classes = tmp_path / "theirs.yaml"
    classes.write_text(
        "name: theirs\nclasses:\n"
        "- {id: 50, name: Sky, color: [1, 2, 3]}\n"
        "- {id: 60, name: Road, color: [1, 2, 4]}\n"
        "- {id: 70, name: Moon, color: [1, 2, 5]}\n",
        encoding="utf-8",
    )
    ids = np.full(256, 70, np.uint8)
    ids[SKY], ids[ROAD] = 50, 60
    predictions = {f"a_{i:02d}": ids[scene(i)] for i in range(10)}
    found = figures(labels, save(tmp_path / "found", predictions), "--predicted-classes", classes)
    assert {n: v for n, v in found["per_class_iou"].items() if v is not None} == {
        "Sky": 1,
        "Road": 1,
        "Car": 0,
    }


def test_what_is_not_scored_is_reported(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A foreign id in the truth, another in the prediction."""
    truth, prediction = scene(0), scene(0)
    truth[0], prediction[1] = 77, 99
    found = figures(
        save(tmp_path / "foreign", {"a_00": truth}), save(tmp_path / "found", {"a_00": prediction})
    )
    assert found["foreign_pixels"] == {"77": WIDTH}
    assert np.array(found["confusion_matrix"])[:, -1].sum() == WIDTH
    printed = capsys.readouterr().out
    assert f"not scored: {WIDTH} pixels with id 77, which is no class of camvid" in printed
    assert re.search(r"\d+\.\d\d % of the scored pixels are predicted as no class", printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--predictions {labels}", "the following arguments are required: --labels"),
        ("--labels {missing} --predictions {labels}", "missing is not a folder"),
        ("--labels {labels} --predictions {empty}", "empty holds no images"),
        (
            "--labels {labels} --predictions {named}",
            "belongs to one in .*named.*labels has a_00.png and .*named has frame7",
        ),
        ("--labels {labels} --predictions {small}", r"a_00.png is 32x24, the prediction is 32x12"),
        (
            "--labels {labels} --predictions {color}",
            "a_00.png has 768 pixels in 1 colours that no class of camvid",
        ),
        ("--labels {labels} --predictions {torn}", "a_00.png cannot be read as a label image"),
        ("--labels {labels} --predictions {twice}", "have one name but for the suffix"),
        ("--labels {void} --predictions {labels}", "hold none of the classes of camvid, only .*11"),
        ("--labels {labels} --predictions {labels} --images {named}", "no file in .*named belongs"),
        ("--labels {labels} --predictions {labels} --images {torn}", "cannot be read as an image"),
        (
            "--labels {labels} --predictions {labels} --images {small}",
            "a_00.png is 32x24, its image .*is 32x12",
        ),
        ("--labels {labels} --predictions {labels} --ids {labels}", "ids: STQ needs"),
        (
            "--labels {labels} --predictions {labels} --ids {labels} --predicted-ids {small}",
            "is 32x12, the prediction is 32x24",
        ),
        (
            "--labels {labels} --predictions {labels} --ids {labels} --predicted-ids {void}",
            "frame a_01 has labels, but not both id images",
        ),
        (
            "--labels {labels} --predictions {labels} --predicted-classes {indoor}",
            "camvid and indoor have no class name in common",
        ),
        (
            "--labels {labels} --predictions {labels} --predicted-classes mars",
            "predicted-classes: class file .*shipped by name: camvid",
        ),
        ("--labels {labels} --predictions {labels} --json {missing}/x", "json: the folder of"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: str,
    message: str,
    labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = {"labels": labels, "missing": tmp_path / "missing", "empty": tmp_path / "empty"}
    paths["empty"].mkdir()
    paths["named"] = save(tmp_path / "named", {"frame7": scene(0)})
    paths["small"] = save(tmp_path / "small", {"a_00": scene(0)[:12]})
    paths["void"] = save(tmp_path / "void", {"a_00": np.full_like(scene(0), VOID)})
    paths["color"] = save(
        tmp_path / "color", {"a_00": np.full((HEIGHT, WIDTH, 3), 77, np.uint8) // (1, 2, 3)}
    )
    paths["torn"] = save(tmp_path / "torn", {"a_00": scene(0)})
    (paths["torn"] / "a_00.png").write_bytes((paths["torn"] / "a_00.png").read_bytes()[:40])
    paths["twice"] = save(tmp_path / "twice", {"a_00": scene(0)})
    cv2.imwrite(str(paths["twice"] / "a_00.bmp"), scene(0))
    paths["indoor"] = tmp_path / "indoor.yaml"
    paths["indoor"].write_text("name: indoor\nclasses: [{id: 0, name: chair, color: [1, 2, 3]}]\n")
    try:
        code = run("--classes", "camvid", *arguments.format(**paths).split())
    except SystemExit as end:  # argparse's own errors
        assert isinstance(end.code, int)
        code = end.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("sam2vss: error: ")
    assert re.search(message, last), last
