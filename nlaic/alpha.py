"""Transparency: alpha without loss in a section of the file, and colours that cost little where nothing is seen."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from nlaic.errors import FormatError, NlaicError
from nlaic.limits import PIXEL_LIMIT, pixel_limit

PIECE = 1 << 16  # bytes that are packed or unpacked at a time
_SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def encode_alpha(alpha: Image.Image) -> bytes:
    """A plane of mode L as a PNG of 8 bits, of 1 where it is all 0 and 255."""
    two = not any(alpha.histogram()[1:255])
    buffer = BytesIO()
    (alpha.convert("1", dither=Image.Dither.NONE) if two else alpha).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def decode_alpha(content: bytes, width: int, height: int) -> Image.Image:
    """The plane, mode L; its size is looked at before anything is decoded.

    Raises FormatError where it is not that of a picture of width x height pixels, NlaicError where that is too many.
    """
    numbers = content[len(_SIGNATURE) :][:13]
    if not content.startswith(_SIGNATURE) or len(numbers) < 13:
        raise FormatError("section 129 (ALPHA) must be a PNG")
    got_width, got_height, depth, *kind = struct.unpack(">II5B", numbers)
    if (got_width, got_height) != (width, height):
        raise FormatError(f"section 129 (ALPHA) must be of {width}x{height} pixels, got {got_width}x{got_height}")
    if depth not in (1, 8) or any(kind):
        raise FormatError(f"section 129 (ALPHA) must be grey of 1 or 8 bits, got {depth} and {bytes(kind).hex()}")
    if width * height > PIXEL_LIMIT:
        raise NlaicError(f"alpha of {width}x{height} pixels: at most {PIXEL_LIMIT} can be read")
    try:
        needed = height * (1 + -(-width * depth // 8))
        if _unpacked(content, needed) != needed:  # Pillow takes missing rows for black
            raise FormatError("section 129 (ALPHA) is damaged: the pixels are too few or too many")
        with pixel_limit():
            image: Image.Image = Image.open(BytesIO(content), formats=("PNG",))
        if (image.size, image.mode) != ((width, height), "1" if depth == 1 else "L"):
            raise FormatError("section 129 (ALPHA) is damaged: a second header says something else")
        return image.convert("L")
    except FormatError:
        raise
    except MemoryError as error:
        raise NlaicError(f"not enough memory for the alpha of {width}x{height} pixels") from error
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise FormatError(f"section 129 (ALPHA) is damaged: {error or type(error).__name__}") from error


def _unpacked(content: bytes, limit: int) -> int:
    """How many bytes the pixels of a PNG unpack to, counted up to a limit; -1 where they end too early or too late."""
    place, unpacked, stream = len(_SIGNATURE) - 8, 0, zlib.decompressobj()
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        start = place + 8
        place = start + length + 4
        for piece in range(start, min(start + length, len(content)) if kind == b"IDAT" else start, PIECE):
            packed = content[piece : min(piece + PIECE, start + length)]
            while packed and unpacked <= limit:
                if stream.eof:  # zlib would copy all that follows, again and again
                    return -1
                unpacked += len(stream.decompress(packed, PIECE))
                packed = stream.unconsumed_tail
    return unpacked if stream.eof else -1


def filled(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours continued smoothly to where they cannot be seen, so that they cost little and leave no halo.

    Args:
        pixels: uint8 [H, W, 3].
        alpha: uint8 [H, W]; where it is 0, the colours are replaced: by white where all of it is 0.
    """
    seen = (alpha > 0)[..., None]
    if seen.all():
        return pixels
    if not seen.any():
        return np.full_like(pixels, 255)
    weight = seen.astype(np.float32)
    return np.where(seen, pixels, np.rint(_spread(pixels * weight, weight)).astype(np.uint8))


def _spread(sums: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """sums / weight, float32 [H, W, 3], and where the weight [H, W, 1] is 0 what half the resolution says."""
    if weight.all():
        return sums / weight
    height, width = weight.shape[:2]
    halves = [_halved(array) for array in (sums, weight)]
    coarse = _doubled(_doubled(_spread(*halves)).swapaxes(0, 1)).swapaxes(0, 1)[:height, :width]
    return np.where(weight > 0, sums / np.maximum(weight, 1), coarse)


def _halved(array: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2."""
    height, width, channels = array.shape
    even = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)))
    return even.reshape(-(-height // 2), 2, -(-width // 2), 2, channels).sum(axis=(1, 3))


def _doubled(array: np.ndarray) -> np.ndarray:
    """Twice as high, [2 H, W, C], interpolated linearly."""
    around = np.pad(array, ((1, 1), (0, 0), (0, 0)), mode="edge")
    above, below = (0.75 * array + 0.25 * near for near in (around[:-2], around[2:]))
    return np.stack((above, below), axis=1).reshape(-1, *array.shape[1:])
