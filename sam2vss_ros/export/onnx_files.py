"""Stages as ONNX files; what their tensors are, sizes, classes and licence are in the metadata."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sam2vss_ros import __version__
from sam2vss_ros.errors import InputError, needs_extra, one_line
from sam2vss_ros.export.stages import Stage
from sam2vss_ros.io.outputs import check_folder, refuse_foreign

with needs_extra("export"):
    import onnx
    import onnxscript  # noqa: F401  # which torch's exporter imports

OPSET = 18
"""The lowest that torch's exporter writes; TensorRT reads it from 10 on."""

NAMES = ("trunk.onnx", "head.onnx", "outline.onnx")

PRODUCER = "sam2vss_ros"

MOST_BYTES = 1 << 28
"""A larger file is none of ours."""

TOLERANCE = 1e-3
"""By how much an answer may differ from PyTorch's, as a share of its largest value."""

VERSIONS = "take the versions of requirements.txt"


def check_export(folder: Path, overwrite: bool) -> None:
    """Raise InputError where files cannot be written into `folder`, or would take the place of
    others that no export has written."""
    check_folder("out", folder)
    there = [folder / name for name in NAMES if (folder / name).exists()]
    refuse_foreign("out", folder, all(map(_is_ours, there)), overwrite)


def _is_ours(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return False
    try:
        return bool(onnx.load(path, load_external_data=False).producer_name == PRODUCER)
    except Exception:  # whatever protobuf says of what is none
        return False


def onnx_bytes(stage: Stage) -> bytes:
    """The content of a stage's ONNX file. Raises InputError where torch cannot make it."""
    try:
        with _quiet():
            program = torch.onnx.export(
                stage.module,
                stage.examples[0],
                input_names=list(stage.inputs),
                output_names=list(stage.outputs),
                opset_version=OPSET,
                dynamo=True,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(
            f"{stage.name}: torch {torch.__version__} cannot export it; {VERSIONS}: "
            f"{one_line(error.__cause__ or error)}"
        ) from error
    assert program is not None
    model = program.model_proto
    _forget_source(model.graph)
    model.producer_name, model.producer_version = PRODUCER, __version__
    onnx.helper.set_model_props(
        model, {"stage": stage.name, **stage.about, **stage.inputs, **stage.outputs}
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _forget_source(graph: onnx.GraphProto) -> None:
    """Take out the lines of Python that each node comes from, with the paths of this machine."""
    parts = graph.node, graph.input, graph.output, graph.value_info, graph.initializer, (graph,)
    for part in chain.from_iterable(parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says to its own makers."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def largest_difference(stage: Stage, content: bytes) -> float | None:
    """How far onnxruntime's answers to the stage's examples are from PyTorch's at most; None
    without onnxruntime.

    Raises InputError where an answer differs by more than TOLERANCE.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for example in stage.examples:
        inputs = dict(zip(stage.inputs, (part.numpy() for part in example), strict=True))
        with torch.inference_mode():
            wanted = [part.numpy() for part in stage.module(*example)]
        for name, ours, theirs in zip(
            stage.outputs, wanted, session.run(None, inputs), strict=True
        ):
            largest = max(largest, _difference(f"{stage.name}.onnx: {name}", ours, theirs))
    return largest


def _difference(what: str, ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float:
    difference, scale = float(np.abs(ours - theirs).max()), float(np.abs(ours).max())
    if not difference <= TOLERANCE * max(scale, 1.0):
        raise InputError(
            f"{what} by onnxruntime differs from PyTorch's by {difference:.2g}, of values up to "
            f"{scale:.2g}; nothing was written; {VERSIONS}"
        )
    return difference
