"""What photos and caricatures have in common: looks, scenes, and the curves that are painted."""

from dataclasses import dataclass

import numpy as np

from gan_jax.data.drawn_faces import geometry
from gan_jax.data.drawn_faces import hair as face_hair
from gan_jax.data.drawn_faces.canvas import Canvas, Relief, relief
from gan_jax.data.drawn_faces.curves import resampled, smooth

Colour = tuple[float, float, float]  # red, green, blue in 0..1
DARK = np.array([0.10, 0.06, 0.05])
BUMP_SIZES = np.array([row[2:] for row in geometry.BUMPS])


@dataclass(frozen=True)
class Look:
    """The looks of an identity, apart from its geometry."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    style: str  # of face_hair.STYLES
    beard: str  # none | stubble | full | goatee | moustache
    glasses: str  # none | round | box
    frame: Colour
    lashes: float  # how dark, 0..1
    lines: float  # how deep the lines of age are, 0..1
    freckles: bool
    mole: int  # which of geometry's moles, -1: none


@dataclass(frozen=True)
class Scene:
    """The properties of a picture, apart from its pose."""

    light: tuple[float, float, float]  # towards it: y, x, z
    strength: float  # of the light, 0..1
    warmth: float  # of its colour, -1..1
    ground: tuple[Colour, Colour]
    slope: float  # of the ground's gradient, radians
    shirt: Colour
    gaze: float  # of the eyes to the right, in radii of the iris
    seed: int  # of the grain
    paper: Colour = (1.0, 1.0, 1.0)  # this and all that follows is for drawings
    ink: Colour = (0.0, 0.0, 0.0)
    width: float = 0.01  # of lines, in image sides
    saturation: float = 1.0
    shading: str = "flat"  # flat | cel | soft | hatch
    backdrop: str = "none"  # none | disc | wash


class Sitter:
    """A face in a picture: smooth curves by name, its relief, a canvas of the picture's size."""

    def __init__(self, at: np.ndarray, look: Look, scene: Scene, size: int) -> None:
        """`at` [P, 2] comes from geometry.points."""
        self.points = geometry.parts(at)
        self.look, self.scene = look, scene
        self.canvas = Canvas(size)
        self.head = self.closed("outline")

    def closed(self, name: str) -> np.ndarray:
        return smooth(self.points[name], closed=True)

    def open(self, name: str) -> np.ndarray:
        return smooth(self.points[name])

    def relief(self) -> Relief:
        return relief(self.canvas, self.head, self.points["bumps"], BUMP_SIZES)

    def lip(self, name: str) -> np.ndarray:
        """The polygon of "upper" or "lower": from corner to corner and back along its seam."""
        return np.concatenate([self.open(f"{name}_lip"), self.open(f"{name}_seam")[::-1]])

    def gap(self) -> np.ndarray:
        """The opening between the lips."""
        return np.concatenate([self.open("upper_seam"), self.open("lower_seam")[::-1]])

    def disc(self, side: str, part: float, up: float = 0.0, right: float = 0.0) -> np.ndarray:
        """A circle of `part` of the iris's radius, moved by parts of that radius."""
        centre, across, below = self.points[f"iris_{side}"]
        radius = (np.hypot(*(across - centre)) + np.hypot(*(below - centre))) / 2
        t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        middle = centre + radius * np.array([-up, right + self.scene.gaze])
        return middle + part * radius * np.stack([np.sin(t), np.cos(t)], axis=1)

    def hair(self) -> tuple[np.ndarray, np.ndarray]:
        """Silhouette and hairline, each from left to right."""
        outer = self.open(f"hair:{self.look.style}:outer")
        if self.look.style == "curls":
            outer = scalloped(outer, 15, 0.012)
        return outer, self.open(f"hair:{self.look.style}:line")

    def back(self) -> np.ndarray | None:
        """The outline of hair behind the head."""
        name = f"hair:{self.look.style}:back"
        if name not in self.points:
            return None
        curve = smooth(self.points[name], closed=self.look.style == "bun")
        return scalloped(curve, 17, 0.012) if self.look.style == "curls" else curve

    def beard(self) -> np.ndarray:
        """The polygon of a full beard."""
        return np.concatenate([self.open("beard"), self.open("beard_top")[::-1]])

    def strands(self, count: int) -> list[np.ndarray]:
        """`count` curves from the hairline towards the silhouette."""
        outer, line = (resampled(curve, count + 2)[1:-1] for curve in self.hair())
        t = np.linspace(0.08, 0.72, 9)[:, None]
        swing = 0.10 * np.sin(np.pi * t)
        found = []
        for k in range(count):
            way = outer[k] - line[k]
            reach = 0.55 + 0.45 * ((k * 0.618) % 1)
            aside = way[::-1] * (-1, 1) * (1 if k * 2 < count else -1)
            found.append(line[k] + t * reach * way + swing * aside)
        return found

    def ears_show(self) -> bool:
        return self.look.style not in face_hair.OVER_EARS


def scalloped(curve: np.ndarray, waves: int, height: float) -> np.ndarray:
    """A curve with bulges outwards from its middle, `height` in image sides."""
    curve = resampled(curve, 12 * waves + 1)
    away = curve - (curve.max(axis=0) + curve.min(axis=0)) / 2
    away = away / np.maximum(np.hypot(*away.T), 1e-6)[:, None]
    t = np.linspace(0, waves * np.pi, len(curve))
    return curve + height * (np.abs(np.sin(t)) - 0.4)[:, None] * away


def mixed(a, b, t: float) -> np.ndarray:
    """a at t = 0, b at t = 1."""
    return np.asarray(a) * (1 - t) + np.asarray(b) * t


def finished(canvas: Canvas, grain: np.ndarray | float) -> np.ndarray:
    """uint8 [size, size, 3] of a canvas with grain [size, size] added."""
    grain = np.asarray(grain, np.float32)
    colours = canvas.colours + (grain[..., None] if grain.ndim else grain)
    return np.clip(np.round(colours * 255), 0, 255).astype(np.uint8)
