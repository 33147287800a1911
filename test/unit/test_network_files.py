"""Networks of one file, TorchScript or ONNX: small ones made here, and what others lack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from network_samples import (
    CPU,
    NAMES,
    Blocks,
    assert_distribution,
    normalised,
    picture,
    write_classes,
    write_onnx,
    write_torchscript,
)
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.inputs import Input, parse_input
from sam2vss_ros.semantics.networks.loading import load_network
from sam2vss_ros.types import Frame

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture
def blocks() -> Blocks:
    torch.manual_seed(0)
    return Blocks(3).eval()


@pytest.mark.parametrize("suffix", [".pt", ".ts"])
def test_a_torchscript_file_answers_as_its_module(
    suffix: str, blocks: Blocks, tmp_path: Path
) -> None:
    path = write_torchscript(tmp_path, blocks, suffix)
    write_classes(tmp_path / "network.yaml", *NAMES)
    network = load_network(str(path), CPU)
    assert network.name == str(path) and [c.name for c in network.catalog.classes] == NAMES
    image = picture(40, 56)  # no size is given: the image keeps its own
    answer = network.log_probabilities(Frame(image, 0))
    torch.testing.assert_close(answer, blocks(normalised(image))[0].log_softmax(0))
    assert_distribution(answer, 3)


def test_an_onnx_file_answers_as_its_module_at_its_own_size(blocks: Blocks, tmp_path: Path) -> None:
    path = write_onnx(tmp_path, blocks)
    write_classes(tmp_path / "network.yaml", *NAMES)
    network = load_network(str(path), CPU)
    image = picture(64, 96)
    small = cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA)
    answer = network.log_probabilities(Frame(image, 0))
    expected = blocks(normalised(np.asarray(small, np.uint8)))[0].log_softmax(0)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


def test_an_onnx_file_of_any_size_takes_the_image_as_it_is(blocks: Blocks, tmp_path: Path) -> None:
    path = write_onnx(tmp_path, blocks, "height", "width")
    write_classes(tmp_path / "network.yaml", *NAMES)
    answer = load_network(str(path), CPU).log_probabilities(Frame(picture(40, 56), 0))
    assert answer.shape == (3, 10, 14)


def test_the_class_file_says_what_the_network_wants(blocks: Blocks, tmp_path: Path) -> None:
    path = write_torchscript(tmp_path, blocks)
    wants = {"size": [16, 24], "mean": [0, 0, 0], "std": [1, 1, 1], "channels": "bgr"}
    write_classes(tmp_path / "network.yaml", *NAMES, input=wants)
    image = picture(16, 24)
    answer = load_network(str(path), CPU).log_probabilities(Frame(image, 0))
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(answer, blocks(pixels)[0].log_softmax(0))


def test_an_output_of_probabilities_is_taken_as_such(blocks: Blocks, tmp_path: Path) -> None:
    path = write_torchscript(tmp_path, nn.Sequential(blocks, nn.Softmax(1)))
    write_classes(tmp_path / "network.yaml", *NAMES, output="probabilities")
    image = picture(32, 32)
    answer = load_network(str(path), CPU).log_probabilities(Frame(image, 0))
    torch.testing.assert_close(answer.exp(), blocks(normalised(image))[0].softmax(0))


class Wrapped(nn.Module):
    """Answers as torchvision's networks do: a dictionary of outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        scores = self.network(images)
        return {"out": scores, "aux": -scores}


def test_the_first_output_counts(blocks: Blocks, tmp_path: Path) -> None:
    traced = torch.jit.trace(Wrapped(blocks), torch.zeros(1, 3, 64, 64), strict=False)
    traced.save(str(tmp_path / "network.pt"))
    write_classes(tmp_path / "network.yaml", *NAMES)
    image = picture(32, 32)
    answer = load_network(str(tmp_path / "network.pt"), CPU).log_probabilities(Frame(image, 0))
    torch.testing.assert_close(answer, blocks(normalised(image))[0].log_softmax(0))


def test_another_class_file_may_be_named(blocks: Blocks, tmp_path: Path) -> None:
    path = write_torchscript(tmp_path, Blocks(19))
    network = load_network(str(path), CPU, "cityscapes")
    assert network.catalog == load_catalog("cityscapes")


@pytest.mark.parametrize("write", [write_torchscript, write_onnx])
def test_another_class_count_than_the_class_file_names_both(
    write: Callable[[Path, Blocks], Path], blocks: Blocks, tmp_path: Path
) -> None:
    path = write(tmp_path, blocks)
    write_classes(tmp_path / "network.yaml", "road", "sky")
    with pytest.raises(ValueError, match=r"predicts 3 classes, but network has 2") as caught:
        load_network(str(path), CPU)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a network", "damaged or not"),
        (b"", "damaged or not a network: it is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is a git-lfs pointer: `git lfs pull`",
        ),
        (b"<!doctype html>", "it is a web page"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_a_broken_file_is_named(suffix: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / f"network{suffix}"
    path.write_bytes(content)
    write_classes(tmp_path / "network.yaml", *NAMES)
    with pytest.raises(ValueError, match=said) as caught:
        load_network(str(path), CPU)
    assert str(path) in str(caught.value)


def test_a_checkpoint_of_weights_is_no_torchscript(blocks: Blocks, tmp_path: Path) -> None:
    torch.save(blocks.state_dict(), tmp_path / "network.pt")
    write_classes(tmp_path / "network.yaml", *NAMES)
    with pytest.raises(ValueError, match="a checkpoint of weights alone is none"):
        load_network(str(tmp_path / "network.pt"), CPU)


def test_a_label_map_is_no_score(tmp_path: Path) -> None:
    class Labels(Blocks):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images).argmax(1)

    path = write_torchscript(tmp_path, Labels(3))
    write_classes(tmp_path / "network.yaml", *NAMES)
    with pytest.raises(ValueError, match=r"\(1, 64, 85\) of torch.int64, not scores"):
        load_network(str(path), CPU)


def test_a_missing_class_file_is_named(blocks: Blocks, tmp_path: Path) -> None:
    path = write_torchscript(tmp_path, blocks)
    with pytest.raises(FileNotFoundError, match="network_classes") as caught:
        load_network(str(path), CPU)
    assert str(tmp_path / "network.yaml") in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".onnx", ".safetensors", ""])
def test_a_missing_file_is_named(suffix: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"^network: my_network{suffix} does not exist"):
        load_network(f"my_network{suffix}", CPU)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.yaml"
    path.write_text("name: street\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"network.yaml is no network; a network is .*\.pt"):
        load_network(str(path), CPU)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"input": {"size": [0, 3]}}, r"size is \[height, width\]"),
        ({"input": {"size": 512}}, r"size is \[height, width\]"),
        ({"input": {"mean": [1, 2]}}, "mean is three numbers"),
        ({"input": {"std": [1, 0, 1]}}, "std is three numbers"),
        ({"input": {"channels": "grey"}}, "channels is rgb or bgr"),
        ({"input": {"sise": [3, 3]}}, "keys size, multiple, mean, std and channels"),
        ({"input": {"multiple": 0}}, "multiple is a number of pixels up to 512, not 0"),
        ({"input": {"multiple": 32.0}}, "multiple is a number of pixels up to 512"),
        ({"input": {"size": [1.5, 3]}}, r"size is \[height, width\]"),
        ({"input": {"size": [10**6, 3]}}, "in pixels, up to 8192"),
        ({"input": {"mean": [float("nan"), 0, 0]}}, "mean is three numbers"),
        ({"input": {"std": [1, float("inf"), 1]}}, "std is three numbers"),
        ({"input": {"std": [1, -1, 1]}}, "std is three numbers, above 0"),
        ({"input": {"mean": [True, 0, 0]}}, "mean is three numbers"),
        ({"input": "x" * 9000}, "keys size, multiple, mean, std and channels"),
        ({"output": ["x" * 9000]}, "output is logits or probabilities"),
        ({"input": [3]}, "keys size, multiple, mean, std and channels"),
        ({"output": "softmax"}, "output is logits or probabilities"),
    ],
)
def test_a_class_file_that_asks_for_nonsense(
    entries: dict[str, Any], said: str, blocks: Blocks, tmp_path: Path
) -> None:
    path = write_torchscript(tmp_path, blocks)
    class_file = write_classes(tmp_path / "network.yaml", *NAMES, **entries)
    with pytest.raises(ValueError, match=said) as caught:
        load_network(str(path), CPU)
    assert str(class_file) in str(caught.value)


def halving(times: int) -> nn.Module:
    """A U-Net that halves its input so often, and joins what it doubles with what it halved."""

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(times))
            self.up = nn.Upsample(scale_factor=2.0)

        def forward(self, images: Tensor) -> Tensor:
            levels = [images]
            for layer in self.down:
                levels.append(layer(levels[-1]))
            scores = levels[-1]
            for i in range(len(levels) - 1):
                scores = self.up(scores) + levels[len(levels) - 2 - i]
            return scores

    torch.manual_seed(0)
    return UNet().eval()


@pytest.mark.parametrize(("times", "multiple"), [(0, 1), (1, 2), (3, 8), (5, 32), (6, 64)])
def test_the_multiple_that_a_network_wants_is_found(
    times: int, multiple: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    network = halving(times)
    torch.jit.script(network).save(str(tmp_path / "network.pt"))
    write_classes(tmp_path / "network.yaml", *NAMES)
    loaded = load_network(str(tmp_path / "network.pt"), CPU)
    rows, columns = (max(1, round(side / multiple)) * multiple for side in (361, 487))
    answer = loaded.log_probabilities(Frame(picture(361, 487), 0))
    assert answer.shape == (3, rows, columns)
    assert (f"multiples of {multiple} pixels" in caplog.text) == (multiple > 1)


def test_the_class_file_may_say_the_multiple(tmp_path: Path) -> None:
    torch.jit.script(halving(5)).save(str(tmp_path / "network.pt"))
    write_classes(tmp_path / "network.yaml", *NAMES, input={"multiple": 32})
    network = load_network(str(tmp_path / "network.pt"), CPU)
    image = picture(361, 487)
    small = np.asarray(cv2.resize(image, (480, 352), interpolation=cv2.INTER_AREA), np.uint8)
    expected = halving(5)(normalised(small))[0].log_softmax(0)
    answer = network.log_probabilities(Frame(image, 0))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    write_classes(tmp_path / "network.yaml", *NAMES, input={"multiple": 16})
    with pytest.raises(ValueError, match="does not take an image: The size of tensor a") as caught:
        load_network(str(tmp_path / "network.pt"), CPU)
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_of_one_size_is_told_how_to_say_so(tmp_path: Path) -> None:
    class Fixed(Blocks):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images.reshape(1, 3, 48, 64))

    torch.jit.script(Fixed(3)).save(str(tmp_path / "network.pt"))
    write_classes(tmp_path / "network.yaml", *NAMES)
    with pytest.raises(ValueError, match="nor with sides of multiples of 2 to 64 .where it wants"):
        load_network(str(tmp_path / "network.pt"), CPU)
    write_classes(tmp_path / "network.yaml", *NAMES, input={"size": [48, 64]})
    network = load_network(str(tmp_path / "network.pt"), CPU)
    assert network.log_probabilities(Frame(picture(361, 487), 0)).shape == (3, 12, 16)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    blocks = Blocks(3)
    with torch.no_grad():
        blocks.layer.weight.view(-1)[0] = value
    path = write_torchscript(tmp_path, blocks)
    write_classes(tmp_path / "network.yaml", *NAMES)
    with pytest.raises(ValueError, match="its training failed: layer.weight holds NaN or infinite"):
        load_network(str(path), CPU)
    path = write_onnx(tmp_path, blocks)
    with pytest.raises(ValueError, match=r"its scores are not numbers \(NaN\)"):
        load_network(str(path), CPU)


def test_an_onnx_file_of_grey_images_is_named(tmp_path: Path) -> None:
    import onnx

    path = write_onnx(tmp_path, Blocks(3))
    write_classes(tmp_path / "network.yaml", *NAMES)
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    del model.graph.node[0].attribute[:]
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].input[1:]
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, str(path))
    with pytest.raises(ValueError, match=r"takes a tensor\(float\) \[1, 1, 32, 48\], not a float"):
        load_network(str(path), CPU)


def test_sizes_that_keep_the_shape() -> None:
    assert Input().size_for(480, 640) == (480, 640)
    assert Input(size=(7, 9)).size_for(480, 640) == (7, 9)
    assert Input(shortest=240).size_for(480, 640) == (240, 320)
    assert Input(shortest=240).size_for(640, 480) == (320, 240)
    assert Input(shortest=480, longest=320).size_for(480, 640) == (240, 320)
    assert Input(shortest=250, multiple=32).size_for(480, 640) == (256, 320)
    assert parse_input(None, "nothing") == Input()
