"""The catalog of published files, and how it behaves towards a user without a network."""

import re

import numpy as np
import pytest

from jaxstyle import features
from jaxstyle.types import InputError
from jaxstyle.weights import catalog, fetching, load_weights


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXSTYLE_WEIGHTS_URL", raising=False)
    return tmp_path / "cache" / "jaxstyle" / "weights"


@pytest.fixture
def fetches(monkeypatch):
    """Calls of the downloader instead of downloads; set `.result` to a path or an exception."""

    class Fetches(list):
        result = fetching.Failure("not set")

        def __call__(self, *arguments):
            self.append(arguments)
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    stub = Fetches()
    monkeypatch.setattr(fetching, "fetch", stub)
    return stub


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_entries_are_complete(name):
    entry = catalog.CATALOG[name]
    assert entry.url.startswith("https://") and entry.url.endswith((".h5", ".pth"))
    assert entry.network in entry.url and entry.network in features.NETWORKS
    assert name.startswith(entry.network)
    assert re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", entry.known_hash)
    assert entry.convention in features.CONVENTIONS
    assert entry.license and entry.attribution
    # The convolutions in float32 are the least, the classifier with them the most.
    least = 4 * sum(int(np.prod(s)) for s in features.NETWORKS[entry.network].shapes().values())
    assert least < entry.size < least + 500e6
    # PyTorch names files by the beginning of their hash.
    if entry.url.endswith(".pth"):
        assert re.search(r"-([0-9a-f]{8})\.pth", entry.url)[1] == entry.known_hash[7:15]


def test_fetch_asks_for_the_file_in_the_users_cache(fetches, cache):
    fetches.result = cache / "vgg.h5"
    assert catalog.fetch("vgg19") == cache / "vgg.h5"
    entry = catalog.CATALOG["vgg19"]
    target = cache / "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert fetches == [(entry.url, target, entry.known_hash, entry.size, None)]


@pytest.mark.parametrize("base", ["http://mirror:8000/vgg", "http://mirror:8000/vgg/"])
def test_a_mirror_by_variable(fetches, monkeypatch, base):
    monkeypatch.setenv("JAXSTYLE_WEIGHTS_URL", base)
    fetches.result = fetching.Failure("it is not there (HTTP 404)")
    with pytest.raises(InputError, match="from http://mirror:8000/vgg/vgg16-397923af.pth: it is"):
        catalog.fetch("vgg16-torchvision")


def test_a_password_in_the_address_is_used_and_not_shown(fetches, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_WEIGHTS_URL", "https://me:secret@mirror/vgg")
    with pytest.raises(InputError) as error:
        catalog.fetch("vgg16-torchvision")
    assert "from https://mirror/vgg/vgg16-397923af.pth" in str(error.value)
    assert "secret" not in str(error.value)
    assert fetches[0][0] == "https://me:secret@mirror/vgg/vgg16-397923af.pth"


def test_a_mirror_that_is_no_address(fetches, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_WEIGHTS_URL", "/mnt/weights")
    with pytest.raises(InputError, match="JAXSTYLE_WEIGHTS_URL is '/mnt/weights', but must begin"):
        catalog.fetch("vgg16")
    assert not fetches


def test_one_sentence_helps_on(fetches):
    fetches.result = fetching.Failure("there is no connection to the server", "try again later, ")
    with pytest.raises(InputError) as error:
        load_weights("vgg16")
    message = str(error.value)
    assert message.startswith("the weights of vgg16 could not be fetched from https://storage")
    for way in ("try again later", "JAXSTYLE_WEIGHTS_URL", "features.weights=FILE", "=embedded"):
        assert way in message
    assert "\n" not in message and len(message) < 500


def test_unknown_names():
    with pytest.raises(InputError, match="unknown published network 'vgg18'; did you mean 'vgg1"):
        catalog.fetch("vgg18")
    with pytest.raises(InputError, match="unknown network 'vgg16-torch'.*vgg16-torchvision"):
        load_weights("vgg16-torch")


def test_a_local_file_is_never_fetched(fetches, tmp_path):
    with pytest.raises(InputError, match="there is no weights file"):
        load_weights("vgg16", tmp_path / "mine.h5")
    assert not fetches


@pytest.mark.parametrize("name", ["vgg16", "vgg16-torchvision"])
def test_a_name_brings_its_network_and_convention(fetches, tmp_path, name):
    arrays = {"conv1_1/kernel": np.ones((3, 3, 3, 2)), "conv1_1/bias": np.ones(2)}
    np.savez(tmp_path / "thin.npz", **arrays)
    fetches.result = tmp_path / "thin.npz"
    network = load_weights(name).network
    assert network.name == "vgg16"
    assert network.convention == features.CONVENTIONS[catalog.CATALOG[name].convention]


def test_what_is_cached(cache):
    name = "vgg16"
    assert catalog.cached(name) is None
    cache.mkdir(parents=True)
    file = cache / catalog.CATALOG[name].file_name
    file.write_bytes(b"part")
    assert catalog.cached(name) is None
    with file.open("wb") as content:
        content.truncate(catalog.CATALOG[name].size)  # a file with a hole
    assert catalog.cached(name) == file
    assert catalog.published_as(file) == ""  # of the right length, but not it
