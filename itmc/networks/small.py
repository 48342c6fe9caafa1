"""The backbone of the embedded digits suite: small enough for a demonstration on two cores."""

from __future__ import annotations

from torch import Tensor, nn


class DigitsConvNet(nn.Module):
    """Four 3x3 convolutions with BatchNorm, 16 to 64 channels, for 32x32 images.

    Input: ``(N, 3, H, W)``; output: pooled features ``(N, 64)``.
    """

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv(3, 16, stride=2),
            *_conv(16, 16),
            nn.MaxPool2d(2),
            *_conv(16, 32),
            nn.MaxPool2d(2),
            *_conv(32, self.num_features),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(images))
        return features


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
