"""Networks of other projects become models of ours; what is none is refused in one sentence."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.io import foreign, foreign_files
from jaxstyle.io.foreign_tables import ARCHITECTURES
from jaxstyle.io.models import load_model
from jaxstyle.methods.feedforward import stylize
from jaxstyle.types import InputError

RNG = np.random.default_rng(5)
ONE_STYLE = ("fast_neural_style", "lengstrom")


def arrays_of(architecture, styles=3):
    """Random numbers under a project's names, in its shapes."""
    about, arrays = ARCHITECTURES[architecture], {}
    names = about.names()
    for place, shape in foreign._shapes(about.config).items():
        if about.oihw and len(shape) == 4:
            shape = (shape[3], shape[2], shape[0], shape[1])
        elif about.many_styles and len(shape) == 1:
            shape = (styles, *shape)
        arrays[names[place]] = RNG.normal(0, 0.1, shape).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def made():
    return {name: arrays_of(name) for name in ARCHITECTURES}


@pytest.fixture
def file(tmp_path, made):
    """Write the arrays of an architecture, changed, to an archive."""

    def write(architecture="fast_neural_style", **changes):
        arrays = {**made[architecture], **changes}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        np.savez(tmp_path / "net.npz", **arrays)
        return tmp_path / "net.npz"

    return write


def leaves(model):
    flat = jax.tree_util.tree_leaves_with_path(model.params)
    return {"/".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in flat}


# --- Numbers arrive where they belong ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_number_is_used_once(made, architecture):
    arrays = made[architecture]
    many = ARCHITECTURES[architecture].many_styles
    model, found = foreign.convert(arrays, style=1 if many else None)
    assert found == architecture
    assert model.config == ARCHITECTURES[architecture].config
    theirs = [a[1] if many and a.ndim == 2 else a for a in arrays.values()]
    ours = leaves(model).values()
    assert sum(a.size for a in ours) == sum(a.size for a in theirs)
    together = [np.sort(np.concatenate([a.ravel() for a in side])) for side in (ours, theirs)]
    np.testing.assert_array_equal(*together)


def test_kernels_of_pytorch_are_turned(made):
    model, _ = foreign.convert(made["fast_neural_style"])
    kernel = model.params["params"]["decoder_1"]["conv"]["kernel"]
    stored = made["fast_neural_style"]["deconv2.conv2d.weight"]
    assert kernel.shape == (3, 3, 64, 32)
    assert kernel[0, 2, 5, 7] == stored[7, 5, 0, 2]


# --- The network itself, in NumPy ---


def convolve(x, kernel, stride, padding):
    """`[h, w, i]` with `[k, k, i, o]`: reflected by half the kernel, or TensorFlow's SAME."""
    size = kernel.shape[0]
    if padding == "reflect":
        x = np.pad(x, ((size // 2,) * 2, (size // 2,) * 2, (0, 0)), mode="reflect")
    else:
        needed = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[:2]]
        x = np.pad(x, (*((n // 2, n - n // 2) for n in needed), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))
    return np.tensordot(windows[::stride, ::stride], kernel, axes=([3, 4, 2], [0, 1, 2]))


def enlarge(x, kernel, kind):
    if kind == "nearest":
        return convolve(x.repeat(2, 0).repeat(2, 1), kernel, 1, "reflect")
    height, width = x.shape[:2]
    result = np.zeros((2 * height + 1, 2 * width + 1, kernel.shape[2]))
    for row in range(3):
        for column in range(3):
            part = result[row : row + 2 * height : 2, column : column + 2 * width : 2]
            part += x @ kernel[row, column].T  # stored as height, width, out, in
    return result[:-1, :-1]


def normalize(x, scale, bias, epsilon):
    mean, variance = x.mean((0, 1)), x.var((0, 1))
    return scale * (x - mean) / np.sqrt(variance + epsilon) + bias


def paint(arrays, architecture, image):
    """The forward pass as each project writes it, float64, on `[h, w, 3]` in [0, 1]."""
    arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    torch = architecture == "fast_neural_style"
    padding, kind, epsilon = ("reflect", "nearest", 1e-5) if torch else ("same", "transposed", 1e-3)

    if torch:
        first = [("conv1", "in1"), ("conv2", "in2"), ("conv3", "in3")]
        blocks = [
            (f"res{i}.conv{k}", f"res{i}.in{k}") for i in range(1, 6) for k in (1, 2)
        ]  # fmt: skip
        order = [*first, *blocks, ("deconv1", "in4"), ("deconv2", "in5"), ("deconv3", None)]
    else:
        order = [(f"Variable_{3 * i}" if i else "Variable", 3 * i) for i in range(16)]

    def layer(index, x, stride=1, up=False):
        conv, norm = order[index]
        if torch:
            kernel = arrays[f"{conv}.conv2d.weight"].transpose(2, 3, 1, 0)
        else:
            kernel = arrays[conv]
        x = enlarge(x, kernel, kind) if up else convolve(x, kernel, stride, padding)
        if torch:
            x = x + arrays[f"{conv}.conv2d.bias"]
            if norm is None:
                return x
            return normalize(x, arrays[f"{norm}.weight"], arrays[f"{norm}.bias"], epsilon)
        shift, scale = arrays[f"Variable_{norm + 1}"], arrays[f"Variable_{norm + 2}"]
        return normalize(x, scale, shift, epsilon)

    x = image.astype(np.float64) * 255
    for index, stride in enumerate((1, 2, 2)):
        x = np.maximum(layer(index, x, stride), 0)
    for block in range(5):
        inner = np.maximum(layer(3 + 2 * block, x), 0)
        x = x + layer(4 + 2 * block, inner)
    for index in (13, 14):
        x = np.maximum(layer(index, x, up=True), 0)
    x = layer(15, x)
    x = x if torch else np.tanh(x) * 150 + 127.5
    return np.clip(x / 255, 0, 1)


def continued(image, margin):
    """The picture, reflected by a margin, and to multiples of four at its right and below."""
    amounts = [(margin, margin + -(n + 2 * margin) % 4) for n in image.shape[:2]]
    return np.pad(image, (*amounts, (0, 0)), mode="reflect")


quick = jax.jit(
    stylize, static_argnames="parity", compiler_options={"xla_backend_optimization_level": 0}
)


@pytest.mark.parametrize("kind", ONE_STYLE)
def test_odd_sizes_of_real_networks(shared_data, kind):
    """The reach of lengstrom's networks is 60 pixels, which `stylize` hides behind a margin."""
    with np.load(shared_data / "reference" / "golden_outputs.npz") as golden:
        image = golden["input_rgb_u8"][:33, :46].astype(np.float32) / 255
    files = sorted((shared_data / "weights" / kind).glob("*.npz"))
    assert len(files) == {"fast_neural_style": 5, "lengstrom": 6}[kind]
    for number, path in enumerate(files):
        arrays = foreign_files.read_arrays(path)
        model, _ = foreign.convert(arrays)
        margins = {True: 0, False: 0 if kind == "fast_neural_style" else 60}
        if number or not margins[False]:
            del margins[False]  # slow, and the same code for all
        for parity, margin in margins.items():
            whole = paint(arrays, kind, continued(image, margin))
            expected = whole[margin : margin + 33, margin : margin + 46]
            result = np.asarray(quick(model, image, parity=parity))
            assert expected.std() > 0.05
            assert np.abs(result - expected).max() < 1 / 255, (path.stem, parity)


def test_parity_is_the_network_with_its_frame(shared_data):
    with np.load(shared_data / "reference" / "golden_outputs.npz") as golden:
        image = golden["input_rgb_u8"].astype(np.float32) / 255
        expected = np.clip(golden["lengstrom/la_muse"].astype(np.float32) / 255, 0, 1)
    arrays = foreign_files.read_arrays(shared_data / "weights" / "lengstrom" / "la_muse.npz")
    model, _ = foreign.convert(arrays)
    assert np.abs(quick(model, image, parity=True) - expected).max() < 1 / 255
    hidden = np.asarray(quick(model, image))
    border = np.ones(hidden.shape[:2], bool)
    border[8:-8, 8:-8] = False
    difference = np.abs(hidden - expected).mean(-1)
    assert difference[border].mean() > 1.5 * difference[~border].mean()


# --- Files ---


def test_a_model_folder_with_a_card(file, made, tmp_path):
    found = foreign.import_model(file("lengstrom"), tmp_path / "m", name="Wave", license="none")
    model, card = load_model(tmp_path / "m")
    assert found == card["source"]["architecture"] == "lengstrom"
    assert (card["style"]["title"], card["license"]) == ("Wave", "none")
    assert card["source"]["project"] == "lengstrom/fast-style-transfer"
    assert card["source"]["file"] == "net.npz" and len(card["source"]["sha256"]) == 64
    expected, _ = foreign.convert(made["lengstrom"])
    jax.tree.map(np.testing.assert_array_equal, dict(model.params), dict(expected.params))


def test_a_card_without_a_license_says_so(file, tmp_path):
    foreign.import_model(file("magenta"), tmp_path / "m", style=2)
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["license"].startswith("not stated")
    assert card["style"]["title"] == "net, style 2"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".model"])
def test_pytorch_files_with_old_keys(made, tmp_path, legacy, suffix):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(a.copy()) for name, a in made["fast_neural_style"].items()}
    for norm in ("in1", "res3.in2", "in5"):
        state[f"{norm}.running_mean"] = torch.zeros(32)
        state[f"{norm}.running_var"] = torch.ones(32)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    path = tmp_path / f"candy{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert foreign.import_model(path, tmp_path / "m") == "fast_neural_style"
    expected, _ = foreign.convert(made["fast_neural_style"])
    model, card = load_model(tmp_path / "m")
    jax.tree.map(np.testing.assert_array_equal, dict(model.params), dict(expected.params))
    assert card["style"]["title"] == "candy"


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_pytorch_files(made, tmp_path, legacy):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(a) for name, a in made["fast_neural_style"].items()}
    path = tmp_path / "net.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for tenth in range(0, 10, 3):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(InputError, match="net.pth") as error:
            foreign.import_model(path, tmp_path / "m")
        assert "\n" not in str(error.value)
        assert [entry.name for entry in tmp_path.iterdir()] == ["net.pth"]


def test_a_dump_of_a_checkpoint_may_hold_the_optimizer_too(made):
    arrays = {f"{name}:0": array for name, array in made["lengstrom"].items()}
    arrays |= {f"{name}/Adam_1": a for name, a in made["lengstrom"].items()}
    arrays |= {"beta1_power": np.float32(0.5), "global_step": np.int64(3)}
    model, found = foreign.convert(arrays)
    assert found == "lengstrom"
    expected, _ = foreign.convert(made["lengstrom"])
    jax.tree.map(np.testing.assert_array_equal, dict(model.params), dict(expected.params))


def test_names_of_parallel_training(made):
    arrays = {f"module.{name}": array for name, array in made["fast_neural_style"].items()}
    assert foreign.convert(arrays)[1] == "fast_neural_style"


def test_half_precision_comes_as_float32(made):
    arrays = {name: a.astype(np.float16) for name, a in made["fast_neural_style"].items()}
    model, _ = foreign.convert(arrays)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
    bias = model.params["params"]["encoder_0"]["conv"]["bias"]
    np.testing.assert_array_equal(bias, arrays["conv1.conv2d.bias"].astype(np.float32))


# --- What is wrong is said in one sentence, and nothing is left behind ---

NAN = np.full(32, np.nan, np.float32)
WRONG = {
    "missing": ({"in2.bias": None}, {}, "lacks 'in2.bias' of the fast_neural_style network"),
    "surplus": ({"conv9.weight": NAN}, {}, "holds 'conv9.weight', which the fast_neural_style"),
    "shape": (
        {"conv1.conv2d.weight": np.zeros((9, 9, 3, 32), np.float32)},
        {},
        r"'conv1.conv2d.weight' has shape \(9, 9, 3, 32\), but \(32, 3, 9, 9\) belongs",
    ),
    "whole numbers": ({"in1.bias": np.zeros(32, int)}, {}, "'in1.bias' holds int64"),
    "not finite": ({"in1.bias": NAN}, {}, "'in1.bias' holds numbers that are not finite"),
    "other": ({}, {"architecture": "lengstrom"}, "names are those of fast_neural_style: give --a"),
    "unknown": ({}, {"architecture": "lengstorm"}, "lengstrom"),
    "styles": ({}, {"style": 1}, "holds one style only; leave out --style 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_contents(file, tmp_path, case):
    changes, options, message = WRONG[case]
    path = file(**changes)
    with pytest.raises(InputError, match=message) as error:
        foreign.import_model(path, tmp_path / "m", **options)
    assert "\n" not in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.parametrize(("style", "message"), [(None, "choose one, 0 to 2"), (3, "no style 3")])
def test_styles_that_are_not_there(made, style, message):
    with pytest.raises(InputError, match=message):
        foreign.convert(made["magenta"], style=style)
    with pytest.raises(InputError, match="no style -1"):
        foreign.convert(made["magenta"], style=-1)


def test_something_else_altogether(made):
    with pytest.raises(InputError, match="holds no network of .* first arrays are a, b"):
        foreign.convert({"b": np.zeros(2), "a": np.zeros(3)})


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_archives(file, tmp_path, tenth):
    path = file()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    with pytest.raises(InputError, match="cannot be read as a NumPy archive") as error:
        foreign.import_model(path, tmp_path / "m")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.npz"]


def test_pickled_arrays_are_not_opened(tmp_path):
    class Attack:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "executed",))

    array = np.empty(1, object)
    array[0] = Attack()
    np.savez(tmp_path / "net.npz", Variable=array)
    with pytest.raises(InputError, match="cannot be read as a NumPy archive"):
        foreign_files.read_arrays(tmp_path / "net.npz")
    assert not (tmp_path / "executed").exists()


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_files, "_LARGEST", 10_000)
    np.savez_compressed(tmp_path / "net.npz", Variable=np.zeros(5_000))
    with pytest.raises(InputError, match="unpacks to 0 MB, more than any style network has"):
        foreign_files.read_arrays(tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.ckpt", "TensorFlow checkpoint, .*load_checkpoint"),
        ("candy.t7", "is a Lua Torch file"),
        ("net.onnx", "not in a format that can be read; give one of .npz, .pth"),
        ("missing.npz", "there is no file"),
        ("folder", "is a folder"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, message):
    if name == "folder":
        (tmp_path / name).mkdir()
    elif name != "missing.npz":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=message) as error:
        foreign_files.read_arrays(tmp_path / name)
    assert "\n" not in str(error.value)


def test_the_parts_of_a_checkpoint_are_recognized(tmp_path):
    (tmp_path / "model-1000.index").write_bytes(b"x")
    with pytest.raises(InputError, match="TensorFlow checkpoint"):
        foreign_files.read_arrays(tmp_path / "model-1000")
