"""Segmentation networks: small ones made on disk, and what is wrong with others."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import MissingLabelsError
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog
from sam2vss_ros.semantics.model import EMBEDDED
from sam2vss_ros.semantics.networks.class_mapping import MappedNetwork, load_class_map, map_classes
from sam2vss_ros.semantics.networks.embedded import WEIGHTS
from sam2vss_ros.semantics.networks.inputs import Input, parse_input
from sam2vss_ros.semantics.networks.labels import LabelImages
from sam2vss_ros.semantics.networks.loading import load_network
from sam2vss_ros.types import Frame, Prompt

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

CPU = torch.device("cpu")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
NAMES = ["road", "sky", "car"]


def catalog(*names: str) -> ClassCatalog:
    classes = (SemanticClass(3 * i, name, (i, 0, 0), False) for i, name in enumerate(names))
    return ClassCatalog("test", tuple(classes))


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def normalised(image: npt.NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) as ImageNet's networks want it."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    return (pixels - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)


def assert_distribution(log_probabilities: Tensor, classes: int) -> None:
    assert log_probabilities.dtype == torch.float32 and len(log_probabilities) == classes
    total = log_probabilities.exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


# -- one file: TorchScript, ONNX


class Blocks(nn.Module):
    """Scores at stride 4, by a convolution that knows its place."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)


@pytest.fixture
def blocks() -> Blocks:
    torch.manual_seed(0)
    return Blocks(3).eval()


def write_classes(path: Path, *names: str, **entries: Any) -> Path:
    """A class file of these names."""
    classes = [{"id": i, "name": name, "color": [i, 0, 0]} for i, name in enumerate(names)]
    path.write_text(yaml.safe_dump({"name": path.stem, "classes": classes} | entries))
    return path


def write_torchscript(folder: Path, network: nn.Module, suffix: str = ".pt") -> Path:
    path = folder / f"network{suffix}"
    torch.jit.trace(network, torch.zeros(1, 3, 64, 64)).save(str(path))
    return path


def write_onnx(
    folder: Path, network: Blocks, height: int | str = 32, width: int | str = 48
) -> Path:
    """The same convolution as an ONNX graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    classes = network.layer.out_channels
    weights = [
        numpy_helper.from_array(value.numpy(), name)
        for name, value in zip("wb", network.layer.state_dict().values(), strict=True)
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["scores"], strides=[4, 4])],
        "blocks",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes, None, None])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    path = folder / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


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
    ("content", "said"), [(b"not a network", "damaged or not"), (b"", "damaged or not")]
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
    with pytest.raises(ValueError, match=r"\(1, 64, 64\) of torch.int64, not scores"):
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
        ({"input": {"sise": [3, 3]}}, "keys size, mean, std and channels"),
        ({"input": [3]}, "keys size, mean, std and channels"),
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


def test_sizes_that_keep_the_shape() -> None:
    assert Input().size_for(480, 640) == (480, 640)
    assert Input(size=(7, 9)).size_for(480, 640) == (7, 9)
    assert Input(shortest=240).size_for(480, 640) == (240, 320)
    assert Input(shortest=240).size_for(640, 480) == (320, 240)
    assert Input(shortest=480, longest=320).size_for(480, 640) == (240, 320)
    assert Input(shortest=250, multiple=32).size_for(480, 640) == (256, 320)
    assert parse_input(None, "nothing") == Input()


# -- transformers


@pytest.fixture(scope="module")
def offline() -> Any:
    """The library, which downloads nothing here."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    from sam2vss_ros.semantics.networks.pretrained import _transformers

    library = _transformers("test")
    # Its loss, which only training needs, wants scipy; a user of Mask2Former is told so.
    name = "transformers.models.mask2former.modeling_mask2former.requires_backends"
    patch.setattr(name, lambda *_: None)
    yield library
    patch.undo()


def write_settings(folder: Path, **settings: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}
IMAGENET = {"image_mean": MEAN.tolist(), "image_std": STD.tolist()}


@pytest.fixture(scope="module")
def segformer(offline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SegFormer of random weights."""
    folder = tmp_path_factory.mktemp("segformer")
    torch.manual_seed(0)
    config = offline.SegformerConfig(
        depths=[1] * 4,
        hidden_sizes=[8] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
        **LABELS,
    )
    offline.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    write_settings(folder, size={"height": 64, "width": 96}, **IMAGENET)
    return folder


@pytest.fixture(scope="module")
def mask2former(offline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Mask2Former of random weights."""
    folder = tmp_path_factory.mktemp("mask2former")
    torch.manual_seed(0)
    swin = offline.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1] * 4,
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = offline.Mask2FormerConfig(
        backbone_config=swin,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=8,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=1,
        dim_feedforward=8,
        num_queries=5,
        **LABELS,
    )
    offline.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    processor = offline.Mask2FormerImageProcessorPil(
        size={"height": 64, "width": 96}, image_mean=MEAN.tolist(), image_std=STD.tolist()
    )
    processor.save_pretrained(folder)
    return folder


def test_a_semantic_model_answers_as_the_library_does(offline: Any, segformer: Path) -> None:
    network = load_network(str(segformer), CPU)
    assert [c.name for c in network.catalog.classes] == NAMES
    assert network.catalog.ids.tolist() == [0, 1, 2]
    assert len({c.color for c in network.catalog.classes}) == 3
    image = picture(64, 96)
    model = offline.AutoModelForSemanticSegmentation.from_pretrained(segformer).eval()
    with torch.inference_mode():
        expected = model(pixel_values=normalised(image)).logits[0].log_softmax(0)
        answer = network.log_probabilities(Frame(image, 0))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    assert_distribution(answer, 3)


def test_a_universal_model_answers_as_the_librarys_post_processing(
    offline: Any, mask2former: Path
) -> None:
    network = load_network(str(mask2former), CPU)
    assert [c.name for c in network.catalog.classes] == NAMES
    image = picture(64, 96)
    model = offline.AutoModelForUniversalSegmentation.from_pretrained(mask2former).eval()
    processor = offline.Mask2FormerImageProcessorPil.from_pretrained(mask2former)
    with torch.inference_mode():
        output = model(pixel_values=normalised(image))
        answer = network.log_probabilities(Frame(image, 0))
    assert_distribution(answer, 3)
    # Theirs is upsampled to 384 x 384 before the sum over masks, ours is the sum itself.
    (theirs,) = processor.post_process_semantic_segmentation(output, target_sizes=[(384, 384)])
    ours = F.interpolate(answer.exp()[None], (384, 384), mode="bilinear")[0].argmax(0)
    assert (ours == theirs).float().mean() > 0.99
    (scores,) = processor.post_process_semantic_segmentation(
        output, target_sizes=[(384, 384)], return_segmentation_scores=True
    )
    theirs = scores.segmentation_scores / scores.segmentation_scores.sum(0)
    ours = F.interpolate(answer.exp()[None], (384, 384), mode="bilinear")[0]
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_the_folder_says_how_images_are_prepared(
    offline: Any, segformer: Path, tmp_path: Path
) -> None:
    """Older files: one number for a size, no range of its own, blue first, a crop left out."""
    for file in segformer.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_settings(
        tmp_path, size=64, do_normalize=False, do_flip_channel_order=True, do_center_crop=True,
        crop_size={"height": 32, "width": 32},
    )  # fmt: skip
    image = picture(64, 64)
    model = offline.AutoModelForSemanticSegmentation.from_pretrained(segformer).eval()
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = model(pixel_values=pixels).logits[0].log_softmax(0)
    answer = load_network(str(tmp_path), CPU).log_probabilities(Frame(image, 0))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"size": {"shortest_edge": 64}, "size_divisor": 32}, (3, 16, 24)),
        ({"size": {"shortest_edge": 96, "longest_edge": 96}}, (3, 16, 24)),
        ({"size": 96, "max_size": 96}, (3, 16, 24)),
        ({"do_resize": False}, (3, 32, 48)),
    ],
)
def test_sizes_that_a_folder_may_ask_for(
    settings: dict[str, Any], shape: tuple[int, ...], segformer: Path, tmp_path: Path, offline: Any
) -> None:
    for file in segformer.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_settings(tmp_path, **settings)
    frame = Frame(picture(128, 192), 0)
    assert load_network(str(tmp_path), CPU).log_probabilities(frame).shape == shape


def test_a_class_file_replaces_the_names_of_a_model(segformer: Path, tmp_path: Path) -> None:
    path = write_classes(tmp_path / "mine.yaml", "Road", "Sky", "Car")
    assert load_network(str(segformer), CPU, str(path)).catalog == load_catalog(str(path))
    with pytest.raises(ValueError, match="predicts 3 classes, but cityscapes has 19"):
        load_network(str(segformer), CPU, "cityscapes")


def test_what_transformers_cannot_load_is_named(
    segformer: Path, tmp_path: Path, offline: Any
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((segformer / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"nothing")
    write_settings(broken, size=64)
    no_size = tmp_path / "no_size"
    no_size.mkdir()
    (no_size / "config.json").write_bytes((segformer / "config.json").read_bytes())
    write_settings(no_size, size={"max_height": 3})
    other = tmp_path / "other"
    offline.BertConfig().save_pretrained(other)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, said in (
        (broken, ""),
        (no_size, "nor a shortest edge: {'max_height': 3}"),
        (other, "a bert is no segmentation model"),
        (empty, "config.json"),
        ("nobody/nothing", "nobody/nothing"),
    ):
        with pytest.raises(ValueError, match="cannot be loaded by transformers") as caught:
            load_network(str(folder), CPU)
        assert str(folder) in str(caught.value) and said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["transformers", "onnxruntime"])
def test_a_missing_library_is_named(
    library: str, blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "network.yaml", *NAMES)
    network = tmp_path if library == "transformers" else write_onnx(tmp_path, blocks)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=f"network: {network} needs {library}: pip install"):
        load_network(str(network), CPU)


def test_a_torchvision_that_does_not_fit_is_named(segformer: Path, tmp_path: Path) -> None:
    """transformers imports it where there is one, and fails with what it raises."""
    package, about = tmp_path / "torchvision", tmp_path / "torchvision-0.1.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is gone')")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n")
    code = (
        "import sys, torch\n"
        "from sam2vss_ros.semantics.networks.loading import load_network\n"
        "load_network(sys.argv[1], torch.device('cpu'))\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, segformer],
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    (last,) = done.stderr.strip().splitlines()[-1:]
    assert last.startswith(f"ValueError: network: {segformer} cannot be loaded by transformers:")
    assert last.endswith(
        "nms is gone: this torchvision does not fit this torch, install one that does or none"
    )


# -- the embedded network


def test_street_is_embedded() -> None:
    network = load_network("street", CPU)
    assert network.name == "street" and network.catalog == load_catalog("camvid")
    assert_distribution(network.log_probabilities(Frame(picture(96, 128), 0)), 11)
    by_path = load_network(str(WEIGHTS), CPU)
    image = picture(96, 128)
    assert torch.equal(
        by_path.log_probabilities(Frame(image, 0)), network.log_probabilities(Frame(image, 0))
    )
    with pytest.raises(ValueError, match="network_classes: street has its classes"):
        load_network("street", CPU, "camvid")


# -- label images


def test_labels_become_probabilities() -> None:
    network = LabelImages(catalog("road", "sky", "car"), CPU)  # ids 0, 3, 6
    labels = np.array([[0, 3, 6], [255, 1, 60000]], np.uint16)
    answer = network.log_probabilities(Frame(picture(8, 8), 0, labels))
    assert_distribution(answer, 3)
    torch.testing.assert_close(answer[:, 0, 0].exp(), torch.tensor([0.9, 0.05, 0.05]))
    assert answer[:, 0].argmax(0).tolist() == [0, 1, 2]
    torch.testing.assert_close(answer[:, 1].exp(), torch.full((3, 3), 1 / 3))


# -- label sets that meet


class Fixed:
    """A network that always says the same."""

    name = "fixed"

    def __init__(self, names: list[str], probabilities: list[float]) -> None:
        self.catalog = catalog(*names)
        self._log = torch.tensor(probabilities).log()[:, None, None].expand(-1, 2, 3)

    def accepts(self, frame: Frame) -> bool:
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        return self._log


FRAME = Frame(picture(8, 8), 0)


def said(network: Any) -> list[float]:
    answer = network.log_probabilities(FRAME)
    assert_distribution(answer, len(network.catalog))
    return answer[:, 0, 0].exp().tolist()


def test_several_classes_add_up_to_one() -> None:
    network = Fixed(["car", "truck", "road"], [0.3, 0.4, 0.3])
    mapped = map_classes(
        network, catalog("Road", "Car"), {"car": "Car", "truck": "Car", "road": "Road"}
    )
    assert said(mapped) == pytest.approx([0.3, 0.7], abs=1e-3)
    assert mapped.name == "fixed" and [c.name for c in mapped.catalog.classes] == ["Road", "Car"]


def test_without_a_map_names_meet_exactly(caplog: pytest.LogCaptureFixture) -> None:
    network = Fixed(["sky", "Car", "car", "road"], [0.4, 0.1, 0.3, 0.2])
    with caplog.at_level(logging.WARNING):
        mapped = map_classes(network, catalog("road", "car", "dog"), {})
    assert said(mapped) == pytest.approx([0.4, 0.6, 0], abs=1e-3)
    (record,) = caplog.records
    assert "left out since test has no such class: sky, Car; not known to it: dog" in record.message
    said(mapped)
    assert len(caplog.records) == 1


def test_the_same_classes_need_no_mapping() -> None:
    network = Fixed(["road", "car"], [0.5, 0.5])
    assert map_classes(network, catalog("road", "car"), {}) is network
    assert isinstance(map_classes(network, catalog("car", "road"), {}), MappedNetwork)


def test_where_all_that_it_sees_is_left_out_nothing_is_said() -> None:
    mapped = map_classes(Fixed(["sky", "road"], [1.0, 0.0]), catalog("road", "car"), {})
    assert said(mapped) == pytest.approx([0.5, 0.5])


def test_nothing_in_common_lists_both() -> None:
    with pytest.raises(ValueError, match="no name is in both") as caught:
        map_classes(Fixed(["sky", "road"], [0.5, 0.5]), catalog("Sky", "Road"), {})
    assert "sky, road" in str(caught.value) and "Sky, Road" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"skye": "Sky"}, "network fixed has no class skye; it has sky, road"),
        ({"sky": "Himmel"}, "catalog test has no class Himmel; it has Sky, Road"),
    ],
)
def test_a_map_with_a_name_that_is_not_there(names: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^class_map: {reason}"):
        map_classes(Fixed(["sky", "road"], [0.5, 0.5]), catalog("Sky", "Road"), names)


def test_cityscapes_becomes_camvid() -> None:
    theirs, ours = load_catalog("cityscapes"), load_catalog("camvid")
    names = load_class_map("cityscapes_to_camvid")
    assert set(names) == {c.name for c in theirs.classes} and len(theirs) == 19
    assert set(names.values()) == {c.name for c in ours.classes}
    labels = LabelImages(theirs, CPU)
    mapped = map_classes(labels, ours, names)
    seen = np.array([[0, 14, 11, 18, 8, 9, 7]], np.uint8)
    answer = mapped.log_probabilities(Frame(picture(8, 8), 0, seen))
    found = [ours.classes[i].name for i in answer[:, 0].argmax(0).tolist()]
    assert found == ["Road", "Car", "Pedestrian", "Bicyclist", "Tree", "Tree", "SignSymbol"]


@pytest.mark.parametrize("content", ["a: [", "- road", "road: 3", "just words"])
def test_a_file_that_is_no_map(content: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match="^class_map: ") as caught:
        load_class_map(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_map_is_named_with_those_that_are_shipped() -> None:
    for name in ("mine.yaml", "mine"):
        with pytest.raises(FileNotFoundError, match=r"mine.*shipped by name: cityscapes_to_camvid"):
            load_class_map(name)


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
    return open_pipeline(PipelineConfig.from_mapping({"device": "cpu", "threads": 1} | options))


def of_redness(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return image[..., 0] > 150


def test_mode_network_is_the_heads_prediction_alone() -> None:
    pipe = pipeline(mode="network", network="head")
    image = street()
    result = pipe.process(Frame(image, 1))
    assert not result.objects and not result.instance_image.any() and not result.keyframe
    assert list(result.timings_ms) == ["encode", "fuse"]
    refined = pipeline(mode="refine", network="head", discovery="off").process(Frame(image, 1))
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
    config = PipelineConfig(device="cpu", threads=1, mode="refine", network=str(redness))
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


def test_auto_is_street_beside_the_embedded_semantics(tmp_path: Path) -> None:
    assert pipeline().config.network == "street"
    path = tmp_path / "mine.safetensors"
    path.write_bytes(EMBEDDED.read_bytes())
    assert pipeline(semantics=str(path)).config.network == "head"


@pytest.mark.parametrize("mode", ["refine", "classify", "fused", "network"])
def test_street_serves_every_mode(mode: str) -> None:
    pipe = pipeline(mode=mode, network="street")
    result = pipe.process(Frame(street(), 1))
    assert pipe.catalog == load_catalog("camvid") and "network" in result.timings_ms
    for other in ("network", "refine", "classify", "fused"):
        pipe.reconfigure(mode=other)


@pytest.mark.parametrize("option", ["network_classes", "class_map"])
def test_the_head_takes_no_other_classes(option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option}: the head has the classes of the semantics"):
        pipeline(network="head", **{option: "camvid"})


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
