"""Other people's SAM 2: a YAML file in the form of the `sam2` package's own configurations.

    model:
      _target_: sam2.modeling.sam2_base.SAM2Base
      image_encoder: ...            # as in sam2/configs/sam2.1
      image_size: 512
    sam2vss:                        # optional: what suits the model, and sizes of its decoder
      discovery: regions
      decoder: {num_heads: 4, mlp_dim: 256, iou_head_hidden_dim: 64}

Its weights are the option `checkpoint`, or lie beside it under its name, `.safetensors` or `.pt`.
A file is data: it names modules of `sam2.modeling` and plain values, nothing else is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2vss_ros.config import MODEL_FILES
from sam2vss_ros.errors import InputError, brief, reason_of
from sam2vss_ros.io.yaml_files import read_yaml
from sam2vss_ros.options import Checked, Option, check, option, options_of

SIZE_STEP = 32
"""Hiera tiles an 8 x 8 position embedding over a stride-4 grid: sides are multiples of 32."""

TARGET = "_target_"
"""The key under which hydra's configurations name a class."""

MODULES = "sam2.modeling."
"""What the name of every class begins with."""

FORBIDDEN = ("weights_path", "compile_image_encoder")
"""Arguments of upstream's that unpickle another file, or compile."""


@dataclass(frozen=True)
class Habits(Checked):
    """What suits a model: the defaults of the pipeline's options with it, see `ModelCard`."""

    discovery: str = option(
        "grid", "source of new objects", choices=("regions", "things", "objects", "grid", "off")
    )
    points: bool = option(True, "points and boxes become masks; otherwise the region under them")
    threads: int = option(0, "CPU threads, 0: all cores", low=0, high=256)
    max_objects: int = option(32, "most objects in memory", low=1, high=256)
    engine: str = option("exact", "how objects are tracked", choices=("exact", "fast"))


@dataclass(frozen=True)
class DecoderSizes(Checked):
    """Sizes of the mask decoder that `SAM2Base` has no arguments for; its own are the defaults."""

    num_heads: int = option(8, "heads of its attention", low=1, high=64)
    mlp_dim: int = option(2048, "width of its transformer's MLPs", low=1, high=8192)
    iou_head_hidden_dim: int = option(256, "width of its IoU head", low=1, high=8192)


@dataclass(frozen=True)
class ModelFile:
    """A YAML file that was read. settings: of `model`, plain values in mappings and lists."""

    settings: dict[str, Any]
    habits: Habits
    decoder: DecoderSizes

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels; upstream's default where the file does not say."""
        return int(self.settings.get("image_size", 512))


def is_model_file(name: str) -> bool:
    """Whether a model's name is the path of a YAML file."""
    return name.endswith(MODEL_FILES)


def read_model_file(path: Path) -> ModelFile:
    """Read and check a file; nothing is built.

    Raises InputError, a ValueError, naming the file, the place in it and what is wrong.
    """
    from omegaconf import OmegaConf  # which takes memory that other models need not have

    if not path.is_file():
        raise InputError(f"model: {path} is not a file")
    try:
        read_yaml(path)  # which bounds it; omegaconf reads numbers such as 1e-6 as hydra does
        content = OmegaConf.to_container(OmegaConf.load(path))
        return _checked(content)
    except (ValueError, TypeError) as error:
        raise InputError(f"model: {path}: {error}") from error
    except Exception as error:  # omegaconf has errors of many kinds
        raise InputError(f"model: {path} cannot be read: {reason_of(error)}") from error


def _checked(content: Any) -> ModelFile:
    settings = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(settings, dict) or TARGET not in settings:
        raise ValueError(f"no configuration of SAM 2: a mapping model with {TARGET} is missing")
    for place, key, value in _values(settings, "model"):
        _check_value(place, key, value)
    side = Option("side of the square input in pixels", low=32, high=2048)
    size = check("model.image_size", settings.get("image_size", 512), 512, side)
    if int(size) % SIZE_STEP:  # type: ignore[arg-type]
        raise ValueError(f"model.image_size: {size} is not a multiple of {SIZE_STEP}")
    ours = _mapping("sam2vss", content.get("sam2vss"))
    sizes = _mapping("sam2vss.decoder", ours.pop("decoder", None))
    habits = _options("sam2vss", Habits, ours)
    return ModelFile(settings, habits, _options("sam2vss.decoder", DecoderSizes, sizes))


def _values(node: Any, place: str, key: object = "") -> Iterator[tuple[str, object, Any]]:
    """Every value under a node, with its place and its key."""
    if isinstance(node, dict | list):
        inside = node.items() if isinstance(node, dict) else ((key, value) for value in node)
        for name, value in inside:
            yield from _values(value, f"{place}.{name}" if isinstance(node, dict) else place, name)
    else:
        yield place, key, node


def _check_value(place: str, key: object, value: Any) -> None:
    """Raise ValueError for what is no plain argument of a module of SAM 2."""
    if key == TARGET:
        if not isinstance(value, str) or not value.startswith(MODULES):
            raise ValueError(
                f"{brief(place)}: {brief(repr(value))} is not built, only classes of "
                f"{MODULES.rstrip('.')} are"
            )
    elif not isinstance(key, str) or key.startswith("_"):
        raise ValueError(f"{brief(place)}: of hydra's own keys only {TARGET} is known")
    elif isinstance(value, str) and "${" in value:
        raise ValueError(f"{brief(place)}: {brief(value)} is not looked up, write the value")
    elif key in FORBIDDEN and value:
        raise ValueError(f"{brief(place)}: leave it out; weights come from the checkpoint alone")


def _mapping(place: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {brief(repr(value))} is no mapping")
    return dict(value)


def _options(place: str, kind: type[Checked], values: Mapping[str, object]) -> Any:
    """The options of a block. Raises ValueError or TypeError naming them and the block."""
    known = options_of(kind)
    for name in values:
        if name not in known:
            raise ValueError(f"{place}: {brief(name)} is not one of {', '.join(known)}")
    try:
        return kind.from_mapping(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}.{error}") from error
