"""VssPipeline: one image in, one SemanticFrame out.

A frame flows one way through its stages: network (the dense prediction, where a network of its own
makes it), encode (image features, else the dense prediction), track (the known objects), discover
(new ones, on keyframes), classify (each object's features), fuse (the images that are published).
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.config import PipelineConfig, options_of
from sam2vss_ros.errors import MissingLabelsError
from sam2vss_ros.sam2 import functional, policy
from sam2vss_ros.sam2.discovery import (
    GridSource,
    RegionSource,
    Source,
    select,
    without_duplicates,
)
from sam2vss_ros.sam2.models import load_model
from sam2vss_ros.sam2.options import ENGINES
from sam2vss_ros.sam2.tracker import Tracked, Tracker
from sam2vss_ros.semantics.catalog import ClassCatalog, load_catalog
from sam2vss_ros.semantics.classifier import pool_features
from sam2vss_ros.semantics.fusion import fuse
from sam2vss_ros.semantics.model import load_semantics
from sam2vss_ros.semantics.networks.class_mapping import load_class_map, map_classes, same_classes
from sam2vss_ros.semantics.networks.labels import LabelImages
from sam2vss_ros.semantics.networks.loading import load_network
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.semantics.pointing import region_at
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stream.budget import CALM, Budget, Level
from sam2vss_ros.stream.interleave import Calm, Turns
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.stream.reid import appearance, colours
from sam2vss_ros.stream.scene import Continuity
from sam2vss_ros.stream.smoothing import EvidenceMemory
from sam2vss_ros.types import (
    Frame,
    Prompt,
    SemanticFrame,
    TrackedObject,
    TrackState,
    instance_value,
)

EMBEDDED = ("head", "street")
"""Networks as small as the embedded SAM 2."""

OF_DENSE = ("network", "refine")
"""Modes that need no more than the dense prediction."""

LIKE_ITSELF = 0.6
LIKE_ITSELF_AFTER_BREAK = 0.75
"""Likeness to its past looks below which what is tracked is not the object."""


class Seen(NamedTuple):
    """What the encoders say of a frame.

    features: the tracker's. hidden: the dense head's, which the mask classifier reads, where the
    mode asks for it. log_dense: (K, h, w) log probabilities, probabilities: (K, S/4, S/4) on the
    grid of the tracker's masks. colours: the image's, on the same grid. looks: the appearance of
    what each slot is tracked to.
    """

    features: functional.ImageFeatures
    hidden: Tensor | None
    log_dense: Tensor
    probabilities: Tensor
    colours: Tensor
    looks: dict[int, Tensor]


class VssPipeline:
    """Online video semantic segmentation of one camera stream.

    `process` belongs to one thread; `reset`, `add_prompt`, `remove_object` and `reconfigure` may
    be called from any other and take effect before the next frame.

    Raises ModelUnavailableError, FileNotFoundError or ValueError, with a message for the user,
    where a model, a semantics file, a network, a class file or an option is not usable.

    clock: seconds, of which the frame-time budget and `timings_ms` are told. source: where new
    objects come from, instead of what `discovery` names.
    """

    def __init__(
        self,
        config: PipelineConfig,
        clock: Callable[[], float] = time.perf_counter,
        source: Source | None = None,
    ) -> None:
        model = load_model(
            config.model, config.checkpoint, config.device, config.precision, config.image_size
        )
        preset = ENGINES[model.card.engine if config.engine == "auto" else config.engine]
        config = dataclasses.replace(
            config, max_objects=config.max_objects or model.card.max_objects
        )
        if config.network == "auto":
            embedded = config.semantics == PipelineConfig().semantics
            config = dataclasses.replace(config, network="street" if embedded else "head")
        # What suits a small model does not suit a large network beside it.
        threads = config.threads or (model.card.cpu_threads if config.network in EMBEDDED else 0)
        if threads:
            torch.set_num_threads(threads)
        self.config = config
        self.device = model.device
        self.model = model
        self._card = model.card
        self._dtype = model.dtype
        self._semantics = load_semantics(config.semantics, model.device)
        self._network = _open_network(config, self._semantics.catalog, self.device)
        self._speaks_semantics = self._network is None or same_classes(
            self._network.catalog, self._semantics.catalog
        )
        self.catalog = _catalog(config, self._semantics.catalog, self._network)
        self.label_dtype = self.catalog.label_dtype(config.unlabelled_id)
        self._tracker = Tracker(model, config.max_objects, preset)
        self._shares_features = (
            self._semantics.backbone == config.model
            and self._semantics.image_size == model.network.image_size
        )
        self._semantic_encoder = (
            model.network
            if self._shares_features
            else load_model(
                self._semantics.backbone,
                device=config.device,
                image_size=self._semantics.image_size,
            ).network
        )
        kind = model.card.discovery if config.discovery == "auto" else config.discovery
        sources: dict[str, Source | None] = {
            "grid": GridSource(model.network, config),
            "regions": RegionSource(self.catalog.things),
            "off": None,
        }
        self.source = source or sources[kind]
        self.objects = ObjectMemory(config)
        self._clock = clock
        self._budget, self._turns = Budget(config.target_fps), Turns()
        self._lock = threading.Lock()
        self._prompts: dict[int, tuple[Prompt, tuple[int, int]]] = {}  # with the image's size
        self._removals: set[int] = set()
        self._reset_wanted = False
        self._mode = config.mode  # of the frame in hand
        self._size: tuple[int, int] | None = None
        self._last_stamp: int | None = None
        self._start_stream()

    def process(self, frame: Frame) -> SemanticFrame:
        """Segment the next frame of the stream.

        Time running backwards starts the stream afresh. After a scene cut all objects are lost
        until they are recognised; after a jump in time or at a new image size those are that do
        not look like themselves. Raises ValueError for a second frame with the stamp of the last
        one, and MissingLabelsError where `network` is topic, no labels came with the frame and the
        dense head cannot stand in.
        """
        self._begin(frame)
        watch = _Stopwatch(self._clock)
        with torch.inference_mode(), self.arithmetic():
            dense = self.predict(frame)
            if dense is not None:
                watch.lap("network")
            if self._mode == "network":
                return self._label_alone(frame, dense, watch)
            seen = self.encode(frame.image, dense)
            evidence = self._evidence_memory.add(frame.image, seen.log_dense)
            seen = seen._replace(log_dense=evidence)
            watch.lap("encode")
            tracked = self._track(seen)
            watch.lap("track")
            keyframe = self._wants_discovery(tracked)
            tracked = self._take_prompts(seen, tracked)
            if keyframe:
                tracked = self._discover(seen, tracked)
            watch.lap("discover")
            tracked = self._visible(tracked)
            if tracked is not None:
                tracked = policy.resolve_overlaps(tracked)
            self._classify(seen, tracked)
            watch.lap("classify")
            result = self._fuse(frame, seen.log_dense, tracked, keyframe, watch)
        self._frames += 1
        self._budget.observe(sum(watch.laps.values()) / 1e3)
        return result

    def reset(self) -> None:
        """Forget all objects, and prompts not taken up yet, before the next frame."""
        with self._lock:
            self._prompts.clear()
            self._reset_wanted = True

    def add_prompt(self, prompt: Prompt) -> int:
        """Track what the user points at from the next frame on; returns its track id.

        Raises ValueError where the prompt lies outside the image, its class is not in the catalog,
        or there is no room for another object.
        """
        with self._lock:
            self._check_prompt(prompt)
            assert self._size is not None
            if self._places() <= len(self._prompts):
                raise ValueError(
                    f"max_objects: all {self.config.max_objects} places are taken; remove an "
                    "object first"
                )
            track_id = self.objects.new_id()
            self._prompts[track_id] = prompt, self._size
            return track_id

    def remove_object(self, track_id: int) -> bool:
        """Forget an object before the next frame; False where there is no such object."""
        with self._lock:
            if self._prompts.pop(track_id, None) is not None:
                return True
            if track_id not in self.objects or track_id in self._removals:
                return False
            self._removals.add(track_id)
            return True

    def reconfigure(self, **changes: object) -> None:
        """Change live options; going to mode network or back forgets all objects.

        Raises ValueError or TypeError naming the option.
        """
        options = options_of(PipelineConfig)
        for name in changes:
            if name not in options or not options[name][1].live:
                live = ", ".join(k for k, (_, o) in options.items() if o.live)
                raise ValueError(f"{name}: cannot change while running; these can: {live}")
        with self._lock:
            config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
            if config.mode not in OF_DENSE and not self._speaks_semantics:
                raise ValueError(
                    f"mode: {config.mode} needs the classes of the semantics, but those of network "
                    f"{config.network} are in use: set class_map and configure again"
                )
            if "network" in {self.config.mode, config.mode} and self.config.mode != config.mode:
                self._prompts.clear()
                self._reset_wanted = True
            self.config = config
            if isinstance(self.source, GridSource):
                self.source = GridSource(self._tracker.network, self.config)

    def memory_bytes(self) -> int:
        """Bytes that the memory bank holds; constant for the life of the pipeline."""
        return self._tracker.bank.nbytes()

    def close(self) -> None:
        """Give the model and the memory back; the pipeline cannot be used afterwards."""
        del self._tracker, self._semantics, self._semantic_encoder, self.source, self.model
        del self._network
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # -- one stage each, in the order of `process`

    def _begin(self, frame: Frame) -> None:
        """Apply what was asked for since the last frame, but for the prompts."""
        if self._last_stamp is not None and frame.stamp_ns == self._last_stamp:
            raise ValueError(f"two frames with stamp {frame.stamp_ns} ns")
        waiting = self.config.network == "topic" and frame.dense_labels is None
        if waiting and not self._speaks_semantics:
            raise MissingLabelsError(f"no labels came with the frame taken at {frame.stamp_ns} ns")
        rewound = self._last_stamp is not None and frame.stamp_ns < self._last_stamp
        with self._lock:
            if rewound or self._reset_wanted:
                self._start_stream()
            self._break = self._continuity.look(frame)
            if any(self._break):
                self._evidence_memory.clear()
            if rewound or self._break.scene_cut:
                self._prompts.clear()  # they point at another scene
            for track_id in self._removals & {t.track_id for t in self.objects.all()}:
                self.objects.remove(track_id)
            self._removals, self._reset_wanted = set(), False
            self._size = (frame.image.shape[0], frame.image.shape[1])
            self._last_stamp = frame.stamp_ns
            if (self._budget.target_fps, self._mode) != (self.config.target_fps, self.config.mode):
                self._budget = Budget(self.config.target_fps)
            self._mode = self.config.mode

    def _start_stream(self) -> None:
        self.objects.clear()
        self._continuity = Continuity()
        self._evidence_memory = EvidenceMemory()
        self._last_stamp = None
        self._frames = 0
        self._last_keyframe = 0
        self._left_unexplained = 0.0
        self._owed: set[int] = set()  # slots whose memory of this interval is not written yet

    def predict(self, frame: Frame) -> Tensor | None:
        """(K, h, w) log probabilities of the network; None where the dense head makes them.

        No state is changed.
        """
        if self._network is None:
            return None
        image = frame.dense_labels if self.config.network == "topic" else frame.image
        return None if image is None else self._network.log_probabilities(image)

    def encode(self, image: npt.NDArray[np.uint8], dense: Tensor | None = None) -> Seen:
        """What the encoders say of an (H, W, 3) RGB image; no state is changed.

        dense: what `predict` says of it; None: the dense head is to say it.
        """
        network = self._tracker.network
        pixels = functional.image_tensor(image, network.image_size, self.device)
        features = functional.encode_image(network, pixels)
        hidden = None
        if dense is None or self._mode not in OF_DENSE:
            pyramid = features.pyramid if self._shares_features else self._own_pyramid(image)
            head = self._semantics.head(pyramid)
            hidden = head.hidden
            if dense is None:
                dense = head.logits[0].float().log_softmax(0)
        side = network.image_size // 4
        probabilities = dense.exp()
        if probabilities.shape[-2:] != (side, side):
            probabilities = F.interpolate(
                probabilities[None], (side, side), mode="bilinear", antialias=True
            )[0]
        return Seen(features, hidden, dense, probabilities, colours(image, side, self.device), {})

    def _own_pyramid(self, image: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """The features that the semantics read, by their own encoder."""
        pixels = functional.image_tensor(image, self._semantics.image_size, self.device)
        return functional.encode_image(self._semantic_encoder, pixels).pyramid

    def _label_alone(self, frame: Frame, dense: Tensor | None, watch: _Stopwatch) -> SemanticFrame:
        """Mode network: the dense prediction is the answer, nothing is followed."""
        if dense is None:
            logits = self._semantics.head(self._own_pyramid(frame.image)).logits
            dense = logits[0].float().log_softmax(0)
            watch.lap("encode")
        return self._fuse(frame, dense, None, False, watch)

    def _track(self, seen: Seen) -> Tracked | None:
        """Follow the active objects and move their lives on by this frame."""
        self.objects.age_lost(self.config)
        active = self.objects.active()
        if self._break.scene_cut:
            for track in active:
                self.objects.lose(track)
            return None
        level = self._budget.level
        resting = self._rest(active)
        rests = set(resting.slots) if resting else set()
        tracked = self._tracker.step(seen.features, [t.slot for t in active if t.slot not in rests])
        interval = self.config.memory_interval * (2 if level >= Level.MEMORY else 1)
        if self._frames % interval == 0:
            self._owed = {t.slot for t in active}
        parts = [part for part in (tracked, resting) if part is not None]
        if not parts:
            return None
        tracked = Tracked.join(parts)  # as claimed: discovery sees by it who is there twice
        owned = policy.resolve_overlaps(tracked)
        by_slot = {t.slot: t for t in active}
        least = LIKE_ITSELF_AFTER_BREAK if self._break.suspicious else LIKE_ITSELF
        for slot, look, area, iou, score in zip(
            tracked.slots,
            self._looks(seen, tracked),
            (owned.masks > 0).flatten(1).sum(1).tolist(),
            tracked.predicted_iou.tolist(),
            tracked.score.sigmoid().tolist(),
            strict=True,
        ):
            track = by_slot[slot]
            if slot in rests:
                track.age += 1
                continue
            track.predicted_iou, track.visibility = iou, score
            itself = track.likeness(look) >= least
            if self._break.suspicious and not itself:
                self.objects.lose(track)
            else:
                self.objects.observe(track, area if itself else 0, score, self.config)
        remembered = self._visible(owned)
        if remembered is not None:
            self._remember(seen, remembered, rests)
        return self._visible(tracked)

    def _rest(self, active: list[Track]) -> Tracked | None:
        """Those that are not followed on this frame; new and hidden objects always are."""
        if self._break.suspicious:
            return None
        able = [t for t in active if t.state == TrackState.CONFIRMED and not t.missed]
        calm = CALM if self._budget.level >= Level.TURNS else Calm(self._tracker.engine.steady)
        return self._turns.rest([t.track_id for t in able], calm)

    def _looks(self, seen: Seen, tracked: Tracked) -> Tensor:
        """The appearance of B objects, (B, A), each computed once a frame."""
        new = [i for i, slot in enumerate(tracked.slots) if slot not in seen.looks]
        if new:
            looks = appearance(seen.features.pyramid, seen.colours, tracked.masks[new] > 0)
            seen.looks.update(zip([tracked.slots[i] for i in new], looks, strict=True))
        return torch.stack([seen.looks[slot] for slot in tracked.slots])

    def _remember(self, seen: Seen, tracked: Tracked, rests: set[int]) -> None:
        """Write the memories that are due; what is poor on this frame is due on the next."""
        due = [
            i
            for i in policy.worth_remembering(tracked)
            if tracked.slots[i] in self._owed and tracked.slots[i] not in rests
        ]
        if due:
            self._tracker.commit(seen.features, tracked.take(due))
        self._owed.difference_update(tracked.slots[i] for i in due)

    def _visible(self, tracked: Tracked | None) -> Tracked | None:
        """Only the objects that are there and seen on this frame."""
        if tracked is None:
            return None
        here = {t.slot for t in self.objects.active() if not t.missed}
        index = [i for i, slot in enumerate(tracked.slots) if slot in here]
        return tracked.take(index) if index else None

    def _wants_discovery(self, tracked: Tracked | None) -> bool:
        """On the first frame, where the stream breaks, on keyframes, and for what is new.

        New is what is unexplained beyond the least that was since the last search; it calls for a
        search where an object can be added or recognised.
        """
        if self.source is None:
            return False
        if self._frames == 0 or any(self._break):
            return True
        waited = self._frames - self._last_keyframe
        if self._budget.level >= Level.DISCOVERY:
            return waited >= 2 * self.config.keyframe_interval
        unexplained = 1 - self._coverage(tracked)
        self._left_unexplained = min(self._left_unexplained, unexplained)
        new = unexplained - self._left_unexplained
        useful = self.objects.room() > 0 or any(t.missed for t in self.objects.active())
        early = useful and new >= self.config.min_unexplained
        return early or waited >= self.config.keyframe_interval

    def _take_prompts(self, seen: Seen, tracked: Tracked | None) -> Tracked | None:
        """Start the objects that users asked for."""
        with self._lock:
            asked = [
                (
                    self.objects.add(track_id, self._belief(prompt.class_id), prompted=True),
                    prompt,
                    size,
                )
                for track_id, (prompt, size) in self._prompts.items()
            ]
            self._prompts.clear()
        for track, prompt, size in asked:
            found = self._find_prompted(seen, track.slot, prompt, size)
            if (found.masks > 0).any():
                self.objects.see(track, self.config)
            else:
                track.missed = 1
            tracked = self._begin_objects(seen, tracked, found, [track])
        return tracked

    def _find_prompted(
        self, seen: Seen, slot: int, prompt: Prompt, size: tuple[int, int]
    ) -> Tracked:
        if prompt.mask is not None or self._card.understands_points:
            return self._tracker.from_prompt(seen.features, slot, prompt, size)
        mask = region_at(prompt, seen.probabilities.argmax(0).cpu().numpy(), size)
        masks = torch.from_numpy(mask)[None].to(self.device)
        return self._tracker.from_masks(seen.features, [slot], masks)

    def _discover(self, seen: Seen, tracked: Tracked | None) -> Tracked | None:
        """Start objects where nothing is explained, or bring lost ones back."""
        assert self.source is not None
        side = self._tracker.network.image_size // 4
        tracked = self._drop_duplicates(tracked)
        unexplained = torch.ones(side, side, dtype=torch.bool, device=self.device)
        if tracked is not None:
            unexplained = (tracked.masks <= 0).all(0)
        candidates = select(
            self.source.propose(seen.features, seen.probabilities, unexplained),
            unexplained,
            max(1, round(self.config.min_area * side * side)),
            self.objects.room(),
        )
        looks = appearance(seen.features.pyramid, seen.colours, candidates.masks)
        with self._lock:
            chosen = self._known_or_new(looks)
        if chosen:
            index, tracks = list(chosen), list(chosen.values())
            slots = [t.slot for t in tracks]
            found = self._tracker.from_masks(seen.features, slots, candidates.masks[index])
            found = dataclasses.replace(found, predicted_iou=candidates.score[index])
            tracked = self._begin_objects(seen, tracked, found, tracks)
        self._last_keyframe = self._frames
        self._left_unexplained = 1 - self._coverage(tracked)
        return tracked

    def _known_or_new(self, looks: Tensor) -> dict[int, Track]:
        """Candidate -> its object, for as many of the (N, A) looks as there is room for.

        Those that are known come first, so that no lost object gives way before it is recognised.
        """
        known = self.objects.recognise(looks, self.config)
        chosen: dict[int, Track] = {}
        for i in sorted(range(len(looks)), key=lambda i: known[i] is None):
            track = known[i]
            # Prompts that came meanwhile were promised a place; the occluded have theirs.
            room = self.objects.room() > len(self._prompts)
            if not room and (track is None or track.state == TrackState.LOST):
                continue
            if track is None:
                track = self.objects.add(self.objects.new_id(), self._belief(None))
            self.objects.see(track, self.config)
            chosen[i] = track
        return chosen

    def _places(self) -> int:
        """Places for objects once the reset and the removals asked for are done."""
        if self._reset_wanted:
            return self.config.max_objects
        leaving = [t for t in self.objects.active() if t.track_id in self._removals]
        return self.objects.room() + len(leaving)

    def _belief(self, class_id: int | None) -> ClassPosterior:
        index = None if class_id is None else self.catalog.ids.tolist().index(class_id)
        return ClassPosterior(len(self.catalog), index)

    def _begin_objects(
        self, seen: Seen, tracked: Tracked | None, found: Tracked, tracks: list[Track]
    ) -> Tracked:
        self._tracker.start(seen.features, found)
        for slot in found.slots:
            seen.looks.pop(slot, None)
        for track, iou, score in zip(
            tracks, found.predicted_iou.tolist(), found.score.sigmoid().tolist(), strict=True
        ):
            track.predicted_iou, track.visibility = iou, score
        return found if tracked is None else Tracked.join([tracked, found])

    def _drop_duplicates(self, tracked: Tracked | None) -> Tracked | None:
        """Two objects with the same mask are one; the user's stays, else the older."""
        if tracked is None:
            return None
        by_slot = {t.slot: t for t in self.objects.active()}
        tracks = [by_slot[slot] for slot in tracked.slots]
        order = sorted(
            range(len(tracks)), key=lambda i: (not tracks[i].prompted, tracks[i].track_id)
        )
        kept = without_duplicates(tracked.masks > 0, order)
        for i in set(order) - set(kept):
            self.objects.remove(tracks[i].track_id)
        return tracked.take(kept)

    def _classify(self, seen: Seen, tracked: Tracked | None) -> None:
        """Give each visible object this frame's evidence of its class, and its looks."""
        if tracked is None:
            return
        evidence = self._evidence(seen, tracked).cpu()
        looks = self._looks(seen, tracked)
        by_slot = {t.slot: t for t in self.objects.active()}
        sure = policy.worth_remembering(tracked)
        for i, (slot, row, look) in enumerate(zip(tracked.slots, evidence, looks, strict=True)):
            track = by_slot[slot]
            track.belief.add(row, self.config.belief_memory)
            if i in sure or track.appearance is None:
                track.look_like(look)

    def _evidence(self, seen: Seen, tracked: Tracked) -> Tensor:
        """(B, K) shares of the classes in the masks of B objects, from this frame alone."""
        masks = tracked.masks > 0
        of_pixels = pool_features((seen.log_dense.softmax(0)[None],), masks)
        if self._mode == "refine":
            return of_pixels
        assert seen.hidden is not None
        of_features = self._semantics.classifier(seen.hidden, masks).float().softmax(1)
        return of_features if self._mode == "classify" else (of_features + of_pixels) / 2

    def _fuse(
        self,
        frame: Frame,
        log_dense: Tensor,
        tracked: Tracked | None,
        keyframe: bool,
        watch: _Stopwatch,
    ) -> SemanticFrame:
        height, width = frame.image.shape[:2]
        by_slot = {t.slot: t for t in self.objects.active()}
        visible = [] if tracked is None else [by_slot[slot] for slot in tracked.slots]
        fused = fuse(
            self._mode,
            log_dense,
            log_dense[:0] if tracked is None else tracked.masks,
            self._beliefs(visible),
            self.label_size(height, width, log_dense),
        )
        sure, owner = fused.confidence.cpu().numpy(), fused.owner.short().cpu().numpy()
        labels = self.catalog.ids.astype(self.label_dtype).take(fused.classes.cpu().numpy())
        labels[sure < self.config.min_class_score] = self.config.unlabelled_id
        values = np.array([*(instance_value(t.track_id) for t in visible), 0], np.uint16)
        labels, confidence, instances, owner = (
            cv2.resize(x, (width, height), interpolation=cv2.INTER_NEAREST)
            for x in (labels, (sure * 255).astype(np.uint8), values[owner], owner)
        )
        position = {t.track_id: i for i, t in enumerate(visible)}
        objects = tuple(
            self._object(t, owner == position[t.track_id] if t.track_id in position else None)
            for t in self.objects.all()
        )
        self._turns.note([t.track_id for t in visible], tracked)
        watch.lap("fuse")
        return SemanticFrame(
            stamp_ns=frame.stamp_ns,
            label_image=labels,
            confidence_image=confidence,
            instance_image=instances,
            objects=objects,
            keyframe=keyframe,
            coverage=float((instances > 0).mean()),
            timings_ms=watch.laps,
            degraded=self._budget.degraded,
            late=self._budget.late,
            scene_cut=self._break.scene_cut,
            time_jump=self._break.time_jump,
        )

    def _beliefs(self, tracks: list[Track]) -> Tensor:
        """(B, K) class probabilities of some objects."""
        rows = [t.belief.probabilities() for t in tracks]
        empty = torch.zeros(0, len(self.catalog))
        return (torch.stack(rows) if rows else empty).to(self.device)

    def _object(self, track: Track, owned: npt.NDArray[np.bool_] | None) -> TrackedObject:
        probabilities = track.belief.probabilities().numpy()
        best = int(probabilities.argmax())
        score = float(probabilities[best])
        sure = score >= self.config.min_class_score
        x, y, width, height = (
            (0, 0, 0, 0) if owned is None else cv2.boundingRect(owned.view(np.uint8))
        )
        mask = np.zeros((0, 0), bool) if owned is None else owned[y : y + height, x : x + width]
        moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
        area = round(moments["m00"])
        return TrackedObject(
            track_id=track.track_id,
            state=track.state,
            class_id=self.catalog.classes[best].id if sure else self.config.unlabelled_id,
            class_name=self.catalog.classes[best].name if sure else "",
            class_score=score,
            class_probabilities=probabilities,
            predicted_iou=track.predicted_iou,
            visibility=track.visibility,
            box=(x, y, width, height),
            area=area,
            centroid=(x + moments["m10"] / area, y + moments["m01"] / area) if area else (0.0, 0.0),
            age=track.age,
            frames_since_seen=track.missed,
            mask=mask.copy(),
        )

    def _coverage(self, tracked: Tracked | None) -> float:
        return 0.0 if tracked is None else float((tracked.masks > 0).any(0).float().mean())

    def label_size(self, height: int, width: int, log_dense: Tensor) -> tuple[int, int]:
        """Height and width at which the labels of an image are decided, then raised to its own."""
        # Far beyond the resolution of masks and dense prediction there is nothing to gain.
        side = self._tracker.network.image_size // 4
        rows, columns = (2 * max(side, fine) for fine in log_dense.shape[-2:])
        return min(height, rows), min(width, columns)

    def arithmetic(self) -> AbstractContextManager[None]:
        """The precision in which the networks run."""
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self._dtype)

    def _check_prompt(self, prompt: Prompt) -> None:
        if self.config.mode == "network":
            raise ValueError("mode: network follows no objects")
        if prompt.class_id is not None and prompt.class_id not in self.catalog.ids:
            raise ValueError(f"class_id: {prompt.class_id} is not in catalog {self.catalog.name}")
        if self._size is None:
            raise ValueError("no image has come yet, so there is nothing to point at")
        height, width = self._size
        if prompt.mask is not None and prompt.mask.shape != self._size:
            raise ValueError(
                f"mask: {prompt.mask.shape[1]} x {prompt.mask.shape[0]} pixels, but the image has "
                f"{width} x {height}"
            )
        corners = np.array(prompt.box).reshape(2, 2) if prompt.box is not None else prompt.points
        if corners is not None and not ((corners >= 0) & (corners <= (width, height))).all():
            raise ValueError(f"prompt: {corners.tolist()} is not inside {width} x {height} pixels")


class _Stopwatch:
    """Milliseconds from lap to lap, by a clock of seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.laps: dict[str, float] = {}
        self._clock, self._last = clock, clock()

    def lap(self, name: str) -> None:
        now = self._clock()
        self.laps[name] = (now - self._last) * 1e3
        self._last = now


def _open_network(
    config: PipelineConfig, semantics: ClassCatalog, device: torch.device
) -> SegmentationNetwork | None:
    """The network in the classes that are to be published; None is the dense head.

    Those are the classes of the semantics, but for a network that is not joined to them and is used
    in a mode that needs no more than the dense prediction: then they are its own.
    """
    if config.network == "head":
        for name in ("network_classes", "class_map"):
            if getattr(config, name):
                raise ValueError(f"{name}: the head has the classes of the semantics")
        return None
    network: SegmentationNetwork
    if config.network == "topic":
        labels = load_catalog(config.network_classes) if config.network_classes else semantics
        network = LabelImages(labels, device)
    else:
        network = load_network(config.network, device, config.network_classes)
    foreign = {c.name for c in network.catalog.classes} != {c.name for c in semantics.classes}
    if foreign and not config.class_map and config.mode in OF_DENSE:
        return network
    return map_classes(
        network, semantics, load_class_map(config.class_map) if config.class_map else {}
    )


def _catalog(
    config: PipelineConfig, semantics: ClassCatalog, network: SegmentationNetwork | None
) -> ClassCatalog:
    """What is published: the network's classes, renamed by the option `classes`."""
    known = semantics if network is None else network.catalog
    if not config.classes:
        return known
    catalog = load_catalog(config.classes)
    if len(catalog) != len(known):
        who = "the semantics know" if known is semantics else f"network {config.network} knows"
        raise ValueError(
            f"classes: {config.classes} has {len(catalog)} classes, but {who} {len(known)}: "
            f"{', '.join(c.name for c in known.classes)}"
        )
    return catalog
