"""Read checkpoints as people have them, and give their weights to a network.

A checkpoint is data: only tensors, plain values and numpy's numbers are unpickled, never code.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from sam2vss_ros.errors import ModelUnavailableError, one_line, reason_of
from sam2vss_ros.io.stand_ins import BEGIN, stand_in

WRAPPERS = ("model", "state_dict", "model_state_dict", "network", "net", "module", "weights")
"""Keys under which training programs save the weights, beside the optimiser and the like."""

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "sam2.")
"""What wrappers (DistributedDataParallel, torch.compile, Lightning) put before every name."""

MAX_NESTING = 4


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, whatever its suffix, key and prefix.

    It is a file of torch.save, with the weights bare or under one of `WRAPPERS`, or of safetensors.
    Raises ModelUnavailableError naming what the file is instead, or what in it is no data.
    """
    refusal = f"checkpoint {path} cannot be read"
    try:
        instead = stand_in(path)
        if instead:
            raise ModelUnavailableError(f"{refusal}, it is no checkpoint: {instead}")
        with path.open("rb") as file:
            begin = file.read(BEGIN)
        if _is_safetensors(begin):
            return _unwrapped(load_file(path))
        if not _is_torch(begin):
            raise ValueError("neither torch.save nor safetensors wrote it")
        content = _load(path, begin, refusal)
    except ModelUnavailableError:
        raise
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        raise ModelUnavailableError(
            f"{refusal}, it is truncated or no checkpoint: {reason_of(error)}"
        ) from error
    weights = _find_weights(content)
    if weights is None:
        raise ModelUnavailableError(
            f"checkpoint {path} is not in Meta's format: tensors by name, alone or under "
            f"{' or '.join(WRAPPERS[:2])}; {_contents(content)}"
        )
    return _unwrapped(weights)


def load_weights(
    network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path, name: str
) -> None:
    """Copy `weights` into the network, converted to its float32.

    Raises ModelUnavailableError naming the first keys and shapes that do not match, or that hold
    what is no number.
    """
    own = network.state_dict()
    both = sorted(own.keys() & weights.keys())
    problems = [
        _first("missing", own.keys() - weights.keys()),
        _first("unexpected", weights.keys() - own.keys()),
        _first(
            "of another shape",
            (
                f"{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
                for key in both
                if weights[key].shape != own[key].shape
            ),
        ),
    ]
    if any(problems):
        looks = _look(weights, own)
        looks = "" if name in looks else looks
        raise ModelUnavailableError(
            f"checkpoint {path} is not of model {name}{looks and f', but {looks}'}: "
            f"{'; '.join(p for p in problems if p)}"
        )
    converted = {}
    for key in both:
        value = weights[key]
        if value.is_floating_point() != own[key].is_floating_point() or value.is_complex():
            raise ModelUnavailableError(
                f"checkpoint {path}: {key} is {value.dtype}, not {own[key].dtype}: quantised "
                "weights are not read"
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise ModelUnavailableError(
                f"checkpoint {path}: {key} is {value.layout} on {value.device}, no plain tensor"
            )
        converted[key] = value.to(own[key].dtype)
    broken = [key for key, value in converted.items() if not value.isfinite().all()]
    if broken:
        raise ModelUnavailableError(
            f"checkpoint {path} is damaged, or its training failed: "
            f"{_first('with NaN or infinite weights', broken)}"
        )
    network.load_state_dict(converted)


def _is_safetensors(begin: bytes) -> bool:
    return begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") < 1 << 32


def _is_torch(begin: bytes) -> bool:
    """By torch.save: a zip, before version 1.6 a pickle (protocol 2 and later), or once a tar."""
    return begin.startswith((b"PK\x03\x04", b"\x80")) or begin[257:262] == b"ustar"


def _load(path: Path, begin: bytes, refusal: str) -> Any:
    """What torch.save wrote. Raises ModelUnavailableError for code, and whatever torch raises."""
    if begin.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if any("/code/" in entry.filename for entry in entries):
            raise ModelUnavailableError(
                f"{refusal}: it is a TorchScript program, not weights; save its state_dict()"
            )
        # torch.save does not compress: what unpacks to more than the file is made to fill memory.
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ModelUnavailableError(f"{refusal}: it is compressed, torch.save did not write it")
    try:
        # An open file, since by its name torch would take it for another format.
        with path.open("rb") as file, torch.serialization.safe_globals(_plain_data()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        if named is None or "not an allowed global" not in str(error):
            raise
        raise ModelUnavailableError(
            f"{refusal}: beside tensors it holds {named[1]}, and only data is read, since "
            "unpickling such a thing runs code; where you trust the file, save its weights alone "
            "with torch.save({'model': model.state_dict()}, 'weights.pt') and give that"
        ) from error


def _plain_data() -> list[Any]:
    """Besides tensors: numpy's numbers and argparse's options, which are data all the same."""
    scalar = type(np.float32(0)).__reduce__(np.float32(0))[0]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"]
    names: list[Any] = [scalar, np.dtype, argparse.Namespace, *kinds]
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6):
        # numpy 1 and 2 have it in different places; the file's may be the other one.
        names += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return names


def _find_weights(content: Any, nesting: int = MAX_NESTING) -> dict[str, torch.Tensor] | None:
    """The mapping of names to tensors: the content, what is in it under a usual key, or the only
    one in it."""
    if not isinstance(content, Mapping) or nesting == 0:
        return None
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    # Some are mixed with numbers, such as the epoch.
    if 2 * len(tensors) > len(content) and all(isinstance(name, str) for name in tensors):
        return tensors
    for key in WRAPPERS:
        found = _find_weights(content.get(key), nesting - 1)
        if found is not None:
            return found
    inside = [w for v in content.values() if (w := _find_weights(v, nesting - 1)) is not None]
    return inside[0] if len(inside) == 1 else None


def _contents(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}"
    return f"it holds {one_line(', '.join(map(str, list(content)[:10])), 100) or 'nothing'}"


def _unwrapped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the prefixes that all names have in common."""
    for _ in range(MAX_NESTING):
        for prefix in PREFIXES:
            if weights and all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): v for name, v in weights.items()}
                break
        else:
            break
    return weights


BLOCKS = {12: "tiny", 16: "small", 24: "base_plus", 48: "large"}
"""Blocks of the trunk by the size of a SAM 2."""


def _look(weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """What a checkpoint looks like, where that can be told by its names."""
    if "mask_decoder.mask_tokens.weight" in weights:
        return "of the first SAM, not SAM 2"
    if "maskmem_tpos_enc" not in weights:
        return ""
    if "spatial_perceiver.latents" in weights:
        return "looks like edgetam"
    block = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
    depth = max((int(m[1]) + 1 for key in weights if (m := block.match(key))), default=0)
    size = BLOCKS.get(depth, "")
    if "no_obj_embed_spatial" in own and "no_obj_embed_spatial" not in weights:
        of = f"of SAM 2.0 (July 2024){size and f', sam2_hiera_{size}'}"
        return f"{of}, which lacks parts of SAM 2.1 (September 2024): take sam2.1_hiera_*.pt"
    return f"looks like sam2.1_hiera_{size}" if size else ""


def _first(problem: str, keys: Iterable[str], shown: int = 3) -> str:
    found = sorted(keys)
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    listed = ", ".join(one_line(key, 100) for key in found[:shown])
    return f"{len(found)} {problem}: {listed}{more}" if found else ""
