"""Words in the pipeline: objects and pixels are called by them, also when they change."""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli_streams import run
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.vocabulary.text_model import TextModel
from sam2vss_ros.types import Frame, Prompt
from text_models import folder_of, text_model
from word_streams import HEIGHT, RED_BOX, WIDTH, box_frame, box_image, names_of, word_config

UNLABELLED = 255


def open_words(*names: str, **options: Any) -> VssPipeline:
    config = word_config(*names, **options)
    return VssPipeline(Perception.load(config), config)


def start_red(pipeline: VssPipeline) -> int:
    """Show the first frame, point at the red box; returns its track id."""
    pipeline.process(box_frame(0))
    return pipeline.add_prompt(Prompt(box=RED_BOX))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every image that a text model looks at."""
    made: list[str] = []
    kind = type(text_model("tipsv2"))
    look = kind.look

    def counted(model: TextModel, image: Any) -> Any:
        made.append(model.name)
        return look(model, image)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "look", counted)
    return made


@pytest.mark.parametrize("family", ["tipsv2", "siglip", "clip"])
@pytest.mark.parametrize("mode", ["fused", "classify", "refine"])
def test_an_object_is_called_by_its_word(family: str, mode: str) -> None:
    pipeline = open_words("green", "red", "blue", family=family, mode=mode)
    red = start_red(pipeline)
    answers = [pipeline.process(box_frame(i)) for i in (1, 2)]
    assert names_of(answers[-1])[red] == "red"
    (found,) = answers[-1].objects
    assert found.class_id == 1 and len(found.class_probabilities) == 3
    labels = answers[-1].label_image
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1, 2, UNLABELLED}
    assert Counter(labels[35:55, 30:54].ravel().tolist()).most_common(1)[0][0] == 1


def test_pixels_without_an_object_are_called_by_patches() -> None:
    pipeline = open_words("green", "red", "blue")
    answer = [pipeline.process(box_frame(i)) for i in range(4)][-1]
    assert not answer.objects
    x = 100 - 3
    assert (answer.label_image[75:95, x + 5 : x + 25] == 2).mean() > 0.8
    assert (answer.label_image[:20] == UNLABELLED).mean() > 0.95


def test_things_of_the_words_are_found() -> None:
    pipeline = open_words("green", "red", "blue", discovery="auto")
    answer = pipeline.process(box_frame(0))
    assert {"red", "blue"} <= set(names_of(answer).values())


def test_the_network_mode_answers_in_words() -> None:
    pipeline = open_words("green", "red", "blue", mode="network")
    labels = pipeline.process(box_frame(0)).label_image
    assert (labels[75:95, 105:125] == 2).mean() > 0.8
    assert (labels[:20] == UNLABELLED).mean() > 0.95


def test_a_single_word_is_not_given_to_everything() -> None:
    pipeline = open_words("blue")
    pipeline.process(box_frame(0))
    wall = pipeline.add_prompt(Prompt(box=(70.0, 2.0, 150.0, 25.0)))
    answer = pipeline.process(box_frame(1))
    assert names_of(answer)[wall] == ""
    (found,) = answer.objects
    assert found.class_id == UNLABELLED and found.class_score < 0.5
    assert (answer.label_image[:25] == UNLABELLED).mean() > 0.95
    assert (answer.label_image[75:95, 104:124] == 0).mean() > 0.8


def test_words_change_while_the_stream_goes_on() -> None:
    pipeline = open_words("red", "blue")
    red = start_red(pipeline)
    assert names_of(pipeline.process(box_frame(1)))[red] == "red"
    first = pipeline.catalog
    pipeline.reconfigure(vocabulary=("green", "crimson"))
    assert pipeline.catalog.version == first.version + 1
    answer = pipeline.process(box_frame(2))
    assert names_of(answer)[red] == "crimson"
    ids = {c.name: c.id for c in pipeline.catalog.classes}
    assert not set(ids.values()) & set(first.ids.tolist()), "ids of red and blue are theirs"
    assert set(np.unique(answer.label_image)) <= {*ids.values(), UNLABELLED}
    pipeline.reconfigure(vocabulary=("blue", "red"))
    answer = pipeline.process(box_frame(3))
    assert [(o.class_id, o.class_name) for o in answer.objects] == [(0, "red")]
    pipeline.reset()
    pipeline.process(box_frame(4))
    assert pipeline.catalog.ids.tolist() == [1, 0] and pipeline.catalog.version == 3


def test_wrong_words_are_refused_and_nothing_changes() -> None:
    pipeline = open_words("red", "blue")
    before = pipeline.catalog
    for wrong in (("red", "red"), ("a=b=c",), ()):
        with pytest.raises(ValueError, match="vocabulary: "):
            pipeline.reconfigure(vocabulary=wrong)
    with pytest.raises(ValueError, match="templates: "):
        pipeline.reconfigure(templates=("a photo",))
    assert pipeline.catalog is before and pipeline.config.vocabulary == ("red", "blue")


def test_what_a_user_called_an_object_stays_while_the_word_does() -> None:
    pipeline = open_words("red", "blue")
    pipeline.process(box_frame(0))
    track = pipeline.add_prompt(Prompt(box=RED_BOX, class_id=1))
    assert names_of(pipeline.process(box_frame(1)))[track] == "blue"
    pipeline.reconfigure(vocabulary=("green", "blue", "red"))
    assert names_of(pipeline.process(box_frame(2)))[track] == "blue"
    pipeline.reconfigure(vocabulary=("green", "red"))
    assert names_of(pipeline.process(box_frame(3)))[track] == "red"
    with pytest.raises(ValueError, match="class_id: 1 is not in catalog vocabulary"):
        pipeline.add_prompt(Prompt(box=RED_BOX, class_id=1))


def test_a_word_that_a_prompt_waits_with_may_be_taken_out() -> None:
    pipeline = open_words("red", "blue")
    pipeline.process(box_frame(0))
    track = pipeline.add_prompt(Prompt(box=RED_BOX, class_id=1))
    pipeline.reconfigure(vocabulary=("red",))
    assert names_of(pipeline.process(box_frame(1)))[track] == "red"


def test_cameras_share_the_words() -> None:
    config = word_config("red", "blue")
    perception = Perception.load(config)
    one, other = (VssPipeline(perception, config) for _ in range(2))
    first, second = (start_red(p) for p in (one, other))
    for pipeline in (one, other):
        pipeline.process(box_frame(1))
    one.reconfigure(vocabulary=("crimson", "azure"))
    other.reconfigure(vocabulary=("crimson", "azure"))  # as the node tells all its cameras
    assert one.catalog is other.catalog and one.catalog.version == 2
    assert names_of(one.process(box_frame(2)))[first] == "crimson"
    assert names_of(other.process(box_frame(2)))[second] == "crimson"
    late = VssPipeline(perception, one.config)
    assert late.catalog is one.catalog
    with pytest.raises(ValueError, match="vocabulary: the networks were loaded with"):
        VssPipeline(perception, word_config("green"))


def test_the_name_survives_what_hides_the_object() -> None:
    pipeline = open_words("red", "blue", lost_after=20)
    red = start_red(pipeline)
    for i in range(1, 4):
        pipeline.process(box_frame(i))
    for i in range(4, 8):
        answer = pipeline.process(box_frame(i, without="red"))
    assert names_of(answer)[red] == "red"


def test_images_are_looked_at_on_keyframes_and_for_new_objects(looks: list[str]) -> None:
    pipeline = open_words("red", "blue", keyframe_interval=8)
    counts = []
    for i in range(10):
        if i == 3:
            pipeline.add_prompt(Prompt(box=(26.0, 30.0, 62.0, 60.0)))
        pipeline.process(box_frame(i))
        counts.append(len(looks))
    # The first frame, the new object, and the interval after that look.
    assert counts == [1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    pipeline.process(box_frame(10))
    pipeline.process(box_frame(11))
    assert len(looks) == 3


def test_where_time_is_short_it_is_looked_less(looks: list[str]) -> None:
    """The clock says that every frame takes a second."""
    config = word_config("red", "blue", keyframe_interval=4, target_fps=100.0)
    ticks = itertools.count()
    pipeline = VssPipeline(Perception.load(config), config, seconds=lambda: float(next(ticks)))
    for i in range(34):
        answer = pipeline.process(Frame(box_image(0), i * 33_000_000))
    assert answer.degraded
    assert 5 <= len(looks) <= 7  # 0, 4, 8, then every eighth frame


def test_the_embedded_classes_lend_their_evidence() -> None:
    """On a street a word that is one of its classes is known without the text model's help."""
    from sam2vss_ros.training.procedural import make_clip

    frames = make_clip(11, 3, (240, 320), kind="street").frames
    plain = VssPipeline(
        Perception.load(config := PipelineConfig(device="cpu", image_size=256, threads=1)), config
    )
    words = open_words("road", "zebra", discovery="auto")
    for i, image in enumerate(frames):
        street = plain.process(Frame(image, i * 33_000_000)).label_image
        spoken = words.process(Frame(image, i * 33_000_000)).label_image
    road = next(c.id for c in plain.catalog.classes if c.name == "Road")
    assert (street == road).mean() > 0.05
    assert (spoken[street == road] == 0).mean() > 0.9
    assert (spoken[street != road] == UNLABELLED).mean() > 0.9


def test_words_without_a_text_model_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="vocabulary: .*text_model; it is a folder.*--fetch") as c:
        Perception.load(PipelineConfig(vocabulary=("car",), device="cpu"))
    assert "\n" not in str(c.value)
    config = PipelineConfig(device="cpu")
    pipeline = VssPipeline(Perception.load(config), config)
    with pytest.raises(ValueError, match="vocabulary: .*text_model"):
        pipeline.reconfigure(vocabulary=("car",))


def test_words_may_come_after_the_fixed_classes() -> None:
    pipeline = open_words()
    assert pipeline.catalog.name == "camvid" and pipeline.catalog.version == 0
    red = start_red(pipeline)
    pipeline.process(box_frame(1))
    pipeline.reconfigure(vocabulary=("red", "tree"))
    answer = pipeline.process(box_frame(2))
    assert names_of(answer)[red] == "red"
    assert [c.id for c in pipeline.catalog.classes][1] == 5  # Tree of camvid


def test_nobody_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def call(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"called {arguments}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, call)
    monkeypatch.setattr(socket, "getaddrinfo", call)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    open_words("red", "blue").process(box_frame(0))
    for missing in ("google/tipsv2-b14", "./nothere"):
        with pytest.raises(FileNotFoundError, match=f"text_model: {missing} does not exist, nor"):
            Perception.load(PipelineConfig(text_model=missing, device="cpu"))


def write_frames(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(box_image(i)).save(folder / f"{i:03d}.png")
    return folder


def test_the_command_line_takes_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = write_frames(tmp_path / "frames", 4)
    common = [frames, "--text-model", folder_of("tipsv2"), "--device", "cpu", "--image-size", 256]
    out = tmp_path / "out"
    assert run("run", *common, "--out", out, "--vocabulary", "green,red,blue") == 0
    assert "red" in capsys.readouterr().out
    labels = read_labels(out / "labels" / "000003.png")
    assert labels.shape == (HEIGHT, WIDTH) and set(np.unique(labels)) <= {0, 1, 2, UNLABELLED}
    assert (labels[75:95, 105:122] == 2).mean() > 0.8
    lines = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert {"red", "blue"} <= {o["class_name"] for line in lines for o in line["objects"]}
    again = ["--templates", "a photo of a {};{}", "--vocabulary", "hot=red,orange;cold=blue"]
    assert run("run", *common, "--out", out, *again) == 0
    assert "cold" in capsys.readouterr().out
    for wrong, said in (
        (["--vocabulary", "red,red"], "vocabulary: 'red' is there twice"),
        (["--vocabulary", "red", "--templates", "photo"], "templates: 'photo' is no sentence"),
        (["--vocabulary", "red", "--text-model", "nothere"], "text_model: nothere does not exist"),
    ):
        assert run("run", *common, "--out", out, *wrong) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
