"""Every option of the pipeline and the node, declared once: name, default, meaning, allowed values.

The command line, the ROS parameters and the launch file read these declarations; `sam2vss config`
prints `config/vss.yaml` and the README's table from them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sam2vss_ros.errors import one_line

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Option:
    """What is known of one option: its meaning and its allowed values.

    `choices` lists the allowed strings; `low` and `high` bound a number (both included).
    `live` options may change while the pipeline runs; the others are read when it is built.
    `heading` begins a new part of the parameter file, up to the next option that has one.
    """

    description: str
    choices: Sequence[str] = ()
    low: float | None = None
    high: float | None = None
    live: bool = False
    heading: str = ""

    @property
    def meaning(self) -> str:
        """The description, followed by the choices where it does not name them all itself."""
        if all(re.search(rf"\b{re.escape(c)}\b", self.description) for c in self.choices):
            return self.description
        return f"{self.description}. One of {', '.join(self.choices)}"


def option(default: Value, description: str, **others: Any) -> Any:
    """A dataclass field that carries its `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(description, **others)})


def options_of(config: type) -> dict[str, tuple[Value, Option]]:
    """Name -> (default, Option) of a dataclass made of `option` fields, in order."""
    return {
        f.name: (cast(Value, f.default), f.metadata["option"]) for f in dataclasses.fields(config)
    }


def check(name: str, value: object, default: Value, limits: Option) -> Value:
    """Return `value`, converted to the type of `default`.

    Raises TypeError or ValueError, naming the option and what it allows.
    """
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(default) is tuple:
        value = _names(name, value)
    if type(value) is not type(default):
        kind = type(default).__name__
        shown = one_line(repr(value), 100)
        raise TypeError(f"{name}: {shown} is a {type(value).__name__}, it takes a {kind}")
    if limits.choices and value not in limits.choices:
        raise ValueError(
            f"{name}: {one_line(repr(value), 100)} is not one of {', '.join(limits.choices)}"
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = limits.low, limits.high
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            bounds = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
            raise ValueError(f"{name}: {value} is outside {bounds}")
    return value  # type: ignore[return-value]


def _names(name: str, value: object) -> tuple[str, ...]:
    """A list of names, each of which can be a part of a ROS name, and none of which is there twice.

    Raises TypeError or ValueError.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        shown = one_line(repr(value), 100)
        raise TypeError(f"{name}: {shown} is a {type(value).__name__}, it takes a list of names")
    for item in value:
        if not isinstance(item, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", item):
            shown = one_line(repr(item), 100)
            raise ValueError(f"{name}: {shown} is no name: letters, digits and _, a letter first")
    if len(set(value)) < len(value):
        raise ValueError(f"{name}: {one_line(', '.join(value))}: each name counts once")
    return tuple(value)


class Checked:
    """Base of configuration dataclasses: checks every field when an instance is made."""

    def __post_init__(self) -> None:
        for name, (default, limits) in options_of(type(self)).items():
            object.__setattr__(self, name, check(name, getattr(self, name), default, limits))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Any:
        """Build from a mapping. Raises ValueError for a name that does not exist."""
        known = options_of(cls)
        for name in values:
            if name not in known:
                raise ValueError(
                    f"{one_line(name, 100)}: no such option; there are {', '.join(known)}"
                )
        return cls(**values)


DENSE_MODES = ("network", "refine")
"""Modes that need no more than the dense prediction."""


@dataclass(frozen=True)
class PipelineConfig(Checked):
    """The options of `VssPipeline`."""

    model: str = option(
        "mobile",
        "model that follows objects: mobile, which compares frames, and nano, a small SAM 2 to try "
        "the engine with, are embedded; the others are Meta's",
        choices=(
            "mobile",
            "nano",
            "sam2.1_hiera_tiny",
            "sam2.1_hiera_small",
            "sam2.1_hiera_base_plus",
            "sam2.1_hiera_large",
        ),
        heading="The model",
    )
    checkpoint: str = option(
        "", "path of the model's weights in Meta's .pt format; empty looks in the usual places"
    )
    semantics: str = option(
        "street",
        "classes: street (embedded, CamVid) or a .safetensors file of sam2vss train semantics",
    )
    classes: str = option(
        "",
        "class file (YAML) that renames and recolours the classes of the semantics; empty: theirs",
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N; auto takes the GPU where there is one")
    precision: str = option(
        "float32", "arithmetic of the model on a GPU", choices=("float32", "bfloat16", "float16")
    )
    image_size: int = option(
        0,
        "longer side of the model's input in pixels, a multiple of 32 (SAM 2 sees a square); "
        "0: the model's own",
        low=0,
        high=2048,
    )
    target_fps: float = option(
        0.0,
        'frames per second to keep by leaving out what matters least, see "When time is short"; '
        "0: nothing is left out",
        low=0.0,
        high=1000.0,
        live=True,
    )
    threads: int = option(
        0,
        "CPU threads of the model; 0: what suits it (mobile two, nano one, others all cores)",
        low=0,
        high=256,
    )
    mode: str = option(
        "fused",
        "how labels are made: refine (masks take the dense majority), classify (masks take the "
        "class of their features), fused (both as evidence) or network (the dense prediction "
        "alone, no objects)",
        choices=("refine", "classify", "fused", "network"),
        live=True,
        heading="Labels",
    )
    network: str = option(
        "head",
        "network of the dense prediction: head (of the semantics), topic (label images of another "
        "node), a file (.onnx, or TorchScript .pt or .ts), or a model of the library transformers "
        "(folder, or name on the hub once it was fetched)",
    )
    allow_torchscript: bool = option(
        False,
        "run a TorchScript network also where it does more than compute, such as open files; it is "
        "a program: only where you trust who made it",
    )
    network_classes: str = option(
        "",
        "class file (YAML, or the name of a shipped one) of the network; empty: its own, which a "
        "topic has not: then those of the semantics",
    )
    class_map: str = option(
        "",
        "file (YAML, or the name of a shipped one) that joins the network's classes to those of "
        "the semantics; empty: equal names meet, and in modes network and refine its own classes "
        "are published",
    )
    min_class_score: float = option(
        0.3,
        "pixels and objects less sure of their class than this are unlabelled; in scenes unlike "
        "those that the semantics know all are less sure",
        low=0.0,
        high=1.0,
        live=True,
    )
    unlabelled_id: int = option(
        255, "label of pixels without a class; the catalog may not use it", low=0, high=65535
    )
    belief_memory: float = option(
        0.9,
        "share of its class evidence that an object keeps from frame to frame",
        low=0.0,
        high=0.999,
        live=True,
    )
    discovery: str = option(
        "auto",
        "source of new objects: regions (of the dense prediction), things (those that can be "
        "counted), objects (things, and whatever moves by itself), grid (of points), off (prompts "
        "only) or auto (what suits the model)",
        choices=("auto", "regions", "things", "objects", "grid", "off"),
        heading="Finding objects",
    )
    keyframe_interval: int = option(
        32, "frames from one search for new objects to the next", low=1, high=10000, live=True
    )
    min_unexplained: float = option(
        0.25,
        "share of pixels without an object that calls for a search before its time",
        low=0.0,
        high=1.0,
        live=True,
    )
    min_area: float = option(
        0.003, "least area of a new object, as a share of the image", low=0.0, high=1.0, live=True
    )
    points_per_side: int = option(16, "side of discovery's point grid", low=1, high=64)
    pred_iou_thresh: float = option(
        0.6, "grid: least predicted IoU of a new mask", low=0.0, high=1.0, live=True
    )
    stability_score_thresh: float = option(
        0.8, "grid: least stability of a new mask", low=0.0, high=1.0, live=True
    )
    stability_score_offset: float = option(
        0.9, "grid: logit offset of the stability score", low=0.0, high=10.0, live=True
    )
    max_objects: int = option(
        0,
        "most objects in memory at a time; 0: what suits the model (mobile 16, nano 6, others 32)",
        low=0,
        high=256,
        heading="Remembering objects",
    )
    engine: str = option(
        "auto",
        "how objects are tracked: exact (SAM 2's arithmetic), fast (steady objects are followed "
        "every second frame; from 512 pixels on in windows around them) or auto (what suits the "
        "model: nano fast, others exact)",
        choices=("auto", "exact", "fast"),
    )
    memory_interval: int = option(
        1,
        "frames from one memory of an object to the next; 1: every frame, as SAM 2 does",
        low=1,
        high=30,
    )
    confirm_frames: int = option(
        2, "frames an object must be seen to be confirmed", low=1, high=100, live=True
    )
    lost_after: int = option(
        8, "frames without sight after which an object is lost", low=1, high=10000, live=True
    )
    forget_after: int = option(
        300, "frames after which a lost object is forgotten", low=1, high=1000000, live=True
    )
    revive_similarity: float = option(
        0.8,
        "least cosine similarity of appearance for a lost object to come back",
        low=0.0,
        high=1.0,
        live=True,
    )


@dataclass(frozen=True)
class NodeConfig(Checked):
    """The options of the node itself; those of the pipeline are in `PipelineConfig`."""

    cameras: tuple[str, ...] = option(
        (),
        "names of the cameras, such as [front, rear], each with topics of its own: front/image in, "
        "~/front/label_image out; all share the networks. []: one camera, without a name",
        heading="The cameras",
    )
    image_transport: str = option(
        "raw",
        "raw subscribes to image (sensor_msgs/Image), compressed to image/compressed "
        "(sensor_msgs/CompressedImage)",
        choices=("raw", "compressed"),
    )
    input_reliability: str = option(
        "auto",
        "reliability of the image subscription; auto follows the publisher it finds",
        choices=("auto", "reliable", "best_effort"),
    )
    overload: str = option(
        "latest",
        "when images come faster than they are processed: latest takes the newest and drops the "
        "others, all takes every image in order",
        choices=("latest", "all"),
    )
    queue_size: int = option(
        300,
        "overload all: images that may wait (they take memory); those beyond are dropped, counted "
        "and reported",
        low=1,
        high=100000,
    )
    start_enabled: bool = option(
        True, "process images from the start; otherwise wait for the service ~/enable"
    )
    no_image_warning: float = option(
        5.0,
        "seconds without an image after which the reason is looked for and logged",
        low=0.5,
        high=3600.0,
        live=True,
    )
    release_after: float = option(
        300.0,
        "seconds without an image after which a camera's objects are forgotten and their memory is "
        "given back until its next image; 0: never",
        low=0.0,
        high=1000000.0,
        live=True,
    )
    network_timeout: float = option(
        0.5,
        "network topic: seconds that an image waits for its labels on dense_labels; then the head "
        "stands in for them, or the image is skipped where the head has other classes",
        low=0.0,
        high=60.0,
        live=True,
    )
    output_width: int = option(
        0,
        "width in pixels of the label, confidence and instance images, resized by nearest "
        "neighbour; 0: the camera's, or in proportion to output_height",
        low=0,
        high=16384,
        live=True,
        heading="Output",
    )
    output_height: int = option(
        0,
        "their height in pixels; 0: the camera's, or in proportion to output_width",
        low=0,
        high=16384,
        live=True,
    )
    diagnostics_period: float = option(
        1.0, "seconds from one message on /diagnostics to the next", low=0.1, high=60.0
    )
    autostart: bool = option(
        True,
        "configure and activate at the start; set it to false where a lifecycle manager does. "
        "Read once, when the process starts",
        heading="The node's life",
    )


OPTIONS: dict[str, tuple[Value, Option]] = options_of(PipelineConfig) | options_of(NodeConfig)
"""Every parameter of the node."""
