"""Image files: decoded, turned as viewers show them, or refused by name.

Everything that reads images from folders reads them here, so that one rule holds: the orientation
that a camera notes in the file (EXIF) is obeyed. Pixels in ROS messages stay as they are, where
their calibration has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError, InputError, one_line
from sam2vss_ros.io.contrast import FULL, Contrast
from sam2vss_ros.io.image_headers import TOO_MANY_PIXELS, check_pixels, header_size
from sam2vss_ros.io.label_pixels import UnfitLabelsError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
UPRIGHT = 1
"""The EXIF orientation of an image that is stored as it is to be shown."""

INVERSE = {6: 8, 8: 6}
"""The orientation that turns back, where it is not the same."""

LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "RGB", "RGBA", "LA")
"""Pillow's names of what label images may be: ids of 1 to 32 bits, or channels of 8 bits."""

STRETCHED = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies the values of grey images of 2 and 4 bits."""

DEPTH_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
"""Pillow's names of what depth images may be."""

LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF")

Image.MAX_IMAGE_PIXELS = None  # the limit is max_image_pixels, see `_opened`

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageHeader:
    """What a file says without being decoded. size: (width, height) in pixels as it is shown.
    orientation: EXIF's 1 to 8, UPRIGHT where the file notes none."""

    size: tuple[int, int]
    orientation: int = UPRIGHT

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the pixels as they are stored."""
        return self.size[::-1] if self.orientation > 4 else self.size


def read_header(source: Path | BinaryIO, most: int = MOST_PIXELS) -> ImageHeader:
    """Size and orientation of an image, without decoding it.

    Raises InputError, also for more than `most` pixels.
    """
    with _opened(source, str(source), "an image", most) as image:
        orientation = _orientation(image)
        # Pillow gives a TIFF's size as it is shown, that of others as it is stored.
        turned = orientation > 4 and image.format != "TIFF"
        return ImageHeader(image.size[::-1] if turned else image.size, orientation)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is shown, without decoding it. Raises InputError."""
    return read_header(path).size


def read_image(path: Path, most: int = MOST_PIXELS, contrast: Contrast | None = None) -> Rgb:
    """Read a colour or grey image as (H, W, 3) uint8 RGB, turned as viewers show it.

    Transparency does not count. contrast: of the stream, for grey images of 16 bits; None: the
    image stands alone. Raises InputError, also for more than `most` pixels.
    """
    with _opened(path, f"{path}", "an image", most) as image:
        if image.mode == "F":
            raise InputError(f"{path} holds floating point numbers, which are no picture")
        shown = ImageOps.exif_transpose(image)
        if shown.mode.startswith("I"):
            values = np.asarray(shown).astype(np.int64).clip(0, FULL).astype(np.uint16)
            return np.repeat((contrast or Contrast()).eight_bits(values)[..., None], 3, axis=2)
        return np.array(shown.convert("RGB"))


def read_label_pixels(
    source: Path | BinaryIO, name: str, most: int = MOST_PIXELS
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
    """The pixels of a label image as `LabelDecoder` takes them, and its palette if it has one.

    name: what messages call it. Raises InputError for what cannot be decoded or has more than
    `most` pixels, UnfitLabelsError for what is compressed with loss and for pixels that hold no
    ids.
    """
    with _opened(source, name, "a label image", most) as image:
        _check_lossless(image, name)
        kind = _raw_mode(image)
        if image.mode not in LABEL_MODES or (kind.endswith("16B") and image.mode[0] != "I"):
            raise UnfitLabelsError(
                f"{name} is an image of mode {kind or image.mode}; label images hold one id per "
                "pixel (grey of up to 16 bits, or palette), or colours of 8 bits"
            )
        shown = ImageOps.exif_transpose(image)
        if shown.mode == "P":
            palette = np.array(shown.getpalette() or [], np.uint8).reshape(-1, 3)
            return np.asarray(shown), palette
        if shown.mode == "LA":
            shown = shown.convert("RGBA")
        pixels = np.asarray(shown)
        return pixels // STRETCHED[kind] if kind in STRETCHED else pixels, None


def read_depth_pixels(path: Path, most: int = MOST_PIXELS) -> npt.NDArray[Any]:
    """The (H, W) numbers of a depth image: uint16, or float32 of a floating point TIFF.

    Raises InputError for what cannot be decoded, has more than `most` pixels or other numbers.
    """
    with _opened(path, f"{path}", "a depth image", most) as image:
        if image.mode not in DEPTH_MODES:
            raise InputError(
                f"{path} is an image of mode {_raw_mode(image) or image.mode}; depth has 16 bits "
                "(millimetres) or is floating point (metres), in one channel"
            )
        pixels = np.asarray(ImageOps.exif_transpose(image))
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    if pixels.min() < 0 or pixels.max() > FULL:
        raise InputError(f"{path} has values from {pixels.min()} to {pixels.max()}, not 16 bits")
    return pixels.astype(np.uint16)


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Stored (H, W, ...) pixels as an EXIF orientation from 1 to 8 has them shown."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def _opened(source: Path | BinaryIO, name: str, what: str, most: int) -> Iterator[Image.Image]:
    """An image whose decoding fails as an InputError of one line."""
    try:
        with _file(source) as file:
            check_pixels(*header_size(file), most)
            with Image.open(file) as image:
                count = getattr(image, "n_frames", 1)
                if count > 1 and image.format != "MPO":  # a phone's JPEG, with previews behind it
                    raise InputError(
                        f"{name} holds {count} pictures, not one: give each a file of its own"
                    )
                yield image
    except InputError:
        raise
    except Exception as error:
        # What a damaged file makes of the parser: OSError, SyntaxError, ValueError, struct.error...
        raise InputError(f"{name} cannot be read as {what}: {_reason(source, error)}") from error


def _file(source: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return source.open("rb") if isinstance(source, Path) else nullcontext(source)


def _reason(source: Path | BinaryIO, error: Exception) -> str:
    if isinstance(source, Path) and source.is_file() and source.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, ImageError) and error.reason == TOO_MANY_PIXELS:
        return error.detail
    if isinstance(error, ImageError | UnidentifiedImageError):
        return "its content is none, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    # For a PNG getexif() decodes the image, to see what comes after its pixels.
    late = image.format == "PNG" and "exif" not in image.info and _png_has_exif(image)
    exif = image.getexif() if late else Image.Image.getexif(image)
    value = exif.get(ExifTags.Base.Orientation, UPRIGHT)
    return value if value in range(1, 9) else UPRIGHT


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of the pixels as the file has them, such as L;4; empty where it has none."""
    kinds = image.tile[0][3] if image.tile else ""  # type: ignore[attr-defined]
    kind = kinds[0] if isinstance(kinds, tuple) and kinds else kinds
    return kind if isinstance(kind, str) else ""


def _check_lossless(image: Image.Image, name: str) -> None:
    """Raise UnfitLabelsError for an image compressed with loss."""
    lossy = image.format in LOSSY or image.info.get("compression") == "jpeg"
    if lossy or (image.format == "WEBP" and not _is_lossless_webp(image)):
        kind = "JPEG" if image.info.get("compression") == "jpeg" else image.format
        raise UnfitLabelsError(
            f"{name} is compressed with loss ({kind}), which changes ids at every border: save "
            "labels as PNG"
        )


def _png_has_exif(image: Image.Image) -> bool:
    """Whether a chunk of the file is eXIf; `image` has not been decoded yet."""
    file = image.fp  # type: ignore[attr-defined]
    before = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] not in (b"eXIf", b"IEND"):
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    file.seek(before)
    return head[4:] == b"eXIf"


def _is_lossless_webp(image: Image.Image) -> bool:
    """Whether the picture's chunk is VP8L; `image` has not been decoded yet."""
    file = image.fp  # type: ignore[attr-defined]
    before = file.tell()
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8 ", b"VP8L"):
            break
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, 1)
    file.seek(before)
    return head[:4] == b"VP8L"
