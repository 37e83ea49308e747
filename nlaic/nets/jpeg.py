"""JPEG as a differentiable pipeline with learned tables and an attention network.

Struempler, Yang, Timofte, "Learning to Improve Image Compression without Changing the Standard Decoder" (ECCV workshops
2020), Eq. 1-5:

     x ──► YCbCr, 4:2:0 ──► DCT ──► F ──(*)──► /Q ──► round ──► z_hat ──► *Q ──► DCT' ──► RGB ──► x_hat
                                    └► attention ─► A in 0..1, a map for each frequency of luma and of chroma

The network of ours looks at |F|/Q, so that it knows the rate, and makes a map for each grid of blocks; the paper's is
VGG-19 to its third pooling, on pixels, in 4:4:4. Files are made by `nlaic.classic.jpeg` from the same numbers.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlaic.arguments import check_least
from nlaic.classic.jpeg.blocks import DCT, PLANE_WEIGHTS, SUBSAMPLINGS, TO_RGB, TO_YCBCR
from nlaic.errors import NlaicError
from nlaic.nets.rounding import SharpRound, ThirdOrderRound, largeness

ATTENTIONS = ("none", "small", "vgg19")
ROUNDINGS = ("sharp", "third_order")
LARGEST = 255.0  # of a table's entries in a baseline file
VGG_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0)  # VGG-19 to its third pooling; 0 is a pooling


@dataclass(frozen=True)
class JpegSettings:
    """The shape of an encoder.

    Attributes:
        subsampling: `420` or `444`.
        anchors: qualities that own tables; between them the logarithms of the steps are linear.
        lambda_min: weight on the distortion at the lowest quality.
        lambda_max: at the highest.
        attention: `none`, `small` or `vgg19` (4:4:4 only).
        width: of the small network's hidden layers.
        rounding: `sharp`, or `third_order` as in the paper; see `nlaic.nets.rounding`.
        start: how tables begin: `family` (about what is best of s(1 + a(u+v))) or `uniform` in 1..2, the paper's.
    """

    subsampling: str = "420"
    anchors: int = 10
    lambda_min: float = 1e-4
    lambda_max: float = 3.0
    attention: str = "small"
    width: int = 48
    rounding: str = "sharp"
    start: str = "family"

    def __post_init__(self) -> None:
        if self.subsampling not in SUBSAMPLINGS:
            raise NlaicError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, but got {self.subsampling!r}")
        if self.rounding not in ROUNDINGS:
            raise NlaicError(f"rounding must be one of {', '.join(ROUNDINGS)}, but got {self.rounding!r}")
        if self.attention not in ATTENTIONS:
            raise NlaicError(f"attention must be one of {', '.join(ATTENTIONS)}, but got {self.attention!r}")
        if self.attention == "vgg19" and self.subsampling != "444":
            raise NlaicError("attention vgg19 makes one map for luma and chroma alike: subsampling must be 444")
        check_least(self, "model.settings", 1, "anchors", "width")

    @property
    def lambdas(self) -> tuple[float, float]:
        """At the lowest and the highest quality; log-linear between."""
        return self.lambda_min, self.lambda_max

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Tables(nn.Module):
    """Quantisation tables of luma and chroma at each anchor, [anchors, 2, 8, 8], from 1 to 255.

    Ours are kept as logarithms, below twice the coefficient whose loss costs as much as `DEAREST` bits. Above that
    nothing would call a step back: where all of a frequency is zero, no error changes with it. The paper's are kept as
    multiples of 1e-5, so that they move at the network's learning rate (section 4.2), and put back into their range.
    """

    DEAREST = 16.0  # bits that a level may cost
    SCALE = 1e-5  # s of section 4.2

    def __init__(self, settings: JpegSettings) -> None:
        super().__init__()
        self.is_linear = settings.start == "uniform"
        low, high = (math.log(value) for value in settings.lambdas)
        lambdas = torch.linspace(low, high, settings.anchors).exp()
        luma, *chroma = PLANE_WEIGHTS * (1, *(4 if settings.subsampling == "420" else 1,) * 2)
        weights = torch.tensor([luma, sum(chroma) / 2], dtype=torch.float32)
        highest = (2 * (3 * self.DEAREST / (lambdas[:, None] * weights)).sqrt()).clamp(2, LARGEST)
        self.highest: Tensor
        self.register_buffer("highest", highest[..., None, None], persistent=False)
        u = torch.arange(8.0)
        if self.is_linear:
            self.step = nn.Parameter(self.SCALE * (1 + torch.rand(settings.anchors, 2, 8, 8)))
        else:  # steps go with the root of the price of error; the slope is about the best of its family
            step = (2.2 / lambdas.sqrt()).clamp(1, 90)[:, None, None, None]
            steps = step * (1 + 0.12 * (u[:, None] + u)).expand(2, 8, 8)
            self.log_step = nn.Parameter(steps.clamp(max=LARGEST).log())

    def log_steps(self) -> Tensor:
        """[anchors, 2, 8, 8]; what an optimiser moved out of the limits is put back, to where gradients reach it."""
        with torch.no_grad():
            if self.is_linear:
                self.step.clamp_(self.SCALE, LARGEST * self.SCALE)
            else:
                self.log_step.copy_(self.log_step.minimum(self.highest.log()).clamp(min=0))
        return (self.step / self.SCALE).log() if self.is_linear else self.log_step

    @torch.no_grad()
    def set_log_steps(self, values: Tensor) -> None:
        """Begin with tables that are known."""
        if self.is_linear:
            self.step.copy_(values.exp() * self.SCALE)
        else:
            self.log_step.copy_(values)

    def forward(self, position: Tensor) -> Tensor:
        """Places between the anchors [B] to tables [B, 2, 8, 8], not rounded."""
        rows = self.log_steps()
        last = len(rows) - 1
        below = position.floor().clamp(0, max(last - 1, 0)).long()
        share = (position - below)[:, None, None, None]
        return torch.lerp(rows[below], rows[(below + 1).clamp(max=last)], share).exp()


class PlaneAttention(nn.Module):
    """Maps [B, 64, h, w] in 0..1 for one grid of blocks, from the magnitudes of its levels [B, C, h, w].

    A block's mean passes whole: it costs bits by its neighbours and not by its size.
    """

    START = 3.0  # before the sigmoid: everything passes nearly untouched

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 1)
        self.around = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(width, 64, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(cast(Tensor, self.last.bias), self.START)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """See the class."""
        hidden = torch.relu(self.first(torch.log1p(magnitudes)))
        hidden = hidden + torch.relu(self.around(hidden))
        maps = torch.sigmoid(self.last(hidden))
        return torch.cat([torch.ones_like(maps[:, :1]), maps[:, 1:]], 1)


class SmallAttention(nn.Module):
    """Ours: luma by itself, chroma by Cb and Cr together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.luma, self.chroma = PlaneAttention(64, width), PlaneAttention(128, width)

    def forward(self, x: Tensor, levels: list[Tensor]) -> list[Tensor]:
        """Coefficients over steps of the three planes [B, h, w, 64] to maps of the same shapes."""
        magnitudes = [q.abs().permute(0, 3, 1, 2) for q in levels]
        luma = self.luma(magnitudes[0]).permute(0, 2, 3, 1)
        chroma = self.chroma(torch.cat(magnitudes[1:], 1)).permute(0, 2, 3, 1)
        return [luma, chroma, chroma]


class VggAttention(nn.Module):
    """The paper's: VGG-19 to its third pooling on pixels of 0..1, a 1x1 convolution to 128 maps, sigmoid (Eq. 4)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in VGG_WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            channels = width or channels
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, 128, 1)
        nn.init.xavier_uniform_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, x: Tensor, levels: list[Tensor]) -> list[Tensor]:
        """Pictures [B, 3, H, W] to maps for Y, Cb, Cr [B, h, w, 64]."""
        luma, chroma = torch.sigmoid(self.last(self.features(x))).permute(0, 2, 3, 1).chunk(2, -1)
        return [luma, chroma, chroma]


class Jpeg(nn.Module):
    """The pipeline above for pictures whose sides are multiples of 16."""

    def __init__(self, settings: JpegSettings) -> None:
        super().__init__()
        self.settings, self.anchors = settings, settings.anchors
        self.tables = Tables(settings)
        kinds = {"none": lambda: None, "small": lambda: SmallAttention(settings.width), "vgg19": VggAttention}
        self.attention = kinds[settings.attention]()
        self.to_ycbcr: Tensor
        self.to_rgb: Tensor
        self.dct: Tensor
        for name, values in (("to_ycbcr", TO_YCBCR), ("to_rgb", TO_RGB), ("dct", DCT)):
            self.register_buffer(name, torch.from_numpy(values.copy()), persistent=False)

    def forward(self, x: Tensor, position: Tensor, rounding: bool = True) -> dict[str, Any]:
        """Pictures [B, 3, H, W] in 0..1 and their places between the anchors [B] through encoder and decoder.

        Returns:
            `x_hat` [B, 3, H, W]; `tables` [B, 2, 8, 8]; `scaled` and `levels`, before and after the rounding, of three
            planes [B, h, w, 64]; `attention`, their maps, empty without a network.
        """
        tables = self.tables(position)
        steps = [tables[:, min(n, 1)].flatten(1)[:, None, None] for n in range(3)]
        scaled = [c / step for c, step in zip(self.coefficients(x), steps, strict=True)]
        maps = self.attention(x, [c.detach() for c in scaled]) if self.attention is not None else []
        amended = [c * a for c, a in zip(scaled, maps, strict=True)] if maps else scaled
        levels = [self.round(c) for c in amended]
        shown = self._shown(scaled, maps) if self.settings.rounding == "sharp" else levels
        x_hat = self.decode([q * step for q, step in zip(shown if rounding else amended, steps, strict=True)])
        return {"x_hat": x_hat, "tables": tables, "scaled": amended, "levels": levels, "attention": maps}

    def round(self, x: Tensor) -> Tensor:
        """By the settings' rounding."""
        kind = SharpRound if self.settings.rounding == "sharp" else ThirdOrderRound
        return cast(Tensor, kind.apply(x))

    def _shown(self, scaled: list[Tensor], maps: list[Tensor]) -> list[Tensor]:
        """The levels again, with the gradients that the distortion needs.

        The nearest level is the best for the error whatever the step: where it changes, the error does not. So a
        step's gradient is that of level * step alone, level fixed; for large levels that is right in the mean but noisy
        (the error's sign decides), and there the gradient through the rounding is added, whose mean is zero.
        """
        shown = []
        for number, c in enumerate(scaled):
            fixed, weight = c.detach(), maps[number] if maps else torch.ones(())
            through = largeness(fixed * weight.detach()) * weight.detach() * (c - fixed)
            shown.append(self.round(fixed * weight) + through)
        return shown

    def coefficients(self, x: Tensor) -> list[Tensor]:
        """Pictures [B, 3, H, W] in 0..1 to orthonormal DCT coefficients of Y, Cb, Cr [B, h, w, 64]."""
        with torch.autocast(x.device.type, enabled=False):  # a step of a table is less than bf16 tells apart
            y, cb, cr = torch.einsum("pc,bchw->pbhw", self.to_ycbcr, 255 * x)
            planes = [y - 128, cb, cr]
            if self.settings.subsampling == "420":
                planes[1:] = [F.avg_pool2d(plane[:, None], 2)[:, 0] for plane in planes[1:]]
            return [(self.dct @ _blocks(plane) @ self.dct.T).flatten(-2) for plane in planes]

    def decode(self, coefficients: list[Tensor]) -> Tensor:
        """Backwards, clipped to 0..1."""
        with torch.autocast(coefficients[0].device.type, enabled=False):
            planes = [_joined(self.dct.T @ c.unflatten(-1, (8, 8)) @ self.dct) for c in coefficients]
            if self.settings.subsampling == "420":
                planes[1:] = [F.interpolate(p[:, None], scale_factor=2, mode="bilinear")[:, 0] for p in planes[1:]]
            rgb = torch.einsum("cp,pbhw->bchw", self.to_rgb, torch.stack([planes[0] + 128, *planes[1:]]))
            return (rgb / 255).clamp(0, 1)


def _blocks(plane: Tensor) -> Tensor:
    """[B, H, W] to [B, H/8, W/8, 8, 8]."""
    return plane.unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).transpose(2, 3)


def _joined(blocks: Tensor) -> Tensor:
    """Backwards."""
    return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)
