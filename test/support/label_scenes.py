"""A small drawn street: an image, and its labels in CamVid's ids."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SKY, BUILDING, ROAD, TREE, CAR, VOID = 0, 1, 3, 5, 8, 11
WIDTH, HEIGHT = 48, 32


def scene_labels(index: int = 0) -> npt.NDArray[np.uint8]:
    """(HEIGHT, WIDTH) ids, without any symmetry; the car moves with `index`."""
    ids = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    ids[10:20], ids[8:20, 30:], ids[20:] = BUILDING, TREE, ROAD
    ids[18:26, 4 + index : 14 + index] = CAR
    ids[-2:, :20] = VOID
    return ids


def scene_image(index: int = 0) -> npt.NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3) RGB, a colour for each class."""
    colours = np.random.default_rng(3).integers(40, 220, (256, 3)).astype(np.uint8)
    return np.asarray(colours[scene_labels(index)], np.uint8)


def write_png(path: Path, depth: int, kind: int, rows: npt.NDArray[np.uint16]) -> Path:
    """A PNG of (H, W * channels) samples of `depth` bits and colour type `kind`, as others write
    them: 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    width = rows.shape[1] // channels
    bits = np.unpackbits(rows.astype(">u2").view(np.uint8).reshape(*rows.shape, 2), axis=2)
    packed = np.packbits(bits[..., 16 - depth :].reshape(len(rows), -1), axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(name: bytes, body: bytes) -> bytes:
        checked = name + body
        return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def save_turned(path: Path, shown: npt.NDArray[np.uint8], orientation: int) -> Path:
    """A file that viewers show as `shown`, its pixels stored otherwise by an EXIF orientation."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(shown)
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x112] = orientation
    exact = {"lossless": True} if path.suffix == ".webp" else {"quality": 100, "subsampling": 0}
    stored.save(path, exif=exif, **({} if path.suffix in (".png", ".tif") else exact))
    return path
