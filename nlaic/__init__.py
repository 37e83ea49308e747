"""nlaic: a learned image codec.

```python
import nlaic
from PIL import Image

data = nlaic.compress(Image.open("photo.png"), quality=50)
picture = nlaic.decompress(data)
```
Pillow itself then opens and saves `.nlaic` (`nlaic.plugin`). Nothing heavy is imported until there is work for it.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlaic import plugin
from nlaic.container import MAX_PIXELS
from nlaic.errors import FormatError, NlaicError
from nlaic.version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from nlaic.classic.file import BaseDecoder
    from nlaic.codec import Codec
    from nlaic.engine import Execution
    from nlaic.patches import Salvaged

__all__ = [
    "FormatError",
    "NlaicError",
    "__version__",
    "compress",
    "decompress",
    "info",
    "load",
    "load_for",
    "salvage",
]

plugin.register()


def load(
    name_or_file: str = "light",
    *,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    engine: str = "auto",
) -> "Codec":
    """An object with `compress` and `decompress`, from the name of weights or their file.

    Args:
        name_or_file: `light`, another name, or a path to a weights file.
        device: `auto`, `cpu` or `cuda`.
        threads: of the processor, in all; None leaves it to the engine. More than there are processors are not used.
        precision: of the transforms: `fp32`, `bf16`, `fp16`, or `auto`, what is fastest with the engine; what is
            decoded from a file before the transforms does not depend on it.
        engine: `onnx` (ONNX Runtime), `openvino`, `torch`, or `auto`: `onnx`, and torch on a GPU or where another
            argument asks for it.

    Raises:
        NlaicError: if there are no such weights; it names the places looked at.
    """
    from nlaic import codec

    return codec.load(name_or_file, device=device, threads=threads, precision=precision, engine=engine)


def load_for(
    data: bytes,
    *,
    model: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    engine: str = "auto",
) -> "Codec | BaseDecoder":
    """The codec that the bytes of a .nlaic file need, found by their model id, or `model` where given.

    For a file whose picture comes from a base codec it is a `nlaic.classic.file.BaseDecoder`.
    """
    from nlaic import codec
    from nlaic.classic.section import has_base

    if has_base(data):
        from nlaic.classic.file import BaseDecoder
        from nlaic.engine import Execution

        return BaseDecoder(Execution(device, threads, precision, engine=engine), model)
    return codec.load_for(data, model=model, device=device, threads=threads, precision=precision, engine=engine)


def _loaded(name_or_file: str, device: str, engine: str = "auto") -> "Codec":
    """As `load`, kept for the next picture for as long as the file of weights stays the same."""
    from nlaic.engine import Execution
    from nlaic.weights import locate_weights

    file = locate_weights(name_or_file)
    changed = file.stat().st_mtime_ns if file.is_file() else 0
    return _kept(file, changed, Execution(device, engine=engine))


@lru_cache(maxsize=2)
def _kept(file: Path, changed: int, execution: "Execution") -> "Codec":
    return load(str(file), device=execution.device, engine=execution.engine)


@lru_cache(maxsize=2)
def _of_model(model_id: bytes, execution: "Execution") -> "Codec":
    from nlaic import codec

    return codec.load_model(model_id, device=execution.device)


@lru_cache(maxsize=1)
def _base_decoder(execution: "Execution") -> "BaseDecoder":
    from nlaic.classic.file import BaseDecoder

    return BaseDecoder(execution)


def _loaded_for(data: bytes, model: str | None, device: str, max_pixels: int) -> "Codec | BaseDecoder":
    """As `load_for`, kept for the next picture, but for a base file with `model`, whose filter is opened each time."""
    from nlaic import codec
    from nlaic.classic.section import has_base
    from nlaic.engine import Execution

    execution, base = Execution(device), has_base(data, max_pixels)
    if model:
        return load_for(data, model=model, device=device) if base else _loaded(model, device)
    return _base_decoder(execution) if base else _of_model(codec.model_id_of(data, max_pixels), execution)


def compress(
    image: "Image.Image",
    quality: float = 50,
    *,
    bpp: float | None = None,
    max_bytes: int | None = None,
    effort: int = 3,
    model: str = "light",
    block: tuple[int, int] = (2048, 1024),
    strip: bool = False,
    device: str = "auto",
) -> bytes:
    """Compress a picture to the bytes of a .nlaic file.

    Args:
        image: a Pillow picture. Alpha, grey, colour profile, EXIF and XMP are kept, the EXIF orientation is applied, 16
            bits become 8, CMYK becomes sRGB, mode F is refused (the table is in `nlaic.picture`).
        quality: 0..100 in steps of 0.1; not looked at where a target is given.
        bpp: target in bits per pixel: the best quality whose file is not larger; at efforts 4 to 7 the first that
            has 99.5 % of it, at 8 and 9 98 %.
        max_bytes: the same in bytes.
        effort: 1 (fastest) .. 9 (most quality for its bytes; takes minutes a megapixel, 8 and 9 by torch).
        model: name or file of the weights, as for `load`.
        block: (width, height) of the independent blocks, multiples of 64.
        strip: leave EXIF and XMP out, and the colour profile: colours are converted to sRGB.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        NlaicError: if `image` is no picture, an argument is out of range, or a target cannot be met.
    """
    from nlaic.engine import engine_for

    codec = _loaded(model, device, engine_for(effort))
    return codec.compress(image, quality, bpp=bpp, max_bytes=max_bytes, effort=effort, block=block, strip=strip)


def decompress(
    data: bytes,
    *,
    realism: float | None = None,
    region: tuple[int, int, int, int] | None = None,
    boundary_filter: bool = True,
    max_pixels: int = MAX_PIXELS,
    model: str | None = None,
    device: str = "auto",
) -> "Image.Image":
    """Decode the bytes of a .nlaic file to a picture of mode RGB, RGBA, L or LA.

    Its `info` holds `icc_profile`, `exif` and `xmp` where the file does.

    Args:
        data: the file.
        realism: 0 (faithful) .. 1 (natural looking), where there is a second decoder; `Codec.realism` by default.
        region: (x, y, width, height) of the part wanted, in pixels; only the blocks that it needs are decoded.
        boundary_filter: smooth the seams between blocks, where the weights hold a filter for it.
        max_pixels: a file that says it has more is refused.
        model: name or file of the weights; by default they are found by the file's model id.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        FormatError: if the file is damaged, or not of the weights that `model` names.
        NlaicError: if its weights are not found, an argument is out of range, or there is no memory for the picture.
    """
    codec = _loaded_for(data, model, device, max_pixels)
    return codec.decompress(
        data, realism=realism, region=region, boundary_filter=boundary_filter, max_pixels=max_pixels
    )


def salvage(
    data: bytes,
    *,
    realism: float | None = None,
    region: tuple[int, int, int, int] | None = None,
    boundary_filter: bool = True,
    max_pixels: int = MAX_PIXELS,
    model: str | None = None,
    device: str = "auto",
) -> "Salvaged":
    """Decode what is intact of a damaged .nlaic file whose header is sound; a file cut short too.

    Args:
        data: the file.
        realism: as for `decompress`, and so are the next three.
        region: (x, y, width, height) of the part wanted.
        boundary_filter: smooth the seams, where no block is damaged.
        max_pixels: of the whole picture.
        model: name or file of the weights; by default they are found by the file's model id.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        `picture`, where damaged blocks are filled from what is around them; `blocks`, their numbers, row by row from 0;
        `damage`, a line for each thing found.

    Raises:
        FormatError: if the header is damaged, the file is not of the weights that `model` names, or it holds the
            file of another codec.
        NlaicError: if its weights are not found, an argument is out of range, or there is no memory for the picture.
    """
    codec = _loaded_for(data, model, device, max_pixels)
    return codec.salvage(data, realism=realism, region=region, boundary_filter=boundary_filter, max_pixels=max_pixels)


def info(data: bytes, *, max_pixels: int = MAX_PIXELS, salvage: bool = False) -> dict[str, Any]:
    """What the header of a .nlaic file says; needs no weights.

    Args:
        data: the file.
        max_pixels: a file that says it has more is refused.
        salvage: only the header must be sound.

    Returns:
        `version`, `width`, `height`, `grey`, `model_id` (hexadecimal), `quality` (0..100), `block` (width, height),
        `blocks` (their number), `payload_bytes`, `sections` (bytes by name), `overhead_bytes`; `base`, codec and
        filter, where the file holds that of another codec.

    Raises:
        FormatError: if the header or a section is damaged; blocks are not looked at.
    """
    from nlaic import container

    found = container.unpack(data, max_pixels=max_pixels, known_required=container.READABLE, salvage=salvage)
    facts = container.describe(found)
    if container.BASE in found.sections:
        from nlaic.classic.section import describe_base

        facts["base"] = describe_base(found)
    return facts
