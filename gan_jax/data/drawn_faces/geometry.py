"""The geometry of drawn faces: a mean face of curves, and traits that move its points.

Points are (y, x) in image sides with the origin in the middle of the image, y down. A trait is a
smooth field of displacements on the plane of the mean face, and a face is the mean plus the sum of
its traits, so everything is linear in them: a deviation times two is a caricature. The mean has
its eyes, nose and corners of the mouth where WebCaricature's alignment puts them.
"""

from dataclasses import dataclass

import numpy as np

from gan_jax.data.drawn_faces import hair
from gan_jax.data.drawn_faces.curves import mirrored, outward

EYE, MOUTH = (-0.0275, 0.1101), (0.2268, 0.0912)  # the right one's centre; the right corner
TIP = (0.0984, 0.0)


def _both(name: str, points: list[tuple[float, float]]) -> dict[str, np.ndarray]:
    right = np.array(points, np.float64)
    return {f"{name}_l": right * (1, -1), f"{name}_r": right}


def _freckles() -> list[tuple[float, float]]:
    """Spread over nose and cheeks."""
    k = np.arange(1, 45)
    x = 0.165 * (2 * (k * 0.754878 % 1) - 1)
    y = 0.030 + 0.095 * (k * 0.569840 % 1)
    return [(a, b) for a, b in zip(y.tolist(), x.tolist(), strict=True)]


def _mean() -> dict[str, np.ndarray]:
    """Every curve of the mean face; _l is at the left of the image."""
    side = [(0.386, 0.048), (0.360, 0.100), (0.310, 0.150), (0.245, 0.190), (0.165, 0.217)]
    side += [(0.080, 0.233), (0.0, 0.241), (-0.10, 0.243), (-0.20, 0.231), (-0.285, 0.190)]
    side += [(-0.345, 0.118)]
    upper = [(0.2135, 0.055), (0.2035, 0.021)]
    lower = [(0.2455, 0.062), (0.258, 0.026)]
    eye = [(-0.020, 0.0605), (-0.044, 0.083), (-0.053, 0.110), (-0.046, 0.138), (-0.028, 0.162)]
    eye += [(-0.014, 0.139), (-0.007, 0.110), (-0.010, 0.082)]
    brow = [(-0.097, 0.050), (-0.113, 0.092), (-0.113, 0.135), (-0.088, 0.178)]
    brow += [(-0.096, 0.133), (-0.094, 0.094), (-0.076, 0.052)]
    ear = [(-0.035, 0.225), (-0.060, 0.262), (-0.045, 0.288), (0.0, 0.290), (0.042, 0.274)]
    ear += [(0.082, 0.256), (0.082, 0.215)]
    fold = [(-0.040, 0.262), (-0.036, 0.275), (0.0, 0.275), (0.035, 0.262), (0.040, 0.250)]
    nostril = [(0.124, 0.012), (0.118, 0.020), (0.118, 0.030), (0.1255, 0.032), (0.129, 0.021)]
    wing = [(0.090, 0.036), (0.100, 0.045), (0.114, 0.049), (0.127, 0.043), (0.130, 0.033)]
    lash = [(-0.012, 0.058), *eye[1:4], (-0.034, 0.158), (-0.031, 0.170)]
    crease = [(-0.041, 0.064), (-0.063, 0.085), (-0.073, 0.112), (-0.063, 0.143), (-0.043, 0.167)]
    beard = [(y + 0.016 * (y > 0.2), x * 1.01) for y, x in reversed(side[:7])]  # ear to chin
    cheek = [(0.0, 0.222), (0.09, 0.205), (0.165, 0.178), (0.185, 0.13), (0.165, 0.08)]
    tache = [(0.147, 0.0), (0.150, 0.032), (0.172, 0.078), (0.212, 0.118), (0.206, 0.070)]
    chin = [(0.165, 0.060), (0.185, 0.098), (0.235, 0.122), (0.310, 0.122), (0.380, 0.085)]
    return {
        "outline": mirrored([(0.392, 0.0), *side, (-0.368, 0.0)], closed=True),  # from the chin
        "upper_lip": mirrored([(0.2075, 0.0), *upper[::-1], MOUTH], middle=True),
        "lower_lip": mirrored([(0.260, 0.0), *lower[::-1], MOUTH], middle=True),
        "upper_seam": mirrored([(0.2285, 0.0), (0.2258, 0.045), (0.2268, 0.088)], middle=True),
        "lower_seam": mirrored([(0.2295, 0.0), (0.2268, 0.045), (0.2272, 0.088)], middle=True),
        "nose": np.array([(-0.040, 0.0), (0.03, 0.0), TIP, (0.136, 0.0)]),
        "nose_base": mirrored([(0.137, 0.0), (0.134, 0.016), (0.128, 0.030)], middle=True),
        "tache": mirrored([*tache, (0.197, 0.035), (0.194, 0.0)], closed=True),
        "beard": mirrored([*beard, (0.408, 0.0)]),
        "beard_top": mirrored([(0.150, 0.0), *cheek[::-1]], middle=True),
        "goatee": mirrored([(0.150, 0.0), *chin, (0.412, 0.0)], closed=True),
        "neck": mirrored([(0.20, 0.150), (0.34, 0.140), (0.43, 0.150), (0.75, 0.165)]),
        "body": mirrored([(0.425, 0.150), (0.450, 0.235), (0.478, 0.36), (0.55, 0.50), (0.9, 0.6)]),
        "collar": mirrored([(0.485, 0.0), (0.467, 0.08), (0.425, 0.150)], middle=True),
        **_both("eye", eye),
        **_both("iris", [EYE, (EYE[0], EYE[1] + 0.0225), (EYE[0] + 0.0225, EYE[1])]),
        **_both("lash", lash),
        **_both("crease", crease),
        **_both("brow", brow),
        **_both("ear", ear),
        **_both("fold", fold),
        **_both("nostril", nostril),
        **_both("wing", wing),
        **_both("bridge", [(-0.052, 0.026), (-0.02, 0.017), (0.03, 0.018), (0.07, 0.026)]),
        **_both("smile", [(0.112, 0.066), (0.150, 0.094), (0.195, 0.118), (0.225, 0.124)]),
        **_both("cheek", [(0.105, 0.140)]),
        **_glasses(),
        "moles": np.array([(0.185, 0.125), (0.115, -0.125), (0.290, -0.075), (0.005, -0.165)]),
        "freckles": np.array(_freckles()),
        "bumps": np.array([row[:2] for row in BUMPS]),
        **hair.curves(),
    }


def _glasses() -> dict[str, np.ndarray]:
    """The lenses of round and of square glasses."""
    lens = [np.array([np.sin(t), np.cos(t)]) for t in np.linspace(0, 2 * np.pi, 16, False)]
    square = [np.sign(v) * np.abs(v) ** 0.55 for v in lens]
    round_lens = [(EYE[0] + 0.008 + 0.070 * v[0], 0.112 + 0.076 * v[1]) for v in lens]
    box_lens = [(EYE[0] + 0.006 + 0.050 * v[0], 0.112 + 0.080 * v[1]) for v in square]
    return {**_both("round_lens", round_lens), **_both("box_lens", box_lens)}


# the relief of the face: y, x, how wide in y and in x, height
BUMPS = [
    (0.098, 0.0, 0.026, 0.027, 0.030),  # tip of the nose
    (0.020, 0.0, 0.055, 0.017, 0.016),  # its ridge
    (0.112, 0.036, 0.016, 0.016, 0.009),
    (0.112, -0.036, 0.016, 0.016, 0.009),
    (0.085, 0.135, 0.055, 0.050, 0.020),  # cheeks
    (0.085, -0.135, 0.055, 0.050, 0.020),
    (-0.030, 0.110, 0.032, 0.048, -0.013),  # sockets
    (-0.030, -0.110, 0.032, 0.048, -0.013),
    (-0.110, 0.090, 0.028, 0.060, 0.008),  # ridges of the brows
    (-0.110, -0.090, 0.028, 0.060, 0.008),
    (0.345, 0.0, 0.036, 0.050, 0.016),  # chin
    (0.290, 0.0, 0.018, 0.050, -0.009),  # hollow above it
    (0.210, 0.0, 0.014, 0.050, 0.006),  # lips
    (0.246, 0.0, 0.014, 0.045, 0.008),
    (0.170, 0.0, 0.020, 0.010, -0.003),  # philtrum
]


def _bell(y: np.ndarray, x: np.ndarray, at: tuple[float, float], wide: tuple[float, float]):
    """A Gaussian hill and its mirror image at -x: their sum and their difference."""
    up = np.exp(-(((y - at[0]) / wide[0]) ** 2) / 2)
    right, left = (np.exp(-(((x - s * at[1]) / wide[1]) ** 2) / 2) for s in (1, -1))
    return up * (right + left), up * (right - left)


def _fields(points: np.ndarray) -> dict[str, np.ndarray]:
    """The displacements [P, 2] of points [P, 2] by each trait, expression and turn of the head, for
    a value of 1."""
    y, x = points.T

    def rise(at, wide):  # 0 above, 1 below
        return 1 / (1 + np.exp(-(y - at) / wide))

    def bell(cy, sy, sx):
        return np.exp(-(((y - cy) / sy) ** 2 + (x / sx) ** 2) / 2)

    out = outward(x)
    eyes, _ = _bell(y, x, EYE, (0.045, 0.065))
    region, region_apart = _bell(y, x, (-0.055, 0.110), (0.075, 0.075))  # eye with its brow
    brows, brows_apart = _bell(y, x, (-0.100, 0.110), (0.026, 0.075))
    ears, ears_apart = _bell(y, x, (0.01, 0.275), (0.07, 0.035))
    _, lens_x = _bell(y, x, EYE, (0.045, 0.065))
    from_eye = eyes * x - 0.110 * lens_x  # (x - centre) of the nearer eye, in its window
    brow_slope = brows * x - 0.110 * brows_apart
    mouth = bell(MOUTH[0], 0.045, 0.110)
    corners = (x / MOUTH[1]) ** 2 - 0.35
    nothing = np.zeros_like(x)
    turned = bell(0.05, 0.25, 0.16) + 0.9 * bell(0.09, 0.06, 0.045)
    traits = {
        "face_width": (nothing, 0.046 * out),
        "face_length": (0.062 * y * (0.45 + 0.55 * rise(0.0, 0.06)), nothing),
        "jaw_width": (nothing, 0.050 * out * rise(0.20, 0.045) * (1 - rise(0.36, 0.02))),
        "chin_length": (0.033 * rise(0.315, 0.022), nothing),
        "chin_width": (nothing, 0.32 * x * bell(0.385, 0.045, 0.12)),
        "forehead": (-0.022 * (1 - rise(-0.19, 0.03)), nothing),
        "cranium": (nothing, 0.042 * out * (1 - rise(-0.14, 0.05))),
        "cheeks": (nothing, 0.038 * out * np.exp(-(((y - 0.13) / 0.075) ** 2) / 2)),
        "eye_size": (0.29 * (y - EYE[0]) * eyes, 0.26 * from_eye),
        "eye_opening": (0.26 * (y - EYE[0]) * eyes, nothing),
        "eye_distance": (nothing, 0.017 * region_apart),
        "eye_height": (-0.014 * region, nothing),
        "eye_tilt": (-0.20 * np.sign(x) * from_eye, nothing),
        "brow_height": (-0.018 * brows, nothing),
        "brow_tilt": (-0.24 * np.sign(x) * brow_slope, nothing),
        "brow_thickness": (0.40 * (y + 0.097) * brows, nothing),
        "nose_length": (0.032 * bell(0.110, 0.050, 0.07), nothing),
        "nose_width": (nothing, 0.42 * x * bell(0.105, 0.040, 0.060)),
        "nose_bulb": (0.20 * (y - 0.1) * bell(0.1, 0.035, 0.05), 0.30 * x * bell(0.06, 0.06, 0.04)),
        "mouth_width": (nothing, 0.30 * x * bell(MOUTH[0], 0.05, 0.13)),
        "mouth_height": (0.018 * bell(MOUTH[0], 0.045, 0.13), nothing),
        "lips": (0.46 * (y - MOUTH[0]) * bell(MOUTH[0], 0.030, 0.12), nothing),
        "mouth_curve": (-0.013 * corners * mouth, nothing),
        "ear_size": (0.40 * (y - 0.01) * ears, 0.36 * (ears * x - 0.245 * ears_apart)),
        "ears_out": (nothing, 0.028 * ears_apart),
        "smile": (-0.016 * corners * mouth, 0.14 * x * mouth),
        "brow_raise": (-0.020 * brows, nothing),
        "open": (0.010 * rise(0.27, 0.02), nothing),  # and the lips, see _open
        "yaw": (nothing, turned),
        "pitch": (turned, nothing),
    }
    return {name: np.stack(field, axis=1) for name, field in traits.items()}


MEAN = _mean()
ALL = np.concatenate(list(MEAN.values()))  # [P, 2]
ENDS = np.cumsum([0, *map(len, MEAN.values())])
PART = {name: slice(*ENDS[k : k + 2]) for k, name in enumerate(MEAN)}
FIELDS = _fields(ALL)
for _part in ("lower_lip", "lower_seam"):  # the lower lip follows the jaw, least at the corners
    _x = ALL[PART[_part], 1]
    FIELDS["open"][PART[_part], 0] += 0.022 * np.clip(1 - (_x / MOUTH[1]) ** 2, 0, 1)
MOVES = ("smile", "brow_raise", "open", "yaw", "pitch")  # of a picture; the others of an identity
TRAITS = tuple(name for name in FIELDS if name not in MOVES)
OF_TRAITS = np.stack([FIELDS[name] for name in TRAITS])  # [T, P, 2]

# the landmarks: their rows in ALL
_JAW = (7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7)  # of the outline, right to left
_CHOSEN = [("outline", _JAW[::-1])]
_CHOSEN += [(f"brow_{s}", (0, 1, 2, 3)) for s in "lr"]
_CHOSEN += [(f"eye_{s}", (0, 2, 4, 6)) for s in "lr"] + [(f"iris_{s}", (0,)) for s in "lr"]
_CHOSEN += [("nose", (0, 2, 3)), ("wing_l", (2,)), ("wing_r", (2,))]
_CHOSEN += [("upper_lip", (0, 2, 3, 4, 6)), ("lower_lip", (2, 3, 4))]
ROWS = np.concatenate([np.arange(len(ALL))[PART[name]][list(at)] for name, at in _CHOSEN])
FIVE = tuple(  # eyes, nose and corners of the mouth among the landmarks
    int(np.flatnonzero(PART[name].start + at == ROWS)[0])
    for name, at in (("iris_l", 0), ("iris_r", 0), ("nose", 2), ("upper_lip", 0), ("upper_lip", 6))
)

Y, X = 0, 1
# distances that a face must keep: ((curve, point, axis), the same or a place, least distance)
ORDER = [
    (("outline", 7, X), ("eye_r", 4, X), 0.020),
    (("outline", 8, X), ("brow_r", 3, X), 0.012),
    (("outline", 4, X), ("upper_lip", 6, X), 0.035),
    (("outline", 5, X), ("wing_r", 2, X), 0.080),
    (("outline", 1, X), 0.0, 0.016),
    (("eye_r", 0, X), ("bridge_r", 1, X), 0.012),
    (("brow_r", 0, X), 0.0, 0.018),
    (("upper_lip", 6, X), 0.0, 0.045),
    (("wing_r", 2, X), 0.0, 0.022),
    (("eye_r", 2, Y), ("brow_r", 5, Y), 0.010),
    (("eye_r", 2, Y), ("brow_r", 4, Y), 0.008),
    (("eye_r", 1, Y), ("brow_r", 6, Y), 0.006),
    (("eye_r", 6, Y), ("eye_r", 2, Y), 0.018),
    (("brow_r", 5, Y), ("brow_r", 1, Y), 0.005),
    (("nose", 2, Y), ("eye_r", 6, Y), 0.045),
    (("upper_lip", 2, Y), ("nose", 3, Y), 0.022),
    (("lower_lip", 3, Y), ("upper_lip", 3, Y), 0.018),
    (("outline", 0, Y), ("lower_lip", 3, Y), 0.060),
    (("brow_r", 1, Y), ("cap_line", 0, Y), 0.035),
    (0.468, ("outline", 0, Y), 0.0),
    (("cap", 0, Y), -0.490, 0.0),
    (0.340, ("outline", 7, X), 0.0),
    (0.330, ("outline", 4, X), 0.0),
    (0.430, ("ear_r", 3, X), 0.0),
]


@dataclass(frozen=True)
class Pose:
    """The pose and expression of a head in a picture: lengths in image sides, `roll` in radians."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)  # y, x
    smile: float = 0.0
    brow_raise: float = 0.0
    open: float = 0.0


def most(traits: np.ndarray) -> float:
    """The largest factor of traits [T] that leaves every feature in its place and in order.

    Each distance of ORDER is linear in the factor, so its limit is one division.
    """
    moved = np.sum(traits[:, None, None] * OF_TRAITS, axis=0)

    def at(end, of: np.ndarray, fixed: bool) -> float:
        if isinstance(end, float):
            return end if fixed else 0.0
        name, point, axis = end
        return of[PART[name]][point, axis]

    limit = np.inf
    for high, low, least in ORDER:
        room = at(high, ALL, True) - at(low, ALL, True) - least
        speed = at(high, moved, False) - at(low, moved, False)
        if speed < 0:
            limit = min(limit, room / -speed)
    return float(limit)


def points(traits: np.ndarray, pose: Pose) -> np.ndarray:
    """Every point of a face, [P, 2] in image sides from the middle of the image.

    Args:
      traits: [T] in the order of TRAITS; 0 is the mean face, the identities lie in -1..1.
    """
    at = ALL + np.sum(traits[:, None, None] * OF_TRAITS, axis=0)
    for name in MOVES:
        at = at + getattr(pose, name) * FIELDS[name]
    cos, sin = pose.scale * np.cos(pose.roll), pose.scale * np.sin(pose.roll)
    y, x = at.T
    return np.stack([cos * y + sin * x + pose.shift[0], cos * x - sin * y + pose.shift[1]], axis=1)


def parts(at: np.ndarray) -> dict[str, np.ndarray]:
    """Points [P, 2] split into curves, by their names."""
    return {name: at[part] for name, part in PART.items()}


def to_pixels(at: np.ndarray, size: int) -> np.ndarray:
    """From image sides to pixels of an image of side `size`; (0, 0) is the first pixel's centre."""
    return (at + 0.5) * size - 0.5
