"""From the pixels of a label image to class ids: what files, bags and the live node share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError, few
from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog

log = logging.getLogger(__name__)

LabelIds = npt.NDArray[np.integer]
"""uint8 or uint16"""

NO_CLASS = IMAGE_ID_LIMIT - 1
"""The id of pixels below 0, where nothing says which id stands for no class."""

BLACK = 0
LEAST_BORDERS = 200
MOST_PASSED = 0.1
"""Of the places where ids differ, the share that a true label image may step through: three ids in
a row, each larger (or smaller) than the one before. CamVid's have up to 1.4 %, at a quarter of
their size up to 5 %; resized with interpolation they have 17 to 43 %."""


class UnfitLabelsError(InputError):
    """Label images of a kind that cannot be understood or trusted, as all of their source are."""


class UnsureLabelsError(UnfitLabelsError):
    """Grey pixels that are ids or colours; other label images of the source may tell which."""


class LabelDecoder:
    """Makes class ids of the label images of one source.

    A pixel holds an id, or the same id in every channel, or the colour that its class has in the
    class file; black is void where no class is black, and so is what is transparent. `catalog` is
    that class file, without which colours are refused. `check_ids` notes ids that it lacks.

    `notes` says, once for each kind, what makes the labels doubtful; it is logged when it is seen.
    """

    def __init__(self, catalog: ClassCatalog | None = None, check_ids: bool = True) -> None:
        self.catalog = catalog
        self.notes: dict[str, str] = {}
        self._check_ids = check_ids
        self._grey_is_ids: bool | None = None  # of images whose channels are equal; None: not known
        self._codes = np.zeros(0, np.int32)
        self._ids = np.zeros(0, np.int64)
        self._known = np.ones(IMAGE_ID_LIMIT, bool)
        if catalog is not None:
            self._take_colours(catalog)
            self._known[:] = False
            self._known[[*catalog.ids, catalog.void_id]] = True

    def decode(
        self,
        pixels: npt.NDArray[Any],
        name: str,
        palette: npt.NDArray[np.uint8] | None = None,
    ) -> LabelIds:
        """(H, W) class ids of (H, W) integers or bools, or (H, W, 3 or 4) uint8 RGB or RGBA.

        palette: (N, 3) uint8, the colours of the integers. name: whose pixels they are, for
        messages. Raises UnfitLabelsError for colours that no class has and for ids beyond 16 bits,
        UnsureLabelsError where both can be meant.
        """
        if palette is not None:
            pixels = self._without_palette(pixels, palette, name)
        self._note_coding(pixels, name)
        if pixels.ndim == 2:
            ids = plain_ids(pixels, name, self._void)
        else:
            ids = self._of_channels(pixels, name)
        if self._check_ids:
            self._doubt(ids, name)
        return ids

    def note(self, kind: str, text: str) -> None:
        """Note and log what is doubtful, the first of its kind."""
        if kind not in self.notes:
            self.notes[kind] = text
            log.warning("%s", text)

    @property
    def _void(self) -> int:
        return NO_CLASS if self.catalog is None else self.catalog.void_id

    def _take_colours(self, catalog: ClassCatalog) -> None:
        """Sorted colour codes and their ids; none where two classes have one colour."""
        id_of = {_code(c.color): c.id for c in catalog.classes}
        if len(id_of) < len(catalog):
            return
        id_of.setdefault(BLACK, catalog.void_id)
        self._codes = np.array(sorted(id_of), np.int32)
        self._ids = np.array([id_of[code] for code in sorted(id_of)], np.int64)

    def _look_up(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Ids by colour, -1 where no class has it; of codes of any shape."""
        if len(self._codes) == 0:
            return np.full(codes.shape, -1, np.int64)
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        return np.where(self._codes[place] == codes, self._ids[place], -1)

    def _of_channels(self, pixels: npt.NDArray[Any], name: str) -> LabelIds:
        opaque = pixels[..., 3] > 0 if pixels.shape[2] == 4 else np.ones(pixels.shape[:2], bool)
        if not opaque.all():
            if self.catalog is None:
                raise UnfitLabelsError(
                    f"{name} has transparent pixels: only a class file (--classes) tells their id"
                )
            self.note("transparent", f"{name}: transparent pixels are taken for unlabelled")
        values = pixels[..., 0]
        grey = (values == pixels[..., 1]) & (values == pixels[..., 2])
        if (grey | ~opaque).all() and self._holds_ids(values[opaque], name):
            return plain_ids(np.where(opaque, values, self._void), name)
        codes = _codes(pixels)
        by_colour = np.where(opaque, self._look_up(codes), self._void)
        self._refuse_unknown(codes, by_colour, name)
        self._grey_is_ids = False
        return plain_ids(by_colour, name)

    def _holds_ids(self, values: npt.NDArray[Any], name: str) -> bool:
        """Whether equal channels hold ids; what is not sure follows what the source has shown."""
        if self._grey_is_ids is None:
            values = np.unique(values)
            by_colour = self._look_up(_codes(np.stack([values] * 3, axis=-1)))
            ids_fit, colours_fit = bool(self._known[values].all()), bool((by_colour >= 0).all())
            if ids_fit == colours_fit:
                if ids_fit and (values != by_colour).any():
                    raise UnsureLabelsError(
                        f"{name} has several channels and nothing but values that are both ids and "
                        f"colours of {self._classes} ({few(values)}): save its ids as grey"
                    )
                return True
            self._grey_is_ids = ids_fit
        return self._grey_is_ids

    def _refuse_unknown(
        self, codes: npt.NDArray[np.int32], by_colour: npt.NDArray[np.int64], name: str
    ) -> None:
        """Raise UnfitLabelsError for colours of no class."""
        unknown = codes[by_colour < 0]
        if self.catalog is None:
            raise UnfitLabelsError(
                f"{name} is a colour image: only a class file (--classes) tells what its colours "
                "mean"
            )
        if len(self._codes) == 0:
            raise UnfitLabelsError(
                f"{name} is a colour image, but {self._classes} has one colour for two classes: "
                "give each its own"
            )
        if len(unknown):
            values, counts = np.unique(unknown, return_counts=True)
            code = int(values[counts.argmax()])
            colour = (code >> 16, code >> 8 & 255, code & 255)
            raise UnfitLabelsError(
                f"{name} has {len(unknown)} pixels in {len(values)} colours that no class of "
                f"{self._classes} has, most in {colour}: label images hold an id per pixel, or "
                "the colours of the class file (add it there), saved without loss"
            )

    def _without_palette(
        self, indices: npt.NDArray[Any], palette: npt.NDArray[np.uint8], name: str
    ) -> npt.NDArray[Any]:
        """The indices, or what the palette shows where that alone can be meant.

        Programs that make files smaller turn colours or greys into a palette, in any order. Such a
        palette has nothing but colours of classes, or nothing but ids as greys.
        """
        codes = _codes(palette)
        if len(np.unique(codes[codes != BLACK])) < 2 or self.catalog is None:
            return indices
        shown = self._look_up(codes)
        if (shown < 0).any():
            grey = palette[:, 0].astype(np.int64)
            if (palette != palette[:, :1]).any() or not self._known[grey].all():
                return indices
            shown = grey
        used = np.unique(indices.astype(np.int64))
        if used.max() >= len(shown) or (shown[used] == used).all():
            return indices
        self.note(
            "palette",
            f"{name}: its palette has the colours of {self._classes} in another order than the "
            "ids: the colours count, not the indices",
        )
        return shown[indices.astype(np.int64)]

    def _note_coding(self, pixels: npt.NDArray[Any], name: str) -> None:
        """Note values that other programs may mean otherwise."""
        if pixels.dtype == bool and self._known[2:].any() and self.catalog is not None:
            self.note("bits", f"{name} has one bit per pixel: it is taken for the ids 0 and 1")
        if pixels.dtype.kind == "i" and (below := np.count_nonzero(pixels < 0)):
            self.note("below 0", f"{name}: {below} pixels below 0 are taken for unlabelled")

    def _doubt(self, ids: LabelIds, name: str) -> None:
        """Note ids that are no classes, and borders that an interpolation has made."""
        unknown = ids[~self._known[ids]]
        if len(unknown):
            unlisted = few(np.unique(unknown))
            self.note(
                "ids",
                f"{name} has {len(unknown)} pixels with ids ({unlisted}) that {self._classes} "
                "lacks: they count for no class; is it the right class file?",
            )
        if "interpolated" not in self.notes and (share := passed_borders(ids)) > MOST_PASSED:
            self.note(
                "interpolated",
                f"{name} seems to have been resized with interpolation: at {100 * share:.0f} % of "
                "its borders lie ids in between; resize labels by nearest neighbour",
            )

    @property
    def _classes(self) -> str:
        return "the class file" if self.catalog is None else self.catalog.name


def settle(attempts: Iterable[Callable[[], object]]) -> None:
    """Refuse a source's label images by the first that can be decoded, before any work is done.

    Each attempt decodes one; the next is asked where that one is damaged, or does not tell whether
    its grey pixels are ids or colours. Raises UnfitLabelsError.
    """
    unsure: UnsureLabelsError | None = None
    for attempt in attempts:
        try:
            attempt()
        except UnsureLabelsError as error:
            unsure = unsure or error
        except UnfitLabelsError:
            raise
        except ValueError:
            continue  # damaged: a frame that fails when it is its turn
        else:
            return
    if unsure:
        raise unsure


def plain_ids(pixels: npt.NDArray[Any], name: str = "it", void: int = NO_CLASS) -> LabelIds:
    """(H, W) ids as uint8 or uint16, of (H, W) integers, or of (H, W, C) with equal channels.

    Ids below 0, which many write for no class, become `void`. Raises UnfitLabelsError for colours
    and for ids beyond 16 bits.
    """
    if pixels.ndim == 3:
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise UnfitLabelsError(f"{name} is a colour image, not one id per pixel")
        pixels = pixels[..., 0]
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    largest = int(pixels.max())
    if largest >= IMAGE_ID_LIMIT:
        raise UnfitLabelsError(
            f"{name} holds ids from {pixels.min()} to {largest}; they end at {IMAGE_ID_LIMIT - 1}"
        )
    ids = np.where(pixels < 0, void, pixels)
    return ids.astype(np.uint8 if ids.max() < 256 else np.uint16)


def passed_borders(ids: LabelIds) -> float:
    """Share of the borders along rows and columns where an id lies between its neighbours', 0..1.

    Labels that were resized with interpolation step from 0 to 8 through 4. 0 for few borders.
    """
    borders = passed = 0
    for lines in (ids.astype(np.int32), ids.T.astype(np.int32)):
        before, middle, after = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
        borders += np.count_nonzero(before != after)
        passed += np.count_nonzero((before - middle) * (middle - after) > 0)
    return passed / borders if borders >= LEAST_BORDERS else 0.0


def _code(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _codes(rgb: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """(...) one number per colour of (..., 3 or 4)."""
    red, green, blue = (rgb[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue
