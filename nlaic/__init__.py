"""nlaic: a learned image codec.

```python
import nlaic
from PIL import Image

data = nlaic.compress(Image.open("photo.png"), quality=50)
picture = nlaic.decompress(data)
```
Nothing heavy is imported until there is work for it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nlaic.errors import FormatError, NlaicError
from nlaic.version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from nlaic.codec import Codec

__all__ = [
    "FormatError",
    "NlaicError",
    "__version__",
    "compress",
    "decompress",
    "info",
    "load",
    "load_for",
]


def load(
    name_or_file: str = "light", *, device: str = "auto", threads: int | None = None, precision: str = "auto"
) -> "Codec":
    """An object with `compress` and `decompress`, from the name of weights or their file.

    Args:
        name_or_file: `light`, another name, or a path to a weights file.
        device: `auto`, `cpu` or `cuda`.
        threads: of the processor, in all; None leaves it to torch. More than there are processors are not used.
        precision: of the transforms: `fp32`, `bf16`, `fp16`, or `auto`, what is fastest here; what is decoded from a
            file before the transforms does not depend on it.

    Raises:
        NlaicError: if there are no such weights; it names the places looked at.
    """
    from nlaic import codec

    return codec.load(name_or_file, device=device, threads=threads, precision=precision)


def load_for(
    data: bytes,
    *,
    model: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
) -> "Codec":
    """The codec that the bytes of a .nlaic file need, found by their model id, or `model` where given."""
    from nlaic import codec

    return codec.load_for(data, model=model, device=device, threads=threads, precision=precision)


@lru_cache(maxsize=2)
def _loaded(name_or_file: str, device: str) -> "Codec":
    return load(name_or_file, device=device)


def compress(
    image: "Image.Image",
    quality: float = 50,
    *,
    bpp: float | None = None,
    max_bytes: int | None = None,
    effort: int = 3,
    model: str = "light",
    block: tuple[int, int] = (2048, 1024),
    device: str = "auto",
) -> bytes:
    """Compress a picture to the bytes of a .nlaic file; see `nlaic.codec.Codec.compress` for the arguments."""
    codec = _loaded(model, device)
    return codec.compress(image, quality, bpp=bpp, max_bytes=max_bytes, effort=effort, block=block)


def decompress(
    data: bytes,
    *,
    realism: float | None = None,
    region: tuple[int, int, int, int] | None = None,
    boundary_filter: bool = True,
    model: str | None = None,
    device: str = "auto",
) -> "Image.Image":
    """Decode the bytes of a .nlaic file; the weights are found by the file's model id, or are `model`.

    See `nlaic.codec.Codec.decompress` for the other arguments.
    """
    codec = load_for(data, model=model, device=device)
    return codec.decompress(data, realism=realism, region=region, boundary_filter=boundary_filter)


def info(data: bytes) -> dict[str, Any]:
    """What the header of a .nlaic file says; needs no weights.

    Raises:
        FormatError: if it is not a sound .nlaic file.
    """
    from nlaic import container

    return container.describe(container.unpack(data))
