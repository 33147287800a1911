"""Networks in the pipeline: the head, one on disk, labels of a topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from network_samples import (
    CPU,
    assert_distribution,
    catalog,
    picture,
    write_classes,
    write_torchscript,
)
from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import MissingLabelsError
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.labels import LabelImages
from sam2vss_ros.types import Frame, Prompt
from small_sam2 import BOTH_MODELS, SMALL_SAM2

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


# -- label images


def test_labels_become_probabilities() -> None:
    network = LabelImages(catalog("road", "sky", "car"), CPU)  # ids 0, 3, 6
    labels = np.array([[0, 3, 6], [255, 1, 60000]], np.uint16)
    answer = network.log_probabilities(Frame(picture(8, 8), 0, labels))
    assert_distribution(answer, 3)
    torch.testing.assert_close(answer[:, 0, 0].exp(), torch.tensor([0.9, 0.05, 0.05]))
    assert answer[:, 0].argmax(0).tolist() == [0, 1, 2]
    torch.testing.assert_close(answer[:, 1].exp(), torch.full((3, 3), 1 / 3))


# -- in the pipeline


HEIGHT, WIDTH = 96, 128
CAR = (slice(50, 80), slice(30, 80))


def street(shift: int = 0) -> npt.NDArray[np.uint8]:
    """Grey noise with a red car on it."""
    image = np.random.default_rng(1).integers(90, 110, (HEIGHT, WIDTH, 1), np.uint8).repeat(3, 2)
    image[CAR[0], CAR[1].start + shift : CAR[1].stop + shift] = (200, 20, 20)
    return image


class Redness(nn.Module):
    """At full resolution: what is red is of the second class, all else of the first."""

    def forward(self, images: Tensor) -> Tensor:
        red = 20 * (images[:, :1] - images[:, 1:2]) - 5
        return torch.cat([-red, red, red - 9], 1)


@pytest.fixture(scope="module")
def redness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network with Cityscapes' names."""
    folder = tmp_path_factory.mktemp("redness")
    write_classes(
        folder / "network.yaml", "road", "car", "truck", input={"mean": [0] * 3, "std": [1] * 3}
    )
    return write_torchscript(folder, Redness())


def pipeline(**options: object) -> VssPipeline:
    usual = {"device": "cpu", "threads": 1, "image_size": 256, "discovery": "regions"}
    return open_pipeline(PipelineConfig.from_mapping(usual | options))


def of_redness(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return image[..., 0] > 150


def test_mode_network_is_the_heads_prediction_alone() -> None:
    pipe = pipeline(mode="network")
    image = street()
    result = pipe.process(Frame(image, 1))
    assert not result.objects and not result.instance_image.any() and not result.keyframe
    assert list(result.timings_ms) == ["encode", "fuse"]
    refined = pipeline(mode="refine", discovery="off").process(Frame(image, 1))
    assert np.array_equal(result.label_image, refined.label_image)
    assert np.array_equal(result.confidence_image, refined.confidence_image)
    with pytest.raises(ValueError, match="mode: network follows no objects"):
        pipe.add_prompt(Prompt(box=(1, 1, 9, 9)))


def test_a_network_labels_at_its_own_resolution(redness: Path) -> None:
    pipe = pipeline(mode="network", network=str(redness))
    assert [c.name for c in pipe.catalog.classes] == ["road", "car", "truck"]
    result = pipe.process(Frame(street(), 1))
    assert np.array_equal(result.label_image == 1, of_redness(street()))
    assert set(np.unique(result.label_image)) == {0, 1}
    assert list(result.timings_ms) == ["network", "fuse"]


def test_regions_are_those_of_the_network(redness: Path) -> None:
    """The head sees no car there; the object found is the network's."""
    pipe = pipeline(mode="refine", network=str(redness), confirm_frames=1)
    results = [pipe.process(Frame(street(i), i)) for i in range(3)]
    assert list(results[0].timings_ms) == [
        "network", "encode", "track", "discover", "classify", "fuse",
    ]  # fmt: skip
    for i, result in enumerate(results):
        (car,) = [o for o in result.objects if o.class_name == "car"]
        x, y, width, height = car.box
        assert (x, y) == pytest.approx((30 + i, 50), abs=5)
        assert (width, height) == pytest.approx((50, 30), abs=8)
        assert len(car.class_probabilities) == 3


@pytest.mark.parametrize("mode", ["refine", "classify", "fused", "network"])
def test_a_mapped_network_speaks_the_semantics_classes(
    mode: str, redness: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.yaml"
    names.write_text("road: Road\ncar: Car\ntruck: Car\n")
    pipe = pipeline(mode=mode, network=str(redness), class_map=str(names))
    assert pipe.catalog == load_catalog("camvid")
    for i in range(2):
        result = pipe.process(Frame(street(i), i))
    assert set(np.unique(result.label_image)) <= set(pipe.catalog.ids.tolist())
    for o in result.objects:
        assert len(o.class_probabilities) == 11
    if mode in ("refine", "network"):
        assert set(np.unique(result.label_image)) == {3, 8}
    for other in ("network", "fused"):  # all modes are open to it
        pipe.reconfigure(mode=other)
        pipe.process(Frame(street(), 10 + len(other)))


def test_the_head_rests_where_nothing_needs_it(
    redness: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PipelineConfig(
        device="cpu", threads=1, mode="refine", network=str(redness), discovery="regions"
    )
    perception = Perception.load(config)

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(perception._semantics.head, "forward", fail)
    monkeypatch.setattr(perception._semantics.classifier, "forward", fail)
    assert VssPipeline(perception, config).process(Frame(street(), 1)).objects


def test_names_must_meet_where_features_are_classified(redness: Path) -> None:
    for mode in ("classify", "fused"):
        with pytest.raises(ValueError, match="no name is in both") as caught:
            pipeline(mode=mode, network=str(redness))
        assert "road, car, truck" in str(caught.value) and "Sky, Building" in str(caught.value)
    pipe = pipeline(mode="refine", network=str(redness))
    with pytest.raises(ValueError, match="^mode: fused needs the classes of the semantics"):
        pipe.reconfigure(mode="fused")
    assert pipe.config.mode == "refine"
    pipe.reconfigure(mode="network")


@pytest.mark.parametrize("model", BOTH_MODELS)
@pytest.mark.parametrize("mode", ["refine", "classify", "fused", "network"])
def test_the_head_serves_every_mode_beside_any_model(mode: str, model: str) -> None:
    pipe = pipeline(mode=mode, model=model)
    result = pipe.process(Frame(street(), 1))
    assert pipe.catalog == load_catalog("camvid") and "network" not in result.timings_ms
    for other in ("network", "refine", "classify", "fused"):
        pipe.reconfigure(mode=other)
        pipe.process(Frame(street(), 2 + len(other)))


def test_the_heads_labels_are_the_same_beside_any_model() -> None:
    """It reads the embedded trunk, at its own size, whatever follows objects."""
    results = [
        pipeline(mode="network", model=model, image_size=0).process(Frame(street(), 1))
        for model in ("mobile", SMALL_SAM2)
    ]
    assert np.array_equal(results[0].label_image, results[1].label_image)
    assert np.array_equal(results[0].confidence_image, results[1].confidence_image)


@pytest.mark.parametrize("option", ["network_classes", "class_map"])
def test_the_head_takes_no_other_classes(option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option}: the head has the classes of the semantics"):
        pipeline(**{option: "camvid"})


def test_a_class_file_renames_the_networks_classes(redness: Path, tmp_path: Path) -> None:
    good = write_classes(tmp_path / "good.yaml", "Strasse", "Auto", "Laster")
    pipe = pipeline(mode="network", network=str(redness), classes=str(good))
    assert [c.name for c in pipe.catalog.classes] == ["Strasse", "Auto", "Laster"]
    bad = write_classes(tmp_path / "bad.yaml", "Strasse")
    with pytest.raises(ValueError, match=r"has 1 classes, but network .* knows 3: road, car"):
        pipeline(mode="network", network=str(redness), classes=str(bad))


def test_going_to_mode_network_forgets_the_objects_and_back_finds_them(redness: Path) -> None:
    pipe = pipeline(mode="refine", network=str(redness))
    assert pipe.process(Frame(street(), 1)).objects
    pipe.reconfigure(mode="network")
    assert not pipe.process(Frame(street(), 2)).objects
    pipe.reconfigure(mode="refine")
    result = pipe.process(Frame(street(), 3))
    assert result.keyframe and result.objects


# -- labels that come with the frame


def camvid_labels() -> npt.NDArray[np.uint8]:
    """Road, and a car of half the resolution."""
    labels = np.full((HEIGHT // 2, WIDTH // 2), 3, np.uint8)
    labels[25:40, 15:40] = 8
    return labels


def test_labels_of_a_topic_are_refined() -> None:
    pipe = pipeline(mode="refine", network="topic", confirm_frames=1)
    assert pipe.catalog == load_catalog("camvid")
    result = pipe.process(Frame(street(), 1, camvid_labels()))
    assert "network" in result.timings_ms
    assert set(np.unique(result.label_image)) == {3, 8}
    assert "Car" in {o.class_name for o in result.objects}
    alone = pipeline(mode="network", network="topic")
    result = alone.process(Frame(street(), 1, camvid_labels()))
    truth = camvid_labels().repeat(2, 0).repeat(2, 1)
    assert (result.label_image == truth).mean() > 0.98


def test_without_labels_the_head_stands_in() -> None:
    topic, head = (pipeline(mode="network", network=n) for n in ("topic", "head"))
    given, expected = (p.process(Frame(street(), 1)) for p in (topic, head))
    assert np.array_equal(given.label_image, expected.label_image)
    assert "network" not in given.timings_ms


def test_without_labels_of_other_classes_a_frame_is_refused(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "mine.yaml", "floor", "wall")
    pipe = pipeline(mode="refine", network="topic", network_classes=str(path))
    labels = np.zeros((8, 8), np.uint16)
    labels[:4] = 1
    assert set(np.unique(pipe.process(Frame(street(), 1, labels)).label_image)) == {0, 1}
    with pytest.raises(MissingLabelsError, match="no labels came with the frame taken at 2 ns"):
        pipe.process(Frame(street(), 2))
    pipe.process(Frame(street(), 3, labels))


def test_a_topic_is_mapped_like_any_network() -> None:
    pipe = pipeline(
        mode="network",
        network="topic",
        network_classes="cityscapes",
        class_map="cityscapes_to_camvid",
    )
    labels = np.full((HEIGHT, WIDTH), 13, np.uint8)  # car
    assert (pipe.process(Frame(street(), 1, labels)).label_image == 8).all()


@pytest.mark.parametrize(
    "labels", [np.zeros((4, 5, 3), np.uint8), np.zeros((0, 5), np.uint8), np.zeros((4, 5), int)]
)
def test_labels_are_ids(labels: Any) -> None:
    with pytest.raises(ValueError, match="uint8 or uint16"):
        Frame(street(), 1, labels)
