"""Segmentation quality from a confusion matrix that grows frame by frame.

The rule is that of VSPW's evaluator (Miao et al., CVPR 2021): one confusion matrix over all frames
of all streams; pixels whose ground truth is void, or no class of the catalog, are dropped; IoU is
averaged over the classes that have ground-truth pixels. Where the prediction is no class at all
(unlabelled), the pixel is a miss for its true class and a false alarm for none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog


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

    def _index_by_id(self, catalog: ClassCatalog) -> npt.NDArray[np.int64]:
        """(65536,) row of a class id in the matrix, C where the id is none of its classes."""
        index = np.full(IMAGE_ID_LIMIT, len(self.names), np.int64)
        for c in catalog.classes:
            if c.name in self.names:
                index[c.id] = self.names.index(c.name)
        return index

    def update(self, labels: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> None:
        """Count one frame. Both are (H, W) class ids below 65536; ValueError if sizes differ."""
        if labels.shape != prediction.shape:
            raise ValueError(f"labels are {labels.shape}, the prediction is {prediction.shape}")
        n = len(self.names)
        rows = self._truth_index[labels]
        scored = rows < n
        cells = rows[scored] * (n + 1) + self._predicted_index[prediction[scored]]
        self.counts += np.bincount(cells, minlength=n * (n + 1)).reshape(n, n + 1)
        ids, pixels = np.unique(labels[~scored], return_counts=True)
        for id_, count in zip(ids.tolist(), pixels.tolist(), strict=True):
            if id_ != self.truth.ignore_id:
                self.foreign_pixels[id_] = self.foreign_pixels.get(id_, 0) + count

    @property
    def truth_pixels(self) -> npt.NDArray[np.int64]:
        """(C,) scored ground-truth pixels by class."""
        return np.asarray(self.counts.sum(axis=1), np.int64)

    def per_class_iou(self) -> npt.NDArray[np.float64]:
        """(C,) intersection over union, 0..1; NaN for classes without ground-truth pixels."""
        hits = np.diagonal(self.counts).astype(float)
        union = self.truth_pixels + self.counts[:, :-1].sum(axis=0) - hits
        return np.where(self.truth_pixels > 0, hits / np.maximum(union, 1), np.nan)

    def miou(self) -> float:
        """Mean IoU over the classes with ground-truth pixels, 0..1; NaN before any was counted."""
        iou = self.per_class_iou()
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of the scored pixels that have their true class; NaN before any was counted."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts[:, :-1]) / total) if total else float("nan")
