"""Semantics on labelled images that were kept out of training: scores, and honest probabilities."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.affinity.keys import Pyramid
from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.evaluation.confusion import ConfusionMatrix
from sam2vss_ros.sam2.functional import image_tensor
from sam2vss_ros.semantics.model import SemanticModel
from sam2vss_ros.training.data import VOID_LABEL, LabelledStill
from sam2vss_ros.training.masks import sample_masks

CORRECTIONS = np.linspace(0, 1, 6)
TEMPERATURES = np.geomspace(0.4, 3, 28)
CONFIDENCE_BINS = 15


@dataclass(frozen=True)
class Score:
    """Semantics on labelled images.

    matrix: of all pixels. scores: (N, K) log probabilities of every fourth row's and column's
    pixels, with truth: (N,) class index. mask_scores: (M, K) of the classifier for masks such as a
    tracker's, with shares: (M, K) of the classes in them.
    """

    matrix: ConfusionMatrix
    scores: Tensor
    truth: Tensor
    mask_scores: Tensor
    shares: Tensor

    def masks_right(self) -> float:
        """Share of the masks whose likeliest class is the one most of their pixels have."""
        right = self.mask_scores.argmax(1) == self.shares.argmax(1)
        return float(right.float().mean()) if len(right) else 0.0

    def pixel_error(self) -> float:
        """Calibration error of the pixels."""
        confidence, best = self.scores.softmax(1).max(1)
        return calibration_error(confidence, (best == self.truth).float())

    def mask_error(self) -> float:
        """Calibration error of the masks: a score is to be the share of its class in the mask."""
        confidence, best = self.mask_scores.softmax(1).max(1)
        return calibration_error(confidence, self.shares.gather(1, best[:, None])[:, 0])

    def as_json(self) -> dict[str, Any]:
        """mIoU, IoU by class (None where a class is not there), and the rest, 0..1."""
        ious = self.matrix.per_class_iou()
        return {
            "miou": round(self.matrix.miou(), 4),
            "calibration_error": round(self.pixel_error(), 4),
            "masks_right": round(self.masks_right(), 4),
            "masks_calibration_error": round(self.mask_error(), 4),
            "per_class_iou": {
                name: None if np.isnan(iou) else round(float(iou), 4)
                for name, iou in zip(self.matrix.names, ious, strict=True)
            },
        }


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Mean gap, 0..1, between (N,) confidences and what was right, over bins of confidence.

    The expected calibration error of Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    bins = (confidence * CONFIDENCE_BINS).long().clamp(max=CONFIDENCE_BINS - 1)
    gaps = torch.zeros(CONFIDENCE_BINS).index_add(0, bins, right - confidence)
    return float(gaps.abs().sum() / max(1, len(confidence)))


@torch.inference_mode()
def score(
    trunk: AffinityModel, semantics: SemanticModel, stills: list[LabelledStill], seed: int = 0
) -> Score:
    """Label whole stills, at their own size, and compare with the truth."""
    catalog = semantics.catalog
    matrix = ConfusionMatrix(catalog)
    scores, truths, mask_scores, shares = [], [], [], []
    semantics.head.eval()
    semantics.classifier.eval()
    for i, still in enumerate(tqdm(stills, unit="image", desc="score")):
        dense = semantics.head(trunk_maps(trunk, semantics, still.image)[0])
        size = (still.labels.shape[0], still.labels.shape[1])
        logits = dense.logits.float()
        upsampled = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].cpu()
        known = still.labels != VOID_LABEL
        best = upsampled.argmax(0).numpy()
        matrix.update(catalog.ids[still.labels[known]][None], catalog.ids[best[known]][None])
        sampled = torch.from_numpy(known[::4, ::4])
        scores.append(upsampled.log_softmax(0)[:, ::4, ::4][:, sampled].T)
        truths.append(torch.from_numpy(still.labels[::4, ::4])[sampled].long())
        masks, share = sample_masks(still.labels, len(catalog), np.random.default_rng((seed, i)))
        if len(masks):
            found = semantics.classifier(dense.hidden.float(), masks.to(trunk.device))
            mask_scores.append(found.log_softmax(1).cpu())
            shares.append(share)
    nothing = torch.zeros(0, len(catalog))
    return Score(
        matrix,
        torch.cat(scores),
        torch.cat(truths),
        torch.cat(mask_scores or [nothing]),
        torch.cat(shares or [nothing]),
    )


def trunk_maps(
    trunk: AffinityModel, semantics: SemanticModel, image: npt.NDArray[np.uint8]
) -> Pyramid:
    """Of an (H, W, 3) image, in float32, at the size that the semantics are made for."""
    at = replace(trunk, image_size=semantics.image_size)
    size = at.input_size((image.shape[0], image.shape[1]))
    fine, middle, coarse = at.encode(image_tensor(image, size, trunk.device)).pyramid
    return fine.float(), middle.float(), coarse.float()


def calibrated(semantics: SemanticModel, weights: Tensor, found: Score) -> SemanticModel:
    """A copy whose probabilities are right on the stills of `found`.

    weights: (K,), those of the classes in the loss. They make rare classes too likely: a part of
    that is taken back. The last layers of head and classifier hold all of it.
    """
    head, classifier = deepcopy(semantics.head), deepcopy(semantics.classifier)
    correction, temperature = best_calibration(found.scores, found.truth, weights)
    assert head.classify.bias is not None
    head.classify.bias.data -= correction * weights.log().to(head.classify.bias)
    _cool(head.classify, temperature)
    if len(found.shares):
        _cool(classifier.layers[-1], best_temperature(found.mask_scores, found.shares))
    return replace(semantics, head=head, classifier=classifier)


def _cool(layer: torch.nn.Module, temperature: float) -> None:
    for parameter in layer.parameters():
        parameter.data.div_(temperature)


def best_calibration(scores: Tensor, truth: Tensor, weights: Tensor) -> tuple[float, float]:
    """c and t for which softmax((scores - c log weights) / t) has the least cross entropy.

    scores: (N, K) log probabilities; truth: (N,) class index; weights: (K,). The temperature t
    is that of Guo et al., section 4.2.
    """
    log_weights = weights.log().cpu()
    entropies = {
        (c, t): float(F.cross_entropy((scores - c * log_weights) / t, truth))
        for c in CORRECTIONS.tolist()
        for t in TEMPERATURES.tolist()
    }
    return min(entropies, key=entropies.__getitem__)


def best_temperature(scores: Tensor, shares: Tensor) -> float:
    """t for which softmax(scores / t), (M, K), has the least cross entropy with the shares."""
    entropies = {
        t: float(-(shares * (scores / t).log_softmax(1)).sum()) for t in TEMPERATURES.tolist()
    }
    return min(entropies, key=entropies.__getitem__)
