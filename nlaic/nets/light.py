"""`light`: a codec for two processor cores, one set of weights for every rate.

A linear shortcut stands beside each learned transform and starts as a codec of its own, so that training learns only
what is left: 16x16 DCT of YCbCr beside g_a and g_s; log energies of frequency bands, turned by a 4x4 DCT, beside h_a.
The learned branches are dense 3x3 residual blocks at 1/8 and 1/16 of the resolution, with zeros at their ends.

```
x ─┬─ lap ─ DCT 16x16, stride 16 ─────────────────────────────────┬─► y @1/16
   └─ unshuffle 8 ─ 1x1 ─ blocks @1/8 ─ conv2 s2 ─ blocks @1/16 ─ 1x1 ┘
y ─┬─ inverse DCT ────────────────────────────────────────────────────┬─ lap ─► x_hat
   └─ 1x1 ─ blocks @1/16 ─ 1x1, shuffle 2 ─ blocks @1/8 ─ 1x1, shuffle 8 ┘
```
Three layers at 1/2 look at what comes out of the last lap, and add to it (`Fine`).
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.arguments import check_least
from nlaic.errors import NlaicError
from nlaic.nets.layers import (
    SLOPE,
    Back,
    Blocks,
    Fine,
    Lap,
    ResidualBlock,
    dct_coefficients,
    dct_kernels,
    dct_matrix,
    from_blocks,
    reversible,
    to_blocks,
    zero_init,
)
from nlaic.nets.scale import ScaleNetwork
from nlaic.nets.vae import INDEX_STEP, LEVELS_PER_UNIT, HyperpriorVAE, Parts, Rates

BAND_EDGES = (0.5, 2.3, 4.2, 6.5, 9.5)  # radius of a luma coefficient: six bands; Cb and Cr are the other two
COEFFICIENTS = 16 * 16  # of a block of the transform, each channel
LEAST_LUMA = 84  # the first in the last band is the 84th: an empty band has no mean
BANDS = len(BAND_EDGES) + 3
BRANCH = 0.1  # learned branches of g_a and g_s are scaled by this, so that one learning rate fits all
CONTEXT = 0.5  # the same of the context
ENERGY_FLOOR = 0.05  # in steps: energies below this say nothing, the symbols are all zero
CARRIED_LEVELS = 3  # levels of the scale network for each table index


@dataclass(frozen=True)
class LightSettings:
    """Shape of a `light` network; the budget in kMAC a pixel is held by tests/test_complexity.py.

    Attributes:
        luma: coefficients of Y among the channels of y, 84 to 256.
        chroma: coefficients of Cb, and as many of Cr, 1 to 256.
        analysis: (channels, blocks) at 1/8 and at 1/16 in g_a.
        synthesis: the same in g_s.
        context: channels of the two-pass context for the mean.
        fine: channels at 1/2 in g_s.
        anchors: qualities that own parameters.
        lambda_min: weight on 255^2 MSE against bits per pixel at quality 0.
        lambda_max: the same at quality 100.
    """

    luma: int = 256
    chroma: int = 32
    analysis: tuple[tuple[int, int], tuple[int, int]] = ((64, 2), (192, 2))
    synthesis: tuple[tuple[int, int], tuple[int, int]] = ((64, 2), (160, 2))
    context: int = 96
    fine: int = 16
    anchors: int = 6
    lambda_min: float = 0.00012
    lambda_max: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("luma", LEAST_LUMA), ("chroma", 1)):
            if not least <= (count := getattr(self, name)) <= COEFFICIENTS:
                raise NlaicError(f"model.settings.{name} must be {least}..{COEFFICIENTS}, but got {count}")
        for name, pairs in (("analysis", self.analysis), ("synthesis", self.synthesis)):
            if any(channels < 1 or blocks < 0 for channels, blocks in pairs):
                raise NlaicError(f"model.settings.{name}: at least 1 channel and 0 blocks, but got {pairs}")
        check_least(self, "model.settings", 1, "context", "fine", "anchors")
        if not 0 < self.lambda_min <= self.lambda_max:
            raise NlaicError(
                f"model.settings: 0 < lambda_min <= lambda_max, but got {self.lambda_min}, {self.lambda_max}"
            )

    @property
    def latent(self) -> int:
        """Channels of y."""
        return self.luma + 2 * self.chroma

    @property
    def hyper(self) -> int:
        """Channels of z: 4x4 positions of every band."""
        return 16 * BANDS

    @property
    def lambdas(self) -> tuple[float, float]:
        """Lambda at the lowest and the highest quality."""
        return self.lambda_min, self.lambda_max

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values, for a weights file."""
        return asdict(self)


class Analysis(nn.Module):
    """g_a: pictures [B, 3, H, W] in 0..1 to y [B, C, H/16, W/16]; y is about the DCT of the picture minus 1/2."""

    def __init__(self, s: LightSettings, kernels: Tensor) -> None:
        super().__init__()
        (w8, n8), (w16, n16) = s.analysis
        self.dct = nn.Parameter(kernels)
        self.lap = Lap()
        self.branch = nn.Sequential(
            Blocks(8),
            nn.Conv2d(192, w8, 1),
            *(ResidualBlock(w8) for _ in range(n8)),
            nn.Conv2d(w8, w16, 2, stride=2),
            *(ResidualBlock(w16) for _ in range(n16)),
            zero_init(nn.Conv2d(w16, s.latent, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x - 0.5
        with torch.autocast(x.device.type, enabled=False):
            shortcut = to_blocks(self.lap(x), 16) @ self.dct.flatten(1).T  # a convolution's gradient takes far longer
        return torch.add(shortcut.permute(0, 3, 1, 2), self.branch(x), alpha=BRANCH)


class Synthesis(nn.Module):
    """g_s: y_hat [B, C, H/16, W/16] to pictures [B, 3, H, W], about 0..1."""

    def __init__(self, s: LightSettings, kernels: Tensor) -> None:
        super().__init__()
        (w8, n8), (w16, n16) = s.synthesis
        self.dct = nn.Parameter(kernels)
        self.lap = Lap()
        self.grey = nn.Buffer(torch.full((768,), 0.5), persistent=False)
        self.branch = nn.Sequential(
            nn.Conv2d(s.latent, w16, 1),
            *(ResidualBlock(w16) for _ in range(n16)),
            nn.Conv2d(w16, 4 * w8, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(w8) for _ in range(n8)),
            zero_init(nn.Conv2d(w8, 192, 1)),
        )
        self.fine = Fine(s.fine, w8)

    def forward(self, y_hat: Tensor) -> Tensor:
        """See the class.

        The inverse DCT is a transposed convolution whose stride is its size, written as the product it is, and so that
        it meets the branch at 1/8: 16 rows of a block are 2 of 8.
        """
        b, _, h, w = y_hat.shape
        with torch.autocast(y_hat.device.type, enabled=False):
            kernel = self.dct.view(-1, 3, 2, 8, 2, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, 768)
            parts = torch.addmm(self.grey, y_hat.permute(0, 2, 3, 1).reshape(-1, len(kernel)), kernel)
            shortcut = parts.view(b, h, w, 2, 2, 192).transpose(2, 3).reshape(b, 2 * h, 2 * w, 192)
        features = self.branch[:-1](y_hat)
        learned = self.branch[-1](features).permute(0, 2, 3, 1)
        x_hat = self.lap(from_blocks(torch.add(shortcut, learned, alpha=BRANCH), 8))
        return torch.add(x_hat, self.fine(x_hat, features), alpha=BRANCH)

    def shortcut_transposed(self, error: Tensor) -> Tensor:
        """Apply the transpose of the linear shortcut, inverse DCT and lap: pictures [B, 3, H, W] to [B, C, H/16, W/16].

        What of an error a change of y_hat could answer for: its gradient, if the branch did not listen.
        """
        return F.conv2d(self.lap.transposed(error), self.dct, stride=self.dct.shape[-1])


class HyperAnalysis(nn.Module):
    """h_a: y/step [B, C, h, w] to z [B, 128, h/4, w/4].

    The shortcut is the log energy of every band at every position, unshuffled 4x4 and turned by a 4x4 DCT: how much
    there is to code, smoothly over space.
    """

    LIMIT = 20.0

    def __init__(self, s: LightSettings, band: Tensor, width: int = 96) -> None:
        super().__init__()
        one_hot = F.one_hot(band, BANDS).float()
        self.band_mean: Tensor
        self.rotation: Tensor
        self.register_buffer("band_mean", (one_hot / one_hot.sum(0)).T.contiguous(), persistent=False)  # (8, C)
        self.register_buffer("rotation", _rotation(), persistent=False)
        self.branch = nn.Sequential(
            nn.Conv2d(s.latent, width, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 128, 2, stride=2),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            zero_init(nn.Conv2d(128, s.hyper, 2, stride=2)),
        )

    def energy(self, y: Tensor) -> Tensor:
        """Mean of |y/step| over each band's channels, [B, 8, h, w]."""
        return F.conv2d(y.abs(), self.band_mean[:, :, None, None])

    def forward(self, y: Tensor) -> Tensor:
        """See the class."""
        with torch.autocast(y.device.type, enabled=False):
            blocks = F.pixel_unshuffle(torch.log(self.energy(y) + ENERGY_FLOOR), 4)
            b, _, h, w = blocks.shape
            turned = torch.einsum("ij,bkjhw->bkihw", self.rotation, blocks.view(b, BANDS, 16, h, w))
        return turned.reshape(b, 16 * BANDS, h, w) + self.branch(y.clamp(-self.LIMIT, self.LIMIT))


class HyperSynthesis(nn.Module):
    """h_s: z_hat [B, 128, h/4, w/4] to the first mean of y/step [B, C, h, w]."""

    def __init__(self, s: LightSettings) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(s.hyper, 192, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(192, 512, 1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 256, 1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            zero_init(nn.Conv2d(64, s.latent, 1)),
        )

    def forward(self, z_hat: Tensor) -> Tensor:
        """See the class."""
        return self.branch(z_hat)

    def reversible(self, z_hat: Tensor) -> tuple[Tensor, Back]:
        """See `nlaic.nets.layers.reversible`."""
        return reversible(self.branch, z_hat)


class Context(nn.Module):
    """What decoded neighbours add to the mean: [B, C, h, w] to [B, C, h, w]; used at the second pass' positions.

    The input holds decoded values at the first pass' positions and the first mean elsewhere.
    """

    def __init__(self, s: LightSettings) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(s.latent, s.context, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(s.context, s.context, 1),
            nn.LeakyReLU(SLOPE),
            zero_init(nn.Conv2d(s.context, s.latent, 1)),
        )

    def forward(self, seen: Tensor) -> Tensor:
        """See the class."""
        return CONTEXT * self.branch(seen)

    def reversible(self, seen: Tensor) -> tuple[Tensor, Back]:
        """See `nlaic.nets.layers.reversible`."""
        out, back = reversible(self.branch, seen)
        return CONTEXT * out, lambda gradient: back(CONTEXT * gradient)


def _rotation() -> Tensor:
    """The 4x4 DCT of 16 unshuffled positions, [16, 16], orthonormal."""
    dct = torch.from_numpy(dct_matrix(4)).float()
    return torch.kron(dct, dct)


def _bands(coefficients: list[tuple[int, int, int]]) -> Tensor:
    """The band of each channel of y: luma by radius, then Cb, Cr."""
    edges = torch.tensor(BAND_EDGES)
    radius = torch.tensor([math.hypot(u, v) for _, u, v in coefficients])
    component = torch.tensor([c for c, _, _ in coefficients])
    return torch.where(component > 0, len(BAND_EDGES) + component, torch.bucketize(radius, edges, right=True))


def build_light(settings: LightSettings | None = None) -> HyperpriorVAE:
    """Make an untrained `light`: the DCT codec of its shortcuts. Call `start_light` with some pictures before use."""
    s = settings or LightSettings()
    coefficients = dct_coefficients(s.luma, s.chroma)
    analysis, synthesis = dct_kernels(coefficients)
    band = _bands(coefficients)
    scale = ScaleNetwork(s.latent, s.hyper, carried=BANDS)
    _carry_bands(scale, band)
    parts = Parts(
        Analysis(s, analysis), Synthesis(s, synthesis), HyperAnalysis(s, band), HyperSynthesis(s), Context(s), scale
    )
    return HyperpriorVAE(parts, Rates(s.latent, s.hyper, s.anchors))


def _carry_bands(scale: ScaleNetwork, band: Tensor) -> None:
    """Start the scale network as the inverse of `HyperAnalysis`' shortcut: z to the log energy of each band."""
    first, second, third, last = (layer.start for layer in scale.layers)
    every = 16 * BANDS  # all positions of all bands
    gain = CARRIED_LEVELS / INDEX_STEP / LEVELS_PER_UNIT  # units of z to levels of an index
    with torch.no_grad():
        first[:every, :, 1, 1] = torch.eye(every)
        second[:every, :every, 0, 0] = gain * torch.kron(torch.eye(BANDS), _rotation().T.contiguous())
        third[:BANDS, :BANDS, 1, 1] = torch.eye(BANDS)
        last[:, :BANDS, 0, 0] = F.one_hot(band, BANDS).float() / CARRIED_LEVELS


@torch.no_grad()
def start_light(net: HyperpriorVAE, settings: LightSettings, pictures: list[Tensor]) -> None:
    """Measure the starting values of all that moves with the quality; without it training crawls.

    Args:
        net: from `build_light`, changed in place.
        settings: its settings.
        pictures: a few batches [B, 3, H, W] in 0..1.
    """
    rates, h_a = net.rates, net.h_a
    assert isinstance(h_a, HyperAnalysis)
    spread = torch.linspace(math.log(settings.lambda_min), math.log(settings.lambda_max), rates.anchors)
    rates.log_step.copy_((math.log(0.02) - 0.5 * spread)[:, None].expand_as(rates.log_step))
    # A rough picture needs no fine hyper-latent: from 2.5 units of z a step at the lowest quality to 1.2.
    rates.log_z_step.copy_(
        torch.linspace(math.log(2.5), math.log(1.2), rates.anchors)[:, None].expand_as(rates.log_z_step)
    )
    for k in range(rates.anchors):
        position = torch.tensor([float(k)])
        step = rates.at(rates.log_step, position).exp()
        latents = [net.g_a(x) / step for x in pictures]
        magnitude = torch.stack([y.abs().mean((0, 2, 3)) for y in latents]).mean(0)  # (C,)
        log_energy = torch.stack([torch.log(h_a.energy(y) + ENERGY_FLOOR).mean((0, 2, 3)) for y in latents]).mean(0)
        energy = torch.stack([h_a.energy(y).mean((0, 2, 3)) for y in latents]).mean(0)  # (8,)
        of_band = h_a.band_mean.argmax(0)
        rates.log_scale[k] = log_energy[of_band] + torch.log(1.25 * magnitude / energy[of_band] + 1e-6)
        z = torch.cat([h_a(y).permute(0, 2, 3, 1).flatten(0, 2) for y in latents])  # (N, Cz)
        rates.z_mean[k] = z.mean(0)
        rates.log_z_scale[k] = torch.log(z.std(0) * 0.55 * torch.exp(-rates.log_z_step[k]) + 0.05)
