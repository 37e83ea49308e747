"""The codec: the way of a picture into a file and back, on one page.

```
picture ─ blocks ─ g_a ─► y ─ /step ─ h_a ─► z ─ round ─► z_hat ─┬─ integer network ─► scale indices
                                                              └─ h_s ─► mean ─ context ─► mean
r = round(y/step - mean) ─ rANS(scale indices) ─► payload ─► container ─► file
back:  file ─► payload ─► z_hat ─► scale indices ─► r ─► y_hat = (r + mean) * step ─ g_s ─► blocks ─► picture
```
What decides how a symbol is decoded is integers alone (`nlaic.integer`, `nlaic.entropy`); mean, context and
transforms are floats that an `Engine` runs. y "in its own units" is what g_a gives; "in steps" it is divided by
`Rate.step`, and symbols are 1 apart.

What is between y and the payload, `nlaic.block` does for one block; `nlaic.search` chooses better symbols by looking at
the picture. Here are the pictures and the files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from PIL import Image

from nlaic import container
from nlaic.ahead import ahead
from nlaic.arguments import real
from nlaic.block import Block, BlockCodec, Symbols
from nlaic.canvas import Canvas, Source
from nlaic.engine import EFFORT_TORCH, INSTALL, Execution, open_engine
from nlaic.errors import FormatError, NlaicError, enough_memory
from nlaic.patches import Damage, Patches, Salvaged
from nlaic.picture import normalized
from nlaic.progress import Progress, part
from nlaic.rates import Rate, quality_number, rate_at
from nlaic.rounding import RateDistortionRounding, Rounding
from nlaic.seams import SeamFilter
from nlaic.search import PLANS, search
from nlaic.sections import alpha_bytes, alpha_of, completed, sections_of
from nlaic.target import guided, largest_within, target_bytes
from nlaic.tiles import MULTIPLE, Grid, region_box
from nlaic.visibility import Visibility
from nlaic.weights import Weights, damage_told, find_by_model_id, find_weights

BLOCK = (2048, 1024)
EFFORTS = range(1, 10)
EFFORT_ROUNDING = 2  # from here on symbols are rounded by what they cost
REALISM = 0.95  # of pictures for people to look at: texture without the dots that 1 puts around edges
CLOSE, NEAR = 0.98, 0.995  # shares of a target that need no further try: where y is searched for, where z alone is


class Codec(BlockCodec):
    """Pictures to files and back, for one set of weights.

    Args:
        weights: from `nlaic.weights`.
        engine: runs the float networks.
    """

    def __repr__(self) -> str:
        model, engine = self.weights.model_id.hex(), self.engine
        return f"<Codec {self.name}: model {model}, device {engine.device}, precision {engine.precision}>"

    def __reduce__(self) -> tuple[Callable[..., "Codec"], tuple[Weights, Execution]]:
        """In another process the networks are opened anew."""
        return _opened, (self.weights, self.engine.execution)

    @property
    def name(self) -> str:
        """Name of the weights."""
        return self.weights.path.stem if self.weights.path else self.weights.architecture

    @property
    def has_second_decoder(self) -> bool:
        """Whether the weights hold one: else `realism` has no effect."""
        return any(name.startswith("g_s_perceptual.") for name in self.weights.tensors)

    @property
    def realism(self) -> float:
        """What a picture is decoded with where nothing else is asked for."""
        return REALISM if self.has_second_decoder else 0.0

    @enough_memory()
    def compress(
        self,
        image: Image.Image,
        quality: float = 50,
        *,
        bpp: float | None = None,
        max_bytes: int | None = None,
        effort: int = 3,
        block: tuple[int, int] = BLOCK,
        strip: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        """Compress a picture to the bytes of a .nlaic file.

        Args:
            image: a Pillow picture. Alpha, grey, colour profile, EXIF and XMP are kept, the EXIF orientation is
                applied, 16 bits become 8, CMYK becomes sRGB, mode F is refused (the table is in `nlaic.picture`).
            quality: 0..100 in steps of 0.1; not looked at where a target is given.
            bpp: target in bits per pixel: the best quality whose file is not larger; at efforts 4 to 7 the first that
                has 99.5 % of it, at 8 and 9 98 %.
            max_bytes: the same in bytes.
            effort: 1 (fastest) .. 9 (most quality for its bytes): 1 rounds, 2 rounds by what symbols cost, 3 does it
                by the error's gradient, 4 to 7 search the side stream first, for longer each, 8 and 9 the symbols too:
                `nlaic.search`.
            block: (width, height) of the independent blocks, multiples of 64.
            strip: leave EXIF and XMP out, and the colour profile: colours are converted to sRGB.
            progress: called with the share that is done, 0..1; with a target it stops short of 1, and is not called at
                efforts 1 and 2.

        Raises:
            NlaicError: if `image` is no picture, an argument is out of range, a target cannot be met, or there is no
                memory for the picture.
        """
        self._check_effort(effort)
        picture, metadata = normalized(image, strip=strip)
        most = target_bytes(bpp, max_bytes, picture.size)
        source = Source(picture, Grid(*picture.size, _sides(block)), sections_of(picture, metadata))
        beside = sum(map(len, source.sections.values()))
        if most is not None and 0 < beside >= most:
            named = "alpha, colour profile, EXIF and XMP"
            raise NlaicError(f"the target of {most} bytes cannot be met: {named} alone have {beside} (see strip)")
        if most is None:
            return self._pack(source, None, quality_number(quality), effort, progress)
        latents = [self.engine.analysis(source.block(number)) for number in range(source.count)]
        return self._fit(source, latents, most, effort, progress)

    @enough_memory()
    def decompress(
        self,
        data: bytes,
        *,
        realism: float | None = None,
        region: tuple[int, int, int, int] | None = None,
        boundary_filter: bool = True,
        max_pixels: int = container.MAX_PIXELS,
    ) -> Image.Image:
        """Decode the bytes of a .nlaic file to a picture of mode RGB, RGBA, L or LA.

        Its `info` holds `icc_profile`, `exif` and `xmp` where the file does.

        Args:
            data: the file.
            realism: 0 (faithful) .. 1 (natural looking), where there is a second decoder; by default `self.realism`.
            region: (x, y, width, height) of the part wanted, in pixels; only the blocks that it needs are decoded.
            boundary_filter: smooth the seams between blocks, where the weights hold a filter for it.
            max_pixels: a file that says it has more is refused.

        Raises:
            FormatError: if the file is damaged, or of other weights.
            NlaicError: if an argument is out of range, or there is no memory for the picture.
        """
        file = container.unpack(data, max_pixels=max_pixels)
        return self._decode(file, realism, region, boundary_filter, Damage(file))

    @enough_memory()
    def salvage(
        self,
        data: bytes,
        *,
        realism: float | None = None,
        region: tuple[int, int, int, int] | None = None,
        boundary_filter: bool = True,
        max_pixels: int = container.MAX_PIXELS,
    ) -> Salvaged:
        """Decode what is intact of a damaged file whose header is sound, and fill the rest (`nlaic.patches`).

        Arguments and errors are those of `decompress`; seams are smoothed if no block is damaged.
        """
        file = container.unpack(data, max_pixels=max_pixels, salvage=True)
        patches = Patches(file)
        picture = self._decode(file, realism, region, boundary_filter, patches)
        if boundary_filter and patches.late:  # some seams had been smoothed by then
            patches = Patches(file)
            picture = self._decode(file, realism, region, False, patches)
        return Salvaged(picture, tuple(sorted(patches.found)), patches.looked, (*file.damage, *patches.damage))

    def _decode(
        self,
        file: container.Container,
        realism: float | None,
        region: tuple[int, int, int, int] | None,
        boundary_filter: bool,
        damage: Damage,
    ) -> Image.Image:
        """A file's picture; what becomes of damaged blocks, `damage` decides."""
        realism = self.realism if realism is None else real("realism", realism)
        if not 0 <= realism <= 1:
            raise NlaicError(f"realism must be 0..1, but got {realism}")
        header = file.header
        if header.model_id != self.weights.model_id:
            raise FormatError(
                f"the file is of model {header.model_id.hex()}, "
                f"but weights {self.name} are model {self.weights.model_id.hex()}"
            )
        grid, rate = Grid(header.width, header.height, header.block), rate_at(self.weights.tensors, header.quality)
        wanted = region_box(region, header.width, header.height)
        network = self.engine.boundary if boundary_filter else None
        seams = SeamFilter(grid, wanted, network, header.quality) if network else None
        numbers = seams.numbers if seams else sorted(grid.touched_by(wanted))
        canvas = Canvas(grid, numbers, alpha_bytes(file) + (seams.waiting if seams else 0))
        alpha = alpha_of(file, wanted)

        def read(number: int) -> Symbols:
            size = grid.padded_size(number)
            return file.within(number, lambda payload: self.decode_symbols(payload, rate, *size))

        damage.look(numbers)
        with self.engine.beside_a_worker() as spare:
            symbols = ahead(lambda n: damage.tried(read, n), numbers, enabled=spare)
            for number, decoded in zip(numbers, symbols, strict=True):
                if decoded:
                    canvas.paste(number, self.engine.synthesis(self.decoded(decoded, rate), realism))
                if seams and not damage.found:
                    seams.pasted(canvas, number)
        damage.fill(canvas, numbers)
        return completed(canvas.crop(wanted), alpha, file)

    def _check_effort(self, effort: int) -> None:
        if effort not in EFFORTS:
            raise NlaicError(f"effort must be 1..9, but got {effort!r}")
        if effort >= EFFORT_TORCH and self.engine.name != "torch":
            raise NlaicError(f"efforts 8 and 9 need the torch engine (--engine torch; {INSTALL['torch']})")

    @cached_property
    def _rounding(self) -> Rounding:
        return RateDistortionRounding.of(self.coder.y)

    def choose(self, block: Block, rate: Rate, effort: int, progress: Progress | None = None) -> Symbols:
        """One block's symbols, as much thought as the effort says; 3 to 7 fall to 2 where the engine cannot pull."""
        if effort < EFFORT_ROUNDING:
            return self.symbols(block.y, rate)
        seen = Visibility.of(block.pixels, self.objective).of_channels(self.gain)
        rate = replace(rate, weight=seen * (rate.error_weight * rate.step**2))
        if effort in PLANS and (effort >= EFFORT_TORCH or self.engine.pulls):
            return search(self, block, rate, PLANS[effort], progress)
        return self.symbols(block.y, rate, self._rounding)

    def _pack(
        self,
        source: Source,
        latents: Sequence[np.ndarray] | None,
        quality: int,
        effort: int,
        progress: Progress | None = None,
    ) -> bytes:
        """The file at one quality; `latents` are the y of all blocks where they are known already."""
        rate, payloads = rate_at(self.weights.tensors, quality), []
        for number in range(source.count):
            report = part(progress, number / source.count, (number + 1) / source.count)
            pixels = source.block(number)
            y = self.engine.analysis(pixels) if latents is None else latents[number]
            s = self.choose(Block(pixels, source.size(number), y), rate, effort, report)
            payloads.append(self.coder.encode(s.z_hat, rate.z_index, s.r, s.index))
            report(1.0)
        grid = source.grid
        header = container.Header(grid.width, grid.height, self.weights.model_id, quality, grid.block, source.grey)
        return container.pack(header, payloads, source.sections)

    def _fit(
        self,
        source: Source,
        latents: Sequence[np.ndarray],
        limit: int,
        effort: int,
        progress: Progress | None = None,
    ) -> bytes:
        """The file of the highest quality that is not larger than `limit` bytes, by quick packing as far as it goes."""

        def quick(quality: int) -> bytes:
            return self._pack(source, latents, quality, min(effort, EFFORT_ROUNDING))

        def thoughtful(quality: int, report: Progress) -> bytes:
            return self._pack(source, latents, quality, effort, report)

        if effort <= EFFORT_ROUNDING:
            return largest_within(quick, limit)
        searched = self.engine.searches_side and PLANS[effort].side
        close = CLOSE if effort >= EFFORT_TORCH else NEAR if searched else 1.0
        return guided(thoughtful, quick, limit, close, progress)


def _sides(block: tuple[int, int]) -> tuple[int, int]:
    sides = tuple(block) if isinstance(block, Iterable) else (block,)
    if len(sides) != 2 or any(not isinstance(side, Integral) or side not in container.SIDES for side in sides):
        raise NlaicError(f"block must be two multiples of {MULTIPLE} up to {container.SIDES[-1]}, but got {block}")
    return int(sides[0]), int(sides[1])


def load(name_or_file: str = "light", **execution: Any) -> Codec:
    """A codec by the name of its weights or by their file; `execution` is what `nlaic.engine.Execution` takes."""
    return _opened(find_weights(name_or_file), Execution(**execution))


def load_for(data: bytes, *, model: str | None = None, **execution: Any) -> Codec:
    """The codec that a file needs: by its model id, or with the weights given."""
    return load(model, **execution) if model else load_model(model_id_of(data), **execution)


def load_model(model_id: bytes, **execution: Any) -> Codec:
    """The codec of a model id."""
    return _opened(find_by_model_id(model_id), Execution(**execution))


def _opened(weights: Weights, execution: Execution) -> Codec:
    with damage_told(weights.path):
        return Codec(weights, open_engine(weights, execution))


def model_id_of(data: bytes, max_pixels: int = container.ANY_PIXELS) -> bytes:
    """The model that a file names. Its header alone is looked at, so that of a damaged file is known too."""
    return container.unpack(data, max_pixels=max_pixels, salvage=True).header.model_id
