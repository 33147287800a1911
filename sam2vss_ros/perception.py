"""Perception: every network, loaded once, shared by all cameras; it remembers nothing of a stream.

A frame's networks are the tracking model's image encoder, the dense prediction of approach 1 (a
network of its own, or the dense head) and the mask classifier of approach 2. Head and classifier
read the embedded trunk, which runs once where it also is what follows objects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros import heap, libraries, threads
from sam2vss_ros.affinity.discovery import ObjectSource
from sam2vss_ros.affinity.keys import Pyramid
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.config import DENSE_MODES, PipelineConfig
from sam2vss_ros.errors import MissingLabelsError, one_line
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model, load_model
from sam2vss_ros.sam2.cards import ModelCard, model_card
from sam2vss_ros.sam2.discovery import GridSource, RegionSource, Source
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.semantics.catalog import ClassCatalog, load_catalog
from sam2vss_ros.semantics.model import SemanticModel, load_semantics
from sam2vss_ros.semantics.networks.class_mapping import same_classes
from sam2vss_ros.semantics.networks.loading import open_network
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.semantics.segmenter import Classes
from sam2vss_ros.semantics.vocabulary.ids import WordIds
from sam2vss_ros.semantics.vocabulary.loading import WHAT_TO_DO, open_text_model
from sam2vss_ros.semantics.vocabulary.network import VocabularyNetwork
from sam2vss_ros.semantics.vocabulary.text_model import Look, TextModel
from sam2vss_ros.semantics.vocabulary.vocabulary import Vocabulary
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.tracking import Features, ObjectTracker, TrackingModel
from sam2vss_ros.types import Frame

NETWORK_OPTIONS = (
    "model",
    "checkpoint",
    "semantics",
    "classes",
    "device",
    "precision",
    "image_size",
    "network",
    "network_classes",
    "allow_torchscript",
    "class_map",
    "threads",
    "vocabulary",
    "templates",
    "text_model",
)
"""Options of the networks: the same for all streams that share them."""


class Perception:
    """The networks that `config` names.

    config: its options without any `auto`. vocabulary: names in words, None where there is no
    `text_model`.
    """

    def __init__(
        self,
        asked: PipelineConfig,
        config: PipelineConfig,
        model: TrackingModel,
        semantics: SemanticModel,
        trunk: AffinityModel,
        network: SegmentationNetwork | None,
        text_model: TextModel | None = None,
        ids: WordIds | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.device = model.device
        base = _published_classes(config, semantics.catalog, network)
        self._fixed = Words.fixed(base)
        self.vocabulary: Vocabulary | None = None
        if text_model is not None:
            self.vocabulary = Vocabulary(
                text_model, base, WordIds() if ids is None else ids, config.unlabelled_id
            )
        self._asked = asked
        self._semantics = semantics
        self._trunk = trunk
        self._network = network
        self._speaks_semantics = network is None or same_classes(network.catalog, semantics.catalog)

    @staticmethod
    def load(
        config: PipelineConfig, ids: WordIds | None = None, model: TrackingModel | None = None
    ) -> Perception:
        """Load the networks; this also sets the libraries' numbers of CPU threads.

        ids: those that words already have in this run. model: that of `config`, where it is loaded
        already.
        Raises ModelUnavailableError, FileNotFoundError or ValueError, with a message for the user,
        where a model, a semantics file, a network, a class file or an option is not usable.
        """
        heap.reuse()
        model = model or _load_model(config)
        resolved = _resolve(config, model)
        threads.use(resolved.threads)
        trunk = (
            model
            if isinstance(model, AffinityModel)
            else load_affinity_model("mobile", device=config.device)
        )
        semantics = load_semantics(config.semantics, model.device, trunk.trunk_dtype)
        network = open_network(resolved, semantics.catalog, model.device)
        text_model = open_text_model(config.text_model, model.device) if config.text_model else None
        made = Perception(config, resolved, model, semantics, trunk, network, text_model, ids)
        made.set_words(config.vocabulary, config.templates)
        libraries.forget()
        return made

    @property
    def words(self) -> Words:
        """The classes of answers, as they hold for frames that begin now."""
        return self._fixed if self.vocabulary is None else self.vocabulary.words

    @property
    def catalog(self) -> ClassCatalog:
        """The classes that are published: those of the semantics or the network, or the words."""
        return self.words.catalog

    def set_words(self, vocabulary: Sequence[str], templates: Sequence[str]) -> None:
        """Answer in other words, in all streams from their next frame on. Any thread may ask.

        Raises ValueError where they are refused; nothing changes then.
        """
        if self.vocabulary is not None:
            self.vocabulary.set(vocabulary, templates)
        elif vocabulary:
            raise ValueError(f"vocabulary: names in words need the option text_model; {WHAT_TO_DO}")
        self.config, self._asked = (
            dataclasses.replace(c, vocabulary=tuple(vocabulary), templates=tuple(templates))
            for c in (self.config, self._asked)
        )

    def text_shares(self, words: Words, look: Look) -> Tensor:
        """(K + 1, h, w) shares of the words by patches and text."""
        assert self.vocabulary is not None
        return VocabularyNetwork(self.vocabulary.model, words).shares(look)

    def look(self, image: npt.NDArray[np.uint8]) -> Look:
        """An (H, W, 3) RGB image as the text model sees it."""
        assert self.vocabulary is not None
        return self.vocabulary.model.look(image)

    def stream_config(self, config: PipelineConfig) -> PipelineConfig:
        """The options of a stream on these networks, without any `auto`.

        Raises ValueError naming an option of the networks that is not theirs, or a mode that they
        do not serve.
        """
        for name in NETWORK_OPTIONS:
            value, ours = getattr(config, name), getattr(self.config, name)
            if value not in (ours, getattr(self._asked, name)):
                raise ValueError(f"{name}: the networks were loaded with {ours!r}, not {value!r}")
        shared = {name: getattr(self.config, name) for name in NETWORK_OPTIONS}
        resolved = _resolve(dataclasses.replace(config, **shared), self.model)
        self.catalog.label_dtype(resolved.unlabelled_id)
        self.check_mode(resolved)
        return resolved

    def check_mode(self, config: PipelineConfig) -> None:
        """Raise ValueError where a stream's mode needs other classes than the network's."""
        if config.mode not in DENSE_MODES and not self._speaks_semantics:
            raise ValueError(
                f"mode: {config.mode} needs the classes of the semantics, but those of network "
                f"{self.config.network} are in use: set class_map and configure again"
            )

    def new_tracker(self, config: PipelineConfig) -> ObjectTracker:
        """A tracker with a memory bank of its own. config: a stream's."""
        return self.model.new_tracker(config.max_objects, PRESETS[config.engine])

    def new_source(self, config: PipelineConfig, words: Words) -> Source | None:
        """Where new objects of a stream come from that answers in these words; None: from prompts
        only."""
        if config.discovery == "grid" and isinstance(self.model, Sam2Model):
            return GridSource(self.model.network)
        if config.discovery in ("regions", "things"):
            return RegionSource(words.things, stuff=config.discovery == "regions")
        if config.discovery == "objects":
            return ObjectSource(words.things, words.stuff)
        return None

    def new_posterior(self, words: Words, class_id: int | None = None) -> ClassPosterior:
        """What is known of the class of a new object; class_id: it is certain, unless that is a
        word that was taken out meanwhile."""
        ids = words.classes.ids.tolist()
        index = ids.index(class_id) if class_id in ids else None
        return ClassPosterior(len(ids), index, None if words.naming is None else len(ids) - 1)

    @property
    def spares_thread(self) -> bool:
        """Whether a processor is free while a stream's frame is in hand, and nobody has said how
        many are to be used: the dense head may run there."""
        alone = self._network is None and self.vocabulary is None
        suitable = self._asked.threads == 0 and self.device.type == "cpu"
        return alone and suitable and 0 < self.config.threads < threads.processors()

    @property
    def understands_points(self) -> bool:
        """Whether the model finds masks by points and boxes."""
        return self.model.card.understands_points

    def mask_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the masks for an image of `size`, its height and width."""
        return self.model.mask_size(size)

    def classifies_masks(self, mode: str) -> bool:
        """Whether a mode asks the mask classifier."""
        return mode not in DENSE_MODES

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Without gradients, and in the precision in which the networks run."""
        dtype = self.model.dtype
        with ExitStack() as entered:
            entered.enter_context(torch.inference_mode())
            if dtype != torch.float32:
                entered.enter_context(torch.autocast(self.device.type, dtype))
            yield

    def check(self, frame: Frame) -> None:
        """Raise MissingLabelsError where neither the network nor the head can predict a frame."""
        network = self._network
        if network is not None and not network.accepts(frame) and not self._speaks_semantics:
            raise MissingLabelsError(f"no labels came with the frame taken at {frame.stamp_ns} ns")

    def predict(self, frame: Frame) -> Tensor | None:
        """(K, h, w) log probabilities of the network; None where the head is to make them."""
        if self._network is None or not self._network.accepts(frame):
            return None
        return self._network.log_probabilities(frame)

    def encode_images(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Features]:
        """The tracker's features of (H, W, 3) RGB images, of several cameras.

        Those whose inputs have the same size are one batch.
        """
        batches: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            size = self.model.input_size((image.shape[0], image.shape[1]))
            batches.setdefault(size, []).append(i)
        found: dict[int, Features] = {}
        for size, batch in batches.items():
            pixels = [functional.image_tensor(images[i], size, self.device) for i in batch]
            features = self.model.encode(torch.cat(pixels))
            each = torch.arange(len(batch), device=self.device).split(1)
            parts = [features] if len(batch) == 1 else [features.select(one) for one in each]
            found |= zip(batch, parts, strict=True)
        return [found[i] for i in range(len(images))]

    def trunk_maps(self, frame: Frame, image: Features | None = None) -> Pyramid:
        """A frame as the semantics see it. image: its `encode_images`, where they are known."""
        if image is None or self._trunk is not self.model:
            image = self._trunk.encode(self._pixels(frame))
        return image.pyramid

    def run_head(self, maps: Pyramid) -> Classes:
        """The dense head on a frame's `trunk_maps`."""
        return self._semantics.head.see(maps[0])

    def find_middles(self, hidden: Tensor) -> Tensor:
        """(3, h, w), the `Dense.middles` of a frame, by what `run_head` gives."""
        middles: Tensor = self._semantics.head.middles(hidden)[0]
        return middles

    def likeness(self, coarse: Tensor) -> Tensor:
        """To the world that the semantics know, by the coarsest of a frame's `trunk_maps`: that of
        `World`, () on the device."""
        return self._semantics.world(coarse)[0]

    def look_again(self, frame: Frame, scale: float) -> Tensor:
        """(K, h, w) log probabilities of the dense head for the frame's mirror image, turned back:
        `semantics.second_look`. scale: size of the input, by that of the first look."""
        mirrored = self._trunk.encode_finest(self._pixels(frame, scale).flip(3))
        logits = self._semantics.head.see(mirrored).logits
        return logits[0].flip(2).float().log_softmax(0)

    def _pixels(self, frame: Frame, scale: float = 1.0) -> Tensor:
        """A frame as the trunk takes it. scale: of its usual input."""
        size = self._trunk.input_size((frame.image.shape[0], frame.image.shape[1]), scale)
        return functional.image_tensor(frame.image, size, self.device)

    def classify_masks(self, hidden: Tensor, masks: Tensor) -> Tensor:
        """(B, K) class shares of (B, h, w) bool masks by the head's features, float32."""
        return self._semantics.classifier(hidden, masks).float().softmax(1)

    def memory_bytes(self) -> int:
        """Bytes of the weights; those of a network from a file of another library not included."""
        models = {id(m): m.network for m in (self.model, self._trunk)}
        semantics = self._semantics
        own = (semantics.head, semantics.classifier, semantics.world, self._trunk.outline)
        modules = [*models.values(), *own]
        weights = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        text = 0 if self.vocabulary is None else self.vocabulary.model.memory_bytes()
        return text + sum(t.nbytes for t in weights)

    def close(self) -> None:
        """Give the networks back; streams on them must be closed first."""
        with heap.giving_back():
            del self.model, self._semantics, self._trunk, self._network, self.vocabulary
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _load_model(config: PipelineConfig) -> TrackingModel:
    if model_card(config.model).by_affinity:
        return load_affinity_model(
            config.model, config.checkpoint, config.device, config.image_size
        )
    return load_model(
        config.model, config.checkpoint, config.device, config.precision, config.image_size
    )


def _resolve(config: PipelineConfig, model: TrackingModel) -> PipelineConfig:
    """The options with what suits the model in the place of every `auto` and 0."""
    card = model.card
    return dataclasses.replace(
        config,
        device=str(model.device),
        image_size=model.image_size,
        carry=card.carry if config.carry == "auto" else config.carry,
        engine=card.engine if config.engine == "auto" else config.engine,
        discovery=card.discovery if config.discovery == "auto" else config.discovery,
        max_objects=config.max_objects or card.max_objects,
        threads=config.threads or _threads(card, config.network),
    )


def _threads(card: ModelCard, network: str) -> int:
    """CPU threads that suit the model, 0 for all.

    Half the processors are left to who looks at the next frame (`lookahead`): threads that share
    the small operations of a small model wait for each other for longer than they gain.
    """
    if network != "head":  # what suits a small model does not suit a large network beside it
        return 0
    return min(card.cpu_threads, max(1, threads.processors() // 2))


def _published_classes(
    config: PipelineConfig, semantics: ClassCatalog, network: SegmentationNetwork | None
) -> ClassCatalog:
    """The network's classes, renamed by the option `classes`."""
    known = semantics if network is None else network.catalog
    if not config.classes:
        return known
    catalog = load_catalog(config.classes)
    if len(catalog) != len(known):
        who = "the semantics know" if known is semantics else f"network {config.network} knows"
        raise ValueError(
            f"classes: {config.classes} has {len(catalog)} classes, but {who} {len(known)}: "
            f"{one_line(', '.join(c.name for c in known.classes))}"
        )
    return catalog
