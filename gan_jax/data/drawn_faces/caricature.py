"""Caricatures of drawn faces: flat colours, few tones, and ink lines on paper."""

import numpy as np

from gan_jax.data.drawn_faces.curves import resampled, smooth
from gan_jax.data.drawn_faces.paint import Look, Scene, Sitter, finished, mixed
from gan_jax.data.drawn_faces.photo import arms

GREY = np.array([0.299, 0.587, 0.114])


def drawing(at: np.ndarray, look: Look, scene: Scene, size: int) -> np.ndarray:
    """The caricature uint8 [size, size, 3] of a face with points [P, 2] from geometry.points."""
    return _Pen(at, look, scene, size).draw()


class _Pen(Sitter):
    """Draws one caricature; `flat` fills with the picture's palette, `ink` draws its lines."""

    def flat(self, colour, *shapes: np.ndarray, amount: float = 1.0, inside=None) -> None:
        self.canvas.paint(self.canvas.cover(*shapes), self.tone(colour), amount, inside)

    def ink(self, *curves: np.ndarray, width: float = 1.0, taper: float = 0.7, inside=None) -> None:
        lines = self.canvas.lines(*curves, width=width * self.scene.width, taper=taper)
        self.canvas.paint(lines, self.scene.ink, 1.0, inside)

    def tone(self, colour) -> np.ndarray:
        """A colour in the picture's palette: its saturation, and a little of its paper."""
        colour = np.asarray(colour)
        grey = float(np.sum(colour * GREY))
        vivid = np.clip(grey + self.scene.saturation * (colour - grey), 0, 1)
        return mixed(vivid, vivid * self.scene.paper, 0.6)

    def draw(self) -> np.ndarray:
        canvas, look, scene = self.canvas, self.look, self.scene
        canvas.colours[:] = scene.paper
        self.backdrop()
        back = self.back()
        if back is not None:
            self.flat(np.asarray(look.hair) * 0.8, back)
            self.ink(np.concatenate([back, back[:1]]), taper=0.2)
        self.body()
        if self.ears_show():
            for side in "lr":
                self.flat(np.asarray(look.skin) * 0.95, self.closed(f"ear_{side}"))
                self.ink(self.open(f"ear_{side}"), self.open(f"fold_{side}"), width=0.8)
        self.flat(mixed(look.skin, (1, 1, 1), 0.08), self.head)
        self.inside = canvas.whole(canvas.cover(self.head))
        self.shade()
        self.flat(
            np.asarray(look.skin) * (1.0, 0.62, 0.58),
            *(self.points[f"cheek_{s}"][0] + 0.042 * _ROUND for s in "lr"),
            amount=0.45,
            inside=self.inside,
        )
        self.marks()
        self.ink(np.concatenate([self.head[-47:], self.head[:48]]), width=1.25, taper=0.5)
        self.ink(self.head[42:-42], width=1.1, taper=0.2)
        self.beard_on()
        self.nose()
        self.mouth()
        for side in "lr":
            self.eye(side)
            self.flat(np.asarray(look.hair) * 0.6, self.closed(f"brow_{side}"))
        if look.glasses != "none":
            rings = [self.closed(f"{look.glasses}_lens_{side}") for side in "lr"]
            self.flat((1, 1, 1), *rings, amount=0.18)
            frame = canvas.lines(
                *(np.concatenate([r, r[:2]]) for r in rings), *arms(self), width=0.016, taper=0.0
            )
            canvas.paint(frame, mixed(self.tone(look.frame), scene.ink, 0.4))
        if look.style != "bald":
            self.hair_on()
        rng = np.random.default_rng(scene.seed)
        return finished(canvas, 0.006 * rng.standard_normal((canvas.size,) * 2, np.float32))

    def backdrop(self) -> None:
        colour = self.scene.ground[1]
        if self.scene.backdrop == "disc":
            self.flat(
                colour, np.array([-0.02, 0.0]) + 0.455 * smooth(_ROUND, closed=True), amount=0.8
            )
        elif self.scene.backdrop == "wash":
            t = np.arange(40) * np.pi / 20
            edge = 0.46 + 0.035 * np.sin(3 * t + self.scene.slope) + 0.02 * np.sin(7 * t)
            blob = edge[:, None] * np.stack([np.sin(t), np.cos(t)], axis=1)
            self.flat(colour, smooth(blob, closed=True), amount=0.55)

    def body(self) -> None:
        skin = np.asarray(self.look.skin)
        neck = self.open("neck")
        self.flat(skin * 0.95, neck)
        self.flat(
            skin * (0.72, 0.62, 0.60),
            self.head + (0.05, 0.0),
            inside=self.canvas.whole(self.canvas.cover(neck)),
        )
        half = len(neck) // 2
        self.ink(neck[: half - 5], neck[half + 5 :])
        self.flat(self.scene.shirt, np.concatenate([self.open("body"), self.open("collar")[::-1]]))
        shoulders = self.open("body")
        half = len(shoulders) // 2
        self.ink(shoulders[: half - 3], shoulders[half + 3 :], self.open("collar"), width=1.1)

    def shade(self) -> None:
        """Shadow on the face as flat tones or as hatching."""
        canvas, scene = self.canvas, self.scene
        if scene.shading == "flat":
            return
        lit = self.relief().lit(scene.light)
        edge = canvas.size / 5
        shadow = np.clip((0.60 - lit) * edge + 0.5, 0, 1)
        skin = np.asarray(self.look.skin)
        if scene.shading == "hatch":
            pitch = max(0.024, 3.2 / canvas.size)
            way = (canvas.axis[:, None] + canvas.axis[None, :]) * np.float32(
                0.7071 * 2 * np.pi / pitch
            )
            lines = np.clip((np.sin(way) - 0.25) * pitch * canvas.size / 4 + 0.5, 0, 1)
            canvas.paint(shadow * lines, mixed(scene.ink, self.tone(skin), 0.25), 0.8, self.inside)
            return
        canvas.paint(shadow, self.tone(skin * (0.80, 0.68, 0.66)), 1.0, self.inside)
        if scene.shading == "soft":
            bright = np.clip((lit - 0.90) * edge + 0.5, 0, 1)
            canvas.paint(bright, self.tone(mixed(skin, (1, 1, 0.95), 0.5)), 1.0, self.inside)

    def marks(self) -> None:
        look = self.look
        if look.freckles:
            dots = [p + 0.006 * _ROUND for p in self.points["freckles"][::2]]
            self.flat(np.asarray(look.skin) * (0.66, 0.46, 0.38), *dots, inside=self.inside)
        if look.mole >= 0:
            spot = self.points["moles"][look.mole] + 0.011 * _ROUND
            self.flat(np.asarray(look.skin) * 0.25, spot, inside=self.inside)
        if look.lines > 0.35:
            self.ink(*(self.open(f"smile_{s}") for s in "lr"), width=0.7, taper=1.0)

    def nose(self) -> None:
        shadow = "l" if self.scene.light[1] > 0 else "r"
        self.ink(self.open(f"bridge_{shadow}"), width=0.8, taper=1.0)
        self.ink(*(self.open(f"wing_{s}") for s in "lr"), self.open("nose_base"), taper=0.8)
        self.flat(
            np.asarray(self.look.skin) * (0.30, 0.18, 0.17),
            *(self.closed(f"nostril_{s}") for s in "lr"),
        )
        gleam = self.points["nose"][2] + (-0.012, -0.010) + 0.009 * _ROUND * (1.0, 1.4)
        self.flat((1, 1, 1), gleam, amount=0.55)

    def mouth(self) -> None:
        lips, points = np.asarray(self.look.lips), self.points
        gap = self.gap()
        self.flat((0.25, 0.07, 0.08), gap)
        top = self.open("upper_seam")
        drop = 0.7 * (points["lower_seam"][2] - points["upper_seam"][2])
        teeth = np.concatenate([top, top[::-1] + drop])
        self.flat((1, 1, 0.97), teeth, inside=self.canvas.whole(self.canvas.cover(gap)))
        self.flat(lips * 0.85, self.lip("upper"))
        self.flat(lips, self.lip("lower"))
        self.ink(self.open("upper_seam"), self.open("lower_seam"), width=0.9, taper=0.6)
        under = smooth(points["lower_lip"][2:5]) + (0.004, 0.0)
        self.ink(under, width=0.7, taper=1.0)

    def eye(self, side: str) -> None:
        look, points = self.look, self.points
        shape = self.closed(f"eye_{side}")
        self.flat((1, 1, 0.98), shape)
        hole = self.canvas.whole(self.canvas.cover(shape))
        self.flat(look.iris, self.disc(side, 1.0), inside=hole)
        self.canvas.paint(self.canvas.cover(self.disc(side, 0.55)), self.scene.ink, 1.0, hole)
        self.flat((1, 1, 1), self.disc(side, 0.28, 0.4, 0.35), inside=hole)
        self.ink(smooth(points[f"lash_{side}"]), width=1.35 + 0.6 * look.lashes)
        lower = smooth(points[f"eye_{side}"][[4, 5, 6, 7, 0]])
        self.ink(lower, width=0.6, taper=1.0)
        self.ink(self.open(f"crease_{side}"), width=0.55, taper=1.0)

    def beard_on(self) -> None:
        kind, hair = self.look.beard, np.asarray(self.look.hair)
        if kind == "full":
            self.flat(hair * 0.95, self.beard())
            self.ink(self.beard(), width=0.8, taper=0.0)
        elif kind == "stubble":
            self.flat(mixed(self.look.skin, hair, 0.35), self.beard(), inside=self.inside)
        elif kind == "goatee":
            self.flat(hair * 0.95, self.closed("goatee"))
            self.ink(self.closed("goatee"), width=0.8, taper=0.0)
        if kind in ("full", "goatee", "moustache"):
            self.flat(hair, self.closed("tache"))
            self.ink(self.closed("tache"), width=0.7, taper=0.0)

    def hair_on(self) -> None:
        outer, line = self.hair()
        area = np.concatenate([outer, line[::-1]])
        self.flat(self.look.hair, area)
        inside = self.canvas.whole(self.canvas.cover(area))
        band = mixed(resampled(line, 61), resampled(outer, 61), 0.55)
        lit = slice(32, 54) if self.scene.light[1] > 0 else slice(7, 29)
        light = self.canvas.lines(band[lit], width=0.034, taper=1.0)
        self.canvas.paint(light, self.tone(mixed(self.look.hair, (1, 1, 1), 0.28)), 0.9, inside)
        dark = float(np.sum(np.asarray(self.look.hair) * GREY)) < 0.16
        strands = self.canvas.lines(*self.strands(9), width=0.75 * self.scene.width, taper=1.0)
        ink = self.tone(mixed(self.look.hair, (1, 1, 1), 0.2)) if dark else self.scene.ink
        self.canvas.paint(strands, ink, 1.0, inside)
        self.ink(outer, line, width=1.15, taper=0.3)


_ROUND = np.stack([np.sin(np.arange(24) * np.pi / 12), np.cos(np.arange(24) * np.pi / 12)], axis=1)
