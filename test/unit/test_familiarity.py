"""In a world that the semantics do not know, nothing is believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.io.readers import FrameSource, open_frames
from sam2vss_ros.perception import Perception
from sam2vss_ros.semantics.familiarity import (
    ELSEWHERE,
    FAMILIAR,
    IMPRESSION,
    LOOK_EVERY,
    STRANGE,
    Familiarity,
    World,
)
from sam2vss_ros.semantics.model import SemanticModel, read_semantics
from sam2vss_ros.training.calibration import trunk_maps
from sam2vss_ros.training.data import LabelledStill
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.training.world import acquaint, sample_frames
from sam2vss_ros.types import Frame
from streams import pipeline


def likeness(value: float) -> Callable[[], Tensor]:
    return lambda: torch.tensor(value)


def test_belief_grows_with_likeness() -> None:
    assert Familiarity().belief(likeness(STRANGE - 0.1)) == 0
    middle = Familiarity().belief(likeness((STRANGE + FAMILIAR) / 2))
    assert middle == pytest.approx(0.5, abs=1e-5)
    assert Familiarity().belief(likeness(1.0)) == 1


def test_a_single_look_changes_little_and_another_scene_all() -> None:
    familiarity = Familiarity()
    for _ in range(LOOK_EVERY):
        assert familiarity.belief(likeness(1.0)) == 1
    assert familiarity.belief(likeness(-0.3)) == 1
    for _ in range(10 * LOOK_EVERY):
        last = familiarity.belief(likeness(-0.8))
    assert last == 0
    familiarity.clear()
    assert familiarity.belief(likeness(1.0)) == 1


def test_the_scene_is_looked_at_now_and_then() -> None:
    looks: list[int] = []
    familiarity = Familiarity()

    def look(i: int) -> Tensor:
        looks.append(i)
        return torch.tensor(1.0)

    for i in range(2 * LOOK_EVERY + 1):
        familiarity.belief(lambda i=i: look(i))  # type: ignore[misc]
    assert looks == [0, LOOK_EVERY, 2 * LOOK_EVERY]
    familiarity.clear()
    familiarity.belief(lambda: look(-1))
    assert looks[-1] == -1, "another scene is looked at when it begins"


def test_a_line_divides_what_was_shown() -> None:
    """What is usual has 1; new samples of both sides lie on their own."""
    torch.manual_seed(0)
    world = World()
    assert float(world(torch.randn(1, 96, 4, 6))) == 1, "untrained it is at home everywhere"

    def samples(count: int, shift: float) -> Tensor:
        found = torch.rand(count, IMPRESSION)
        found[:, :40] += shift
        return found

    world.learn(samples(300, 0.4), samples(ELSEWHERE, 0.0))

    def likeness_of(impressions: Tensor) -> Tensor:
        return impressions @ world.direction + world.offset

    here, there = likeness_of(samples(200, 0.4)), likeness_of(samples(200, 0.0))
    assert float(here.median()) == pytest.approx(1, abs=0.3)
    assert (here > FAMILIAR).float().mean() > 0.95
    assert (there < STRANGE).float().mean() > 0.95


def test_the_same_scenes_cannot_be_divided() -> None:
    world, same = World(), torch.rand(ELSEWHERE, IMPRESSION)
    with pytest.raises(ValueError, match="look like those of the training"):
        world.learn(same, same)
    assert float(world(torch.randn(1, 96, 4, 6))) == 1, "it is as it was"


@pytest.fixture(scope="module")
def trunk() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


def stills(kind: str, seeds: range) -> list[LabelledStill]:
    """Drawn scenes; where they lie does not depend on their labels."""
    clips = [make_clip(seed, 1, (96, 128), kind=kind) for seed in seeds]
    return [LabelledStill(kind, clip.frames[0], np.zeros((96, 128), np.uint8)) for clip in clips]


def likenesses(
    trunk: AffinityModel, semantics: SemanticModel, shown: list[LabelledStill]
) -> Tensor:
    with torch.inference_mode():
        found = [semantics.world(trunk_maps(trunk, semantics, still.image)[-1]) for still in shown]
    return torch.cat(found)


def test_semantics_learn_another_world(trunk: AffinityModel, tmp_path: Path) -> None:
    """Shapes instead of streets: what they were told is elsewhere is strange to them."""
    semantics = read_semantics("street")
    for i, still in enumerate(stills("street", range(6))):
        cv2.imwrite(str(tmp_path / f"{i}.png"), still.image)
    acquaint(trunk, semantics, stills("abstract", range(10)), [open_frames(tmp_path)])
    assert likenesses(trunk, semantics, stills("abstract", range(20, 25))).median() > FAMILIAR
    assert likenesses(trunk, semantics, stills("street", range(20, 25))).median() < STRANGE


def test_without_other_scenes_those_of_the_file_stay(trunk: AffinityModel) -> None:
    semantics = read_semantics("street")
    before = semantics.world.elsewhere.clone()
    acquaint(trunk, semantics, stills("abstract", range(5)))
    assert torch.equal(before, semantics.world.elsewhere)
    assert likenesses(trunk, semantics, stills("abstract", range(20, 25))).median() > FAMILIAR


def recording(folder: Path, name: int, length: int) -> FrameSource:
    """A folder of images that show which they are: 100 * name + i, in two channels."""
    place = folder / str(name)
    place.mkdir()
    for i in range(length):
        cv2.imwrite(str(place / f"{i}.png"), np.full((4, 4, 3), (0, i, name), np.uint8))
    return open_frames(place)


def drawn_from(recordings: list[FrameSource], count: int) -> list[tuple[int, int]]:
    """Recording and index of the images that are taken."""
    images = sample_frames(recordings, count)
    return [(int(image[0, 0, 0]), int(image[0, 0, 1])) for image in images]


def test_recordings_give_as_many_images_each(tmp_path: Path) -> None:
    long, short = recording(tmp_path, 0, 90), recording(tmp_path, 1, 3)
    found = drawn_from([long, short], 10)
    assert Counter(name for name, _ in found) == {0: 5, 1: 5}
    places = [i for name, i in found if name == 0]
    assert places[0] == 0 and places[-1] > 80, "from the whole length"
    assert min(np.diff(places)) > 10
    assert {i for name, i in found if name == 1} == {0, 1, 2}


def test_of_more_recordings_than_images_some_are_left_out(tmp_path: Path) -> None:
    found = drawn_from([recording(tmp_path, i, 1) for i in range(9)], 4)
    assert [name for name, _ in found] == [0, 3, 5, 8]


def test_scenes_it_was_never_shown(shared: Path) -> None:
    """Streets elsewhere are streets; a room, a field and a dance floor are none."""
    perception = Perception.load(PipelineConfig())

    def seen(folder: str) -> float:
        images = list(open_frames(shared / "data" / folder).read())[::10]
        with perception.arithmetic():
            maps = [perception.trunk_maps(Frame(image, i)) for i, image in enumerate(images)]
            return float(torch.stack([perception.likeness(m[-1]) for m in maps]).median())

    for street in ("car-shadow", "scooter-black"):
        assert seen(f"davis/{street}/images") > FAMILIAR
    for other in ("rgbd/color", "davis/camel/images", "davis/dance-twirl/images"):
        assert seen(other) < STRANGE


def test_noise_is_no_street() -> None:
    """The embedded semantics abstain: no pixel and no object has a class."""
    pipe = pipeline(min_class_score=0.3)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    result = pipe.process(Frame(image, 1))
    assert (result.label_image == pipe.config.unlabelled_id).mean() > 0.9
    assert not any(o.class_name for o in result.objects)
