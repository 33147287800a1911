"""Cars, vans, buses and lorries as small solid models: a side profile drawn out across the width.

A model is a list of flat faces in metres (x to the right, y up, z forward, the origin on the
ground below the middle). Details (windows, lights, wheels) lie on a host face and are painted
right after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sam2vss_ros.training.procedural.paint import Canvas, Range, colour
from sam2vss_ros.training.procedural.street.view import NEAR, View, cut, fill, fixed_point

BODY, GLASS, TYRE, HUB, FRONT_LIGHT, REAR_LIGHT, TRIM, PLATE = range(8)

# Side profiles: (z / length, y / height) from the rear bottom over the roof to the front bottom;
# the first and last index of the cabin's base; which edges are windows.
_PROFILES = {
    "hatchback": (
        [(0, 0.18), (0, 0.6), (0.03, 0.68), (0.13, 0.97), (0.5, 1.0), (0.71, 0.68), (0.97, 0.55),
         (1, 0.4), (1, 0.17)], (2, 5), (2, 4), (3.6, 4.3), (1.4, 1.6), (1.6, 1.8)),
    "saloon": (
        [(0, 0.18), (0, 0.62), (0.16, 0.66), (0.28, 0.97), (0.55, 1.0), (0.72, 0.66), (0.97, 0.54),
         (1, 0.38), (1, 0.17)], (2, 5), (2, 4), (4.2, 4.9), (1.35, 1.5), (1.65, 1.85)),
    "estate": (
        [(0, 0.18), (0, 0.6), (0.02, 0.66), (0.07, 0.96), (0.56, 1.0), (0.73, 0.66), (0.97, 0.55),
         (1, 0.4), (1, 0.17)], (2, 5), (2, 4), (4.2, 4.9), (1.4, 1.75), (1.65, 1.9)),
    "van": (
        [(0, 0.14), (0, 0.5), (0.005, 0.55), (0.02, 0.99), (0.7, 1.0), (0.86, 0.58), (0.99, 0.45),
         (1, 0.3), (1, 0.13)], (2, 5), (2, 4), (4.6, 6.0), (1.9, 2.6), (1.8, 2.1)),
    "bus": (
        [(0, 0.1), (0, 0.35), (0, 0.42), (0.01, 0.99), (0.98, 1.0), (0.995, 0.42), (1, 0.35),
         (1, 0.25), (1, 0.1)], (2, 5), (2, 4), (8.0, 11.0), (2.8, 3.8), (2.4, 2.6)),
}  # fmt: skip
# Side windows: where they begin and end, as shares of the cabin from rear to front.
_CAR_PANES = [(0.07, 0.36), (0.39, 0.64), (0.67, 0.93)]
_PANES = {"van": [(0.72, 0.95)], "bus": [(i / 6 + 0.02, i / 6 + 0.15) for i in range(6)]}
# What is on the profile's first edge (the lower rear) and its last two (above and below the front
# bumper): material, then left, bottom, right and top as shares of the edge's face.
_END_DETAILS = {
    0: [
        (TRIM, 0.0, 0.02, 1.0, 0.25),
        (PLATE, 0.36, 0.45, 0.64, 0.65),
        (REAR_LIGHT, 0.02, 0.6, 0.16, 0.95),
        (REAR_LIGHT, 0.84, 0.6, 0.98, 0.95),
    ],
    -3: [
        (FRONT_LIGHT, 0.03, 0.1, 0.23, 0.95),
        (FRONT_LIGHT, 0.77, 0.1, 0.97, 0.95),
        (TRIM, 0.3, 0.3, 0.7, 0.85),
    ],
    -2: [(TRIM, 0.3, 0.15, 0.7, 0.6), (PLATE, 0.38, 0.55, 0.62, 0.75)],
}
_KINDS = list(_PROFILES)
_KIND_SHARE = np.array([0.35, 0.22, 0.2, 0.15, 0.08])


@dataclass(frozen=True)
class Model:
    """points (N, 3); faces: indices into points; per face its material, normal (F, 3) outward,
    centre (F, 3) of its host, and whether it makes part of the outline."""

    points: np.ndarray
    faces: list[np.ndarray]
    materials: list[int]
    normals: np.ndarray
    centres: np.ndarray
    outline: list[bool]
    length: float
    width: float
    height: float


class _Builder:
    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.faces: list[np.ndarray] = []
        self.materials: list[int] = []
        self.normals: list[np.ndarray] = []
        self.centres: list[np.ndarray] = []
        self.outline: list[bool] = []

    def face(self, corners: np.ndarray, material: int, outward: np.ndarray) -> None:
        """A face of its own; `outward` says roughly which side is out."""
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
        normal = normal / (np.linalg.norm(normal) + 1e-9)
        self._add(corners, material, normal * np.sign(normal @ outward or 1.0), corners.mean(0))
        self.outline[-1] = True

    def detail(self, corners: np.ndarray, material: int, outline: bool = False) -> None:
        """Something on the latest face that is one of its own."""
        self._add(corners, material, self.normals[-1], self.centres[-1])
        self.outline[-1] = outline

    def _add(
        self, corners: np.ndarray, material: int, normal: np.ndarray, centre: np.ndarray
    ) -> None:
        start = sum(len(f) for f in self.faces)
        self.points.append(corners)
        self.faces.append(np.arange(start, start + len(corners)))
        self.materials.append(material)
        self.normals.append(normal)
        self.centres.append(centre)
        self.outline.append(False)


def _inset(quad: np.ndarray, left: float, bottom: float, right: float, top: float) -> np.ndarray:
    """The part of a quad (4, 3) between shares of its first (left to right) and second edge."""
    a, b, c, d = quad

    def at(s: float, t: float) -> np.ndarray:
        return (1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * d + s * c)

    return np.array([at(left, bottom), at(right, bottom), at(right, top), at(left, top)])


def make_model(rng: np.random.Generator) -> Model:
    """A vehicle of random kind and measures."""
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_KIND_SHARE))]
    shares, (cabin_from, cabin_to), glass_edges, *ranges = _PROFILES[kind]
    length, height, width = (rng.uniform(*r) for r in ranges)
    taper = 0.97 if kind == "bus" else rng.uniform(0.76, 0.9)
    profile = np.array(shares) + rng.normal(0, 0.008, (len(shares), 2)) * (1, 0.5)
    z, y = (profile[:, 0] - 0.5) * length, profile[:, 1] * height
    half = np.full(len(z), width / 2)
    half[cabin_from + 1 : cabin_to] *= taper
    half[[0, 1, -2, -1]] *= 0.95
    right = np.column_stack([half, y, z])
    left = right * (-1, 1, 1)
    b = _Builder()
    _add_underside(b, left, right)
    middle = np.array([0, height * 0.5, 0])
    for i in range(len(z) - 1):
        quad = np.array([left[i], right[i], right[i + 1], left[i + 1]])
        b.face(quad, BODY, quad.mean(0) - middle)
        if i in glass_edges and not (kind == "van" and i == cabin_from and rng.random() < 0.6):
            b.detail(_inset(quad, 0.07, 0.06, 0.93, 0.92), GLASS)
        for material, *place in _END_DETAILS.get(i if i == 0 else i - len(z), []):
            b.detail(_inset(quad, *place), material)
    radius = 0.5 if kind == "bus" else rng.uniform(0.29, 0.35)
    axles = np.array([rng.uniform(-0.33, -0.29), rng.uniform(0.28, 0.32)]) * length
    for side in (left, right):
        _add_side(b, side, (cabin_from, cabin_to), height * 0.24, axles, radius, _PANES.get(kind))
    return Model(
        points=np.concatenate(b.points),
        faces=b.faces,
        materials=b.materials,
        normals=np.array(b.normals),
        centres=np.array(b.centres),
        outline=b.outline,
        length=length,
        width=width,
        height=height,
    )


def _add_underside(b: _Builder, left: np.ndarray, right: np.ndarray) -> None:
    """The floor, and the ends of the tyres that show below the bumpers."""
    b.face(np.array([left[0], right[0], right[-1], left[-1]]), TYRE, np.array([0, -1, 0]))
    length, width, top = right[-1, 2] - right[0, 2], 2 * right[0, 0], right[0, 1] + 0.1
    for inner, outer in ((-0.3, -0.47), (0.3, 0.47)):
        x0, x1 = inner * width, outer * width
        for end in (-1, 1):
            z = end * 0.4 * length
            corners = np.array([(x0, 0, z), (x1, 0, z), (x1, top, z), (x0, top, z)])
            b.face(corners, TYRE, np.array([0, 0, end]))


def _add_side(
    b: _Builder,
    side: np.ndarray,
    cabin_base: tuple[int, int],
    sill: float,
    axles: np.ndarray,
    radius: float,
    panes: list[Range] | None,
) -> None:
    """One side: its lower body with sill and wheels, then the cabin with its windows."""
    rear, front = cabin_base
    outward = np.array([math.copysign(1, side[0, 0]), 0, 0])
    x = np.abs(side[:, 0]).max() * outward[0] * 1.005
    b.face(side[[*range(rear + 1), *range(front, len(side))]], BODY, outward)
    (z0, z1), low = side[[0, -1], 2], side[0, 1]
    b.detail(np.array([[x, low, z0], [x, low, z1], [x, sill, z1], [x, sill, z0]]), TRIM)
    for z in axles:
        b.detail(_disc(np.array([x, radius, z]), radius), TYRE, outline=True)
        b.detail(_disc(np.array([x, radius, z]), radius * 0.6), HUB)
    b.face(side[rear : front + 1], BODY, outward)
    glass = side[[rear, front, front - 1, rear + 1]]
    for start, end in panes or _CAR_PANES:
        b.detail(_inset(glass, start, 0.1, end, 0.85), GLASS)


@lru_cache(maxsize=1)
def models() -> list[Model]:
    """Ninety-six vehicles, most of them cars; the same in every process."""
    rng = np.random.default_rng(22)
    return [make_model(rng) for _ in range(96)]


def _disc(centre: np.ndarray, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return centre + radius * np.column_stack([0 * angle, np.sin(angle), np.cos(angle)])


def body_palette(rng: np.random.Generator, natural: float) -> list[tuple[int, int, int]]:
    """The colours of a vehicle's materials; `natural` is the chance of each to look usual."""
    usual = [
        colour(rng, saturation=(0.0, float(rng.choice([0.15, 0.9]))), value=(0.05, 0.75)),
        colour(rng, (0.45, 0.65), (0.0, 0.3), (0.05, 0.35)),
        colour(rng, saturation=(0.0, 0.1), value=(0.03, 0.15)),
        colour(rng, saturation=(0.0, 0.1), value=(0.25, 0.7)),
        colour(rng, (0.1, 0.18), (0.0, 0.2), (0.7, 1.0)),
        colour(rng, (-0.03, 0.03), (0.7, 1.0), (0.4, 1.0)),
        colour(rng, saturation=(0.0, 0.1), value=(0.05, 0.3)),
        colour(rng, (0.12, 0.16), (0.0, 0.8), (0.7, 1.0)),
    ]
    return [c if rng.random() < natural else colour(rng) for c in usual]


class Body:
    """A model in its colours, turned to its heading: 0 drives along z, pi comes towards.

    light: (3,) vector towards the sun, which the colours of the faces depend on.
    """

    def __init__(
        self,
        model: Model,
        palette: list[tuple[int, int, int]],
        heading: float,
        light: np.ndarray,
    ) -> None:
        c, s = math.cos(heading), math.sin(heading)
        turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])  # for rows of points
        self.model = model
        self._points = model.points @ turn
        self._centres = model.centres @ turn
        self._normals = model.normals @ turn
        brightness = 0.72 + 0.3 * np.maximum(0, self._normals @ light) + 0.15 * self._normals[:, 1]
        colours = np.array(palette)[model.materials] * brightness[:, None]
        self._colours = [tuple(c) for c in np.clip(colours, 0, 255).tolist()]

    def draw(self, canvas: Canvas, view: View, place: np.ndarray, region: int) -> None:
        """Paint the faces that look towards the camera, far ones first; place: (3,) metres."""
        points = view.homogeneous(self._points + place)
        nearest = points[:, 2].min()
        if points[:, 2].max() < NEAR:
            return
        pixels = fixed_point(points[:, :2] / points[:, 2:]) if nearest >= NEAR else None
        to_camera = np.array(view.position) - place - self._centres
        visible = (self._normals * to_camera).sum(1) > 0
        order = np.argsort(-(to_camera**2).sum(1), kind="stable")
        small = view.focal * self.model.height < 10 * nearest  # ten pixels: details do not show
        for i in order[visible[order]].tolist():
            outline = self.model.outline[i]
            if small and not outline and self.model.materials[i] != GLASS:
                continue
            corners = self.model.faces[i]
            if pixels is not None:
                polygon = pixels[corners]
            else:
                inside = cut(points[corners])
                if inside is None:
                    continue
                polygon = fixed_point(inside)
            fill(canvas, polygon, self._colours[i], region if outline else 0)
