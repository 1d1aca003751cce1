"""A chamber of a phantom heart as a body of revolution in motion: its volume, its outline, what lies inside."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Bullet:
    """A body of revolution: an ellipsoid cut off across its long axis, in each frame.

    Attributes:
        tip: of the long axis.
        along: unit vector from the tip to the cut.
        length: from the tip to the cut.
        radius: greatest.
        widest: share of the length at which it is widest; 0.5 is a whole ellipsoid. One for all frames, or one each.
    """

    tip: Float[np.ndarray, "t 2"]
    along: Float[np.ndarray, " 2"]
    length: Float[np.ndarray, " t"]
    radius: Float[np.ndarray, " t"]
    widest: float | Float[np.ndarray, " t"]

    @property
    def across(self) -> Float[np.ndarray, " 2"]:
        """Unit vector at right angles to `along`; to the picture's right where that points down."""
        return np.array([self.along[1], -self.along[0]])

    @property
    def centre(self) -> Float[np.ndarray, "t 2"]:
        """Where it is widest."""
        return self.at(self.widest)

    @property
    def end(self) -> float:
        """Angle of the ellipse at which it is cut off, in the first frame; 0 is the tip."""
        widest = np.ravel(self.widest)[0]
        return math.acos(max(-1.0, -(1 - widest) / widest))

    @property
    def mouth(self) -> Float[np.ndarray, " t"]:
        """Radius at the cut."""
        return self.radius * math.sin(self.end)

    @property
    def volume(self) -> Float[np.ndarray, " t"]:
        """π ∫ radius² along the axis, ml."""
        return bullet_share(self.widest) * math.pi * self.radius**2 * self.length

    def at(self, share: float | np.ndarray, aside: np.ndarray | float = 0.0) -> Float[np.ndarray, "t 2"]:
        """Return the point at a share of the long axis, `aside` to the right of it."""
        offset = np.broadcast_to(np.asarray(aside, float), self.length.shape)
        return self.tip + (share * self.length)[:, None] * self.along + offset[:, None] * self.across

    def arc(self, angles: Float[np.ndarray, " k"]) -> tuple[Float[np.ndarray, "t k 2"], Float[np.ndarray, "t k 2"]]:
        """Return (points of the outline, unit normals that point outwards) at angles of the ellipse, 0 the tip."""
        sine, cosine = np.sin(angles)[:, None], np.cos(angles)[:, None]
        radius, half = self.radius[:, None, None], (self.widest * self.length)[:, None, None]
        points = self.centre[:, None] + radius * sine * self.across - half * cosine * self.along
        normals = sine / radius * self.across - cosine / half * self.along
        return points, normals / np.linalg.norm(normals, axis=-1, keepdims=True)

    def outline(self, points: int = 40) -> Float[np.ndarray, "t k 2"]:
        """Return its outline from one side of the cut around the tip to the other."""
        return self.arc(np.linspace(-self.end, self.end, points))[0]

    def grown(self, by: np.ndarray | float) -> "Bullet":
        """Return the bullet that lies `by` cm around this one, cut off at the same place."""
        length = self.length + by
        widest = (self.widest * self.length + by) / length
        return Bullet(
            self.tip - np.multiply.outer(np.broadcast_to(by, self.length.shape), self.along),
            self.along,
            length,
            self.radius + by,
            widest,
        )

    def inside(self, x: np.ndarray, y: np.ndarray, edge: float = 0.12) -> Float[np.ndarray, "t r b"]:
        """Return how much of each place (cm) lies within: 1 inside, 0 outside, between them over `edge` cm."""
        a = (x * self.across[0] + y * self.across[1]).astype(np.float32)
        b = (x * self.along[0] + y * self.along[1]).astype(np.float32)
        places = (self.centre @ self.across, self.centre @ self.along, self.widest * self.length)
        sizes = (self.radius, (1 - self.widest) * self.length)
        a0, b0, half, radius, cut = (v.astype(np.float32)[:, None, None] for v in (*places, *sizes))
        b = b - b0
        far = np.sqrt(((a - a0) / radius) ** 2 + (b / half) ** 2)
        within = (
            np.minimum((1 - far) * np.minimum(radius, half), cut - b)
            if np.all(self.widest > 0.5)
            else (1 - far) * radius
        )
        return np.clip(0.5 + within * np.float32(1 / edge), 0, 1)


def bullet_share(widest: float | np.ndarray) -> float | np.ndarray:
    """Return the volume of a bullet over that of the cylinder around it: 1 - ((1 - c)³ + c³) / 3c²."""
    return 1 - ((1 - widest) ** 3 + widest**3) / (3 * widest**2)
