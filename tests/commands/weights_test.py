"""`python -m jaxstyle weights`: what a user types and sees."""

import numpy as np
import pytest
import safetensors

from jaxstyle import cli, features, runtime
from jaxstyle.weights import catalog, fetching, load_weights


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "setup", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def thin(tmp_path):
    """The beginning of a network, with torchvision's names and few channels."""
    rng = np.random.default_rng(0)
    arrays = {}
    for module, c_in, c_out in ((0, 3, 4), (2, 4, 5), (5, 5, 6)):
        arrays[f"features.{module}.weight"] = rng.normal(size=(c_out, c_in, 3, 3))
        arrays[f"features.{module}.bias"] = rng.normal(size=c_out)
    np.savez(tmp_path / "thin.npz", **arrays)
    return "thin.npz"


def run(capsys, *arguments):
    status = cli.main(["weights", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith("error: ")
    return err


def test_list(capsys, tmp_path):
    status, out, err = run(capsys, "list")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["embedded", *catalog.CATALOG]
    assert "comes with jaxstyle" in lines[1] and "CC BY 4.0" in lines[1]
    assert lines[3].split()[1:3] == ["80.1", "MB"] and lines[3].endswith("not fetched")
    assert max(map(len, lines)) <= 100
    file = catalog.folder() / catalog.CATALOG["vgg19"].file_name
    file.parent.mkdir(parents=True)
    with file.open("wb") as content:
        content.truncate(80_134_624)
    _, out, _ = run(capsys, "list")
    assert out.splitlines()[3].endswith(str(file))


def test_fetch(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "fetch", lambda url, target, *_: target)
    status, out, err = run(capsys, "fetch", "embedded", "vgg16")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith("embedded comes with jaxstyle: ")
    assert f"vgg16 is in {tmp_path / 'cache'}" in out and "license: CC BY 4.0, Karen" in out
    assert "unknown network 'vgg18'" in refused(capsys, "fetch", "vgg16", "vgg18")


def test_fetch_without_network(capsys, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_WEIGHTS_URL", "http://127.0.0.1:9")
    status, out, err = run(capsys, "fetch", "vgg16")
    assert (status, out) == (2, "")
    first, last = err.splitlines()
    assert first.startswith("fetching vgg16_weights")
    assert last.startswith("error: the weights of vgg16 could not be fetched from http://127.0.0.1")


def test_verify(capsys, thin):
    status, out, err = run(capsys, "verify", thin, "--name", "vgg19")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "file: thin.npz (NumPy archive)",
        "network: vgg19, thinner than the original",
        "layers: the first 3 convolutions, conv1_1 to conv2_1, 0.00 M parameters",
        "input: torchvision",
    ]
    _, out, _ = run(capsys, "verify", thin, "--name", "vgg19", "--convention", "caffe")
    assert out.splitlines()[-1] == "input: caffe"


def test_verify_a_published_file(capsys, thin, tmp_path, monkeypatch):
    entry = catalog.CATALOG["vgg19"]
    content = (tmp_path / thin).read_bytes()
    known = fetching._hash(tmp_path / thin, "sha256")
    entry = entry._replace(known_hash=known, size=len(content))
    monkeypatch.setattr(catalog, "CATALOG", {"vgg19": entry})
    _, out, _ = run(capsys, "verify", thin, "--name", "vgg19")
    assert out.splitlines()[-1] == "published as: vgg19, the same to the byte"
    run(capsys, "convert", thin, "--name", "vgg19", "--out", "a.safetensors")
    with safetensors.safe_open("a.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["license"] == "CC BY 4.0" and "Simonyan" in metadata["attribution"]


def test_verify_the_shipped_network(capsys):
    status, out, _ = run(capsys, "fetch", "embedded")
    file = out.split(": ")[1].strip()
    status, out, _ = run(capsys, "verify", file, "--name", "embedded")
    assert status == 0 and "layers: all 11 convolutions, conv1_1 to conv5_1" in out
    assert "says that it is embedded and not vgg16; set features.name=embedded" in refused(
        capsys, "verify", file, "--name", "vgg16"
    )


def test_refusals(capsys, thin, tmp_path):
    assert "there is no weights file 'x'" in refused(capsys, "verify", "x", "--name", "vgg19")
    assert "unknown network 'vgg'" in refused(capsys, "verify", thin, "--name", "vgg")
    zeros = {"conv1_1/kernel": np.zeros((3, 3, 3, 2)), "conv1_1/bias": np.zeros(2)}
    np.savez("zeros.npz", **zeros)
    assert "has nothing but zeros" in refused(capsys, "verify", "zeros.npz", "--name", "vgg19")
    convert = ("convert", thin, "--name", "vgg19", "--out")
    assert "ends in .safetensors" in refused(capsys, *convert, "x.npz")
    (tmp_path / "taken").touch()
    assert "cannot be made" in refused(capsys, *convert, "taken/x.safetensors")
    assert "unknown convention" in refused(
        capsys, *convert, "x.safetensors", "--convention", "bytes"
    )
    assert not list(tmp_path.glob("**/*.safetensors"))


@pytest.mark.parametrize("half", [False, True])
def test_convert(capsys, thin, tmp_path, half):
    flags = ["--half"] if half else []
    status, out, err = run(
        capsys, "convert", thin, "--name", "vgg19", "--out", "a/b.safetensors", *flags
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[-2].startswith("written to a/b.safetensors (0.0 MB); use it with")
    assert lines[-1] == ("  --config.features.name=vgg19 --config.features.weights=a/b.safetensors")
    with safetensors.safe_open("a/b.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata == {"network": "vgg19", "source": thin, "convention": "torchvision"}
    before, after = load_weights("vgg19", thin), load_weights("vgg19", "a/b.safetensors")
    assert after.network == before.network
    assert after.network.convention == features.TORCHVISION
    for name, parts in before.params.items():
        for part, value in parts.items():
            tolerance = 2**-11 if half else 0
            np.testing.assert_allclose(after.params[name][part], value, rtol=tolerance)
    same = ("convert", "a/b.safetensors", "--name", "vgg19", "--out", "a/b.safetensors")
    assert "--out is the file itself" in refused(capsys, *same)


def test_convert_keeps_an_input_convolution(capsys, tmp_path):
    """Folded, it would have lost that its network pads by reflection."""
    rng = np.random.default_rng(1)
    arrays = {"conv0.weight": rng.normal(size=(3, 3, 1, 1)), "conv0.bias": rng.normal(size=3)}
    arrays |= {"conv11.weight": rng.normal(size=(2, 3, 3, 3)), "conv11.bias": rng.normal(size=2)}
    np.savez("normalized.npz", **arrays)
    arguments = ("convert", "normalized.npz", "--name", "vgg19", "--out", "n.safetensors")
    status, out, _ = run(capsys, *arguments)
    assert status == 0 and "input: its own, by a first 1x1 convolution" in out
    before, after = load_weights("vgg19", "normalized.npz"), load_weights("vgg19", "n.safetensors")
    assert after.network == before.network and after.network.padding == "reflect"
    np.testing.assert_array_equal(
        after.params["conv1_1"]["kernel"], before.params["conv1_1"]["kernel"]
    )
