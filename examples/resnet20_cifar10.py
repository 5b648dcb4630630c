"""A classifier of one's own: a published ResNet-20 for CIFAR-10 as ONNX, with samples to calibrate with and to score on.

    python examples/resnet20_cifar10.py resnet20        # EDGEKIT_DATA holds models/resnet20_cifar10.th and cifar10
    edgekit deploy resnet20/model.onnx --test resnet20/test.npz --calibration resnet20/calibration.npz

Weights: Y. Idelbayev, "Proper ResNet implementation for CIFAR10/CIFAR100 in PyTorch" (BSD-2). The network: He et al.,
"Deep residual learning for image recognition", CVPR 2016, section 4.2, with shortcuts of option A.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit import data
from edgekit.images import load_images

CALIBRATION = 1000  # training images


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that drops every other pixel and pads channels with zeros."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
        self.stride, self.pad = stride, (outs - ins) // 2

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, ins, H, W) -> (N, outs, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """uint8 images (N, 3, 32, 32) -> scores (N, 10); pixels are scaled and normalised inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for i in (1, 2, 3):
            blocks = [Block(widths[i - 1], widths[i], 1 if i == 1 else 2), *(Block(widths[i], widths[i], 1) for _ in range(2))]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)
        # What the weights were trained with: ImageNet's mean and deviation.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = F.relu(self.bn1(self.conv1((image.float() / 255 - self.mean) / self.deviation)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def main(out: Path) -> int:
    """Write model.onnx, calibration.npz and test.npz."""
    saved = torch.load(data.require("models") / "resnet20_cifar10.th", weights_only=True, map_location="cpu")["state_dict"]
    net = ResNet20().eval()
    net.load_state_dict({name.removeprefix("module."): v for name, v in saved.items()})
    images = load_images("cifar10")
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "calibration.npz", image=images.train_images[:CALIBRATION])
    np.savez(out / "test.npz", image=images.test_images, labels=images.test_labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 warns of its own code
        program = torch.onnx.export(
            net, (torch.zeros(2, 3, 32, 32, dtype=torch.uint8),), dynamo=True, input_names=["image"], output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(out / "model.onnx")
    print(f"{out}: model.onnx, calibration.npz ({CALIBRATION} images), test.npz ({len(images.test_images)} images)")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
