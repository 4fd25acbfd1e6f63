"""Portraits computed from numbers alone: photos and caricatures of people who do not exist.

A picture is a function of its identity, its kind and its number. A caricature has the traits of its
identity multiplied by a factor, so it is known exactly where every feature of a photo moves to.
"""

import copy
import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from gan_jax.data.config import Options
from gan_jax.data.drawn_faces import geometry
from gan_jax.data.drawn_faces import hair as face_hair
from gan_jax.data.drawn_faces.caricature import drawing
from gan_jax.data.drawn_faces.geometry import FIVE, Pose
from gan_jax.data.drawn_faces.paint import Colour, Look, Scene, mixed
from gan_jax.data.drawn_faces.photo import photo
from gan_jax.data.progress import Work
from gan_jax.data.sources.arrays import Opened

PHOTO, CARICATURE = "P", "C"
SEED = 20_190_616
STRIKING = 6  # traits in which an identity differs much from the mean
SKINS = [(0.98, 0.84, 0.74), (0.94, 0.76, 0.63), (0.87, 0.67, 0.52), (0.76, 0.55, 0.40)]
SKINS += [(0.60, 0.41, 0.29), (0.44, 0.29, 0.21)]  # light to dark
DARK_HAIR = [(0.09, 0.07, 0.07), (0.16, 0.10, 0.08), (0.25, 0.15, 0.10), (0.38, 0.23, 0.14)]
FAIR_HAIR = [(0.47, 0.22, 0.11), (0.66, 0.32, 0.14), (0.76, 0.58, 0.33), (0.88, 0.75, 0.50)]
OLD_HAIR = [(0.55, 0.54, 0.54), (0.82, 0.81, 0.80)]
EYES = [(0.30, 0.17, 0.09), (0.42, 0.27, 0.12), (0.44, 0.42, 0.20), (0.26, 0.48, 0.30)]
EYES += [(0.25, 0.47, 0.68), (0.45, 0.52, 0.58)]
SHIRTS = [(0.16, 0.23, 0.40), (0.55, 0.14, 0.16), (0.18, 0.38, 0.33), (0.80, 0.77, 0.70)]
SHIRTS += [(0.25, 0.25, 0.27), (0.70, 0.50, 0.20), (0.45, 0.28, 0.46), (0.42, 0.58, 0.72)]
GROUNDS = [(0.62, 0.70, 0.78), (0.74, 0.70, 0.62), (0.45, 0.52, 0.50), (0.80, 0.78, 0.76)]
GROUNDS += [(0.36, 0.40, 0.50), (0.66, 0.56, 0.52), (0.55, 0.66, 0.55), (0.30, 0.28, 0.30)]
PAPERS = [(1.0, 0.99, 0.96), (0.98, 0.93, 0.82), (0.90, 0.94, 0.97), (0.96, 0.90, 0.88)]
PAPERS += [(0.88, 0.85, 0.78)]
BACKDROPS = [(0.98, 0.76, 0.32), (0.55, 0.80, 0.78), (0.95, 0.60, 0.50), (0.70, 0.72, 0.92)]
BACKDROPS += [(0.72, 0.84, 0.50), (0.92, 0.72, 0.80)]
INKS = [(0.07, 0.06, 0.07), (0.24, 0.13, 0.09), (0.10, 0.13, 0.30)]


def _digest(folder: Path) -> str:
    """A digest of the code in a folder; "" if there is none to be read, as in a zip."""
    try:
        files = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    except OSError:
        return ""
    return hashlib.sha256(b"\0".join(files)).hexdigest() if files else ""


CODE = _digest(Path(__file__).parent)  # now: the files may change while this process draws


def _rng(*numbers: int) -> np.random.Generator:
    return np.random.default_rng((SEED, *numbers))


def _chosen(rng: np.random.Generator, among):
    return among[int(rng.integers(len(among)))]


@lru_cache(maxsize=4096)
def traits(identity: int) -> np.ndarray:
    """How an identity differs from the mean face: [T] in -1..1, mean 0 over identities.

    With traits twice as large every feature is still in order.
    """
    rng = _rng(identity, 0)
    found = rng.uniform(-0.4, 0.4, len(geometry.TRAITS))
    striking = rng.permutation(len(found))[:STRIKING]
    found[striking] = rng.choice((-1.0, 1.0), STRIKING) * rng.uniform(0.7, 1.0, STRIKING)
    found = found * min(1.0, geometry.most(found) / 2)
    found.flags.writeable = False
    return found


def strength(identity: int, exaggeration: float) -> float:
    """The factor of an identity's traits in its caricatures: 1 + exaggeration, but at most the
    largest that leaves every feature in order."""
    return min(1.0 + exaggeration, geometry.most(traits(identity)))


@lru_cache(maxsize=4096)
def look(identity: int) -> Look:
    """The looks of an identity, apart from its geometry."""
    rng = _rng(identity, 1)
    tone = rng.uniform(0, len(SKINS) - 1)
    at = min(int(tone), len(SKINS) - 2)
    skin = mixed(SKINS[at], SKINS[at + 1], tone - at) * rng.uniform(0.97, 1.03, 3)
    old = rng.uniform() < 0.18
    fair = rng.uniform() < 0.65 and tone < 2.2
    hair = _chosen(rng, OLD_HAIR if old else FAIR_HAIR if fair else DARK_HAIR)
    eyes = _chosen(rng, EYES if tone < 2.2 else EYES[:3])
    bearded = rng.uniform() < 0.5
    style = _chosen(rng, face_hair.SHORT if bearded else face_hair.FULL)
    beards = ("none", "none", "stubble", "full", "goatee", "moustache")
    red = mixed(
        skin * (0.86, 0.56, 0.54), (0.72, 0.16, 0.20), 0 if bearded else rng.uniform(0, 0.8)
    )
    return Look(
        skin=_colour(skin),
        hair=_colour(np.array(hair) * rng.uniform(0.92, 1.08)),
        iris=eyes,
        lips=_colour(red),
        style=style,
        beard=_chosen(rng, beards) if bearded else "none",
        glasses=_chosen(rng, ("none", "none", "none", "round", "box")),
        frame=_chosen(rng, [(0.08, 0.07, 0.08), (0.35, 0.18, 0.10), (0.55, 0.10, 0.14)]),
        lashes=0.15 if bearded else float(rng.uniform(0.4, 1.0)),
        lines=float(rng.uniform(0.6, 1.0)) if old else max(0.0, float(rng.uniform(-0.4, 0.6))),
        freckles=bool(rng.uniform() < 0.3 and tone < 2.0),
        mole=int(rng.integers(4)) if rng.uniform() < 0.2 else -1,
    )


def _colour(values) -> Colour:
    return tuple(float(v) for v in np.clip(values, 0.0, 1.0))


def pose(identity: int, kind: str, number: int) -> Pose:
    """The pose of the head in a picture, and its expression."""
    rng = _rng(identity, number, 2, kind == CARICATURE)
    return Pose(
        yaw=float(rng.uniform(-0.026, 0.026)),
        pitch=float(rng.uniform(-0.010, 0.010)),
        roll=float(rng.uniform(-0.07, 0.07)),
        scale=float(rng.uniform(0.97, 1.03)),
        shift=tuple(rng.uniform(-0.010, 0.010, 2).tolist()),
        smile=float(rng.uniform(-0.25, 1.0)),
        brow_raise=float(rng.uniform(-0.3, 0.9)),
        open=max(0.0, float(rng.uniform(-1.0, 1.0))),
    )


def scene(identity: int, kind: str, number: int) -> Scene:
    """Light, ground and clothes of a picture; for a caricature also the style of drawing."""
    rng = _rng(identity, number, 3, kind == CARICATURE)
    side = rng.choice((-1.0, 1.0)) * rng.uniform(0.2, 0.75)
    light = np.array([-rng.uniform(0.25, 0.65), side, 0.75])
    ground = np.array(_chosen(rng, GROUNDS if kind == PHOTO else BACKDROPS))
    chance = rng.uniform(size=8)
    return Scene(
        light=tuple((light / np.sqrt(np.sum(light**2))).tolist()),
        strength=float(0.55 + 0.45 * chance[0]),
        warmth=float(2 * chance[1] - 1),
        ground=(
            _colour(ground * (0.55 + 0.3 * chance[2])),
            _colour(ground * (0.9 + 0.2 * chance[3])),
        ),
        slope=float(2 * np.pi * chance[4]),
        shirt=_chosen(rng, SHIRTS),
        gaze=float(0.5 * chance[5] - 0.25),
        seed=int(rng.integers(2**31)),
        paper=_chosen(rng, PAPERS),
        ink=_chosen(rng, INKS),
        width=float(0.008 + 0.009 * chance[6]),
        saturation=float(0.5 + 0.8 * chance[7]),
        shading=_chosen(rng, ("flat", "cel", "cel", "soft", "hatch")),
        backdrop=_chosen(rng, ("none", "disc", "wash")),
    )


def picture(identity: int, kind: str, number: int, size: int, factor: float) -> np.ndarray:
    """A picture, uint8 [size, size, 3]. `kind` is PHOTO or CARICATURE; the identity's traits are
    multiplied by `factor`."""
    at = geometry.points(traits(identity) * factor, pose(identity, kind, number))
    paint = photo if kind == PHOTO else drawing
    return paint(at, look(identity), scene(identity, kind, number), size)


class DrawnFaces:
    """Photos, then caricatures, of one identity after the other."""

    work = Work(0.05, "face", "drawing {} faces")

    def __init__(
        self,
        first: int,
        identities: int,
        photos: int,
        caricatures: int,
        size: int,
        channels: int = 3,
        exaggeration: float = 1.0,
    ) -> None:
        """
        Args:
          first: number of the first identity.
          photos, caricatures: how many of each identity.
          size, channels: of a picture.
          exaggeration: by how much traits grow in a caricature, see `strength`.
        """
        self.first = first
        self.identities = identities
        self.counts = (photos, caricatures)
        self.size = size
        self.exaggeration = exaggeration
        self.before = (0, 0)
        self.known = (size, size, channels)

    def after(self, photos: int, caricatures: int) -> "DrawnFaces":
        """Further pictures of the same people, after this many photos and caricatures of each."""
        found = copy.copy(self)
        found.before = (photos, caricatures)
        return found

    def __len__(self) -> int:
        return self.identities * sum(self.counts)

    @property
    def recipe(self) -> str:
        """What the pictures follow from: numbers, and the code that draws them; "" if that cannot
        be read."""
        if not CODE:
            return ""
        places = (self.first, self.identities, self.counts, self.before)
        digest = hashlib.sha256(repr((*places, self.size, self.known, self.exaggeration)).encode())
        digest.update(f"{CODE}, numpy {np.__version__}, Pillow {PIL.__version__}".encode())
        return digest.hexdigest()

    def key(self, i: int) -> tuple[int, str, int]:
        """Identity, kind (PHOTO or CARICATURE) and number (from 1) of picture i."""
        place, k = divmod(i, sum(self.counts))
        if k < self.counts[0]:
            return self.first + place, PHOTO, self.before[0] + k + 1
        return self.first + place, CARICATURE, self.before[1] + k - self.counts[0] + 1

    def photos(self, i: int) -> bool:
        """Whether picture i is a photo."""
        return self.key(i)[1] == PHOTO

    def label(self, i: int) -> int:
        """The place of the picture's identity among those of this source."""
        return i // sum(self.counts)

    def name(self, i: int) -> str:
        """ "<identity>/P0001.png" for a photo, "<identity>/C0001.png" for a caricature."""
        identity, kind, number = self.key(i)
        return f"{identity:04d}/{kind}{number:04d}.png"

    def shape(self, i: int) -> tuple[int, int, int]:
        return self.known

    def image(self, i: int) -> np.ndarray:
        """uint8 [size, size, channels]."""
        identity, kind, number = self.key(i)
        factor = 1.0 if kind == PHOTO else strength(identity, self.exaggeration)
        drawn = picture(identity, kind, number, self.size, factor)
        if self.known[2] == 1:
            return np.asarray(Image.fromarray(drawn).convert("L"))[..., None]
        return drawn

    def landmarks(self, i: int) -> np.ndarray:
        """Landmarks of picture i, float64 [L, 2]: (y, x) in pixels. FIVE are those of alignment."""
        identity, kind, number = self.key(i)
        factor = 1.0 if kind == PHOTO else strength(identity, self.exaggeration)
        return self._landmarks(identity, pose(identity, kind, number), factor)

    def truth(self, i: int) -> np.ndarray:
        """How far each landmark of photo i moves in a caricature with the same pose and expression:
        float64 [L, 2], (y, x) in pixels. Zeros if picture i is a caricature."""
        identity, kind, number = self.key(i)
        held = pose(identity, kind, number)
        factor = strength(identity, self.exaggeration)
        moved = self._landmarks(identity, held, factor)
        return moved - (self._landmarks(identity, held, 1.0) if kind == PHOTO else moved)

    def _landmarks(self, identity: int, held: Pose, factor: float) -> np.ndarray:
        at = geometry.points(traits(identity) * factor, held)[geometry.ROWS]
        return geometry.to_pixels(at, self.size)


def open_drawn_faces(options: Options) -> Opened:
    """`identities` people with `photos` and `caricatures` of each.

    With config.data.pairs=identities the validation split has `validation_identities` other people;
    otherwise it has further pictures of the same people, a quarter as many.
    """
    size = max(1, options.resolution - 2 * options.pad)
    channels = 1 if options.channels == "grey" else 3
    counts = (options.photos, options.caricatures)
    look_of = (size, channels, options.exaggeration)
    train = DrawnFaces(0, options.identities, *counts, *look_of)
    if options.pairs == "identities":
        held_out = options.validation_identities
        validation = DrawnFaces(options.identities, held_out, *counts, *look_of)
    else:
        fewer = (max(1, count // 4) for count in counts)
        validation = DrawnFaces(0, options.identities, *fewer, *look_of).after(*counts)
    if options.labels == "none":
        return Opened(train, validation, (), "none", sorted_by_class=True)
    names = tuple(f"{identity:04d}" for identity in range(options.identities))
    return Opened(train, validation, names, sorted_by_class=True)


__all__ = ["FIVE", "DrawnFaces", "open_drawn_faces"]
