"""What other projects call the parameters of their networks.

A project's file is a flat dict of arrays with names of its own; one table per project leads from
our parameters to those names.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from jaxstyle.networks import TransformerConfig


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network as another project trains and saves it.

    Attributes:
      project: where its networks come from.
      config: the same network here.
      names: the project's name of each of our parameters, 'encoder_0/conv/kernel' and so on.
      ignored: pattern of names that hold nothing the network needs.
      oihw: whether kernels are stored as PyTorch does, `[out, in, height, width]`.
      many_styles: whether scales and biases have a row for each of several styles.
    """

    project: str
    config: TransformerConfig
    names: Callable[[], Mapping[str, str]]
    ignored: str
    oihw: bool = False
    many_styles: bool = False


def _in_order(blocks: int) -> Iterator[tuple[str, str]]:
    """Our places of convolution and normalization, from input to output."""
    for i in range(3):
        yield f"encoder_{i}/conv", f"encoder_{i}/norm"
    for i in range(blocks):
        for part in (1, 2):
            yield f"residual_{i}/conv_{part}", f"residual_{i}/norm_{part}"
    for place in ("decoder_0", "decoder_1", "output"):
        yield f"{place}/conv", f"{place}/norm"


def _fast_neural_style() -> dict[str, str]:
    theirs = [(f"conv{i}", f"in{i}") for i in (1, 2, 3)]
    theirs += [(f"res{i}.conv{k}", f"res{i}.in{k}") for i in range(1, 6) for k in (1, 2)]
    theirs += [("deconv1", "in4"), ("deconv2", "in5"), ("deconv3", "")]
    names = {}
    for (conv, norm), (their_conv, their_norm) in zip(_in_order(5), theirs, strict=True):
        names[f"{conv}/kernel"] = f"{their_conv}.conv2d.weight"
        names[f"{conv}/bias"] = f"{their_conv}.conv2d.bias"
        if their_norm:
            names |= {f"{norm}/scale": f"{their_norm}.weight", f"{norm}/bias": f"{their_norm}.bias"}
    return names


def _lengstrom() -> dict[str, str]:
    """Variables by the order of their creation: kernel, shift and scale of each layer."""
    names = {}
    for index, (conv, norm) in enumerate(_in_order(5)):
        parts = (f"{conv}/kernel", f"{norm}/bias", f"{norm}/scale")
        for number, part in enumerate(parts, 3 * index):
            names[part] = f"Variable_{number}" if number else "Variable"
    return names


def _magenta() -> dict[str, str]:
    theirs = [f"contract/conv{i}" for i in (1, 2, 3)]
    theirs += [f"residual/residual{i}/conv{k}" for i in range(1, 7) for k in (1, 2)]
    theirs += [f"expand/conv{i}/conv" for i in (1, 2, 3)]
    names = {}
    for (conv, norm), their in zip(_in_order(6), theirs, strict=True):
        names[f"{conv}/kernel"] = f"transformer/{their}/weights"
        names[f"{norm}/scale"] = f"transformer/{their}/InstanceNorm/gamma"
        names[f"{norm}/bias"] = f"transformer/{their}/InstanceNorm/beta"
    return names


ARCHITECTURES: Mapping[str, Architecture] = {
    "fast_neural_style": Architecture(
        "pytorch/examples, fast_neural_style",
        TransformerConfig(conv_bias=True, output="linear", value_range=255),
        _fast_neural_style,
        # Early versions of PyTorch saved averages that instance normalization never used.
        r"(?:^|\.)in\d\.(?:running_(?:mean|var)|num_batches_tracked)$",
        oihw=True,
    ),
    "lengstrom": Architecture(
        "lengstrom/fast-style-transfer",
        TransformerConfig(
            padding="same",
            upsampling="transposed",
            norm_epsilon=1e-3,
            norm_last=True,
            output="tanh",
            value_range=255,
            output_scale=150,
            output_mean=(127.5, 127.5, 127.5),
        ),
        _lengstrom,
        r"/Adam(?:_1)?$|^beta[12]_power|^global_step$",  # of the training
    ),
    "magenta": Architecture(
        "magenta, image_stylization",
        TransformerConfig(
            widths=(32, 32, 32), decoder_widths=(8, 4), blocks=6, norm_last=True, output="sigmoid"
        ),
        _magenta,
        r"/(?:Adam|Momentum)(?:_1)?$|^beta[12]_power|^global_step$",
        many_styles=True,
    ),
}
