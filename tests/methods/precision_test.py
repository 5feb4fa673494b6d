"""Pictures painted in bfloat16 look like those of float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from jaxstyle import metrics, networks
from jaxstyle.io.models import load_model
from jaxstyle.methods import StyleModel, stylize
from jaxstyle.types import InputError

# Compile fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
paint = jit(stylize, static_argnames=("preserve_color", "parity", "precision"))


@pytest.fixture(scope="module")
def model():
    return load_model("starry")[0]


@pytest.fixture(scope="module")
def photo():
    return jnp.asarray(skimage.data.astronaut()[:192, 120:312], jnp.float32) / 255


def test_the_shipped_model_paints_the_same_picture(model, photo):
    exact, rough = (paint(model, photo, precision=p) for p in ("float32", "bfloat16"))
    assert exact.dtype == rough.dtype == jnp.float32
    assert (exact != rough).any()  # or it was not computed in bfloat16
    assert metrics.ssim(rough, exact, channels="mean") > 0.99
    assert jnp.abs(rough - exact).mean() < 1.5 / 255


def test_auto_on_a_cpu_changes_no_bit(model, photo):
    np.testing.assert_array_equal(paint(model, photo), paint(model, photo, precision="float32"))


def test_a_linear_output_has_no_bands():
    """Bfloat16 has no numbers between 200 and 201; in a sky eyes see such steps."""
    config = networks.TransformerConfig(
        widths=(4, 6), blocks=0, outer_kernels=(3, 3), output="linear", value_range=255.0
    )
    variables = networks.init(jax.random.key(0), config)
    bias = variables["params"]["output"]["conv"]["bias"]
    variables["params"]["output"]["conv"]["bias"] = bias + 200.5
    sky = jnp.ones((64, 64, 3)) * jnp.linspace(0.5, 0.6, 64).reshape(64, 1, 1)
    run = functools.partial(networks.apply, config=config)
    painted = jit(functools.partial(run, dtype="bfloat16"))(variables, sky)
    assert painted.dtype == jnp.float32
    exact = jit(functools.partial(run, dtype="float32"))(variables, sky)
    assert np.abs(exact * 255 - 200.5).max() < 0.45  # so bfloat16 would be far off
    assert np.abs(painted - exact).max() * 255 < 0.2


def test_unknown_precision(model, photo):
    with pytest.raises(InputError, match="unknown precision 'half'"):
        stylize(StyleModel(model.params, model.config), photo, precision="half")
