"""How large a compressed image is, from its header, before memory is taken for its pixels.

A file of 17 kB may hold 900 million pixels.
"""

from __future__ import annotations

import io
import warnings
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
)

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError

# Pillow's readers of headers, by how a file begins; Image.open would have limits of its own. Not
# JPEG 2000: damaged files end the process in OpenCV's decoder.
_READERS = {
    b"\xff\xd8": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"II+\0": TiffImagePlugin.TiffImageFile,
    b"MM\0+": TiffImagePlugin.TiffImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    **{b"P%d" % kind: PpmImagePlugin.PpmImageFile for kind in range(1, 7)},
}

_WEBP = b"RIFF"

TOO_MANY_PIXELS = "too many pixels"


def check_pixels(width: int, height: int, most: int = MOST_PIXELS) -> None:
    """Raise ImageError for an image of more than `most` pixels."""
    if width * height > most:
        raise ImageError(
            TOO_MANY_PIXELS,
            f"the image is {width} x {height}, max_image_pixels allows {most} pixels",
        )


def is_image(data: bytes) -> bool:
    """Whether a file that begins like `data` is an image of a known format."""
    return data.startswith((_WEBP, *_READERS))


def header_size(source: bytes | BinaryIO) -> tuple[int, int]:
    """Width and height that the header of an image file tells; no pixel is decoded.

    source: its bytes, or the file, which is read from where it stands and then stands there again.
    JPEG, PNG, WebP, TIFF, BMP and PNM are known. Raises ImageError for others and damaged headers.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    start = file.tell()
    begin = file.read(30)
    file.seek(start)
    if not is_image(begin):
        raise ImageError("corrupt image", "it begins like no image file")
    try:
        if begin.startswith(_WEBP):
            return _webp_size(begin)
        reader = next(r for magic, r in _READERS.items() if begin.startswith(magic))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of entries that nobody asked for
            width, height = reader(file).size
    except Exception as error:  # whatever damaged bytes make of a parser
        raise ImageError("corrupt image", "its header is damaged") from error
    finally:
        file.seek(start)
    return width, height


def _webp_size(begin: bytes) -> tuple[int, int]:
    """Of the first 30 bytes of a file; Pillow would take memory for the pixels here.

    Raises ValueError for others.
    """
    if begin[8:12] != b"WEBP":
        raise ValueError("a RIFF file, but not WebP")
    first = begin[12:16]
    if first == b"VP8X":
        return _little(begin[24:27]) + 1, _little(begin[27:30]) + 1
    if first == b"VP8L":
        bits = _little(begin[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if first == b"VP8 " and len(begin) == 30:
        return _little(begin[26:28]) & 0x3FFF, _little(begin[28:30]) & 0x3FFF
    raise ValueError(f"a WebP file that begins with {first!r}")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
