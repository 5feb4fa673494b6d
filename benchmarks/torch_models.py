"""The same networks, losses and step in PyTorch, for comparison only.

Parameters come from jaxstyle's as arrays, so that both sides compute the same numbers.
"""

import ctypes
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F


def keep_freed_memory() -> None:
    """Give PyTorch the same allocator settings as `jaxstyle.runtime`."""
    libc = ctypes.CDLL("libc.so.6")
    for name, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):
        libc.mallopt(name, value)


def kernel(array, memory_format: torch.memory_format = torch.channels_last) -> torch.Tensor:
    """HWIO array to an OIHW tensor, in channels-last memory as a rule."""
    tensor = torch.from_numpy(array.copy()).permute(3, 2, 0, 1).contiguous()
    return tensor.to(memory_format=memory_format)


class Transformer(torch.nn.Module):
    """`jaxstyle.networks` with instance norm, nearest upsampling, reflection and a sigmoid."""

    def __init__(self, params: Mapping, blocks: int = 5):
        super().__init__()
        self.blocks = blocks
        self.tensors = torch.nn.ParameterDict()
        for layer, parts in params.items():
            for part, leaves in parts.items():
                for leaf, array in leaves.items():
                    value = kernel(array) if leaf == "kernel" else torch.from_numpy(array.copy())
                    self.tensors[f"{layer}/{part}/{leaf}"] = torch.nn.Parameter(value)

    def conv(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        """Convolve with reflection padding; the bias where there is one."""
        weight = self.tensors[f"{name}/kernel"]
        bias = self.tensors.get(f"{name}/bias")
        pad = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), weight, bias, stride)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Instance norm."""
        scale, bias = self.tensors[f"{name}/scale"], self.tensors[f"{name}/bias"]
        return F.instance_norm(x, weight=scale, bias=bias, eps=1e-5)

    def layer(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        """Convolution, norm, ReLU."""
        return F.relu(self.norm(self.conv(x, f"{name}/conv", stride), f"{name}/norm"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform images in [0, 1]."""
        for i, stride in enumerate((1, 2, 2)):
            x = self.layer(x, f"encoder_{i}", stride)
        for i in range(self.blocks):
            name = f"residual_{i}"
            y = F.relu(self.norm(self.conv(x, f"{name}/conv_1"), f"{name}/norm_1"))
            x = x + self.norm(self.conv(y, f"{name}/conv_2"), f"{name}/norm_2")
        for i in range(2):
            x = self.layer(F.interpolate(x, scale_factor=2.0, mode="nearest"), f"decoder_{i}")
        return torch.sigmoid(self.conv(x, "output/conv"))


class Perception(torch.nn.Module):
    """A VGG of `jaxstyle.features`: relu maps by name."""

    def __init__(
        self, params: Mapping, network, layers: Sequence[str], *, channels_last: bool = True
    ):
        super().__init__()
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.layers, self.reflect = tuple(layers), network.padding == "reflect"
        order = [n for n in network.layers if not n.startswith("conv")]
        self.order = order[: 1 + max(order.index(layer) for layer in layers)]
        names = [n.replace("relu", "conv") for n in self.order if n.startswith("relu")]
        names += [layer for layer in layers if layer in params]  # readouts
        self.kernels = {n: kernel(params[n]["kernel"], self.format) for n in names}
        self.biases = {n: torch.from_numpy(params[n]["bias"].copy()) for n in names}
        convention = network.convention
        self.mean = torch.tensor(convention.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(convention.std).view(1, 3, 1, 1)
        self.scale, self.bgr = convention.scale, convention.bgr

    def move(self, device: str) -> None:
        """Put the constants on a device."""
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        for tensors in (self.kernels, self.biases):
            tensors.update({name: tensor.to(device) for name, tensor in tensors.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps of images in [0, 1]."""
        x = (x * self.scale - self.mean) / self.std
        x = x.flip(1) if self.bgr else x
        x = x.contiguous(memory_format=self.format)
        maps = {}
        for name in self.order:
            if name.startswith("pool"):
                x = F.max_pool2d(x, 2)
                continue
            conv = name.replace("relu", "conv")
            if self.reflect:
                x = F.pad(x, (1, 1, 1, 1), mode="reflect")
            x = F.relu(F.conv2d(x, self.kernels[conv], self.biases[conv], 1, int(not self.reflect)))
            if name in self.layers:
                told = name in self.kernels
                maps[name] = (
                    F.relu(F.conv2d(x, self.kernels[name], self.biases[name])) if told else x
                )
        return maps


def statistics(x: torch.Tensor, moments: bool) -> list[torch.Tensor]:
    """Gram matrix over positions, or mean and covariance, in float32."""
    x = x.flatten(2).float()
    if not moments:
        return [x @ x.transpose(1, 2) / x.shape[-1]]
    mean = x.mean(-1)
    x = x - mean[..., None]
    return [mean, x @ x.transpose(1, 2) / x.shape[-1]]


def relative(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared distance over the target's energy, for each image."""
    dims = tuple(range(1, value.ndim))
    return ((value - target) ** 2).sum(dims) / (target**2).sum(dims)


def variation(image: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of neighboring pixels, for each image."""
    down = ((image[:, :, 1:] - image[:, :, :-1]) ** 2).mean((1, 2, 3))
    right = ((image[..., 1:] - image[..., :-1]) ** 2).mean((1, 2, 3))
    return down + right


def loss(
    net: Transformer,
    perception: Perception,
    photo: torch.Tensor,
    content: Sequence[str],
    style: Mapping[str, list[torch.Tensor]],
    weights: Mapping[str, float],
) -> torch.Tensor:
    """Return the weighted objective of `jaxstyle.training.feedforward`, scale-free."""
    with torch.no_grad():
        wanted = perception(photo)
    painted = net(photo)
    maps = perception(painted)
    total = weights["tv"] * variation(painted)
    for layer in content:
        total = total + weights[f"content/{layer}"] * relative(
            maps[layer].float(), wanted[layer].float()
        )
    for layer, targets in style.items():
        for value, target in zip(statistics(maps[layer], len(targets) == 2), targets, strict=True):
            total = total + weights[f"style/{layer}"] * relative(value, target)
    return total.mean()
