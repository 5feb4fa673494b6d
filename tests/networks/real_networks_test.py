"""Networks that others trained, loaded into ours, reproduce the pictures they made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import networks
from jaxstyle.io.foreign import convert
from jaxstyle.io.foreign_files import read_arrays

NAMES = {
    "fast_neural_style": ("candy", "mosaic", "pointilism", "rain_princess", "udnie"),
    "lengstrom": ("la_muse", "rain_princess", "scream", "udnie", "wave", "wreck"),
}

QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}
apply = jax.jit(networks.apply, static_argnums=2, compiler_options=QUICK_TO_COMPILE)


@pytest.fixture(scope="module")
def golden(shared_data):
    with np.load(shared_data / "reference" / "golden_outputs.npz") as file:
        return {k: file[k] for k in file.files if k == "input_rgb_u8" or k.split("/")[0] in SCALES}


SCALES = {"fast_neural_style": 255, "lengstrom": 255, "magenta26": 1}


def largest_error(model, golden, name):
    image = jnp.asarray(golden["input_rgb_u8"], jnp.float32) / 255
    result = apply(model.params, image, model.config)  # neither is clipped
    expected = golden[name].astype(np.float32) / SCALES[name.split("/")[0]]
    assert expected.std() > 0.05
    return np.abs(result - expected).max()


@pytest.mark.parametrize(("kind", "name"), [(kind, n) for kind in NAMES for n in NAMES[kind]])
def test_one_style(shared_data, golden, kind, name):
    arrays = read_arrays(shared_data / "weights" / kind / f"{name}.npz")
    model, found = convert(arrays)
    assert found == kind
    assert largest_error(model, golden, f"{kind}/{name}") < 1 / 255


@pytest.mark.parametrize(
    ("name", "styles"), [("style00", (0,)), ("style19", (19,)), ("mix_03_19", (3, 19))]
)
def test_several_styles(shared_data, golden, name, styles):
    """A blend of styles is the mean of their networks, which differ in scales and biases only."""
    arrays = read_arrays(shared_data / "weights" / "magenta_26styles.npz")
    models = [convert(arrays, style=style)[0] for style in styles]
    model = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *models)
    assert largest_error(model, golden, f"magenta26/{name}") < 1 / 255
