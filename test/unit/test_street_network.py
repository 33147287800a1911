"""The embedded segmentation network: inference and its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sam2vss_ros.semantics.networks import embedded
from sam2vss_ros.semantics.networks.embedded import (
    WEIGHTS,
    load_embedded,
    read_embedded,
    save_embedded,
)
from sam2vss_ros.training import network
from sam2vss_ros.training.data import load_stills
from sam2vss_ros.types import Frame
from street_stills import CAMVID, CARD, CPU, worn_network

# -- inference


def test_folding_changes_nothing_but_the_form() -> None:
    model, images = worn_network(), torch.randn(1, 3, 64, 96)
    inference = embedded.folded(model)
    kinds = [type(m) for m in inference.modules()]
    assert torch.nn.BatchNorm2d not in kinds and embedded.Convolution not in kinds
    with torch.no_grad():
        torch.testing.assert_close(inference(images), model(images), rtol=1e-4, atol=1e-4)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize("bfloat16", [False, True])
def test_log_probabilities_are_those_of_training(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool
) -> None:
    """The image comes through the network as in training, calibrated, at a quarter of its size."""
    monkeypatch.setattr(embedded, "native_bfloat16", lambda device: bfloat16)
    model = worn_network()
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    found = embedded.ready(model, CARD, "street", CPU).log_probabilities(Frame(image, 0))
    with torch.no_grad():
        logits = model(embedded.normalised(torch.from_numpy(image).permute(2, 0, 1)[None]))[0]
    assert found.dtype == torch.float32 and found.shape == (11, 16, 24)
    tolerance = 0.1 if bfloat16 else 1e-3
    expected = F.log_softmax(logits / CARD.temperature, 0)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("shape", "quarter"),
    [((48, 64), (16, 24)), ((240, 60), (64, 16)), ((1, 1), (16, 16)), ((500, 900), (16, 32))],
)
def test_images_of_any_shape(shape: tuple[int, int], quarter: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    found = embedded.ready(worn_network(), CARD, "street", CPU).log_probabilities(Frame(image, 0))
    assert found.shape == (11, *quarter)
    torch.testing.assert_close(found.exp().sum(0), torch.ones(quarter))


# -- the file


def test_the_file_keeps_weights_and_card(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    model = worn_network()
    save_embedded(model, CARD, path)
    again, card = read_embedded(path)
    assert card == CARD
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-3, atol=1e-3)
    loaded = load_embedded(path, CPU)
    assert loaded.name == "mine" and loaded.catalog == CAMVID


def test_what_is_no_file_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    with pytest.raises(FileNotFoundError, match="mine.safetensors does not exist.*train network"):
        load_embedded(path, CPU)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="mine.safetensors is not a file of this network"):
        load_embedded(path, CPU)

    save_embedded(worn_network(), CARD, path)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if "fuse4" not in k}, path, about)
    with pytest.raises(ValueError, match="mine.safetensors is not a file.*fuse4"):
        load_embedded(path, CPU)
    other = json.loads(about["sam2vss"]) | {"network": "OtherNet"}
    save_file(tensors, path, {"sam2vss": json.dumps(other)})
    with pytest.raises(ValueError, match="it holds a OtherNet"):
        load_embedded(path, CPU)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="mine.safetensors is not a file of this network"):
        load_embedded(path, CPU)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="mine.safetensors is not a file of this network"):
        load_embedded(path, CPU)


def test_the_shipped_network_knows_camvid(shared: Path) -> None:
    """Every tenth image of val. The whole of it, and each class: see the model card."""
    stills = load_stills(shared / "data" / "camvid" / "val", CAMVID)[::10]
    score = network.score_network(load_embedded(WEIGHTS, CPU), stills)
    assert score.matrix.miou() > 0.65
    assert score.calibration_error() < 0.04
