"""Portraits of drawn faces with light and shade, in natural colours."""

import numpy as np

from gan_jax.data.drawn_faces.canvas import Canvas, Relief
from gan_jax.data.drawn_faces.curves import smooth
from gan_jax.data.drawn_faces.paint import DARK, Look, Scene, Sitter, finished, mixed

SHADE = np.array([0.50, 0.38, 0.36])  # of skin: the factor of each colour in full shadow


def photo(at: np.ndarray, look: Look, scene: Scene, size: int) -> np.ndarray:
    """The photo uint8 [size, size, 3] of a face with points [P, 2] from geometry.points."""
    face = Sitter(at, look, scene, size)
    canvas = face.canvas
    solid = face.relief()
    lit = solid.lit(scene.light)
    _ground(canvas, scene)
    hair = _hair(canvas, solid, lit, look)
    back = face.back()
    if back is not None:
        canvas.paint(canvas.cover(back), hair * 0.72 if look.style != "bun" else hair)
    tone = np.clip(0.10 + (0.30 + 0.55 * scene.strength) * lit, 0, 1)
    skin = _ramp(look.skin, tone)
    _neck_and_body(face)
    if face.ears_show():
        _ears(face)
    head = canvas.cover(face.head)
    canvas.paint(head, skin)
    inside = canvas.whole(head)
    _bloom(face, lit, solid, inside)
    _marks(face, inside)
    _nose(face, inside)
    if look.beard != "none":
        _beard(face, hair, inside)
    _mouth(face)
    for side in "lr":
        _eye(face, side, inside)
        brow = mixed(mixed(look.hair, DARK, 0.35), look.skin, 0.08)
        canvas.paint(canvas.cover(face.closed(f"brow_{side}")), brow, 0.88)
    if look.glasses != "none":
        _glasses(face)
    if look.style != "bald":
        outer, line = face.hair()
        front = canvas.cover(np.concatenate([outer, line[::-1]]))
        fallen = canvas.cover(np.concatenate([outer, line[::-1]]) + (0.018, 0.008))
        canvas.paint(canvas.blurred(fallen, 0.012), look.skin * SHADE, 0.45, inside)
        canvas.paint(front, hair)
    canvas.colours *= 1 + scene.warmth * np.array([0.05, 0.0, -0.07], np.float32)
    rng = np.random.default_rng(scene.seed)
    return finished(canvas, 0.010 * rng.standard_normal((size, size), np.float32))


def _ground(canvas: Canvas, scene: Scene) -> None:
    across = np.cos(scene.slope) * canvas.axis[None, :] + np.sin(scene.slope) * canvas.axis[:, None]
    low, high = (np.asarray(colour, np.float32) for colour in scene.ground)
    canvas.colours[:] = low + (high - low) * np.clip(across + 0.5, 0, 1)[..., None]
    halo = canvas.glow(np.array([-0.05, -0.2 * np.sign(scene.light[1])]), (0.30, 0.30))
    canvas.paint(halo, mixed(high, (1, 1, 1), 0.35), 0.45)


def _ramp(skin, tone: np.ndarray) -> np.ndarray:
    """Skin at tones [size, size]: shadow at 0, its colour at 0.6, a highlight at 1."""
    skin = np.asarray(skin, np.float32)
    shadow = skin * SHADE.astype(np.float32)
    light = skin + (1 - skin) * np.float32(0.42)
    low = np.clip(tone / 0.6, 0, 1)[..., None]
    high = np.clip((tone - 0.6) / 0.4, 0, 1)[..., None]
    return shadow + (skin - shadow) * low + (light - skin) * high


def _hair(canvas: Canvas, solid: Relief, lit: np.ndarray, look: Look) -> np.ndarray:
    """The colour of hair at every pixel: [size, size, 3]."""
    y, x = np.meshgrid(canvas.axis, canvas.axis, indexing="ij")
    if look.style == "curls":
        ring = 17 * solid.radius
        curl = np.sin(23 * solid.angle + 2.5 * np.sin(ring))
        strand = curl * np.sin(1.6 * ring + 2.5 * np.sin(19 * solid.angle + 1))
    else:
        down = y + np.float32(0.10)
        rise = (np.sqrt(down * down + np.float32(0.02)) - down) / 2 + np.float32(0.10)
        turn = np.arctan2(x, rise)
        wave = 1.6 * np.sin(22 * y) if look.style == "waves" else 1.5 * solid.radius
        strand = 0
        for k, pitch in enumerate((13, 29, 61, 97)):
            seen = max(0.0, 1 - pitch / (0.55 * canvas.size))  # 0 for strands finer than pixels
            strand = strand + 0.5 * seen * np.sin(pitch * turn + 1.7 * k + wave)
    sheen = np.exp(-(((solid.radius - 1.08) / 0.10) ** 2)) * np.clip(lit, 0, 1)
    tone = 0.62 + 0.42 * lit + 0.13 * strand
    gloss = np.clip(sheen * (0.20 + 0.09 * strand), 0, 1) + 0.025 * strand
    hair = np.asarray(look.hair, np.float32)
    return np.clip(hair * tone[..., None] + gloss[..., None] * (0.35 + 0.65 * hair), 0, 1)


def _neck_and_body(face: Sitter) -> None:
    canvas, look = face.canvas, face.look
    skin = np.asarray(look.skin)
    neck = canvas.cover(face.open("neck"))
    canvas.paint(neck, skin * (0.86, 0.80, 0.78))
    inside = canvas.whole(neck)
    fallen = canvas.cover(face.head + (0.045, -0.03 * np.sign(face.scene.light[1])))
    canvas.paint(canvas.blurred(fallen, 0.018), skin * SHADE, 0.75, inside)
    shirt = np.asarray(face.scene.shirt)
    body = canvas.cover(np.concatenate([face.open("body"), face.open("collar")[::-1]]))
    canvas.paint(body, shirt)
    shade = canvas.glow(np.array([0.47, 0.0]), (0.05, 0.22))
    canvas.paint(shade, shirt * 0.45, 0.6, canvas.whole(body))
    canvas.paint(canvas.lines(face.open("collar"), width=0.016, taper=0.2), shirt * 0.7)


def _ears(face: Sitter) -> None:
    canvas, skin = face.canvas, np.asarray(face.look.skin)
    for side, sign in (("l", -1), ("r", 1)):
        bright = 0.80 + 0.16 * face.scene.strength * np.clip(
            sign * face.scene.light[1] + 0.3, -1, 1
        )
        canvas.paint(canvas.cover(face.closed(f"ear_{side}")), skin * (1.0, 0.90, 0.88) * bright)
        fold = canvas.lines(face.open(f"fold_{side}"), width=0.010)
        canvas.paint(fold, skin * SHADE, 0.75)


def _bloom(face: Sitter, lit: np.ndarray, solid: Relief, inside: np.ndarray) -> None:
    """Blush, highlights, and the darkening towards the outline."""
    canvas, look, points = face.canvas, face.look, face.points
    skin = np.asarray(look.skin)
    blush = skin * (1.0, 0.62, 0.58)
    for side in "lr":
        canvas.paint(canvas.glow(points[f"cheek_{side}"][0], (0.045, 0.05)), blush, 0.42, inside)
        socket = (points[f"crease_{side}"][2] + points[f"eye_{side}"][2]) / 2
        canvas.paint(canvas.glow(socket, (0.022, 0.045)), skin * SHADE, 0.30, inside)
    canvas.paint(canvas.glow(points["nose"][2], (0.026, 0.030)), blush, 0.28, inside)
    rim = np.clip((solid.radius - 0.78) / 0.22, 0, 1) ** 2
    canvas.paint(rim, skin * SHADE, 0.42, inside)
    shine = np.clip((lit - 0.80) / 0.20, 0, 1) ** 2
    canvas.paint(shine, (1.0, 0.97, 0.92), 0.26 * face.scene.strength, inside)


def _marks(face: Sitter, inside: np.ndarray) -> None:
    canvas, look = face.canvas, face.look
    skin = np.asarray(look.skin)
    if look.freckles:
        dots = [
            p + 0.0040 * _CIRCLE * (0.7 + (k % 3) * 0.3)
            for k, p in enumerate(face.points["freckles"])
        ]
        canvas.paint(canvas.cover(*dots), skin * (0.70, 0.54, 0.44), 0.55, inside)
    if look.mole >= 0:
        spot = face.points["moles"][look.mole] + 0.0085 * _CIRCLE
        canvas.paint(canvas.cover(spot), skin * 0.35, 0.9, inside)
    if look.lines > 0:
        smile = [face.open(f"smile_{side}") for side in "lr"]
        canvas.paint(canvas.lines(*smile, width=0.010, taper=1.0), skin * SHADE, 0.6 * look.lines)


_CIRCLE = np.stack([np.sin(np.arange(10) * np.pi / 5), np.cos(np.arange(10) * np.pi / 5)], axis=1)


def _nose(face: Sitter, inside: np.ndarray) -> None:
    canvas, points = face.canvas, face.points
    skin = np.asarray(face.look.skin)
    shade = skin * SHADE
    base, tip = points["nose"][3], points["nose"][2]
    wide = float(np.hypot(*(points["wing_r"][2] - points["wing_l"][2])))
    away = -np.sign(face.scene.light[1])
    slant = abs(face.scene.light[1])
    canvas.paint(
        canvas.glow(base + (0.012, 0.012 * away), (0.012, 0.36 * wide)), shade, 0.50, inside
    )
    beside = mixed(points["nose"][1], tip, 0.7) + (0, away * 0.42 * wide)
    canvas.paint(canvas.glow(beside, (0.055, 0.22 * wide)), shade, 0.5 * slant, inside)
    wings = [face.open(f"wing_{side}") for side in "lr"]
    canvas.paint(canvas.lines(*wings, width=0.009, taper=1.0), shade * 0.8, 0.75)
    canvas.paint(canvas.lines(face.open("nose_base"), width=0.007, taper=1.0), shade * 0.7, 0.6)
    holes = [face.closed(f"nostril_{side}") for side in "lr"]
    canvas.paint(canvas.cover(*holes), skin * (0.28, 0.16, 0.15), 0.85)
    gleam = tip + (-0.010, -0.10 * wide * away)
    canvas.paint(canvas.glow(gleam, (0.010, 0.010)), (1, 1, 1), 0.38 * face.scene.strength)


def _mouth(face: Sitter) -> None:
    canvas, look, points = face.canvas, face.look, face.points
    lips = np.asarray(look.lips)
    below = points["lower_lip"][3] + (0.014, 0.0)
    canvas.paint(canvas.glow(below, (0.010, 0.045)), np.asarray(look.skin) * SHADE, 0.38)
    gap = canvas.cover(face.gap())
    canvas.paint(gap, (0.22, 0.06, 0.07))
    hole = canvas.whole(gap)
    teeth = face.open("upper_seam")
    drop = 0.75 * (points["lower_seam"][2] - points["upper_seam"][2])
    canvas.paint(
        canvas.cover(np.concatenate([teeth, teeth[::-1] + drop])), (0.93, 0.90, 0.86), 0.95, hole
    )
    canvas.paint(canvas.cover(face.lip("upper")), lips * 0.82)
    lower = canvas.cover(face.lip("lower"))
    canvas.paint(lower, lips)
    wet = mixed(points["lower_lip"][3], points["lower_seam"][2], 0.45)
    canvas.paint(canvas.glow(wet, (0.008, 0.026)), (1, 1, 1), 0.30, canvas.whole(lower))
    seams = [face.open("upper_seam"), face.open("lower_seam")]
    canvas.paint(canvas.lines(*seams, width=0.0065, taper=0.5), lips * (0.42, 0.30, 0.30), 0.85)


def _eye(face: Sitter, side: str, inside: np.ndarray) -> None:
    canvas, look = face.canvas, face.look
    skin, iris = np.asarray(look.skin), np.asarray(look.iris)
    ball = canvas.cover(face.closed(f"eye_{side}"))
    canvas.paint(ball, (0.93, 0.91, 0.88))
    hole = canvas.whole(ball)
    canvas.paint(canvas.cover(face.disc(side, 1.0)), iris * 0.50, 1.0, hole)
    canvas.paint(canvas.cover(face.disc(side, 0.84)), iris, 1.0, hole)
    canvas.paint(canvas.cover(face.disc(side, 0.5, -0.3)), mixed(iris, (1, 1, 0.9), 0.3), 0.6, hole)
    canvas.paint(canvas.cover(face.disc(side, 0.46)), (0.03, 0.02, 0.02), 1.0, hole)
    lash = smooth(face.points[f"lash_{side}"])
    canvas.paint(canvas.lines(lash + (0.006, 0.0), width=0.016), DARK, 0.38, hole)
    glint = 0.38 * np.sign(face.scene.light[1])
    canvas.paint(canvas.cover(face.disc(side, 0.24, 0.36, glint)), (1, 1, 1), 0.95, hole)
    lower = smooth(face.points[f"eye_{side}"][[4, 5, 6, 7, 0]])
    canvas.paint(canvas.lines(lower, width=0.006, taper=1.0), skin * SHADE * 0.7, 0.7)
    dark = mixed(mixed(skin * SHADE, DARK, 0.6), DARK, look.lashes)
    canvas.paint(canvas.lines(lash, width=0.010 + 0.007 * look.lashes), dark, 0.95)
    crease = face.open(f"crease_{side}")
    canvas.paint(canvas.lines(crease, width=0.007, taper=1.0), skin * SHADE, 0.65, inside)


def _beard(face: Sitter, hair: np.ndarray, inside: np.ndarray) -> None:
    canvas, kind = face.canvas, face.look.beard
    if kind in ("full", "stubble"):
        area = canvas.cover(face.beard())
        if kind == "full":
            canvas.paint(canvas.blurred(area, 0.006), hair * 0.9, 0.94)
        else:
            shade = mixed(np.asarray(face.look.skin) * SHADE, DARK, 0.35)
            canvas.paint(canvas.blurred(area, 0.022), shade, 0.40, inside)
    elif kind == "goatee":
        canvas.paint(canvas.blurred(canvas.cover(face.closed("goatee")), 0.006), hair * 0.9, 0.9)
    if kind in ("moustache", "full", "goatee"):
        canvas.paint(canvas.blurred(canvas.cover(face.closed("tache")), 0.004), hair, 0.95, inside)


def _glasses(face: Sitter) -> None:
    canvas, look = face.canvas, face.look
    rings = [face.closed(f"{look.glasses}_lens_{side}") for side in "lr"]
    canvas.paint(canvas.cover(*rings), (0.85, 0.93, 1.0), 0.10)
    for ring in rings:
        gleam = ring.mean(axis=0) + (-0.022, -0.030)
        canvas.paint(
            canvas.glow(gleam, (0.012, 0.020)), (1, 1, 1), 0.22, canvas.whole(canvas.cover(ring))
        )
    frames = canvas.lines(
        *(np.concatenate([r, r[:2]]) for r in rings), *arms(face), width=0.012, taper=0.0
    )
    canvas.paint(frames, look.frame)


def arms(face: Sitter) -> list[np.ndarray]:
    """The bridge of the glasses and their arms to the ears."""
    left, right = (face.points[f"{face.look.glasses}_lens_{side}"] for side in "lr")
    middle = (left[0] * 0 + left[np.argmax(left[:, 1])] + right[np.argmin(right[:, 1])]) / 2
    bridge = [left[np.argmax(left[:, 1])], middle - (0.012, 0.0), right[np.argmin(right[:, 1])]]
    outline = face.points["outline"]
    ends = [(left[np.argmin(left[:, 1])], outline[-8]), (right[np.argmax(right[:, 1])], outline[8])]
    return [smooth(np.array(bridge)), *(np.linspace(a, mixed(a, b, 1.0), 4) for a, b in ends)]
