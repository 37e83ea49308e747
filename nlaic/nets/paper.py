"""`nlaic`: the paper's network, one set of weights for one rate.

Wang, Chen, Ma, "Subjective Quality Optimized Efficient Image Compression" (CVPR workshop 2021) use NLAIC without its
autoregressive context: Chen et al., "End-to-end learnt image compression via non-local attention optimization and
improved context modeling", https://arxiv.org/abs/1904.09757 (IEEE TIP 2021). The layers follow the released code,
github.com/NJUVISION/NIC, less its two mask branches that are built and never called.

```
x ─ conv5 ─ RB2 @1 ─ conv5↓ ─ RB3' @1/2 ─ conv5↓ ─ RB3 @1/4 ─ conv5↓ ─ RB3 @1/8 ─ conv5↓ ─ NLAM @1/16 ─► y
y ─ RB2 ─ conv5↓ ─ RB2 @1/32 ─ conv5↓ ─ NLAM ─ conv3 @1/64 ─► z ─ round ─► z_hat
z_hat ─ conv3 ─ NLAM ─ RB2 @1/64 ─ tconv5↑ ─ RB2 @1/32 ─ tconv5↑ @1/16 ─┤ P model: RB3 ─ conv3 ├─► mean
z_hat ─ scale network (integers) ─► index of the scale
y_hat ─ NLAM @1/16 ─ tconv5↑ ─ RB3 @1/8 ─ tconv5↑ ─ RB3 @1/4 ─ tconv5↑ ─ RB3' @1/2 ─ tconv5↑ ─ RB3 ─ conv5 @1 ─► x_hat
```

RBn: n residual blocks, RBn' with a skip around all of them; NLAM: non-local attention module; ↓ and ↑: stride 2.

What differs from the paper: its P model ends in 2C channels, mean and scale; ours ends in the mean's C, and the scale
comes from the integer network instead (`nlaic.nets.scale`), so that a file decodes to the same symbols everywhere.
Symbols are residuals to that mean, where NIC codes round(y); y is divided by a learned step.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.arguments import check_least
from nlaic.errors import NlaicError
from nlaic.nets.layers import zero_init
from nlaic.nets.scale import ScaleNetwork
from nlaic.nets.vae import HyperpriorVAE, Parts, Rates


@dataclass(frozen=True)
class PaperSettings:
    """Shape of an `nlaic` network. The paper's text gives the hyper layers 128 channels; its code, followed here, 192.

    Attributes:
        main: channels of y and of the layers below full resolution.
        outer: channels at full resolution.
        hyper_wide: channels inside h_a and h_s.
        hyper: channels of z.
        anchors: qualities that own parameters; the paper trains one network for each rate.
        lambda_: weight on 255^2 MSE against bits per pixel; ours, the paper gives none.
    """

    main: int = 192
    outer: int = 96
    hyper_wide: int = 192
    hyper: int = 128
    anchors: int = 1
    lambda_: float = 0.0018

    def __post_init__(self) -> None:
        check_least(self, "model.settings", 1, "outer", "hyper", "anchors")
        check_least(self, "model.settings", 2, "main", "hyper_wide")  # attention halves them
        if self.lambda_ <= 0:
            raise NlaicError(f"model.settings.lambda_ must be above 0, but got {self.lambda_}")

    @property
    def latent(self) -> int:
        """Channels of y."""
        return self.main

    @property
    def lambdas(self) -> tuple[float, float]:
        """Lambda at the lowest and the highest quality: one rate."""
        return self.lambda_, self.lambda_

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values, for a weights file."""
        return asdict(self)


class PlainBlock(nn.Module):
    """RB: x + conv3(ReLU(conv3(x))), C to C. Unlike `light`'s block nothing is activated before the first layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class SkippedBlocks(nn.Module):
    """Residual blocks with one more skip around all of them, [B, C, H, W] to [B, C, H, W]."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*_blocks(channels, blocks))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.blocks(x)


class NonLocal(nn.Module):
    """Embedded-Gaussian non-local block, x + W(softmax(theta(x)^T phi(x)) g(x)), over all pairs of positions.

    Wang et al., "Non-local neural networks", https://arxiv.org/abs/1711.07971 (CVPR 2018), Eq. 4 and 6. The softmax has
    no 1/sqrt(C) in front. The fused kernel never holds the map of pairs, so memory grows with the positions, not with
    their square.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = zero_init(nn.Conv2d(inner, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C, h, w]."""
        b, _, h, w = x.shape
        query, key, value = (_tokens(layer(x)) for layer in (self.theta, self.phi, self.g))  # (B, 1, h*w, C/2)
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.out(seen[:, 0].transpose(1, 2).reshape(b, -1, h, w))


class NonLocalAttention(nn.Module):
    """NLAM: x + trunk(x) * sigmoid(mask(x)), [B, C, h, w] to [B, C, h, w]; the mask sees the whole block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_blocks(channels, 3))
        self.mask = nn.Sequential(NonLocal(channels), *_blocks(channels, 3), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.trunk(x) * self.mask(x).sigmoid()


class MeanSynthesis(nn.Module):
    """h_s, then the P model: z_hat [B, Cz, h/4, w/4] to the mean of y/step [B, C, h, w]."""

    def __init__(self, s: PaperSettings) -> None:
        super().__init__()
        self.synthesis = nn.Sequential(
            nn.Conv2d(s.hyper, s.hyper_wide, 3, padding=1),
            NonLocalAttention(s.hyper_wide),
            *_blocks(s.hyper_wide, 2),
            _up(s.hyper_wide, s.hyper_wide),
            *_blocks(s.hyper_wide, 2),
            _up(s.hyper_wide, s.main),
        )
        self.p_model = nn.Sequential(*_blocks(s.main, 3), nn.Conv2d(s.main, s.main, 3, padding=1))

    def forward(self, z_hat: Tensor) -> Tensor:
        """See the class."""
        return self.p_model(self.synthesis(z_hat))


def _analysis(s: PaperSettings) -> nn.Sequential:
    """g_a: pictures [B, 3, H, W] in 0..1 to y [B, C, H/16, W/16]."""
    return nn.Sequential(
        nn.Conv2d(3, s.outer, 5, padding=2),
        *_blocks(s.outer, 2),
        _down(s.outer, s.main),
        SkippedBlocks(s.main, 3),
        _down(s.main, s.main),
        *_blocks(s.main, 3),
        _down(s.main, s.main),
        *_blocks(s.main, 3),
        _down(s.main, s.main),
        NonLocalAttention(s.main),
    )


def _synthesis(s: PaperSettings) -> nn.Sequential:
    """g_s: y_hat [B, C, H/16, W/16] to pictures [B, 3, H, W], about 0..1."""
    return nn.Sequential(
        NonLocalAttention(s.main),
        _up(s.main, s.main),
        *_blocks(s.main, 3),
        _up(s.main, s.main),
        *_blocks(s.main, 3),
        _up(s.main, s.main),
        SkippedBlocks(s.main, 3),
        _up(s.main, s.outer),
        *_blocks(s.outer, 3),
        nn.Conv2d(s.outer, 3, 5, padding=2),
    )


def _hyper_analysis(s: PaperSettings) -> nn.Sequential:
    """h_a: y/step [B, C, h, w], with its signs, to z [B, Cz, h/4, w/4]."""
    return nn.Sequential(
        *_blocks(s.main, 2),
        _down(s.main, s.hyper_wide),
        *_blocks(s.hyper_wide, 2),
        _down(s.hyper_wide, s.hyper_wide),
        NonLocalAttention(s.hyper_wide),
        nn.Conv2d(s.hyper_wide, s.hyper, 3, padding=1),
    )


def _blocks(channels: int, blocks: int) -> Iterator[PlainBlock]:
    return (PlainBlock(channels) for _ in range(blocks))


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


def _tokens(x: Tensor) -> Tensor:
    """[B, C, h, w] to [B, 1, h*w, C], contiguous: the fused kernels refuse anything else."""
    return x.flatten(2).transpose(1, 2)[:, None].contiguous()


def build_paper(settings: PaperSettings | None = None) -> HyperpriorVAE:
    """Make an untrained `nlaic`."""
    s = settings or PaperSettings()
    scale = ScaleNetwork(s.main, s.hyper)
    parts = Parts(_analysis(s), _synthesis(s), _hyper_analysis(s), MeanSynthesis(s), None, scale)
    return HyperpriorVAE(parts, Rates(s.main, s.hyper, s.anchors))


@torch.no_grad()
def start_paper(net: HyperpriorVAE, pictures: list[Tensor]) -> None:
    """Bring y/step and z to a spread of about 1, so that from the first step there is something to code.

    Args:
        net: from `build_paper`, changed in place.
        pictures: a few batches [B, 3, H, W] in 0..1.
    """
    rates, last = net.rates, cast(nn.Sequential, net.h_a)[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    y = torch.cat([net.g_a(x) for x in pictures])
    step = y.std((0, 2, 3)) + 1e-6
    rates.log_step.copy_(torch.log(step).expand_as(rates.log_step))
    z = net.h_a(y / step[:, None, None])
    spread = z.std((0, 2, 3)) + 1e-6
    last.weight.div_(spread[:, None, None, None])
    last.bias.div_(spread)
    rates.z_mean.copy_((z.mean((0, 2, 3)) / spread).expand_as(rates.z_mean))
    rates.log_z_scale.fill_(math.log(0.55))  # of a logistic density with that spread
