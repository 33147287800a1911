"""A GPU that is only pretended: it computes on the CPU, keeps the two apart, and counts.

Tensors on it are of the device `meta`, but have their values. As on a real one, they do not mix
with those of the CPU, and whatever asks for their values waits for the device: `waits` says how
often, and where in the package. Uploads that do not wait are those made with `non_blocking`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import sam2vss_ros

DEVICE = torch.device("meta")
PACKAGE = str(Path(sam2vss_ros.__file__).parent)

aten = torch.ops.aten

SIZED_BY_VALUES = {
    aten.nonzero,
    aten.masked_select,
    aten.unique_consecutive,
    aten._unique2,
    aten.unique_dim,
    aten.unique_dim_consecutive,
    aten._local_scalar_dense,
    aten.item,
    aten.argwhere,
    aten.nonzero_numpy,
    aten.bincount,
    aten.one_hot,
    aten.is_nonzero,
    aten.equal,
    aten.allclose,
}
"""Operators whose answer the host has to know: a GPU must have come so far."""

COPIES = {aten._to_copy, aten.to, aten.copy_, aten.cpu, aten.cuda}


class OnDevice(Tensor):
    """A tensor of the pretended device; `held` are its values on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnDevice:
        with torch.inference_mode(False):  # views of weights are no inference tensors
            return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
                cls,
                values.shape,
                strides=values.stride(),
                storage_offset=values.storage_offset(),
                dtype=values.dtype,
                device=DEVICE,
            )

    def __init__(self, values: Tensor) -> None:
        assert values.device.type == "cpu", values
        self.held = values

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        raise RuntimeError(f"{func}: the pretended GPU is not in use any more")


class PretendedGpu:
    """In use within `with`. waits, uploads: how often, by the line of the package."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.pinned: set[int] = set()

    def __enter__(self) -> PretendedGpu:
        self._modes = ExitStack()
        self._modes.enter_context(_Functions())
        self._modes.enter_context(_Dispatch(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._modes.close()

    def clear(self) -> None:
        """Count from 0 on."""
        self.waits.clear()
        self.uploads.clear()

    def wait(self, what: str) -> None:
        self.waits[f"{_line()} {what}"] += 1


class _Functions(TorchFunctionMode):
    """What never reaches the dispatcher: data of Python that goes to the device."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if func in (torch.tensor, torch.as_tensor) and _is_device(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        if func is Tensor.new_tensor and isinstance(first, OnDevice):
            device = kwargs.pop("device", DEVICE)
            kwargs.setdefault("dtype", first.dtype)
            return torch.tensor(*args[1:], **kwargs).to(device)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(first, OnDevice):
            return func(first, _uploaded(args[1]), *args[2:])
        if func is Tensor.tolist and isinstance(first, OnDevice):
            return first.cpu().tolist()
        if func is Tensor.numpy and isinstance(first, OnDevice):
            raise TypeError("can't convert a tensor of the device to numpy: use Tensor.cpu()")
        return func(*args, **kwargs)


def _uploaded(index: Any) -> Any:
    """An index with what torch would upload by itself, and wait for."""
    if isinstance(index, tuple):
        return tuple(_uploaded(part) for part in index)
    if isinstance(index, list):
        return torch.tensor(index, dtype=None if index else torch.int64).to(DEVICE)
    if isinstance(index, Tensor) and not isinstance(index, OnDevice) and index.dim():
        return index.to(DEVICE)
    return index


class _Dispatch(TorchDispatchMode):
    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        kind = func.overloadpacket
        if kind in (aten.pin_memory, aten._pin_memory):
            pinned = args[0].clone()
            self._gpu.pinned.add(pinned.data_ptr())
            return pinned
        if kind is aten.is_pinned:
            return args[0].data_ptr() in self._gpu.pinned
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        theirs = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
        target = self._target(func, args, kwargs, bool(theirs))
        self._check(func, kind, leaves, theirs)
        if kind in COPIES:
            self._copied(func, args, kwargs, target)
        elif theirs and (kind in SIZED_BY_VALUES or _selects(kind, args)):
            self._gpu.wait(str(kind).removeprefix("aten."))
        kwargs.pop("pin_memory", None)
        found = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        if func._schema.name.endswith("_") and found is _values(args[0]):
            return args[0]  # in place
        if not _is_device(target):
            return found
        return tree_map(lambda v: OnDevice(v) if isinstance(v, Tensor) else v, found)

    def _target(self, func: Any, args: Any, kwargs: dict[str, Any], theirs: bool) -> Any:
        """The device of what comes out."""
        if kwargs.get("device") is not None:
            return kwargs["device"]
        if func is aten.to.device:
            return args[1]
        if func.overloadpacket is aten.to and func is aten.to.other:
            return args[1].device
        if func.overloadpacket is aten.copy_:
            return args[0].device
        return DEVICE if theirs else torch.device("cpu")

    def _check(self, func: Any, kind: Any, leaves: list[Tensor], theirs: list[OnDevice]) -> None:
        for leaf in leaves:
            if leaf.device == DEVICE and not isinstance(leaf, OnDevice):
                raise RuntimeError(f"{func}: a tensor came to the device past the dispatcher")
        ours = [leaf for leaf in leaves if not isinstance(leaf, OnDevice) and leaf.dim()]
        if theirs and ours and kind not in COPIES:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any], target: Any) -> None:
        source = args[1] if func.overloadpacket is aten.copy_ else args[0]
        from_device, to_device = isinstance(source, OnDevice), _is_device(target)
        if from_device == to_device or not source.numel():
            return
        waits = not (kwargs.get("non_blocking") or _non_blocking(func, args))
        if to_device:
            self._gpu.uploads[f"{_line()} {'waits' if waits else 'flows'}"] += 1
        if waits:
            self._gpu.wait("upload" if to_device else "download")


def _non_blocking(func: Any, args: Any) -> bool:
    """Where it stands among the positional arguments."""
    names = [argument.name for argument in func._schema.arguments]
    place = names.index("non_blocking") if "non_blocking" in names else len(args)
    return place < len(args) and bool(args[place])


def _selects(kind: Any, args: Any) -> bool:
    """Whether a mask says which values are taken, so that their number has to be known."""
    if kind is aten.where:
        return len(args) == 1
    if kind is aten.repeat_interleave:
        return any(isinstance(a, OnDevice) for a in args[1:]) or len(args) == 1
    if kind not in (aten.index, aten.index_put_):
        return False
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device) == DEVICE


def _values(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, OnDevice) else leaf


def _line() -> str:
    """Where in the package this happens."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(PACKAGE):
            return f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.lineno}"
    return "elsewhere"
