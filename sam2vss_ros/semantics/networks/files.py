"""Networks in one file, TorchScript (.pt, .ts) or ONNX (.onnx), with a class file beside it.

The network takes (1, 3, height, width) float images and answers with scores (1, K, ., .), K in the
order of the class file; of several outputs the first one counts. The class file has the name of the
network's file with the suffix .yaml. Beside the classes it may say what the network wants; these
are the defaults:

    input:
      size: null                   # [height, width]; null: as the ONNX file says, else the image's
      multiple: null               # of which sides must be multiples, such as 32; null: is tried
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

from sam2vss_ros.errors import one_line, reason_of
from sam2vss_ros.io.stand_ins import stand_in
from sam2vss_ros.semantics.catalog import parse_catalog, read_class_file
from sam2vss_ros.semantics.networks.inputs import parse_input
from sam2vss_ros.semantics.networks.network import OutputError, TensorNetwork, refuse_broken_weights
from sam2vss_ros.semantics.networks.torchscript import load_torchscript

TORCHSCRIPT, ONNX = (".pt", ".ts"), (".onnx",)

Run = Callable[[Tensor], Tensor]


def load_file(
    path: Path, device: torch.device, classes: str = "", allow_torchscript: bool = False
) -> TensorNetwork:
    """Load a TorchScript or ONNX file; `classes` names a class file to use instead of its own.

    allow_torchscript: run a TorchScript program that does more than compute.

    Raises FileNotFoundError for a file that is missing; ValueError for one that is damaged, does
    not fit its class file, or needs a library that is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"network: {path} does not exist")
    instead = stand_in(path)
    if instead:
        raise ValueError(f"network: {path} is damaged or not a network: {instead}")
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
        raise ValueError(
            f"{source}: output is logits or probabilities, not {one_line(repr(output))}"
        )
    if path.suffix in ONNX:
        run, size = _onnx(path, device)
        prepare = replace(prepare, size=prepare.size or size)
    else:
        module = load_torchscript(path, device, allow_torchscript)
        refuse_broken_weights(str(path), module)

        def run(pixels: Tensor) -> Tensor:
            return _first(module(pixels))

    def log_probabilities(pixels: Tensor) -> Tensor:
        scores = run(pixels)
        if scores.ndim != 4 or not scores.is_floating_point():
            raise OutputError(
                f"its output is {tuple(scores.shape)} of {scores.dtype}, not scores (1, classes, "
                "height, width) of floats"
            )
        scores = scores.float()
        return (scores if output == "logits" else scores.clamp(min=1e-6).log()).log_softmax(1)

    return TensorNetwork(str(path), catalog, prepare, log_probabilities, device)


def _first(output: Any) -> Tensor:
    """The first tensor of nested lists and dictionaries. Raises OutputError where it is none."""
    inner = output
    while isinstance(inner, list | tuple | dict) and inner:
        inner = next(iter(inner.values())) if isinstance(inner, dict) else inner[0]
    if not isinstance(inner, Tensor):
        raise OutputError(
            f"its output is {_a(output)}, not scores (1, classes, height, width)"
            if inner is output
            else f"its output begins with {_a(inner)}, not scores (1, classes, height, width)"
        )
    return inner


def _a(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _onnx(path: Path, device: torch.device) -> tuple[Run, tuple[int, int] | None]:
    """How to run the file, and the size of its input where it is fixed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"network: {path} needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors are ours to tell, once
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    wanted = [p for p in wanted if p in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[*wanted, "CPUExecutionProvider"],
            enable_fallback=int(bool(wanted)),
        )
    except Exception as error:  # onnxruntime's own errors have no public base class
        raise ValueError(f"network: {path} is damaged or not ONNX: {reason_of(error)}") from error
    if len(session.get_inputs()) != 1:
        names = one_line(", ".join(i.name for i in session.get_inputs()) or "nothing")
        raise ValueError(f"network: {path} takes {names}, not one image")
    (image,) = session.get_inputs()
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    shape = image.shape
    # What is no number may be anything.
    fits = len(shape) == 4 and all(
        not isinstance(side, int) or side == wanted
        for side, wanted in zip(shape[:2], (1, 3), strict=True)
    )
    if image.type not in kinds or not fits:
        raise ValueError(
            f"network: {path} takes a {image.type} {one_line(shape)}, not a float image (1, 3, "
            "height, width)"
        )

    def run(pixels: Tensor) -> Tensor:
        array = pixels.cpu().numpy().astype(kinds[image.type])
        found = session.run(None, {image.name: array})[0]
        if not isinstance(found, np.ndarray):
            raise OutputError(f"its output is {_a(found)}, not scores (1, classes, height, width)")
        return torch.from_numpy(found).to(device)

    height, width = shape[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    return run, (height, width) if fixed else None
