"""The conditional discriminator: is a picture real, given the latents it was coded to? (Eq. 5 of the paper.)

Mentzer et al., "High-fidelity generative image compression", https://arxiv.org/abs/2006.09965 (NeurIPS 2020). Layers
as in public ports of it: y_hat through conv3 to 12 channels and enlarged 16 times, beside the picture; 4x4 convolutions
of 64, 128, 256 and 512 channels; 1x1 to one logit a patch. Spectral normalisation, leaky ReLU of 0.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from nlaic.errors import NlaicError

SLOPE = 0.2
CONDITION = 12  # channels that y_hat comes to
WIDTHS = (64, 128, 256, 512)


class Discriminator(nn.Module):
    """Logits of patches: above 0 is real.

    Args:
        latent: channels of y.
        strides: of the four wide layers; (2, 2, 2, 1) is the original's, at twice the cost.
    """

    def __init__(self, latent: int, strides: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        if len(strides) != len(WIDTHS) or min(strides) < 1:
            raise NlaicError(f"stage.settings.strides must be {len(WIDTHS)} numbers from 1, but got {list(strides)}")
        self.condition = nn.Conv2d(latent, CONDITION, 3, padding=1)
        layers: list[nn.Module] = []
        inputs = 3 + CONDITION
        for width, stride in zip(WIDTHS, strides, strict=True):
            convolution = nn.Conv2d(inputs, width, 4, stride, padding=1, padding_mode="reflect")
            layers += [spectral_norm(convolution), nn.LeakyReLU(SLOPE)]
            inputs = width
        self.patches = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 1))

    def forward(self, x: Tensor, y_hat: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 and each one's own y_hat [B, C, H/16, W/16] to logits [B, 1, h, w].

        The gradient does not reach y_hat.
        """
        condition = F.leaky_relu(self.condition(y_hat.detach()), SLOPE)
        condition = F.interpolate(condition, size=x.shape[-2:], mode="nearest")
        return self.patches(torch.cat((x, condition), 1))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Eq. 5 with the natural logarithm: -log D(x, y_hat) - log(1 - D(x_hat, y_hat)), from logits."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """The first term of Eq. 6 with the natural logarithm: -log D(x_hat, y_hat), from logits."""
    return F.softplus(-fake).mean()
