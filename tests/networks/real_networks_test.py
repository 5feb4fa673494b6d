"""Networks that others trained, loaded into ours, reproduce the pictures they made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import networks
from jaxstyle.networks import TransformerConfig

FAST_NEURAL_STYLE = TransformerConfig(conv_bias=True, output="linear", value_range=255)
LENGSTROM = TransformerConfig(
    padding="same",
    upsampling="transposed",
    norm_epsilon=1e-3,
    norm_last=True,
    output="tanh",
    value_range=255,
    output_scale=150,
    output_mean=(127.5, 127.5, 127.5),
)
MAGENTA = TransformerConfig(
    widths=(32, 32, 32), decoder_widths=(8, 4), blocks=6, norm_last=True, output="sigmoid"
)

NAMES = {
    "fast_neural_style": ("candy", "mosaic", "pointilism", "rain_princess", "udnie"),
    "lengstrom": ("la_muse", "rain_princess", "scream", "udnie", "wave", "wreck"),
}

QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}
apply = jax.jit(networks.apply, static_argnums=2, compiler_options=QUICK_TO_COMPILE)


def nest(flat):
    """`{'a/b': x}` as `{'a': {'b': x}}`, in float32."""
    tree = {}
    for name, value in flat.items():
        *places, leaf = name.split("/")
        node = tree
        for place in places:
            node = node.setdefault(place, {})
        node[leaf] = jnp.asarray(value, jnp.float32)
    return tree


def from_fast_neural_style(weights):
    """PyTorch names and OIHW kernels of `TransformerNet`."""
    layers = {f"encoder_{i}": (f"conv{i + 1}", f"in{i + 1}") for i in range(3)}
    layers |= {f"decoder_{i}": (f"deconv{i + 1}", f"in{i + 4}") for i in range(2)}
    flat = {}

    def put(conv, norm, source_conv, source_norm):
        flat[f"{conv}/kernel"] = weights[f"{source_conv}.conv2d.weight"].transpose(2, 3, 1, 0)
        flat[f"{conv}/bias"] = weights[f"{source_conv}.conv2d.bias"]
        if source_norm:
            flat[f"{norm}/scale"] = weights[f"{source_norm}.weight"]
            flat[f"{norm}/bias"] = weights[f"{source_norm}.bias"]

    for layer, (conv, norm) in layers.items():
        put(f"{layer}/conv", f"{layer}/norm", conv, norm)
    for block in range(5):
        for part in (1, 2):
            source = f"res{block + 1}"
            place = f"residual_{block}"
            put(f"{place}/conv_{part}", f"{place}/norm_{part}", *_both(source, part))
    put("output/conv", "", "deconv3", None)
    return nest(flat)


def _both(source, part):
    return f"{source}.conv{part}", f"{source}.in{part}"


def layers_in_order(blocks):
    """The places of convolution and normalization, from input to output."""
    inner = [
        (f"residual_{i}/conv_{k}", f"residual_{i}/norm_{k}") for i in range(blocks) for k in (1, 2)
    ]
    start = [(f"encoder_{i}/conv", f"encoder_{i}/norm") for i in range(3)]
    end = [(f"{n}/conv", f"{n}/norm") for n in ("decoder_0", "decoder_1", "output")]
    return start + inner + end


def from_lengstrom(weights):
    """TensorFlow variables by creation: kernel, shift, scale of each layer."""
    values = [weights["Variable" + (f"_{i}" if i else "")] for i in range(48)]
    flat = {}
    for index, (conv, norm) in enumerate(layers_in_order(5)):
        kernel, shift, scale = values[3 * index : 3 * index + 3]
        flat |= {f"{conv}/kernel": kernel, f"{norm}/bias": shift, f"{norm}/scale": scale}
    return nest(flat)


def from_magenta(weights, style):
    """One style, or a blend, of a network that has one scale and bias for each of its styles."""
    places = [f"contract/conv{i}" for i in (1, 2, 3)]
    places += [f"residual/residual{i}/conv{k}" for i in range(1, 7) for k in (1, 2)]
    places += ["expand/conv1/conv", "expand/conv2/conv", "expand/conv3/conv"]
    flat = {}
    for place, (conv, norm) in zip(places, layers_in_order(6), strict=True):
        flat[f"{conv}/kernel"] = weights[f"transformer/{place}/weights"]
        flat[f"{norm}/scale"] = style @ weights[f"transformer/{place}/InstanceNorm/gamma"]
        flat[f"{norm}/bias"] = style @ weights[f"transformer/{place}/InstanceNorm/beta"]
    return nest(flat)


@pytest.fixture(scope="module")
def golden(shared_data):
    with np.load(shared_data / "reference" / "golden_outputs.npz") as file:
        return {k: file[k] for k in file.files if k == "input_rgb_u8" or k.split("/")[0] in SCALES}


SCALES = {"fast_neural_style": 255, "lengstrom": 255, "magenta26": 1}


def largest_error(params, config, golden, name):
    expected_shapes = jax.eval_shape(lambda: networks.init(jax.random.key(0), config)["params"])
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda x: x.shape, expected_shapes)
    image = jnp.asarray(golden["input_rgb_u8"], jnp.float32) / 255
    result = apply({"params": params}, image, config)  # neither is clipped
    expected = golden[name].astype(np.float32) / SCALES[name.split("/")[0]]
    assert expected.std() > 0.05
    return np.abs(result - expected).max()


@pytest.mark.parametrize("name", NAMES["fast_neural_style"])
def test_pytorch_examples(shared_data, golden, name):
    with np.load(shared_data / "weights" / "fast_neural_style" / f"{name}.npz") as weights:
        params = from_fast_neural_style(weights)
    assert largest_error(params, FAST_NEURAL_STYLE, golden, f"fast_neural_style/{name}") < 1 / 255


@pytest.mark.parametrize("name", NAMES["lengstrom"])
def test_lengstrom(shared_data, golden, name):
    with np.load(shared_data / "weights" / "lengstrom" / f"{name}.npz") as weights:
        params = from_lengstrom(weights)
    assert largest_error(params, LENGSTROM, golden, f"lengstrom/{name}") < 1 / 255


@pytest.mark.parametrize(
    ("name", "styles"), [("style00", (0,)), ("style19", (19,)), ("mix_03_19", (3, 19))]
)
def test_magenta_one_style_at_a_time(shared_data, golden, name, styles):
    style = np.zeros(26, np.float32)
    style[list(styles)] = 1 / len(styles)
    with np.load(shared_data / "weights" / "magenta_26styles.npz") as weights:
        params = from_magenta(weights, style)
    assert largest_error(params, MAGENTA, golden, f"magenta26/{name}") < 1 / 255
