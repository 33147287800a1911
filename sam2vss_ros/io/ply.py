"""Point clouds as PLY files, which most viewers open."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

VERTEX = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("label", "<u2"),
        ("instance", "<u4"),
        ("confidence", "<f4"),
    ]
)
KINDS = {"<f4": "float", "|u1": "uchar", "<u2": "ushort", "<u4": "uint"}


def ply_of(cloud: npt.NDArray[Any]) -> bytes:
    """A binary PLY of the points of a cloud in the layout `label`; those without depth are left
    out."""
    points = cloud[np.isfinite(cloud["z"])]
    vertices = np.empty(len(points), VERTEX)
    for name in ("x", "y", "z", "label", "instance", "confidence"):
        vertices[name] = points[name]
    colours = np.ascontiguousarray(points["rgb"]).view("<u4")
    for name, shift in (("red", 16), ("green", 8), ("blue", 0)):
        vertices[name] = colours >> shift & 255
    properties = [f"property {KINDS[VERTEX[name].str]} {name}" for name in VERTEX.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    return "\n".join([*header, *properties, "end_header", ""]).encode() + vertices.tobytes()
