import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import networks, policy
from jaxstyle.networks import TransformerConfig

QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}
init = jax.jit(networks.init, static_argnums=1, compiler_options=QUICK_TO_COMPILE)


def shapes_of(config):
    return jax.eval_shape(lambda: networks.init(jax.random.key(0), config))


def leaves(variables):
    pairs = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(entry.key for entry in path): leaf for path, leaf in pairs}


def test_names_and_shapes_are_those_of_saved_models():
    shapes = {name: leaf.shape for name, leaf in leaves(shapes_of(_full())).items()}
    expected = {}

    def layer(place, conv, norm, kernel):
        for collection, names in (("params", ("scale", "bias")), ("batch_stats", ("mean", "var"))):
            expected.update({f"{collection}/{place}/{norm}/{n}": kernel[-1:] for n in names})
        expected[f"params/{place}/{conv}/kernel"] = kernel
        expected[f"params/{place}/{conv}/bias"] = kernel[-1:]

    layer("encoder_0", "conv", "norm", (9, 9, 3, 8))
    layer("encoder_1", "conv", "norm", (3, 3, 8, 12))
    layer("encoder_2", "conv", "norm", (3, 3, 12, 16))
    for block, part in ((0, 1), (0, 2), (1, 1), (1, 2)):
        layer(f"residual_{block}", f"conv_{part}", f"norm_{part}", (3, 3, 16, 16))
    layer("decoder_0", "conv", "norm", (3, 3, 16, 10))
    layer("decoder_1", "conv", "norm", (3, 3, 10, 6))
    layer("output", "conv", "norm", (7, 7, 6, 3))
    assert shapes == expected


def _full():
    return TransformerConfig(
        widths=(8, 12, 16),
        decoder_widths=(10, 6),
        outer_kernels=(9, 7),
        blocks=2,
        norm="batch",
        norm_last=True,
        conv_bias=True,
    )


def test_a_bias_only_where_no_normalization_follows():
    def biased(**options):
        config = dataclasses.replace(_full(), norm_last=False, **options)
        names = leaves(shapes_of(config)["params"])
        return {n.split("/")[0] for n in names if "conv" in n and n.endswith("bias")}

    assert biased(conv_bias=False) == {"output"}
    assert biased(conv_bias=False, norm="none") == biased(conv_bias=True)
    last = dataclasses.replace(_full(), conv_bias=False)
    assert not [n for n in leaves(shapes_of(last)) if "conv/bias" in n]


def test_batch_statistics_only_with_batch_normalization():
    assert set(shapes_of(TransformerConfig(blocks=0))) == {"params"}
    assert set(shapes_of(_full())) == {"params", "batch_stats"}


def test_a_transposed_kernel_has_its_outputs_before_its_inputs():
    variables = shapes_of(dataclasses.replace(_full(), upsampling="transposed"))
    assert variables["params"]["decoder_0"]["conv"]["kernel"].shape == (3, 3, 10, 16)
    assert variables["params"]["decoder_0"]["conv"]["bias"].shape == (10,)


@pytest.mark.parametrize(
    ("rule", "deviation", "bound"),
    [
        ("he", lambda n: (2 / n) ** 0.5, lambda n: 2 / 0.87 * (2 / n) ** 0.5),
        ("torch", lambda n: (1 / (3 * n)) ** 0.5, lambda n: n**-0.5),
        ("normal", lambda n: 0.05, lambda n: 0.5),
        ("truncated_normal", lambda n: 0.05 * 0.8796, lambda n: 0.1),
    ],
)
def test_kernels_follow_the_rule(rule, deviation, bound):
    config = TransformerConfig(
        widths=(16, 32, 64),
        blocks=1,
        upsampling="transposed",
        kernel_init=rule,
        kernel_init_std=0.05,
        norm_scale_init="uniform",
    )
    found = leaves(init(jax.random.key(3), config)["params"])
    fan_in = {"encoder_0": 243, "encoder_2": 288, "decoder_0": 576, "output": 1296}
    for layer, n in fan_in.items():
        kernel = found[f"{layer}/conv/kernel"]
        if (rule, layer) == ("he", "output"):
            kernel = 10 * kernel  # the last one starts small
        assert kernel.dtype == jnp.float32
        assert abs(kernel.std() / deviation(n) - 1) < 0.05, layer
        assert abs(kernel.mean()) < 0.05 * deviation(n)
        assert abs(kernel).max() <= bound(n) * 1.0001
    scales = np.concatenate([leaf for name, leaf in found.items() if name.endswith("scale")])
    assert scales.min() >= 0 and scales.max() <= 1
    assert abs(scales.mean() - 0.5) < 0.1
    assert all(not leaf.any() for name, leaf in found.items() if name.endswith("bias"))


def test_keys_decide_the_values():
    config = TransformerConfig(widths=(4, 6), blocks=2)
    one, two = (init(jax.random.key(seed), config)["params"] for seed in (0, 1))
    again = init(jax.random.key(0), config)["params"]
    jax.tree.map(np.testing.assert_array_equal, one, again)
    kernels = [
        one["residual_0"]["conv_1"],
        one["residual_0"]["conv_2"],
        one["residual_1"]["conv_1"],
    ]
    kernels.append(two["residual_0"]["conv_1"])
    values = [np.asarray(k["kernel"]).ravel() for k in kernels]
    assert np.abs(np.corrcoef(values) - np.eye(4)).max() < 0.3
    assert all(np.all(one[layer]["norm"]["scale"] == 1) for layer in ("encoder_0", "decoder_0"))


def test_networks_can_be_drawn_in_a_stack():
    config = TransformerConfig(widths=(4, 6), blocks=1)
    keys = jax.random.split(jax.random.key(0), 3)
    stack = jax.vmap(lambda key: networks.init(key, config))(keys)
    single = init(keys[1], config)
    close = np.testing.assert_allclose
    jax.tree.map(lambda many, one: close(many[1], one, rtol=1e-6, atol=1e-7), stack, single)


def test_a_fresh_network_paints_mid_tones_and_learns_everywhere():
    config = TransformerConfig(widths=(8, 16, 32), blocks=2)
    image = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))

    def loss(params):
        result = networks.apply({"params": params}, image, config)
        return jnp.mean((result - 0.1) ** 2), result

    step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK_TO_COMPILE)
    with policy.formulation("plain"):
        outcomes = [step(init(jax.random.key(seed), config)["params"]) for seed in range(4)]
    for gradient, result in outcomes:
        assert 0.45 < result.mean() < 0.55
        assert 0.01 < result.std() < 0.1
        for name, leaf in leaves(gradient).items():
            assert np.isfinite(leaf).all()
            # What a block adds to all positions alike, later normalizations subtract again.
            idle = name.startswith("residual") and name.endswith("norm_2/bias")
            assert (np.abs(leaf).max() > 1e-6) != idle, name
