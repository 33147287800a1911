"""Networks on disk for tests, and what they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor, nn

from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass

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


class Blocks(nn.Module):
    """Scores at stride 4, by a convolution that knows its place."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)


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
