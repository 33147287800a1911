"""Every option of the pipeline and the node, declared once: name, default, meaning, allowed values.

The command line, the ROS parameters and the launch file read these declarations; `sam2vss config`
prints `config/vss.yaml` and the README's table from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam2vss_ros.options import Checked, Option, Value, option, options_of
from sam2vss_ros.semantics.groups import check_masks
from sam2vss_ros.semantics.vocabulary.entries import check_templates, parse_vocabulary

MOST_PIXELS = 1 << 26
"""Of an image that is read, if the user says no more: 67 million, twice an 8K frame."""

MOST_SIDE = 16384
"""Pixels of a published image on one side."""

MODEL_FILES = (".yaml", ".yml")
"""How the path of a model's file ends, which may stand where a model has a name."""

DENSE_MODES = ("network", "refine")
"""Modes that need no more than the dense prediction."""


@dataclass(frozen=True)
class PipelineConfig(Checked):
    """The options of `VssPipeline`."""

    model: str = option(
        "mobile",
        "model that follows objects: mobile, which compares frames, is embedded; the others are "
        "Meta's, or any SAM 2 by its YAML file in the form of the sam2 package's configs",
        choices=(
            "mobile",
            "sam2.1_hiera_tiny",
            "sam2.1_hiera_small",
            "sam2.1_hiera_base_plus",
            "sam2.1_hiera_large",
            "edgetam",
        ),
        files=MODEL_FILES,
        heading="The model",
    )
    checkpoint: str = option(
        "",
        "path of the model's weights, .pt in Meta's format, .safetensors, or for Meta's models a "
        "folder as transformers saves them; empty looks in the usual places, for a YAML file "
        "beside it",
    )
    semantics: str = option(
        "street",
        "classes: street (embedded, CamVid) or a .safetensors file of sam2vss train semantics",
    )
    classes: str = option(
        "",
        "class file (YAML) that renames and recolours the classes of the semantics; empty: theirs",
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N; auto takes the GPU where there is one")
    precision: str = option(
        "float32", "arithmetic of the model on a GPU", choices=("float32", "bfloat16", "float16")
    )
    image_size: int = option(
        0,
        "longer side of the model's input in pixels, a multiple of 32 (SAM 2 sees a square); "
        "0: the model's own",
        low=0,
        high=2048,
    )
    max_image_pixels: int = option(
        MOST_PIXELS,
        "images of more pixels are refused, compressed ones by their header, before they take "
        "memory",
        low=1,
        high=1 << 30,
        live=True,
    )
    target_fps: float = option(
        0.0,
        'frames per second to keep by leaving out what matters least, see "When time is short"; '
        "0: nothing is left out",
        low=0.0,
        high=1000.0,
        live=True,
    )
    threads: int = option(
        0,
        "CPU threads of the model; 0: what suits it (mobile one or two, and one that finds the "
        "classes meanwhile where a processor is free; others all cores)",
        low=0,
        high=256,
    )
    mode: str = option(
        "fused",
        "how labels are made: refine (masks take the dense majority), classify (masks take the "
        "class of their features), fused (both as evidence) or network (the dense prediction "
        "alone, no objects)",
        choices=("refine", "classify", "fused", "network"),
        live=True,
        heading="Labels",
    )
    network: str = option(
        "head",
        "network of the dense prediction: head (of the semantics), topic (label images of another "
        "node), a file (.onnx, or TorchScript .pt or .ts), or a model of the library transformers "
        "(folder, or name on the hub once it was fetched)",
    )
    allow_torchscript: bool = option(
        False,
        "run a TorchScript network also where it does more than compute, such as open files; it is "
        "a program: only where you trust who made it",
    )
    network_classes: str = option(
        "",
        "class file (YAML, or the name of a shipped one) of the network; empty: its own, which a "
        "topic has not: then those of the semantics",
    )
    class_map: str = option(
        "",
        "file (YAML, or the name of a shipped one) that joins the network's classes to those of "
        "the semantics; empty: equal names meet, and in modes network and refine its own classes "
        "are published",
    )
    carry: str = option(
        "auto",
        "whether images that come within 0.05 s of one that the networks have looked at, and every "
        "second one while frames are being dropped, are answered along the optical flow, where "
        "that is believed (intervals in frames then count the others): on, off, or auto (what "
        "suits the model: on for mobile)",
        choices=("auto", "on", "off"),
    )
    second_look_interval: int = option(
        4,
        "frames from one second look of the dense head, at the mirror image, to the next: better "
        "labels, of what is small most of all, for the networks' time once more. Images that have "
        "little in common are all seen larger and smaller, for three times that, unless frames are "
        "being dropped; 1: any image is; 0: none but where a stream begins or breaks",
        low=0,
        high=1000,
        live=True,
    )
    min_class_score: float = option(
        0.3,
        "pixels and objects less sure of their class than this are unlabelled; in scenes unlike "
        "those that the semantics know all are less sure",
        low=0.0,
        high=1.0,
        live=True,
    )
    unlabelled_id: int = option(
        255, "label of pixels without a class; the catalog may not use it", low=0, high=65535
    )
    belief_memory: float = option(
        0.9,
        "share of its class evidence that an object keeps from frame to frame",
        low=0.0,
        high=0.999,
        live=True,
    )
    vocabulary: tuple[str, ...] = option(
        (),
        "class names in words, published in the place of those of the semantics: names, or "
        "name=synonym,synonym; a command line takes a,b or a=b,c;d. Empty: no words",
        live=True,
        verify=parse_vocabulary,
        heading="Class names in words",
    )
    templates: tuple[str, ...] = option(
        ("{}", "a photo of a {}"),
        "sentences in which the text model reads each name, {} being its place; their mean counts",
        live=True,
        verify=check_templates,
    )
    text_model: str = option(
        "",
        "model of images and text for the vocabulary: a folder of the library transformers "
        "(tipsv2, siglip, siglip2, clip, metaclip_2 or others), or its name on the hub once it was "
        "fetched",
    )
    discovery: str = option(
        "auto",
        "source of new objects: regions (of the dense prediction), things (those that can be "
        "counted), objects (things, and whatever moves by itself), grid (of points), off (prompts "
        "only) or auto (what suits the model)",
        choices=("auto", "regions", "things", "objects", "grid", "off"),
        heading="Finding objects",
    )
    keyframe_interval: int = option(
        32,
        "frames from one search for new objects to the next; where there are fewer than 30 a "
        "second, each counts for several (but not by grid)",
        low=1,
        high=10000,
        live=True,
    )
    min_unexplained: float = option(
        0.25,
        "share of pixels without an object that calls for a search before its time",
        low=0.0,
        high=1.0,
        live=True,
    )
    min_area: float = option(
        0.003, "least area of a new object, as a share of the image", low=0.0, high=1.0, live=True
    )
    points_per_side: int = option(16, "side of discovery's point grid", low=1, high=64)
    pred_iou_thresh: float = option(
        0.6, "grid: least predicted IoU of a new mask", low=0.0, high=1.0, live=True
    )
    stability_score_thresh: float = option(
        0.8, "grid: least stability of a new mask", low=0.0, high=1.0, live=True
    )
    stability_score_offset: float = option(
        0.9, "grid: logit offset of the stability score", low=0.0, high=10.0, live=True
    )
    max_objects: int = option(
        0,
        "most objects in memory at a time; 0: what suits the model (mobile 16, others 32)",
        low=0,
        high=256,
        heading="Remembering objects",
    )
    engine: str = option(
        "auto",
        "how objects are tracked: exact (SAM 2's arithmetic), fast (objects whose masks the "
        "image's motion carries are followed on every third frame; from 512 pixels on in windows "
        "around them) or auto (what suits the model: exact, unless its YAML file says fast)",
        choices=("auto", "exact", "fast"),
    )
    memory_interval: int = option(
        1,
        "frames from one memory of an object to the next; 1: every frame, as SAM 2 does",
        low=1,
        high=30,
    )
    confirm_frames: int = option(
        2, "frames an object must be seen to be confirmed", low=1, high=100, live=True
    )
    lost_after: int = option(
        8, "frames without sight after which an object is lost", low=1, high=10000, live=True
    )
    forget_after: int = option(
        300, "frames after which a lost object is forgotten", low=1, high=1000000, live=True
    )
    revive_similarity: float = option(
        0.7,
        "least cosine similarity of appearance for a lost object to come back",
        low=0.0,
        high=1.0,
        live=True,
    )
    max_step_back: float = option(
        1.0,
        "seconds by which an image may be older than the last and is no more than out of order: it "
        "is dropped and counted; a larger step back in time begins the stream anew",
        low=0.0,
        high=3600.0,
    )


@dataclass(frozen=True)
class NodeConfig(Checked):
    """The options of the node itself; those of the pipeline are in `PipelineConfig`."""

    cameras: tuple[str, ...] = option(
        (),
        "names of the cameras, such as [front, rear], each with topics of its own: front/image in, "
        "~/front/label_image out; all share the networks. []: one camera, without a name",
        heading="The cameras",
    )
    image_transport: str = option(
        "raw",
        "raw subscribes to image (sensor_msgs/Image), compressed to image/compressed "
        "(sensor_msgs/CompressedImage)",
        choices=("raw", "compressed"),
    )
    input_reliability: str = option(
        "auto",
        "reliability of the image subscription; auto follows the publisher it finds",
        choices=("auto", "reliable", "best_effort"),
    )
    overload: str = option(
        "latest",
        "when images come faster than they are processed: latest takes the newest and drops the "
        "others, all takes every image in order",
        choices=("latest", "all"),
    )
    queue_size: int = option(
        300,
        "overload all: images that may wait, of 2 GB together at most; those beyond are dropped, "
        "counted and reported",
        low=1,
        high=100000,
    )
    look_ahead: bool = option(
        False,
        "on a CPU, run the networks on the next image while one is answered, as overload all "
        "always does: more answers, but later ones where the two share a core",
    )
    start_enabled: bool = option(
        True, "process images from the start; otherwise wait for the service ~/enable"
    )
    no_image_warning: float = option(
        5.0,
        "seconds without an image after which the reason is looked for and logged",
        low=0.5,
        high=3600.0,
        live=True,
    )
    release_after: float = option(
        300.0,
        "seconds without an image after which a camera's objects are forgotten and their memory is "
        "given back until its next image; 0: never",
        low=0.0,
        high=1000000.0,
        live=True,
    )
    network_timeout: float = option(
        0.5,
        "network topic: seconds that an image waits for its labels on dense_labels; then the head "
        "stands in for them, or the image is skipped where the head has other classes",
        low=0.0,
        high=60.0,
        live=True,
    )
    output_width: int = option(
        0,
        "width in pixels of the label, confidence and instance images, resized by nearest "
        "neighbour; 0: the camera's, or in proportion to output_height",
        low=0,
        high=MOST_SIDE,
        live=True,
        heading="Output",
    )
    output_height: int = option(
        0,
        "their height in pixels; 0: the camera's, or in proportion to output_width",
        low=0,
        high=MOST_SIDE,
        live=True,
    )
    masks: tuple[str, ...] = option(
        (),
        "masks to publish, 255 where one of its classes is and 0 elsewhere, such as "
        "[Car, people=Pedestrian,Bicyclist]: a class, or a name and its classes; the topics are "
        "~/mask/Car and ~/mask/people, with ~/mask/camera_info beside them",
        verify=check_masks,
    )
    diagnostics_period: float = option(
        1.0, "seconds from one message on /diagnostics to the next", low=0.1, high=60.0
    )
    depth_transport: str = option(
        "raw",
        "raw subscribes to depth (sensor_msgs/Image, 16UC1 or 32FC1), compressedDepth to "
        "depth/compressedDepth (sensor_msgs/CompressedImage); only while somebody listens to what "
        "is made of it",
        choices=("raw", "compressedDepth"),
        heading="Depth",
    )
    depth_scale: float = option(
        0.0,
        "metres that a unit of depth stands for; 0: what its encoding says (16UC1 millimetres, "
        "32FC1 metres)",
        low=0.0,
        high=1000.0,
        live=True,
    )
    depth_slop: float = option(
        0.1,
        "seconds by which the stamp of depth may differ from that of its image, which waits for it "
        "as long at most",
        low=0.0,
        high=2.0,
        live=True,
    )
    target_frame: str = option(
        "",
        "frame of the objects in space, to which their points are brought by tf2 at the stamp of "
        "the image, such as map; empty, and where tf2_ros is not installed: the image's",
    )
    cloud_layout: str = option(
        "label",
        "fields of the labelled cloud: label (x, y, z, rgb, label, instance, confidence) or xyzcpe "
        "(x, y, z, class_id, probability, entropy, as Autoware reads them)",
        choices=("label", "xyzcpe"),
        live=True,
    )
    cloud_size: str = option(
        "depth",
        "points of the labelled cloud: one for each pixel of depth, or of labels (output_width and "
        "output_height), as Nav2's semantic layer wants them",
        choices=("depth", "labels"),
        live=True,
    )
    autostart: bool = option(
        True,
        "configure and activate at the start; set it to false where a lifecycle manager does. "
        "Read once, when the process starts",
        heading="The node's life",
    )


OPTIONS: dict[str, tuple[Value, Option]] = options_of(PipelineConfig) | options_of(NodeConfig)
"""Every parameter of the node."""
