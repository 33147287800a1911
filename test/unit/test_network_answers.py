"""What networks answer that is no answer: told at the start, or of the frame that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from network_samples import CPU, NAMES, assert_distribution, picture, write_classes
from sam2vss_ros.errors import NetworkError
from sam2vss_ros.semantics.networks.loading import load_network
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.types import Frame

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def answers(kind: str) -> nn.Module:
    """A module that answers what is none, or one that answers in a way of its own."""

    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 4, 4)

    class Nothing(Answers):
        def forward(self, images: Tensor) -> None:
            return None

    class Text(Answers):
        def forward(self, images: Tensor) -> str:
            return "road"

    class Empty(Answers):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [images][:0]

    class Nested(Answers):
        def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
            return {"out": [self.layer(images), images]}

    class NotNumbers(Answers):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images) * float("nan")

    class Infinite(Answers):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images) + float("inf")

    class RulesOut(Answers):
        def forward(self, images: Tensor) -> Tensor:
            scores: Tensor = self.layer(images)
            scores[:, 1] = -float("inf")
            return scores

    class Flat(Answers):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images).mean(dim=[2, 3])

    class Two(Answers):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images).expand(2, -1, -1, -1)

    class Fails(Answers):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[2] == 100:
                raise Exception("no image of a hundred rows")
            return self.layer(images)

    kinds = (Nothing, Text, Empty, Nested, NotNumbers, Infinite, RulesOut, Flat, Two, Fails)
    torch.manual_seed(0)
    return {k.__name__: k for k in kinds}[kind]()


def load_answers(kind: str, folder: Path) -> SegmentationNetwork:
    torch.jit.script(answers(kind)).save(str(folder / "network.pt"))
    write_classes(folder / "network.yaml", *NAMES)
    return load_network(str(folder / "network.pt"), CPU)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Nothing", "its output is nothing, not scores"),
        ("Text", "its output is a str, not scores"),
        ("Empty", "its output is a list, not scores"),
        ("NotNumbers", r"its scores are not numbers \(NaN\)"),
        ("Infinite", r"its scores are not numbers \(NaN\)"),
        ("Flat", r"its output is \(1, 3\) of torch.float32, not scores"),
        ("Two", r"its output is \(2, 3, 64, 85\), not \(1, classes, height, width\)"),
    ],
)
def test_an_answer_that_is_none_is_told(kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_answers(kind, tmp_path)
    assert str(tmp_path / "network.pt") in str(caught.value) and "\n" not in str(caught.value)


def test_lists_in_dictionaries_and_minus_infinity_are_answers(tmp_path: Path) -> None:
    frame = Frame(picture(32, 48), 0)
    assert_distribution(load_answers("Nested", tmp_path).log_probabilities(frame), 3)
    answer = load_answers("RulesOut", tmp_path).log_probabilities(frame)
    assert_distribution(answer, 3)
    assert (answer[1] == -100).all(), "impossible, but a number"


def test_a_network_that_fails_on_a_frame_says_so_in_a_line(tmp_path: Path) -> None:
    network = load_answers("Fails", tmp_path)
    assert_distribution(network.log_probabilities(Frame(picture(101, 48), 0)), 3)
    with pytest.raises(NetworkError) as caught:
        network.log_probabilities(Frame(picture(100, 48), 0))
    assert str(caught.value) == (
        f"network: {tmp_path / 'network.pt'} fails on an image of 48x100: "
        "no image of a hundred rows"
    )
