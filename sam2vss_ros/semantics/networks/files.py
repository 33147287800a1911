"""Networks in one file, TorchScript (.pt, .ts) or ONNX (.onnx), with a class file beside it.

The network takes (1, 3, height, width) float images and answers with scores (1, K, ., .), K in the
order of the class file; of several outputs the first one counts. The class file has the name of the
network's file with the suffix .yaml. Beside the classes it may say what the network wants; these
are the defaults:

    input:
      size: null                   # [height, width]; null: as the ONNX file says, else the image's
      mean: [0.485, 0.456, 0.406]  # of images from 0 to 1
      std: [0.229, 0.224, 0.225]
      channels: rgb                # or bgr
    output: logits                 # or probabilities
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2vss_ros.semantics.catalog import parse_catalog, read_class_file
from sam2vss_ros.semantics.networks.inputs import parse_input
from sam2vss_ros.semantics.networks.network import TensorNetwork

TORCHSCRIPT, ONNX = (".pt", ".ts"), (".onnx",)

Run = Callable[[Tensor], Tensor]


def load_file(path: Path, device: torch.device, classes: str = "") -> TensorNetwork:
    """Load a TorchScript or ONNX file; `classes` names a class file to use instead of its own.

    Raises FileNotFoundError for a file that is missing; ValueError for one that is damaged, does
    not fit its class file, or needs a library that is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"network: {path} does not exist")
    class_file = path.with_suffix(".yaml")
    if not classes and not class_file.is_file():
        raise FileNotFoundError(
            f"network: {path} needs a class file: {class_file}, or the one that network_classes "
            "names"
        )
    data, source = read_class_file(classes or str(class_file))
    catalog = parse_catalog(data, source)
    prepare = parse_input(data.get("input"), source)
    output = data.get("output", "logits")
    if output not in ("logits", "probabilities"):
        raise ValueError(f"{source}: output is logits or probabilities, not {output}")
    if path.suffix in ONNX:
        run, size = _onnx(path, device)
        prepare = replace(prepare, size=prepare.size or size)
    else:
        run = _torchscript(path, device)

    def log_probabilities(pixels: Tensor) -> Tensor:
        scores = run(pixels)
        if scores.ndim != 4 or not scores.is_floating_point():
            raise ValueError(
                f"its output is {tuple(scores.shape)} of {scores.dtype}, not scores (1, classes, "
                "height, width)"
            )
        scores = scores.float()
        return (scores if output == "logits" else scores.clamp(min=1e-6).log()).log_softmax(1)

    return TensorNetwork(str(path), catalog, prepare, log_probabilities, device)


def _torchscript(path: Path, device: torch.device) -> Run:
    try:
        module = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"network: {path} is damaged or not TorchScript (torch.jit.trace or script makes it; a "
            "checkpoint of weights alone is none)"
        ) from error
    return lambda pixels: _first(module(pixels))


def _first(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


def _onnx(path: Path, device: torch.device) -> tuple[Run, tuple[int, int] | None]:
    """How to run the file, and the size of its input where it is fixed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"network: {path} needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    wanted = [p for p in wanted if p in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[*wanted, "CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own errors have no public base class
        reason = str(error).strip().split("\n", 1)[0]
        raise ValueError(f"network: {path} is damaged or not ONNX: {reason}") from error
    (image, *others) = session.get_inputs()
    if others:
        names = ", ".join(i.name for i in session.get_inputs())
        raise ValueError(f"network: {path} wants more than an image: {names}")
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    if image.type not in kinds or len(image.shape) != 4:
        raise ValueError(
            f"network: {path} takes a {image.type} {image.shape}, not a float image (1, 3, height, "
            "width)"
        )

    def run(pixels: Tensor) -> Tensor:
        array = pixels.cpu().numpy().astype(kinds[image.type])
        return torch.from_numpy(session.run(None, {image.name: array})[0]).to(device)

    height, width = image.shape[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    return run, (height, width) if fixed else None
