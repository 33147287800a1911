"""Networks of transformers, from a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from network_samples import (
    CPU,
    MEAN,
    NAMES,
    STD,
    Blocks,
    assert_distribution,
    normalised,
    picture,
    write_classes,
    write_onnx,
)
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.loading import load_network
from sam2vss_ros.types import Frame


@pytest.fixture(scope="module")
def offline() -> Any:
    """The library, which downloads nothing here."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    from sam2vss_ros.semantics.networks.pretrained import library

    yield library("test")
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
    ):
        with pytest.raises(ValueError, match="cannot be loaded by transformers") as caught:
            load_network(str(folder), CPU)
        assert str(folder) in str(caught.value) and said in str(caught.value)
        assert "\n" not in str(caught.value)


def copied(folder: Path, to: Path, **entries: Any) -> Path:
    """A folder's copy, with some entries of its config.json changed."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | entries))
    return to


@pytest.mark.parametrize("model_type", ["segformer", "mine"])
@pytest.mark.parametrize("place", ["config.json", "preprocessor_config.json", "backbone_config"])
def test_code_that_a_folder_brings_is_not_run(
    model_type: str, place: str, segformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto_map = {"AutoConfig": "evil.Config", "AutoImageProcessor": "evil.Processor"}
    brings: dict[str, Any] = {"auto_map": auto_map} if place == "config.json" else {}
    if place == "backbone_config":
        brings = {"backbone_config": {"model_type": "swin", "auto_map": auto_map}}
    folder = copied(segformer, tmp_path / "folder", model_type=model_type, **brings)
    if place == "preprocessor_config.json":
        write_settings(folder, size=64, auto_map=auto_map)
        if model_type == "mine":
            return  # told before, as in the other places
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")

    def asked(*_: object) -> str:
        raise AssertionError("somebody was asked whether to run it")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(ValueError, match="auto_map: it brings Python code of its own") as caught:
        load_network(str(folder), CPU)
    assert "\n" not in str(caught.value) and "never run" in str(caught.value)
    assert not (tmp_path / "ran").exists()


class Bomb:
    """Pickles into code that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_code_in_the_weights_of_a_folder_is_not_run(segformer: Path, tmp_path: Path) -> None:
    folder = copied(segformer, tmp_path / "folder")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Bomb(tmp_path / "exploded")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be loaded by transformers") as caught:
        load_network(str(folder), CPU)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kind", ["OneFormerConfig", "DetrConfig"])
def test_universal_models_of_another_kind_are_named(
    kind: str, offline: Any, tmp_path: Path
) -> None:
    """By their config.json alone; their own classes may want what is not installed."""
    getattr(offline, kind)(**LABELS).save_pretrained(tmp_path)
    write_settings(tmp_path, size=64)
    with pytest.raises(ValueError, match=r"a (oneformer|detr) is not supported: of univ") as caught:
        load_network(str(tmp_path), CPU)
    for known in ("maskformer", "mask2former", "eomt", "semantic segmentation model"):
        assert known in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 64, "image_mean": [float("nan")] * 3}, "image_mean is three numbers"),
        ({"size": 64, "image_std": [0.5, 0, 0.5]}, "image_std is three numbers, above 0"),
        ({"size": 64, "rescale_factor": 0}, "float division by zero|image_std"),
        ({"size": {"height": 10**9, "width": 10**9}}, "asks for sides that are no pixels up to"),
        ({"size": {"shortest_edge": 10**9}}, "asks for sides that are no pixels up to"),
        ({"size": {"height": 6.5, "width": 64}}, "asks for sides that are no pixels up to"),
    ],
)
def test_a_folder_that_asks_for_nonsense(
    settings: dict[str, Any], said: str, segformer: Path, tmp_path: Path
) -> None:
    folder = copied(segformer, tmp_path / "folder")
    write_settings(folder, **settings)
    with pytest.raises(ValueError, match=said):
        load_network(str(folder), CPU)


def test_a_clone_without_git_lfs_is_told(segformer: Path, tmp_path: Path) -> None:
    folder = copied(segformer, tmp_path / "folder")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="its model.safetensors has no weights, .* `git lfs pull`"):
        load_network(str(folder), CPU)


def test_a_backbone_alone_is_refused(offline: Any, segformer: Path, tmp_path: Path) -> None:
    """What it lacks, the library would draw at random, and label every pixel by that."""
    from safetensors.torch import load_file, save_file

    folder = copied(segformer, tmp_path / "folder")
    weights = load_file(folder / "model.safetensors")
    backbone = {k: v for k, v in weights.items() if not k.startswith("decode_head")}
    save_file(backbone, folder / "model.safetensors", {"format": "pt"})
    lacks = len([k for k in weights if k.startswith("decode_head") and "running" not in k]) - 1
    with pytest.raises(ValueError, match=f"its weights lack {lacks} of those of the network, such"):
        load_network(str(folder), CPU)


def test_broken_weights_are_refused(offline: Any, segformer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(segformer, tmp_path / "folder")
    weights = load_file(folder / "model.safetensors")
    key = sorted(weights)[-1]
    weights[key].view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="damaged, or its training failed: .* holds NaN"):
        load_network(str(folder), CPU)


@pytest.mark.parametrize("library", ["transformers", "onnxruntime"])
def test_a_missing_library_is_named(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "network.yaml", *NAMES)
    network = tmp_path if library == "transformers" else write_onnx(tmp_path, Blocks(3))
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
