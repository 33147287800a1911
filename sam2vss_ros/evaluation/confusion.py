"""Confusion matrices of label images, and what is read from one.

The rule is that of VSPW's evaluator (Miao et al., CVPR 2021): one confusion matrix over all frames
of all streams; pixels whose ground truth is void, or no class of the catalog, are dropped; IoU is
averaged over the classes that have ground-truth pixels. Where the prediction is no class at all
(unlabelled), the pixel is a miss for its true class and a false alarm for none.

An *index image* holds, instead of ids, the position of each pixel's class in the catalog of the
ground truth; C, the number of its classes, stands for no class.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog

LabelImage = npt.NDArray[np.integer]
IndexImage = npt.NDArray[np.unsignedinteger]
Counts = npt.NDArray[np.int64]


class ConfusionMatrix:
    """Streaming confusion matrix between ground truth and predicted label images.

    `truth` says what the ids of the ground truth mean, `predicted` (default: the same) those of
    the predictions; the two meet by exact class name. Raises ValueError if no name is common.
    """

    def __init__(self, truth: ClassCatalog, predicted: ClassCatalog | None = None) -> None:
        predicted = predicted or truth
        self.truth = truth
        self.names = tuple(c.name for c in truth.classes)
        if not {c.name for c in predicted.classes} & set(self.names):
            raise ValueError(
                f"class catalogs {truth.name} and {predicted.name} have no class name in common"
            )
        self.counts = np.zeros((len(truth), len(truth) + 1), np.int64)
        """(C, C + 1) pixels: row the true class, column the predicted one, the last: none."""
        self.foreign_pixels: dict[int, int] = {}
        """Ground-truth pixels dropped because their id is neither a class nor void, by id."""
        self._truth_index = self._index_by_id(truth)
        self._predicted_index = self._index_by_id(predicted)

    def _index_by_id(self, catalog: ClassCatalog) -> IndexImage:
        """(65536,) index of a class id, C where the id is none of the ground truth's classes."""
        none = len(self.names)
        # Boundaries need one more value than C.
        dtype: type[np.unsignedinteger] = np.uint8 if none < 255 else np.uint16
        index = np.full(IMAGE_ID_LIMIT, none, dtype)
        for c in catalog.classes:
            if c.name in self.names:
                index[c.id] = self.names.index(c.name)
        return index

    def update(self, labels: LabelImage, prediction: LabelImage) -> None:
        """Count one frame. Both are (H, W) class ids below 65536; ValueError if sizes differ."""
        self.count(*self.index_images(labels, prediction))

    def index_images(
        self, labels: LabelImage, prediction: LabelImage
    ) -> tuple[IndexImage, IndexImage]:
        """Both (H, W) label images as index images; foreign ids of the ground truth are noted."""
        if labels.shape != prediction.shape:
            raise ValueError(f"labels are {labels.shape}, the prediction is {prediction.shape}")
        rows = self._truth_index[labels]
        ids, pixels = np.unique(labels[rows == len(self.names)], return_counts=True)
        for id_, count in zip(ids.tolist(), pixels.tolist(), strict=True):
            if id_ != self.truth.ignore_id:
                self.foreign_pixels[id_] = self.foreign_pixels.get(id_, 0) + count
        return rows, self.predicted_index(prediction)

    def predicted_index(self, prediction: LabelImage) -> IndexImage:
        """An (H, W) predicted label image as an index image."""
        return self._predicted_index[prediction]

    def count(self, rows: IndexImage, columns: IndexImage) -> Counts:
        """Count one frame's index images of truth and prediction; (C, C + 1), the frame's own."""
        n = len(self.names)
        counts = pair_counts(rows, columns, (n + 1, n + 1))[:n]
        self.counts += counts
        return counts

    def merge(self, later: ConfusionMatrix) -> None:
        """Count what another matrix of the same classes has counted."""
        self.counts += later.counts
        for id_, count in later.foreign_pixels.items():
            self.foreign_pixels[id_] = self.foreign_pixels.get(id_, 0) + count

    @property
    def truth_pixels(self) -> Counts:
        """(C,) scored ground-truth pixels by class."""
        return np.asarray(self.counts.sum(axis=1), np.int64)

    def per_class_iou(self) -> npt.NDArray[np.float64]:
        """(C,) intersection over union, 0..1; NaN for classes without ground-truth pixels."""
        return per_class_iou(self.counts)

    def per_class_accuracy(self) -> npt.NDArray[np.float64]:
        """(C,) share of the pixels of a class that are found; NaN for classes without any."""
        return _share(np.diagonal(self.counts), self.truth_pixels)

    def miou(self) -> float:
        """Mean IoU over the classes with ground-truth pixels, 0..1; NaN before any was counted."""
        return mean(self.per_class_iou())

    def fwiou(self) -> float:
        """IoU weighted by the classes' ground-truth pixels; NaN before any was counted."""
        total = int(self.counts.sum())
        weighted = np.nansum(self.per_class_iou() * self.truth_pixels)
        return float(weighted / total) if total else float("nan")

    def mean_accuracy(self) -> float:
        """Mean of `per_class_accuracy`; NaN before any was counted."""
        return mean(self.per_class_accuracy())

    def pixel_accuracy(self) -> float:
        """Share of the scored pixels that have their true class; NaN before any was counted."""
        return pixel_accuracy(self.counts)


def pair_counts(rows: IndexImage, columns: IndexImage, shape: tuple[int, int]) -> Counts:
    """`shape` counts of the pixels with each pair of values in two images of one size."""
    cells = rows.astype(np.intp) * shape[1] + columns
    return np.bincount(cells.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def per_class_iou(counts: Counts) -> npt.NDArray[np.float64]:
    """(C,) intersection over union, 0..1; NaN for classes without ground-truth pixels.

    counts: (R, C + 1) with R >= C. What is predicted in the rows after the C classes is a false
    alarm.
    """
    n = counts.shape[1] - 1
    hits, truth = np.diagonal(counts)[:n], counts[:n].sum(axis=1)
    return np.where(truth > 0, _share(hits, truth + counts[:, :n].sum(axis=0) - hits), np.nan)


def pixel_accuracy(counts: Counts) -> float:
    """Share of the pixels of (C, C + 1) counts that have their true class; NaN where none is."""
    return float(_share(np.trace(counts[:, :-1]), counts.sum()))


def mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _share(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """part / whole, NaN where the whole is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
