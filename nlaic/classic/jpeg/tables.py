"""Tables that are not learned: the family that learned ones have to beat.

s(1 + a(u + v)) for frequencies u and v of 0..7, for chroma times a factor. Both numbers are fitted on training pictures
(`tools/jpeg_family.py`).
"""

import numpy as np

from nlaic.classic.jpeg.model import LARGEST

FITTED = {"420": (0.2, 0.6), "444": (0.45, 1.2)}  # a and the factor of chroma


def family(s: float, a: float, chroma: float) -> np.ndarray:
    """Integers of 1..255 [2, 8, 8]."""
    u = np.arange(8)
    luma = s * (1 + a * (u[:, None] + u))
    return np.clip(np.rint(np.stack([luma, chroma * luma])), 1, LARGEST).astype(int)
