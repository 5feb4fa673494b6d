import dataclasses
import json

import pytest

from jaxstyle.networks import TransformerConfig
from jaxstyle.types import InputError


def test_json_round_trip_keeps_every_field():
    config = TransformerConfig(
        widths=(8, 12, 16),
        decoder_widths=(10, 6),
        blocks=2,
        outer_kernels=(9, 5),
        norm="batch",
        norm_epsilon=1e-3,
        norm_last=True,
        batch_norm_momentum=0.5,
        conv_bias=True,
        activation="leaky_relu",
        upsampling="transposed",
        padding="reflect_start",
        output="tanh",
        value_range=255,
        input_mean=(1.0, 2.0, 3.0),
        output_scale=150,
        output_mean=(127.5, 127.5, 127.5),
        kernel_init="normal",
        kernel_init_std=0.02,
        norm_scale_init="uniform",
    )
    default = TransformerConfig()
    for field in dataclasses.fields(config):
        assert getattr(config, field.name) != getattr(default, field.name), field.name
    back = TransformerConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(config))))
    assert back == config
    assert hash(back) == hash(config)


def test_derived_sizes():
    config = TransformerConfig()
    assert (config.decoder_channels, config.size_multiple, config.start_padding) == ((64, 32), 4, 0)
    assert TransformerConfig(decoder_widths=(8, 4)).decoder_channels == (8, 4)
    assert TransformerConfig(widths=(8,)).decoder_channels == ()
    assert TransformerConfig(widths=(8, 8, 8, 8)).size_multiple == 8
    assert TransformerConfig(padding="reflect_start").start_padding == 40  # Johnson's


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransformerConfig().blocks = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "instanse"}, "unknown norm 'instanse'; did you mean 'instance'?"),
        ({"padding": "SAME"}, "unknown padding 'SAME'"),
        ({"upsampling": "bilinear"}, "unknown upsampling 'bilinear'"),
        ({"output": 3}, "unknown output '3'"),
        ({"activation": "gelu"}, "unknown activation 'gelu'"),
        ({"kernel_init": "xavier"}, "unknown kernel_init 'xavier'"),
        ({"norm_scale_init": "zeros"}, "unknown norm_scale_init 'zeros'"),
        ({"widths": ()}, "widths is (); it must be 1 to 8 positive whole numbers"),
        ({"widths": (32, 0)}, "widths is (32, 0)"),
        ({"widths": (32.0, 64)}, "widths is (32.0, 64)"),
        ({"widths": 32}, "widths is 32"),
        ({"decoder_widths": (8, 4, 2)}, "decoder_widths is (8, 4, 2); it must be 2 positive"),
        ({"blocks": -1}, "blocks is -1; it must be a whole number from 0 to 256"),
        ({"blocks": 2.5}, "blocks is 2.5; it must be a whole number from 0 to 256"),
        ({"blocks": True}, "blocks is True"),
        ({"outer_kernels": (9, 8)}, "outer_kernels is (9, 8); it must be two odd"),
        ({"outer_kernels": (9,)}, "outer_kernels is (9,)"),
        ({"norm_epsilon": 0}, "norm_epsilon is 0; it must be a number > 0"),
        ({"value_range": float("nan")}, "value_range is nan"),
        ({"output_scale": "150"}, "output_scale is '150'"),
        ({"batch_norm_momentum": 1.0}, "batch_norm_momentum is 1.0; it must be a number in [0, 1)"),
        ({"output_mean": 127.5}, "output_mean is 127.5; it must be three numbers"),
        ({"input_mean": (0.0, 0.0)}, "input_mean is (0.0, 0.0)"),
        ({"conv_bias": "no"}, "conv_bias is 'no'; it must be True or False"),
        ({"norm": "none", "norm_last": True}, "norm_last=True"),
        ({"width": (8, 16)}, "unknown field of a network configuration 'width'; did you mean 'wid"),
    ],
)
def test_refuses_with_one_sentence(fields, message):
    with pytest.raises(InputError) as caught:
        TransformerConfig.from_dict(fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
