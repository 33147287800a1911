"""VssPipeline: one camera; one image in, one SemanticFrame out. The file to read first.

A frame flows one way through its stages: features (what the networks say of the image; its classes
are found beside the next stage where a processor is free), track (the known objects), discover (new
ones, on keyframes), classify (each object), decide (what and whose each place is), compose (the
images and objects that are published). An image that comes soon after one that was looked at may be
answered along the optical flow instead (carry).
`Perception` holds the networks, which all cameras share; `StreamState` holds what this camera
remembers; `Requests` what users ask of it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch

from sam2vss_ros import heap
from sam2vss_ros.aside import Aside
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2.discovery import Source
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.stages import carry, classify, compose, decide, discover, features, track
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures, Looked, Predicted
from sam2vss_ros.stream.requests import Requests
from sam2vss_ros.stream.schedule import LookSchedule
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.stream.stopwatch import Clock, Stopwatch
from sam2vss_ros.stream.timeline import Place
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame, Prompt, SemanticFrame


class VssPipeline:
    """Online video semantic segmentation of one camera stream.

    `process` belongs to one thread, the same for all pipelines of a Perception; `reset`,
    `add_prompt`, `remove_object` and `reconfigure` may be called from any other and take effect
    before the next frame, `look` at any time.

    Raises ValueError for options that do not fit the networks. seconds: the clock of a CPU, of
    which the frame-time budget and `timings_ms` are told. source: where new objects come from,
    instead of what `discovery` names.
    """

    def __init__(
        self,
        perception: Perception,
        config: PipelineConfig,
        seconds: Callable[[], float] = time.perf_counter,
        source: Source | None = None,
    ) -> None:
        config = perception.stream_config(config)
        self.perception = perception
        words = perception.words
        self.source = source or perception.new_source(config, words)
        self._own_source = source is None
        self.stream = StreamState(perception.new_tracker(config), config, words)
        self.requests = Requests(
            config, lambda: perception.catalog, perception.check_mode, self.stream.objects.new_id
        )
        self.wants_entropy = False  # whether answers have an entropy image
        self._turns, self._turns_ahead = LookSchedule(), LookSchedule()
        self._kept: carry.Kept | None = None  # of the last frame that was looked at
        self._clock = Clock(perception.device, seconds)
        self._aside = Aside() if perception.spares_thread else None

    @property
    def config(self) -> PipelineConfig:
        """The options as they will hold for the next frame."""
        return self.requests.config

    @property
    def catalog(self) -> ClassCatalog:
        """The classes of the label images, as they hold for the next frame."""
        return self.perception.catalog

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.perception.device

    def looks_at(self, frame: Frame, hurried: bool = False) -> bool:
        """Whether `look` is to ask the networks of a frame, the next one that it is given; hurried:
        as in `process`."""
        alternate = self._looks_alternate(hurried)
        due = self.config.carry == "off" or self._turns_ahead.due(frame.stamp_ns, alternate)
        return self.config.mode != "network" and due

    def look(
        self, frame: Frame, image: Features | None = None, hurried: bool = False
    ) -> Predicted | None:
        """What the networks say of a frame that `process` is to have later, after those before it;
        None in mode network, where that asks them itself, and of what is likely to be carried.

        image: its `Perception.encode_images`, where they are known already. hurried: as in
        `process`. Raises what a network raises.
        """
        wanted, mode = self.looks_at(frame, hurried), self.config.mode
        self._turns_ahead.add(frame.stamp_ns, self._looks_alternate(hurried))
        if not wanted:
            return None
        perception = self.perception
        with perception.arithmetic():
            seen = features.extract(perception, frame, mode, perception.predict(frame), image)
            self.stream.tracker.prepare(seen.image)
        return seen

    def process(
        self,
        frame: Frame,
        looked: Looked | None = None,
        elsewhere: float = 0.0,
        hurried: bool = False,
    ) -> SemanticFrame:
        """Segment the next frame of the stream.

        looked: hands over its `look`, where that was asked for ahead. elsewhere: seconds that
        other streams have taken since this one's last frame; they count against `target_fps`.
        hurried: frames of this stream are being dropped, so none has longer looks at it, and every
        second one may be carried.

        A frame that is `out_of_order` is not looked at: the answer is the last one's, marked so.
        Time running backwards by more starts the stream afresh. After a scene cut all objects are
        lost until they are recognised; after a jump in time or at a new image size those are that
        do not look like themselves. A frame of an odd size among others is labelled, and costs no
        object. One that comes soon after one that was looked at may be `carried`. Raises
        ValueError for a second frame with the stamp of the last one, and MissingLabelsError where
        `network` is topic, no labels came with the frame and the dense head cannot stand in; the
        stream is then as it was. After any other error it begins anew, with the prompts of the
        frame that failed.
        """
        out_of_order = self.out_of_order(frame.stamp_ns)
        self.perception.check(frame)
        if out_of_order and self.stream.answer is not None:
            return dataclasses.replace(self.stream.answer, out_of_order=True)
        watch = Stopwatch(self._clock)
        due = self._turns.add(frame.stamp_ns, self._looks_alternate(hurried))
        self._take_words()
        if self.stream.is_stray(frame):
            with self.perception.arithmetic():
                answer = self._label_alone(self.stream.aside(frame, self.config), watch)
            return dataclasses.replace(answer, timings_ms=watch.milliseconds())
        carried = None if due else self._carry(frame, watch)
        if carried is not None:
            return self._end(carried, watch, elsewhere)
        self._kept = None
        height, width = frame.image.shape[:2]
        context = self.stream.begin(frame, self.requests.take((height, width)), hurried)
        try:
            with self.perception.arithmetic():
                if context.config.mode == "network":
                    answer = self._label_alone(context, watch)
                else:
                    answer = self._follow_objects(context, looked, watch)
        except Exception:
            # The memory may be half updated.
            self.requests.begin_anew(context.prompts)
            raise
        if context.stream_break.resized:
            heap.give_back()  # what images of the size before took
        return self._end(answer, watch, elsewhere)

    def _looks_alternate(self, hurried: bool) -> bool:
        """Whether every second image may be carried, however far apart they are."""
        return hurried or self.stream.budget.effort().alternate

    def _end(self, answer: SemanticFrame, watch: Stopwatch, elsewhere: float) -> SemanticFrame:
        """The answer, with the time that it took."""
        answer = dataclasses.replace(answer, timings_ms=watch.milliseconds())
        self.stream.end(answer, sum(answer.timings_ms.values()) / 1e3 + elsewhere)
        self.requests.note(self.stream.objects)
        return answer

    def out_of_order(self, stamp_ns: int) -> bool:
        """Whether a frame taken at this time would be dropped: `max_step_back` older than the last
        at the most. For the thread that processes frames.

        Raises ValueError where it has the stamp of the last one.
        """
        if self.requests.resets:
            return False
        return self.stream.timeline.place(stamp_ns) == Place.LATE

    def _follow_objects(
        self, context: FrameContext, looked: Looked | None, watch: Stopwatch
    ) -> SemanticFrame:
        perception, stream = self.perception, self.stream
        known = features.see(perception, stream, context, looked, watch, self._aside)

        if self._aside is None:
            seen = features.predict(perception, stream, context, known, watch.lap)
            batch = track.follow(stream, context, seen)
        else:
            watch.lap("encode")
            with self._aside.doing(lambda: self._predict(context, known)) as predicted:
                batch = track.follow(stream, context, known)
                seen = predicted()
        watch.lap("track")

        batch, keyframe = discover.discover(
            perception, self.source, self.requests, stream, context, seen, batch
        )
        watch.lap("discover")

        classify.classify(perception, stream, context, seen, batch)
        watch.lap("classify")

        decision = decide.decide(
            perception, context, seen.log_dense, seen.familiar, batch, self.wants_entropy
        )
        self._kept = carry.Kept(decision, batch.masks, context.size, context.config.mode)
        answer = compose.compose(stream.words, context, decision, stream.objects, keyframe)
        if stream.tracker.may_rest:
            stream.interleave.note([t.track_id for t in batch.tracks], batch.tracked)
        watch.lap("fuse")
        return answer

    def _carry(self, frame: Frame, watch: Stopwatch) -> SemanticFrame | None:
        """The answer along the optical flow; None, and nothing is done, where there is none.

        What users ask for is to be seen by all stages.
        """
        kept, stream, config = self._kept, self.stream, self.config
        if config.carry == "off" or kept is None or not self.requests.idle:
            return None
        early = frame.stamp_ns < (stream.timeline.last_ns or 0)
        if early or not kept.suits(frame, config.mode, self.wants_entropy):
            return None
        with self.perception.arithmetic():
            decision = carry.follow(stream, kept, frame)
            if decision is None:
                return None
            watch.lap("carry")
            answer = carry.answer(stream, stream.aside(frame, config), decision)
        watch.lap("fuse")
        return answer

    def _predict(self, context: FrameContext, known: FrameFeatures) -> Predicted:
        """As `features.predict`, in any thread."""
        with self.perception.arithmetic():
            return features.predict(self.perception, self.stream, context, known)

    def _label_alone(self, context: FrameContext, watch: Stopwatch) -> SemanticFrame:
        """Mode network, and stray frames: the dense prediction is the answer, nothing is
        followed."""
        perception, stream, familiar = self.perception, self.stream, 1.0
        dense = perception.predict(context.frame)
        if dense is None:
            maps = perception.trunk_maps(context.frame)
            dense = perception.run_head(maps).logits[0].float().log_softmax(0)
            familiar = stream.familiarity.belief(lambda: perception.likeness(maps[-1]))
            watch.lap("encode")
        else:
            watch.lap("network")
        if stream.words.naming is not None:
            look = perception.look(context.frame.image)
            dense = features.in_words(perception, stream.words, dense, familiar, look)
            familiar = 1.0
            watch.lap("words")
        nothing = ObjectBatch.of([], stream.tracker.nothing())
        decision = decide.decide(perception, context, dense, familiar, nothing, self.wants_entropy)
        answer = compose.compose(stream.words, context, decision, stream.objects, keyframe=False)
        watch.lap("fuse")
        return answer

    def _take_words(self) -> None:
        """From this frame on the answers are in the words that hold now."""
        words = self.perception.words
        if words is not self.stream.words:
            self.stream.rename(words)
            self._kept = None
            if self._own_source:
                self.source = self.perception.new_source(self.config, words)

    def reset(self) -> None:
        """Forget all objects, and prompts not taken up yet, before the next frame."""
        self.requests.reset()

    def reserve_ids(self, largest: int) -> None:
        """Give track ids up to this one to no object but those that prompts ask for. Before the
        first frame."""
        self.stream.objects.reserve(largest)

    def add_prompt(self, prompt: Prompt, track_id: int | None = None) -> int:
        """Track what the user points at from the next frame on; returns its track id.

        track_id: the id that it is to have, one of `reserve_ids`; an object in memory that has it
        is from then on what the prompt says, and a mask is one of the next frame, whatever that
        shows. None: a new id, and the prompt points into the last frame.

        Where all places are taken, the least certain object that was found gives way to it. Raises
        ValueError where the prompt lies outside the image, its class is not in the catalog, or
        users have asked for as many objects as there are places.
        """
        return self.requests.add_prompt(prompt, track_id)

    def remove_object(self, track_id: int) -> bool:
        """Forget an object before the next frame; False where there is no such object."""
        return self.requests.remove_object(track_id)

    def reconfigure(self, **changes: object) -> None:
        """Change live options; going to mode network or back forgets all objects. The vocabulary
        changes for all streams of the Perception.

        Raises ValueError or TypeError naming the option.
        """
        if not changes.keys().isdisjoint(("vocabulary", "templates")):
            wanted = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
            self.perception.set_words(wanted.vocabulary, wanted.templates)
        self.requests.reconfigure(**changes)

    def memory_bytes(self) -> int:
        """Bytes that the memory bank of this stream holds; constant, and 0 once released."""
        return self.stream.tracker.bank.nbytes()

    def release(self) -> None:
        """Forget all objects and give their memory back until the next frame; ids go on.

        For the thread that processes frames, as `process` is.
        """
        with heap.giving_back():
            self._kept = None
            self.stream.release()
        self.requests.note(self.stream.objects)

    def close(self) -> None:
        """Give the stream's memory back; the pipeline cannot be used afterwards.

        The networks are the Perception's to give back.
        """
        with heap.giving_back():
            if self._aside is not None:
                self._aside.close()
            del self.perception, self.source, self.stream, self.requests, self._kept
        if self._clock.on_gpu:
            torch.cuda.empty_cache()
