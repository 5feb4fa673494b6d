"""Published files: fetched once, by hash, into the user's cache; offline one sentence helps on."""

import re

import pooch
import pytest

from jaxstyle.types import InputError
from jaxstyle.weights import catalog, load_weights


@pytest.fixture
def retrieve(monkeypatch, tmp_path):
    """Calls of pooch instead of downloads; set `.result` to a path or an exception."""

    class Retrieve:
        def __init__(self):
            self.calls, self.result = [], OSError("not set")

        def __call__(self, url, **options):
            self.calls.append((url, options))
            if isinstance(self.result, Exception):
                raise self.result
            return str(self.result)

    stub = Retrieve()
    monkeypatch.setattr(pooch, "retrieve", stub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return stub


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_entries_are_complete(name):
    entry = catalog.CATALOG[name]
    assert (
        entry.url.startswith("https://") and entry.url.endswith("_notop.h5") and name in entry.url
    )
    assert re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", entry.known_hash)
    assert entry.license.startswith("CC BY 4.0")


def test_fetch_asks_for_the_file_with_its_hash_in_the_users_cache(retrieve, tmp_path):
    retrieve.result = tmp_path / "vgg.h5"
    assert catalog.fetch("vgg19") == tmp_path / "vgg.h5"
    [(url, options)] = retrieve.calls
    entry = catalog.CATALOG["vgg19"]
    assert (url, options["known_hash"]) == (entry.url, entry.known_hash)
    assert options["path"] == tmp_path / "cache" / "jaxstyle" / "weights"
    assert options["fname"] == "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.mark.parametrize(
    "reason",
    [
        OSError("HTTPSConnectionPool(host='storage.googleapis.com'):\n Max retries exceeded" * 9),
        ValueError("MD5 hash of downloaded file does not match the known hash"),
        PermissionError("cannot write"),
    ],
)
def test_without_network_one_sentence_helps_on(retrieve, reason):
    retrieve.result = reason
    with pytest.raises(InputError) as error:
        load_weights("vgg16")
    message = str(error.value)
    assert message.startswith("the weights of vgg16 could not be fetched from https://storage")
    assert "features.weights=FILE" in message and "features.name=embedded" in message
    assert "\n" not in message and len(message) < 500


def test_a_local_file_is_never_fetched(retrieve, tmp_path):
    with pytest.raises(InputError, match="there is no weights file"):
        load_weights("vgg16", tmp_path / "mine.h5")
    assert not retrieve.calls
