"""`sam2vss bench abstention`: what is said of scenes that are not known, and what silence costs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2vss_ros.bench.abstention import score_known, speak
from sam2vss_ros.cli import main
from sam2vss_ros.io.readers import LabelledFrame
from sam2vss_ros.types import Frame
from streams import pipeline

HEIGHT, WIDTH = 96, 128
SHAPE = (HEIGHT, WIDTH)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """images/ of noise, and labels/ that call its upper half sky and its lower half road."""
    truth = np.where(np.arange(HEIGHT)[:, None] < HEIGHT // 2, 0, 3).astype(np.uint8)
    for i in range(3):
        for name, pixels in (("images", noise(i)), ("labels", np.repeat(truth, WIDTH, 1))):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{i:03d}.png"), pixels)
    return tmp_path


def test_shares_are_those_of_the_label_images() -> None:
    """What is read off one run is what runs with those options label."""
    frames = [Frame(noise(i), i * 33_000_000) for i in range(4)]
    scores = (0.0, 0.02, 0.3)
    told = speak(pipeline(min_class_score=0.0), frames, scores)
    for score in scores:
        pipe = pipeline(min_class_score=score)
        labels = [pipe.process(frame).label_image for frame in frames]
        share = float(np.mean([(label != 255).mean() for label in labels]))
        assert told[score].labelled == pytest.approx(share, abs=0.02), score
        assert told[score].frames == 4
    assert told[0.0].labelled == 1 and told[0.3].labelled == 0


def test_silence_is_a_miss_where_classes_are_known() -> None:
    pipe = pipeline(min_class_score=0.0)
    image = noise(0)
    truth = pipe.process(Frame(image, 0)).label_image  # whatever it says is right
    found = score_known(pipe, [[LabelledFrame(Frame(image, 0), truth, "0")]], (0.0, 1.0))
    assert found[0.0].miou == found[0.0].labelled == found[0.0].right == 1
    assert found[1.0].miou == found[1.0].labelled == 0 and np.isnan(found[1.0].right)
    with pytest.raises(ValueError, match="no frame has labels"):
        score_known(pipe, [[LabelledFrame(Frame(image, 0), None, "0")]], (0.0,))


def test_the_command(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = folders / "figures.json"
    arguments = ["--known", folders / "images", folders / "labels", "--json", figures]
    arguments += ["--image-size", 256, "--device", "cpu", "--threads", 1, "--frames", 2]
    unknown = str(folders / "images")
    assert main(["bench", "abstention", "--unknown", unknown, *map(str, arguments)]) == 0
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert told["min_class_score"] == 0.3
    assert told["unknown"][unknown]["without"] == {"frames": 2, "labelled": 1.0, "named": None}
    assert told["unknown"][unknown]["with"]["labelled"] == 0
    assert told["known"]["without"]["frames"] == 3  # of streams that are scored, all
    printed = capsys.readouterr().out
    assert "pixels with a class, without" in printed and "/images" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--unknown", "gone.mp4"], "gone.mp4 does not exist"),
        (["--unknown", "IMAGES", "--frames", "-1"], "frames: -1 is no number of frames"),
        (["--unknown", "IMAGES", "--known", "IMAGES", "gone"], "gone"),
        (["--unknown", "IMAGES", "--min-class-score", "2"], "min_class_score: 2.0 is outside"),
    ],
)
def test_bad_input_is_explained(
    arguments: list[str], said: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [a.replace("IMAGES", str(folders / "images")) for a in arguments]
    assert main(["bench", "abstention", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
