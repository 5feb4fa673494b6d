"""The configuration of an image-transformation network: what trained networks differ by."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from jaxstyle.types import InputError, unknown_choice

CHOICES = {
    "norm": ("instance", "batch", "none"),
    "activation": ("relu", "leaky_relu"),
    "upsampling": ("nearest", "transposed"),
    "padding": ("reflect", "replicate", "zero", "same", "reflect_start"),
    "output": ("sigmoid", "tanh", "linear"),
    "kernel_init": ("he", "torch", "normal", "truncated_normal"),
    "norm_scale_init": ("ones", "uniform"),
}

_MOST_WIDTHS, _MOST_BLOCKS, _LARGEST = 8, 256, 65536  # a card may say anything
_MOST_NUMBER = 1e30  # well inside of float32


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """An encoder of strided convolutions, residual blocks, and a decoder back to full size.

    Frozen and hashable, so it can be a static argument of `jax.jit`; `dataclasses.asdict` gives
    what JSON can hold and `from_dict` takes it back. The defaults train well from scratch. Known
    trained networks are these settings:

    * PyTorch's `examples/fast_neural_style`: `conv_bias=True, output='linear', value_range=255`.
    * lengstrom's `fast-style-transfer`: `padding='same', upsampling='transposed',
      norm_epsilon=1e-3, norm_last=True, output='tanh', value_range=255, output_scale=150,
      output_mean=(127.5, 127.5, 127.5)`.
    * Magenta's `image_stylization`, one style: `norm_last=True`, and in the published 26-style net
      `widths=(32, 32, 32), decoder_widths=(8, 4), blocks=6`.
    * Johnson et al. 2016: `padding='reflect_start', upsampling='transposed', norm='batch',
      conv_bias=True, output='tanh', value_range=255, output_scale=150` and both means that of
      ImageNet, `(123.68, 116.779, 103.939)`; their released code also offers `norm='instance'`.

    Attributes:
      widths: channels of the encoder. The first convolution keeps the size, each further one
        (3x3, stride 2) halves it; the residual blocks have the last width.
      decoder_widths: channels after each doubling of the size, one fewer than `widths`; None
        mirrors the encoder, e.g. (64, 32) for `widths=(32, 64, 128)`.
      blocks: number of residual blocks (convolution, norm, activation, convolution, norm, sum).
      outer_kernels: sizes of the first and of the last kernel, odd; all others are 3x3.
      norm: 'instance' (per image), 'batch' (running averages at inference) or 'none'.
      norm_epsilon: added to the variance.
      norm_last: whether the last convolution is normalized too.
      batch_norm_momentum: how much of the running average a training step keeps, in [0, 1).
      conv_bias: True gives every convolution a bias; False only those that no normalization
        follows, since a normalization subtracts it again.
      activation: 'relu' or 'leaky_relu' (slope 0.01).
      upsampling: 'nearest' (repeat pixels, then a 3x3 convolution; no checkerboard) or
        'transposed' (the 3x3 gradient of a stride-2 convolution).
      padding: 'reflect', 'replicate' or 'zero' pad every convolution by half its kernel;
        'same' is TensorFlow's zero padding, which a stride of 2 makes lopsided; 'reflect_start'
        reflects the picture once, by what the residual blocks then consume (40 pixels for five
        blocks), as these convolve without padding, and pads the rest with zeros.
      output: what follows the last convolution: 'sigmoid', 'tanh' or 'linear' (nothing).
      value_range: value of white inside the network, 255 or 1: an image enters multiplied by it
        and leaves divided by it.
      input_mean: subtracted from the three channels on entry, in units of `value_range`.
      output_scale: multiplies what `output` gives, in units of `value_range`.
      output_mean: added to the three channels after that, in units of `value_range`.
      kernel_init: 'he' (truncated normal of variance 2 / fan-in, a tenth of the deviation for the
        last kernel: pictures start in the middle of their range), 'torch' (PyTorch's default,
        uniform within 1 / sqrt(fan-in)), 'normal' or 'truncated_normal' (cut at two deviations),
        both of deviation `kernel_init_std`. Biases start at 0.
      kernel_init_std: see `kernel_init`: 0.01 is Magenta's, 0.1 lengstrom's.
      norm_scale_init: 'ones', or 'uniform' in [0, 1) as in Johnson's released code.

    Raises:
      InputError: for a value that is not allowed.

    Example:
      >>> TransformerConfig(widths=(16, 32, 64)).decoder_channels
      (32, 16)

    References:
      Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
      Super-Resolution", 2016, arXiv:1603.08155, supplement, table 1.
      Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016, arXiv:1607.08022.
      Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", 2016, Distill.

    Differs from the paper: the defaults normalize instances, reflect at every convolution, repeat
    pixels to upsample and end in a sigmoid.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    decoder_widths: tuple[int, ...] | None = None
    blocks: int = 5
    outer_kernels: tuple[int, int] = (9, 9)
    norm: str = "instance"
    norm_epsilon: float = 1e-5
    norm_last: bool = False
    batch_norm_momentum: float = 0.9
    conv_bias: bool = False
    activation: str = "relu"
    upsampling: str = "nearest"
    padding: str = "reflect"
    output: str = "sigmoid"
    value_range: float = 1.0
    input_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    output_scale: float = 1.0
    output_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    kernel_init: str = "he"
    kernel_init_std: float = 0.01
    norm_scale_init: str = "ones"

    def __post_init__(self) -> None:
        for name in ("widths", "decoder_widths", "outer_kernels", "input_mean", "output_mean"):
            if isinstance(getattr(self, name), list):  # what JSON makes of a tuple
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown_choice(name, str(getattr(self, name)), allowed)
        self._check_sizes()
        self._check_numbers()
        for name in ("norm_last", "conv_bias"):
            if not isinstance(getattr(self, name), bool):
                raise _refusal(name, getattr(self, name), "True or False")
        if self.norm_last and self.norm == "none":
            raise InputError(
                "norm_last=True asks for a normalization that norm='none' leaves out; "
                "choose another norm or norm_last=False."
            )

    def _check_sizes(self) -> None:
        widths = self.widths
        if not (_are_counts(widths) and widths and len(widths) <= _MOST_WIDTHS):
            what = f"1 to {_MOST_WIDTHS} positive whole numbers, e.g. (32, 64, 128)"
            raise _refusal("widths", widths, what)
        count = len(widths) - 1
        decoder = self.decoder_channels
        if not _are_counts(decoder) or len(decoder) != count:
            raise _refusal("decoder_widths", decoder, f"{count} positive whole numbers, or None")
        if self.blocks != 0 and not (_are_counts((self.blocks,)) and self.blocks <= _MOST_BLOCKS):
            raise _refusal("blocks", self.blocks, f"a whole number from 0 to {_MOST_BLOCKS}")
        kernels = self.outer_kernels
        if not _are_counts(kernels) or len(kernels) != 2 or not all(k % 2 for k in kernels):
            raise _refusal("outer_kernels", kernels, "two odd whole numbers, e.g. (9, 9)")

    def _check_numbers(self) -> None:
        for name in ("norm_epsilon", "value_range", "output_scale", "kernel_init_std"):
            value = getattr(self, name)
            if not _is_number(value) or not value > 0:
                raise _refusal(name, value, "a number > 0")
        momentum = self.batch_norm_momentum
        if not _is_number(momentum) or not 0 <= momentum < 1:
            raise _refusal("batch_norm_momentum", momentum, "a number in [0, 1)")
        for name in ("input_mean", "output_mean"):
            value = getattr(self, name)
            if not (isinstance(value, tuple) and len(value) == 3 and all(map(_is_number, value))):
                raise _refusal(name, value, "three numbers, one for each of red, green and blue")

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """`decoder_widths`, or the mirrored encoder where that is None."""
        return self.widths[-2::-1] if self.decoder_widths is None else self.decoder_widths

    @property
    def size_multiple(self) -> int:
        """What both sides of an image must be a multiple of: 2 for every halving of the size."""
        return 2 ** (len(self.widths) - 1)

    @property
    def start_padding(self) -> int:
        """Pixels by which the picture is reflected on every side before the first convolution."""
        return 2 * self.blocks * self.size_multiple if self.padding == "reflect_start" else 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """Build a configuration from what `dataclasses.asdict` or a JSON file gave.

        Args:
          values: field name -> value; lists stand for tuples, missing fields take the defaults.

        Returns:
          The configuration.

        Raises:
          InputError: for an unknown field or a value that is not allowed.

        Example:
          >>> TransformerConfig.from_dict({'widths': [8, 16, 32]}).widths
          (8, 16, 32)
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise unknown_choice("field of a network configuration", name, names)
        return cls(**values)


def _is_number(value: Any) -> bool:
    whole = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return whole and -_MOST_NUMBER < value < _MOST_NUMBER


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 < v <= _LARGEST for v in values
    )


def _refusal(name: str, given: Any, allowed: str) -> InputError:
    return InputError(f"the network's {name} is {repr(given):.200}; it must be {allowed}.")
