"""Operations on feature maps `[..., h, w, c]`, in the formulation each backend runs well."""

from jaxstyle.ops.convolution import conv2d as conv2d
from jaxstyle.ops.convolution import conv_transpose2d as conv_transpose2d
from jaxstyle.ops.convolution import upsample2d as upsample2d
from jaxstyle.ops.convolution import upsample_conv2d as upsample_conv2d
from jaxstyle.ops.half import faster_dtype as faster_dtype
from jaxstyle.ops.padding import pad2d as pad2d
from jaxstyle.ops.pooling import MODES as POOLINGS  # noqa: F401
from jaxstyle.ops.pooling import pool2d as pool2d
