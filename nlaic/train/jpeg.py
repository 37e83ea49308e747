"""What stage `jpeg` minimises: lambda * distortion + rate (Eq. 8-12), with the paper's proxy of the rate or real codes.

`codes` is ours: the symbols of each picture's levels are counted, their codes get the length that fits their frequency,
and a level's slope is what one more or one less of it would add to the file, by its own run and the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlaic.classic.jpeg.blocks import ZIGZAG
from nlaic.classic.jpeg.symbols import RUNS, SIZES, SMOOTHING
from nlaic.errors import NlaicError
from nlaic.nets.jpeg import Jpeg
from nlaic.train.data import Batch
from nlaic.train.losses import Distortion
from nlaic.train.objectives import Losses, lambda_at

RATES = ("codes", "paper")


@dataclass(frozen=True)
class JpegLoss:
    """How the rate is counted.

    Attributes:
        rate: `codes` (bits a pixel) or `paper` (Eq. 10).
        alpha: of Eq. 10, on the sums of 1/Q.
        beta: of Eq. 10, on the means of the attention maps.
        balance: power of lambda by which a picture's loss is divided, so that all qualities count about alike.
        polish: pictures in which `nlaic.train.jpeg_polish` counts symbols at the end.
    """

    rate: str = "codes"
    alpha: float = 10.0
    beta: float = 1.0
    balance: float = 0.35
    polish: int = 0

    def __post_init__(self) -> None:
        if self.rate not in RATES:
            raise NlaicError(f"stage.settings.rate must be one of {', '.join(RATES)}, but got {self.rate!r}")


class JpegObjective(nn.Module):
    """Tables and attention together.

    Args:
        net: the encoder.
        distortion: Eq. 9, with gamma among its terms; see `losses.Distortion`.
        loss: see there.
    """

    MIDDLE = 0.01  # lambda whose loss keeps its weight

    def __init__(self, net: Jpeg, distortion: Distortion, loss: JpegLoss) -> None:
        super().__init__()
        self.net, self.distortion, self.loss, self.anchors = net, distortion, loss, net.anchors

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The encoder."""
        return {"net": self.net}

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`."""
        out = self.net(batch.x, batch.position)
        distortion, distances = self.distortion(out["x_hat"], batch.x)
        weight = lambda_at(batch.position, self.anchors, self.net.settings.lambdas)
        pixels = batch.x.shape[-2] * batch.x.shape[-1]
        slopes, bits = code_bits(out["levels"], out["scaled"])
        rate = slopes / pixels if self.loss.rate == "codes" else paper_rate(out, self.loss)
        loss = (weight * distortion + rate) * (weight / self.MIDDLE) ** -self.loss.balance
        mse = (out["x_hat"].detach() - batch.x).square().mean()
        watched = {"bpp": bits.mean() / pixels, "mse": mse, **distances}
        if out["attention"]:
            watched["attention"] = sum(a.detach().mean() for a in out["attention"]) / len(out["attention"])
        return {"loss": loss.mean(), **watched}


def paper_rate(out: Mapping[str, list[Tensor]], loss: JpegLoss) -> Tensor:
    """Eq. 10 for each sample [B]."""
    rate = loss.alpha * (1 / out["tables"]).flatten(1).sum(1)  # type: ignore[attr-defined, operator]
    for maps in out["attention"][:2]:
        rate = rate + loss.beta * maps.flatten(1).mean(1)
    return rate


def code_bits(levels: list[Tensor], scaled: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Bits of each sample's levels, three planes [B, h, w, 64]: what to derive, and the count, [B] each."""
    zigzag = torch.from_numpy(ZIGZAG).to(levels[0].device)
    slopes = bits = levels[0].new_zeros(len(levels[0]))
    for planes in ((0,), (1, 2)):
        z = torch.cat([levels[n].flatten(1, 2) for n in planes], 1)[..., zigzag]  # [B, blocks, 64]
        x = torch.cat([scaled[n].flatten(1, 2) for n in planes], 1)[..., zigzag]
        ac = _AcCosts(z[..., 1:].detach())
        slopes = slopes + (ac.slopes(x[..., 1:].detach()) * z[..., 1:].abs()).flatten(1).sum(1)
        difference = z[..., 0].diff(dim=1)  # DC: a bit for each doubling
        dc = torch.log2(1 + difference.abs()).sum(1)
        slopes, bits = slopes + dc, bits + ac.bits + dc.detach()
    return slopes, bits


class _AcCosts:
    """Symbols of AC levels [B, blocks, 63], in zigzag order, and the lengths of the codes that fit each sample."""

    def __init__(self, z: Tensor) -> None:
        used = z != 0
        places = torch.arange(63, device=z.device).expand(z.shape)
        before = torch.where(used, places, -1).cummax(-1).values
        self.run = places - 1 - nn.functional.pad(before[..., :-1], (1, 0), value=-1)  # zeros before each place
        after = torch.where(used, places, 63).flip(-1).cummin(-1).values.flip(-1)
        self.next = nn.functional.pad(after[..., 1:], (0, 1), value=63)  # the next place that is used; 63 is none
        self.gap = self.next - places - 1
        self.size = torch.frexp(z.abs())[1].long()
        self.next_size = nn.functional.pad(self.size, (0, 1)).gather(-1, self.next)
        symbols = (self.run % RUNS) * SIZES + self.size
        counts = torch.zeros(len(z), RUNS * SIZES, device=z.device)
        counts.scatter_add_(1, symbols.flatten(1), used.flatten(1).float())
        counts[:, (RUNS - 1) * SIZES] += (self.run // RUNS * used).flatten(1).sum(1)
        counts[:, 0] += (~used[..., -1]).flatten(1).sum(1)
        smooth = counts + SMOOTHING
        length = -(smooth / smooth.sum(1, keepdim=True)).log2()
        values = (self.size * used).flatten(1).sum(1)
        self.bits = (counts * length).sum(1) + values
        runs = torch.arange(64, device=z.device)
        table = length.unflatten(1, (RUNS, SIZES))
        costs = table[:, RUNS - 1, :1, None] * (runs // RUNS)[:, None] + table[:, runs % RUNS]
        self.costs = (costs + torch.arange(SIZES, device=z.device)).flatten(1)  # [B, 64 * 12]

    def _of(self, run: Tensor, size: Tensor) -> Tensor:
        return self.costs.gather(1, (run * SIZES + size).flatten(1)).view(run.shape)

    def slopes(self, x: Tensor) -> Tensor:
        """Bits from the level below |x| to the one above, at each place."""
        lower = x.abs().floor()
        size, above = torch.frexp(lower)[1].long(), torch.frexp(lower + 1)[1].long()
        is_last = self.next == 63
        behind = torch.where(is_last, 0.0, self._of(self.gap, self.next_size))
        joined = torch.where(is_last, 0.0, self._of((self.run + self.gap + 1).clamp(max=63), self.next_size))
        without = joined - behind
        low = torch.where(lower > 0, self._of(self.run, size.clamp(max=SIZES - 1)), without)
        return self._of(self.run, above.clamp(max=SIZES - 1)) - low
