"""All that one camera stream remembers, and what holds for the frame in hand."""

from __future__ import annotations

from dataclasses import dataclass

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.familiarity import Familiarity
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.stream.budget import Budget, Effort, Level
from sam2vss_ros.stream.interleave import Interleave
from sam2vss_ros.stream.motion import Motion
from sam2vss_ros.stream.movers import Movers, Moving
from sam2vss_ros.stream.naming import TextMemory
from sam2vss_ros.stream.objects import ObjectMemory
from sam2vss_ros.stream.requests import PlacedPrompt, Taken
from sam2vss_ros.stream.scene import Break, Continuity
from sam2vss_ros.stream.schedule import MemorySchedule, SearchSchedule
from sam2vss_ros.stream.smoothing import EvidenceMemory
from sam2vss_ros.stream.timeline import Place, Timeline
from sam2vss_ros.tracking import ObjectTracker
from sam2vss_ros.types import Frame, SemanticFrame


@dataclass(frozen=True)
class FrameContext:
    """What holds for a frame from its beginning to its end.

    index: frames since the stream began, without those that were carried. began_anew: because time
    ran backwards. stream_break: what lies between this frame and the last. prompts: those that
    point into this scene. hurried: frames of the stream are being dropped.
    """

    frame: Frame
    index: int
    config: PipelineConfig
    began_anew: bool
    stream_break: Break
    effort: Effort
    prompts: tuple[PlacedPrompt, ...]
    hurried: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        height, width = self.frame.image.shape[:2]
        return height, width


class StreamState:
    """Everything that belongs to one camera; bounded from the first frame on.

    tracker: the shared networks on this stream's own memory bank. words: the classes of its
    answers.
    """

    def __init__(self, tracker: ObjectTracker, config: PipelineConfig, words: Words) -> None:
        self.tracker = tracker
        self.words = words
        self.objects = ObjectMemory(config.max_objects)
        self.budget = _budget(config)
        self._mode = config.mode
        self._max_step_back = config.max_step_back
        self.reset()

    def reset(self) -> None:
        """Forget everything but which ids are used up, and how long frames take."""
        self.objects.clear()
        self.continuity = Continuity()
        self.motion = Motion()
        self.movers = Movers()
        self.smoothing = EvidenceMemory()
        self.text = TextMemory()
        self.familiarity = Familiarity()
        self.interleave = Interleave(self.tracker.nothing())
        self.search = SearchSchedule()
        self.memories = MemorySchedule()
        self.timeline = Timeline(self._max_step_back)
        self.answer: SemanticFrame | None = None  # to the last frame
        self.frames = 0

    def release(self) -> None:
        """Forget everything as `reset` does, and give the memory bank back until the next frame."""
        self.reset()
        self.tracker.bank.release()

    def rename(self, words: Words) -> None:
        """Answer in other classes from the next frame on; objects stay."""
        old, new = self.words.classes.ids.tolist(), words.classes.ids.tolist()
        self.objects.rename(old, new)
        self.smoothing.clear()
        self.text.renamed()
        self.words = words

    def begin(self, frame: Frame, taken: Taken, hurried: bool = False) -> FrameContext:
        """Do what was asked for, and compare the frame with the one before."""
        began_anew = not taken.reset and self.timeline.place(frame.stamp_ns) == Place.ANEW
        if began_anew or taken.reset:
            self.reset()
        self.tracker.bank.allocate()
        stream_break = self.continuity.compare(frame)
        if any(stream_break):
            self.motion.clear()
            self.movers.clear()
            self.smoothing.clear()
            self.familiarity.clear()
        for track_id in taken.removals:
            if track_id in self.objects:
                self.objects.remove(track_id)
        self.timeline.advance(frame.stamp_ns)
        other_scene = began_anew or stream_break.scene_cut
        prompts = tuple(p for p in taken.prompts if p.of_next or not other_scene)
        self.objects.make_room(sum(p.track_id not in self.objects for p in prompts))
        return FrameContext(
            frame,
            self.frames,
            taken.config,
            began_anew,
            stream_break,
            self._budget_for(taken.config).effort(),
            prompts,
            hurried,
        )

    def watch_movers(self, config: PipelineConfig) -> Moving | None:
        """What moves by itself on the frame of which the flow was just found, where that is looked
        for."""
        last = self.motion.last
        if config.discovery != "objects" or last is None:
            return None
        return self.movers.add(last.image, last.step)

    def is_stray(self, frame: Frame) -> bool:
        """Whether the frame has no place in the stream: `Continuity.is_stray`."""
        last = self.timeline.last_ns
        return last is not None and frame.stamp_ns > last and self.continuity.is_stray(frame)

    def aside(self, frame: Frame, config: PipelineConfig) -> FrameContext:
        """Of a frame that the stages do not take: a stray one, which is labelled alone, or one that
        is answered along the flow. Its time is remembered."""
        self.timeline.advance(frame.stamp_ns)
        effort = self._budget_for(config).effort()
        return FrameContext(frame, self.frames, config, False, Break(), effort, ())

    def end(self, answer: SemanticFrame, seconds: float) -> None:
        """The frame in hand is answered; it took so long."""
        self.answer = answer
        self.frames += not answer.carried
        self.text.keep(track.track_id for track in self.objects.all())
        self.budget.observe(seconds)

    def _budget_for(self, config: PipelineConfig) -> Budget:
        if (self.budget.target_fps, self._mode) != (config.target_fps, config.mode):
            self.budget, self._mode = _budget(config), config.mode
        return self.budget


def _budget(config: PipelineConfig) -> Budget:
    if config.mode == "network":  # no objects are followed, and there is nothing to leave out
        return Budget(config.target_fps, Level.NOTHING)
    return Budget(config.target_fps, Level.CARRY if config.carry == "on" else Level.INTERLEAVE)
