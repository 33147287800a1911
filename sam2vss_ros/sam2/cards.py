"""The models this package can load: the embedded one, Meta's SAM 2.1, and other people's SAM 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam2vss_ros.config import MODEL_FILES
from sam2vss_ros.errors import brief
from sam2vss_ros.sam2.model_files import SIZE_STEP, is_model_file, read_model_file


@dataclass(frozen=True)
class ModelCard:
    """What is known about a model before it is loaded.

    `image_size` is the side of the square input in pixels, by affinity the longer one of an input
    that keeps the camera's aspect; `parameters` their number, 0 where it is not known; `discovery`
    the best source of new objects (regions, objects or grid). `understands_points` says whether the
    model turns points and boxes into masks; if not, the dense region under them is used.
    `cpu_threads` is the best number of threads on many processors, of few it is half of them; 0 for
    all. `max_objects`, `engine` (a preset in `options.PRESETS`) and `carry` are the defaults of the
    options of the same name. `source` says who made the model, `licence` on what terms its weights
    may be used.

    Meta's models have `config` (a YAML file in the `sam2` package), `file`, its `file_bytes` and
    `sha256`, and `hub_id`; other people's SAM 2 has `model_file`, their YAML file, see
    `model_files`. `by_affinity`: it is no SAM 2, but compares the features of frames
    (`sam2vss_ros.affinity`); its weights are embedded. `edgetam`: it is an EdgeTAM
    (`sam2vss_ros.sam2.edgetam`). `size_step` is what image sizes are multiples of.
    """

    name: str
    image_size: int
    discovery: str
    understands_points: bool
    cpu_threads: int
    max_objects: int
    engine: str
    parameters: int
    source: str
    licence: str
    config: str = ""
    file: str = ""
    file_bytes: int = 0
    sha256: str = ""
    hub_id: str = ""
    model_file: Path | None = None
    carry: str = "off"
    by_affinity: bool = False
    edgetam: bool = False
    size_step: int = SIZE_STEP


# Sizes and SHA-256 of Meta's files are those that public projects pin, which all agree.
def _meta_card(size: str, config: str, parameters: int, file_bytes: int, sha256: str) -> ModelCard:
    return ModelCard(
        name=f"sam2.1_hiera_{size}",
        image_size=1024,
        discovery="grid",
        understands_points=True,
        cpu_threads=0,
        max_objects=32,
        engine="exact",
        parameters=parameters,
        source="Meta AI, SAM 2.1 (September 2024)",
        licence="Apache-2.0",
        config=f"configs/sam2.1/sam2.1_hiera_{config}.yaml",
        file=f"sam2.1_hiera_{size}.pt",
        file_bytes=file_bytes,
        sha256=sha256,
        hub_id=f"facebook/sam2.1-hiera-{size.replace('_', '-')}",
    )


CARDS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="mobile",
            image_size=512,
            discovery="objects",
            understands_points=True,
            cpu_threads=2,
            max_objects=16,
            engine="exact",
            parameters=534_464,
            source="MobileNetV2 of ImageNet, see weights",
            licence="non-commercial",
            carry="on",
            by_affinity=True,
        ),
        _meta_card(
            "tiny",
            "t",
            38_962_498,
            156_008_466,
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        ),
        _meta_card(
            "small",
            "s",
            46_060_354,
            184_416_285,
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        ),
        _meta_card(
            "base_plus",
            "b+",
            80_850_178,
            323_606_802,
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        ),
        _meta_card(
            "large",
            "l",
            224_446_642,
            898_083_611,
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        ),
        ModelCard(
            name="edgetam",
            image_size=1024,
            discovery="grid",
            understands_points=True,
            cpu_threads=0,
            max_objects=32,
            engine="exact",
            parameters=13_895_794,
            source="Meta AI, EdgeTAM (January 2025)",
            licence="Apache-2.0",
            file="edgetam.pt",
            file_bytes=56_116_523,
            sha256="ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
            hub_id="facebook/EdgeTAM",
            edgetam=True,
            size_step=256,  # the grid of stride 16 is divided into 16 windows on a side
        ),
    )
}


def model_card(name: str) -> ModelCard:
    """The card of a model, by its name or the path of its YAML file.

    Raises ValueError listing the known names, or saying what is wrong with the file.
    """
    if is_model_file(name):
        return _card_of_file(name)
    if name not in CARDS:
        raise ValueError(
            f"model: {brief(name)!r} is not one of {', '.join(CARDS)}, and no "
            f"{' or '.join(MODEL_FILES)} file of a SAM 2"
        )
    return CARDS[name]


def _card_of_file(name: str) -> ModelCard:
    path = Path(name).expanduser()
    file = read_model_file(path)
    return ModelCard(
        name=name,
        image_size=file.image_size,
        discovery=file.habits.discovery,
        understands_points=file.habits.points,
        cpu_threads=file.habits.threads,
        max_objects=file.habits.max_objects,
        engine=file.habits.engine,
        parameters=0,
        source="yours",
        licence="yours",
        model_file=path,
    )
