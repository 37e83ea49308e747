"""A base codec and a filter in one `.nlaic` file, both directions (the layout: `nlaic.classic.section`)."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from nlaic.alpha import filled
from nlaic.canvas import check_memory, cut
from nlaic.classic.base import NUMBERS, Base, base_named
from nlaic.classic.coders import BaseCoder
from nlaic.classic.scales import best, enlarged, reduced, together
from nlaic.classic.section import NO_FILTER, BasePicture, pack_base, read_base
from nlaic.container import MAX_PIXELS
from nlaic.engine import Execution
from nlaic.errors import FormatError, NlaicError, enough_memory
from nlaic.patches import Salvaged
from nlaic.picture import normalized
from nlaic.sections import alpha_bytes, alpha_of, completed, sections_of
from nlaic.target import target_bytes
from nlaic.tiles import region_box

if TYPE_CHECKING:
    from nlaic.classic.restore import Restorer

AUTO = "auto"
PIXEL_BYTES, WEBP_BYTES, SCALES_BYTES = 13, 17, 20  # a pixel of a picture that is decoded; the last: in two streams


@dataclass(frozen=True)
class Pair:
    """A base codec and the name of a filter: None for none, `auto` for whichever is best."""

    base: Base
    filter: str | None = None


def parse_pair(text: str) -> Pair:
    """`codec`, `codec+filter` or `codec+auto`.

    Raises:
        NlaicError: if there is no such codec or filter.
    """
    name, plus, filter = text.partition("+")
    if plus and filter not in (*NUMBERS, AUTO):
        raise NlaicError(f"filter must be one of {', '.join(NUMBERS)} or {AUTO}, but got {filter!r}")
    return Pair(base_named(name), filter or None)


class BaseEncoder:
    """Pictures to files by a base codec, with a filter behind it.

    Args:
        pair: the codec and the filter.
        execution: how the filter runs, where `auto` tries some.
        scales: code a reduced picture first and the rest second, where that is better (`nlaic.classic.scales`).
        filters: those to choose from, by name, where they are open already; None: those that the pair names.

    Raises:
        NlaicError: if the codec or the filter's weights are missing.
    """

    def __init__(
        self,
        pair: Pair,
        execution: Execution | None = None,
        *,
        scales: bool = False,
        filters: dict[str, "Restorer"] | None = None,
    ) -> None:
        self.pair, self.coder, self.execution = pair, open_coder(pair.base), execution or Execution()
        self.scales, self.filters = scales, self._open_filters() if filters is None else filters

    def _open_filters(self) -> dict[str, "Restorer"]:
        if not self.pair.filter:
            return {}
        from nlaic.classic.restore import Restorer
        from nlaic.classic.weights import filters_for, find_filter

        source = self.pair.base.name
        names = filters_for(source) if self.pair.filter == AUTO else [self.pair.filter]
        return {name: Restorer(find_filter(name, source), self.execution) for name in names}

    def compress(
        self,
        image: Image.Image,
        quality: float | None = None,
        *,
        bpp: float | None = None,
        max_bytes: int | None = None,
        strip: bool = False,
    ) -> bytes:
        """Compress a picture to the bytes of a .nlaic file.

        Args:
            image: as `nlaic.compress` takes them.
            quality: the codec's own setting; None: a middling one. Not looked at where a target is given.
            bpp: target in bits per pixel: the best setting whose file is not larger.
            max_bytes: the same in bytes.
            strip: as in `nlaic.compress`.

        Raises:
            NlaicError: if `image` is no picture, there is no such setting, or the target cannot be met.
        """
        picture, metadata = normalized(image, strip=strip)
        most = target_bytes(bpp, max_bytes, picture.size)
        if most is not None:
            return self._within(picture, metadata, most)
        setting = self.pair.base.check(self.pair.base.default if quality is None else quality)
        return self._pack(picture, metadata, setting)

    def with_filter(self, name: str | None) -> "BaseEncoder":
        """The same with one filter, or none; what is loaded is shared."""
        shared = {name: self.filters[name]} if name in self.filters else None
        return BaseEncoder(Pair(self.pair.base, name), self.execution, scales=self.scales, filters=shared)

    def _within(self, picture: Image.Image, metadata: dict[str, bytes], most: int) -> bytes:
        """The largest file that is not larger than `most` bytes, by bisection over the codec's settings."""
        settings = self.pair.base.settings()
        best = self._pack(picture, metadata, settings[0])
        if len(best) > most:
            raise NlaicError(f"the target of {most} bytes cannot be met: the smallest file has {len(best)} bytes")
        low, high = 0, len(settings) - 1
        while low < high:
            middle = (low + high + 1) // 2
            data = self._pack(picture, metadata, settings[middle])
            if len(data) <= most:
                low, best = middle, data
            else:
                high = middle - 1
        return best

    def _pack(self, picture: Image.Image, metadata: dict[str, bytes], setting: float) -> bytes:
        pixels = np.asarray(picture.convert("RGB"))
        if "A" in picture.mode:
            pixels = filled(pixels, np.asarray(picture.getchannel("A")))
        rgb = Image.fromarray(pixels)
        section = self._section(rgb, setting)
        name = self.pair.filter if self.pair.filter != AUTO else self._best(pixels, section, setting)
        model_id = self.filters[name].weights.model_id if name else NO_FILTER
        grey = picture.mode in ("L", "LA")
        sections = sections_of(picture, metadata)
        return pack_base(replace(section, filter=name), rgb.size, setting, model_id, grey, sections)

    def _section(self, rgb: Image.Image, setting: float) -> BasePicture:
        """The picture coded, no filter chosen yet."""
        if not self.scales:
            return BasePicture(self.pair.base, None, self.coder.encode(rgb, setting))
        found = best(self.coder, self.pair.base, rgb, setting)
        return BasePicture(self.pair.base, None, found.last, found.scale, found.first)

    def _best(self, pixels: np.ndarray, section: BasePicture, setting: float) -> str | None:
        """The filter, or none, whose picture has the least squared error."""
        height, width = pixels.shape[:2]
        decoded, level = decoded_pixels(section, (width, height)), self.pair.base.level(setting)
        shown: dict[str | None, np.ndarray] = {None: decoded}
        shown |= {name: restorer.restore(decoded, level) for name, restorer in self.filters.items()}
        return min(shown, key=lambda name: float(np.square(shown[name].astype(float) - pixels).mean()))


class BaseDecoder:
    """Files by base codecs to pictures; takes the place of `nlaic.codec.Codec` for them.

    Args:
        execution: how filters run.
        model: name of the filter, or the file of its weights; None: those that the file names.
        filtered: whether filters run at all.
    """

    has_second_decoder = False

    def __init__(self, execution: Execution | None = None, model: str | None = None, filtered: bool = True) -> None:
        self.execution, self.model, self.filtered = execution or Execution(), model, filtered
        self._filters: dict[bytes, Restorer] = {}

    def __reduce__(self) -> tuple[type["BaseDecoder"], tuple[Execution, str | None, bool]]:
        """In another process filters are opened anew."""
        return BaseDecoder, (self.execution, self.model, self.filtered)

    @property
    def name(self) -> str:
        """For messages."""
        return "base codec"

    def decompress(
        self,
        data: bytes,
        *,
        realism: float | None = None,
        region: tuple[int, int, int, int] | None = None,
        boundary_filter: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> Image.Image:
        """As `nlaic.codec.Codec.decompress`; `realism` and `boundary_filter` have no meaning here.

        Raises:
            FormatError: if the file or the stream in it is damaged.
            NlaicError: if the base codec or the filter's weights are missing.
        """
        file, section = read_base(data, max_pixels)
        header = file.header
        wanted = region_box(region, header.width, header.height)
        each = WEBP_BYTES if section.base.name == "webp" else PIXEL_BYTES
        each = SCALES_BYTES if section.scale else each
        check_memory(header.width, header.height, each * header.width * header.height + alpha_bytes(file))
        pixels = decoded_pixels(section, (header.width, header.height))
        if section.filter and self.filtered:
            level = section.base.level(header.quality / 10)
            pixels = self._filter(header.model_id, section.base.name).restore(pixels, level)
        picture = cut(Image.fromarray(pixels), wanted)
        return completed(picture, alpha_of(file, wanted), file)

    def salvage(self, data: bytes, **options: Any) -> Salvaged:
        """The picture of a sound file; there are no blocks that could be intact of another: a FormatError."""
        try:
            return Salvaged(self.decompress(data, **options), (), 1, ())
        except FormatError as error:
            raise FormatError(f"{error}; of a picture in one stream nothing can be salvaged in parts") from error

    def _filter(self, model_id: bytes, base: str) -> "Restorer":
        from nlaic.classic.restore import Restorer
        from nlaic.classic.weights import check_filter, find_filter, find_filter_by_id

        if model_id not in self._filters:
            weights = find_filter(self.model, base) if self.model else find_filter_by_id(model_id)
            check_filter(weights)
            if weights.model_id != model_id:
                got = weights.model_id.hex()
                raise FormatError(f"the file is of filter {model_id.hex()}, but weights {self.model} are filter {got}")
            self._filters[model_id] = Restorer(weights, self.execution)
        return self._filters[model_id]


def extract_base(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[bytes, str]:
    """The base codec's own file, for any viewer of it, and its suffix. It holds the pixels alone, no metadata."""
    _, section = read_base(data, max_pixels)
    if section.scale:
        raise NlaicError(f"the picture is in two {section.base.name} streams (--scales), of which no viewer makes one")
    return section.base.own(section.stream), section.base.suffix


def decoded_pixels(section: BasePicture, size: tuple[int, int]) -> np.ndarray:
    """The base codec's picture, uint8 [H, W, 3]; whatever a decoder says of a bad stream becomes one FormatError."""
    with enough_memory():
        last = _decoded(section.base, section.stream, size)
        if not section.scale:
            return np.asarray(last)
        first = _decoded(section.base, section.first, reduced(size, section.scale))
        return together(enlarged(first, size), np.asarray(last))


def _decoded(base: Base, stream: bytes, size: tuple[int, int]) -> Image.Image:
    coder = open_coder(base)
    try:
        return coder.decode(stream, size)
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything on damaged streams
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise FormatError(f"the {base.name} stream is damaged: {said}") from error


@lru_cache(maxsize=4)
def open_coder(base: Base) -> BaseCoder:
    """A base codec, opened once."""
    return base.open()
