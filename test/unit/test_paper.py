"""The paper's offline refiner: majorities over windows of masklets, restarted at each."""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

from pipelines import perception_with, shared_perception
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.evaluation import paper
from sam2vss_ros.evaluation.evaluate import LabelledOutput
from sam2vss_ros.evaluation.paper import PaperRefiner
from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.sam2.discovery import Candidates, Source, View
from sam2vss_ros.sam2.tracker import Tracker
from sam2vss_ros.semantics.catalog import catalog_data, load_catalog
from sam2vss_ros.stages import features
from sam2vss_ros.stages.features import Predicted
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame
from small_sam2 import BOTH_MODELS, SMALL_SAM2

HEIGHT, WIDTH, SIDE = 48, 64, 64
CLASSES = 11


class Boxes:
    """A source that finds two boxes, of which the second covers a part of the first."""

    def __init__(self) -> None:
        self.searches = 0

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        self.searches += 1
        masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
        masks[0, 8:40, 4:30] = True
        masks[1, 30:60, 20:60] = True
        at = F.interpolate(masks[None].float(), unexplained.shape)[0] > 0
        return Candidates(at, torch.tensor([0.9, 0.8]))


class Nothing(Boxes):
    """A source that finds nothing."""

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        found = super().propose(view, unexplained, config)
        return Candidates(found.masks[:0], found.score[:0])


CONFIG = PipelineConfig(model=SMALL_SAM2, device="cpu")


def refiner(
    perception: Perception, source: Boxes | None = None, masklets: int = 0, **options: object
) -> PaperRefiner:
    config = dataclasses.replace(perception.config, **options)  # type: ignore[arg-type]
    return PaperRefiner(perception, config, masklets, source or Boxes())


def stream(images: npt.NDArray[np.uint8]) -> Iterator[Frame]:
    return (Frame(image, i) for i, image in enumerate(images))


class Flickering:
    """A network that says something else on every frame.

    A frame has one class on most pixels and others strewn over it, so that the majority of a single
    frame is not that of the window. `said` is what it said so far.
    """

    name = "flickering"
    catalog = load_catalog("camvid")

    def __init__(self) -> None:
        self.said: list[npt.NDArray[np.int64]] = []
        self._random = np.random.default_rng(5)

    def accepts(self, frame: Frame) -> bool:
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        classes = self._random.integers(0, CLASSES, (HEIGHT, WIDTH))
        most = (3, 1, 3, 7)[len(self.said) % 4]
        classes[self._random.random((HEIGHT, WIDTH)) < 0.6] = most
        self.said.append(classes)
        return F.one_hot(torch.from_numpy(classes), CLASSES).permute(2, 0, 1).float()


def still(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every image looks the same to the networks, which costs no time; the frames seen."""
    black = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 0)
    perception = shared_perception(CONFIG)
    with perception.arithmetic():
        seen, stamps = features.extract(perception, black, CONFIG.mode), list[int]()

    def look(perception: Perception, frame: Frame, *_: object) -> Predicted:
        stamps.append(int(frame.image[0, 0, 0]))
        return dataclasses.replace(seen, log_dense=seen.log_dense.roll(len(stamps), 0))

    monkeypatch.setattr(features, "extract", look)
    return stamps


def numbered(count: int) -> Iterator[Frame]:
    """Frames that tell their number by their colour."""
    for i in range(count):
        yield Frame(np.full((HEIGHT, WIDTH, 3), i, np.uint8), i)


def masklets(images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """(2, HEIGHT, WIDTH) logits of the boxes on each frame, by SAM 2 alone."""
    model = shared_perception(CONFIG).model
    assert isinstance(model, Sam2Model)
    tracker, found = Tracker(model, 2), []
    with torch.inference_mode():
        for i, image in enumerate(images):
            network = tracker.network
            pixels = functional.image_tensor(image, network.image_size, tracker.device)
            seen = functional.encode_image(network, pixels)
            if i == 0:
                everywhere = torch.ones(SIDE, SIDE, dtype=torch.bool)
                boxes = Boxes().propose(View(seen, pixels), everywhere, CONFIG).masks
                tracked = tracker.from_masks(seen, [0, 1], boxes)
                tracker.start(seen, tracked)
            else:
                tracked = tracker.step(seen, [0, 1])
                tracker.commit(seen, tracked)
            raised = F.interpolate(tracked.masks[None], (HEIGHT, WIDTH), mode="bilinear")
            found.append(raised[0].numpy())
    return found


def majorities(
    masks: list[npt.NDArray[np.float32]], said: list[npt.NDArray[np.int64]]
) -> list[npt.NDArray[np.int64]]:
    """What the paper makes of a window: counted mask by mask, painted by the strongest."""
    winners = []
    for m in range(2):
        inside = [classes[mask[m] > 0] for mask, classes in zip(masks, said, strict=True)]
        winners.append(np.bincount(np.concatenate(inside), minlength=CLASSES).argmax())
    refined = []
    for mask, classes in zip(masks, said, strict=True):
        label = classes.copy()
        label[mask[0] > 0] = winners[0]
        label[(mask[1] > 0) & (mask[1] > mask[0])] = winners[1]
        refined.append(label)
    return refined


def test_a_masklet_has_the_majority_of_its_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over all its pixels in all frames of the window; the rest stays as the network said."""
    monkeypatch.setattr(paper, "WINDOW", 6)
    catalog = load_catalog("camvid")
    shifted = tuple(dataclasses.replace(c, id=3 * c.id + 5) for c in catalog.classes)
    other = dataclasses.replace(catalog, classes=shifted, ignore_id=None)
    path = tmp_path / "shifted.yaml"
    path.write_text(yaml.safe_dump(catalog_data(other)), encoding="utf-8")

    images = make_clip(11, 8, (HEIGHT, WIDTH), kind="street").frames
    network = Flickering()
    perception = perception_with(network, dataclasses.replace(CONFIG, classes=str(path)))
    answers = list(refiner(perception).label(stream(images)))

    said = network.said
    assert len(answers) == len(said) == 8
    expected = [
        label
        for window in (slice(0, 6), slice(6, 8))
        for label in majorities(masklets(images[window]), said[window])
    ]
    for answer, label, dense in zip(answers, expected, said, strict=True):
        assert answer.label_image is not None and answer.label_image.dtype == np.uint8
        np.testing.assert_array_equal(answer.label_image, 3 * label + 5)
        assert (label != dense).mean() > 0.1, "the masklets change something"
        assert (label == dense).mean() > 0.1, "and leave something alone"


def test_per_frame_majorities_flicker_and_those_of_the_window_do_not() -> None:
    network = Flickering()
    offline = refiner(perception_with(network, CONFIG))
    images = np.stack([make_clip(11, 1, (HEIGHT, WIDTH), kind="street").frames[0]] * 5)
    labels = [a.label_image for a in offline.label(stream(images))]
    inside = np.all([m[0] > np.maximum(m[1], 0) for m in masklets(images)], 0)
    assert inside.sum() > 50
    assert {int(np.bincount(s[inside]).argmax()) for s in network.said} == {1, 3, 7}
    assert {int(v) for label in labels if label is not None for v in label[inside]} == {3}


@pytest.mark.parametrize(("frames", "searches"), [(0, 0), (1, 1), (31, 1), (32, 1), (33, 2)])
def test_every_frame_is_answered_and_every_window_searched(
    frames: int, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Nothing()
    stamps = still(monkeypatch)
    answers = list(refiner(shared_perception(CONFIG), source).label(numbered(frames)))
    assert len(answers) == frames and stamps == list(range(frames))
    assert source.searches == searches
    assert all(a.seconds > 0 and not a.failure for a in answers)


@pytest.mark.parametrize("model", BOTH_MODELS)
def test_without_masklets_the_labels_are_the_networks(model: str) -> None:
    network = Flickering()
    perception = perception_with(network, dataclasses.replace(CONFIG, model=model))
    images = make_clip(11, 2, (HEIGHT, WIDTH), kind="street").frames
    for _ in range(2):
        network.said.clear()
        answers = list(refiner(perception, Nothing()).label(stream(images)))
        for answer, dense in zip(answers, network.said, strict=True):
            assert answer.label_image is not None
            np.testing.assert_array_equal(answer.label_image, dense)


def test_a_frame_that_fails_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the first of a window: the search follows on the next."""
    monkeypatch.setattr(paper, "WINDOW", 3)

    class Failing(Flickering):
        def log_probabilities(self, frame: Frame) -> Tensor:
            if frame.stamp_ns in (0, 4):
                raise RuntimeError("no answer")
            return super().log_probabilities(frame)

    source = Nothing()
    stamps = still(monkeypatch)
    answers = list(refiner(perception_with(Failing(), CONFIG), source).label(numbered(6)))
    assert [a.label_image is None for a in answers] == [i in (0, 4) for i in range(6)]
    assert {a.failure for a in answers} == {"", "RuntimeError: no answer"}
    assert stamps == [1, 2, 3, 5] and source.searches == 2


@pytest.mark.parametrize("model", BOTH_MODELS)
def test_labels_have_the_size_of_their_image(model: str) -> None:
    """Also where it changes within a window."""
    shapes = [(300, 400), (90, 250)]
    images = [make_clip(11, 1, shape, kind="street").frames[0] for shape in shapes]
    frames = (Frame(image, i) for i, image in enumerate(images))
    perception = shared_perception(dataclasses.replace(CONFIG, model=model))
    answers = refiner(perception).label(frames)
    assert [a.label_image.shape for a in answers if a.label_image is not None] == shapes


def test_no_more_than_one_window_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are let go at once, label images with their window."""
    monkeypatch.setattr(paper, "WINDOW", 4)
    still(monkeypatch)
    windows: list[weakref.ref[paper._Window]] = []
    images: list[weakref.ref[npt.NDArray[np.uint8]]] = []
    begin = paper._Window.__init__

    def note(
        self: paper._Window,
        perception: Perception,
        config: PipelineConfig,
        source: Source | None,
    ) -> None:
        windows.append(weakref.ref(self))
        begin(self, perception, config, source)

    def watched() -> Iterator[Frame]:
        for frame in numbered(14):
            images.append(weakref.ref(frame.image))
            yield frame

    monkeypatch.setattr(paper._Window, "__init__", note)
    offline = refiner(shared_perception(CONFIG))
    answered: Iterator[tuple[int, LabelledOutput]] = enumerate(offline.label(watched()))
    for i, _ in answered:
        assert i < len(images) <= 4 * (i // 4 + 1)
        assert sum(image() is not None for image in images) <= 1
        assert [len(w.waiting) for w in (ref() for ref in windows) if w] == [min(3 - i % 4, 13 - i)]
    assert len(images) == 14


def test_masklets_are_limited_where_the_user_says() -> None:
    network = Flickering()
    perception = perception_with(network, CONFIG)
    images = make_clip(11, 1, (HEIGHT, WIDTH), kind="street").frames
    everything, first = refiner(perception), refiner(perception, masklets=1)
    assert (everything.config.max_objects, first.config.max_objects) == (paper.MOST_MASKLETS, 1)
    (answer,) = first.label(stream(images))
    (mask, _), (dense,) = masklets(images)[0], network.said
    assert answer.label_image is not None
    np.testing.assert_array_equal((answer.label_image == dense)[mask <= 0], True)
    assert np.unique(answer.label_image[mask > 0]).size == 1


def test_the_command_puts_it_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(11, 3, (HEIGHT, WIDTH), kind="street")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i, image in enumerate(clip.frames):
        Image.fromarray(image).save(tmp_path / "images" / f"drive_{i}.png")
        Image.new("L", (WIDTH, HEIGHT), 3).save(tmp_path / "labels" / f"drive_{i}.png")
    monkeypatch.chdir(tmp_path)
    command = "evaluate --images images --labels labels --classes camvid --json figures.json"
    assert not main([*command.split(), "--max-objects", "5", "--compare", "paper-refine,refine"])
    offline, online = json.loads(Path("figures.json").read_text())["variants"]
    assert offline["mode"] == offline["config"]["mode"] == offline["name"] == "paper-refine"
    assert offline["frames_scored"] == online["frames_scored"] == 3
    assert (offline["config"]["engine"], offline["config"]["max_objects"]) == ("exact", 5)
    assert online["mode"] == "refine" and offline["fps"] > 0
