"""Class mapping: what a network predicts, in the classes of another catalog."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sam2vss_ros.errors import one_line
from sam2vss_ros.io.yaml_files import read_yaml
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.semantics.shipped import yaml_path
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

MAPS_FOLDER = Path(__file__).resolve().parents[2] / "class_maps"

LEAST = 1e-4
"""Probability of a class that the network does not know: unlikely, but not ruled out."""


def load_class_map(name_or_path: str) -> dict[str, str]:
    """Load a map by path, or a shipped one by name (`cityscapes_to_camvid`).

    It is a YAML file of lines `network's class: class of the catalog`, several to one if need be.
    Raises FileNotFoundError naming the file looked for and the shipped names; ValueError for a
    file that is no such map.
    """
    path = yaml_path(name_or_path, MAPS_FOLDER, "class_map:")
    try:
        names = read_yaml(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"class_map: {path} is not YAML: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
        raise ValueError(f"class_map: {path} is not made of lines `network's class: our class`")
    for theirs in names:
        if isinstance(theirs, bool) or theirs is None:  # as YAML reads on, no and ~
            raise ValueError(f"class_map: {path}: {theirs} is no class: put its name in quotes")
    return {str(theirs): ours for theirs, ours in names.items()}


class MappedNetwork:
    """A network in the classes of `target`.

    Its classes meet those of `target` by `names` (theirs -> ours), the others by exact name. The
    probabilities of several that stand for one add up. Those without a counterpart are left out:
    the rest sums to 1 without them, which is reported once in the log.
    Raises ValueError where `names` names a class that is not there, or nothing meets.
    """

    def __init__(
        self, network: SegmentationNetwork, target: ClassCatalog, names: Mapping[str, str]
    ) -> None:
        self.catalog = target
        self.name = network.name
        self._network = network
        theirs = [c.name for c in network.catalog.classes]
        ours = [c.name for c in target.classes]
        for what, wanted, known in (
            (f"network {network.name}", names.keys(), theirs),
            (f"catalog {target.name}", names.values(), ours),
        ):
            unknown = sorted(set(wanted) - set(known))
            if unknown:
                raise ValueError(
                    f"class_map: {what} has no class {one_line(', '.join(unknown))}; it has "
                    f"{one_line(', '.join(known))}"
                )
        meets = [names.get(name, name) for name in theirs]
        self._sums = torch.tensor([[name == other for other in meets] for name in ours]).float()
        if not self._sums.any():
            raise ValueError(
                f"network: {network.name} knows {one_line(', '.join(theirs))}; the catalog "
                f"{target.name} has {one_line(', '.join(ours))}: no name is in both, so map "
                "them with class_map, or use mode refine or network without one"
            )
        left_out = [name for name, other in zip(theirs, meets, strict=True) if other not in ours]
        missing = [name for name in ours if name not in meets]
        if left_out or missing:
            log.warning(
                "network %s: left out since %s has no such class: %s; not known to it: %s",
                network.name,
                target.name,
                one_line(", ".join(left_out) or "none"),
                one_line(", ".join(missing) or "none"),
            )

    def accepts(self, frame: Frame) -> bool:
        """Whether the network does."""
        return self._network.accepts(frame)

    def log_probabilities(self, frame: Frame) -> Tensor:
        """(K, h, w) float32 log probabilities of a frame, K in the order of `catalog`."""
        log_probabilities = self._network.log_probabilities(frame)
        self._sums = self._sums.to(log_probabilities.device)
        summed = torch.einsum("ck,khw->chw", self._sums, log_probabilities.exp())
        known = summed / summed.sum(0).clamp(min=LEAST)
        return known.clamp(min=LEAST).log().log_softmax(0)


def map_classes(
    network: SegmentationNetwork, target: ClassCatalog, names: Mapping[str, str]
) -> SegmentationNetwork:
    """The network in the classes of `target`; itself where these are its own, in their order.

    Raises ValueError as MappedNetwork does.
    """
    if not names and same_classes(network.catalog, target):
        return network
    return MappedNetwork(network, target, names)


def same_classes(one: ClassCatalog, other: ClassCatalog) -> bool:
    """Whether two catalogs name the same classes in the same order."""
    return [c.name for c in one.classes] == [c.name for c in other.classes]
