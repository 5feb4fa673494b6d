"""Weights of every format: nothing is executed, nothing grows without end, all is said."""

import io
import pickle
import pickletools
import struct
import tracemalloc
import zipfile
import zlib

import fuzz_kit
import fuzz_seeds
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle.io import foreign_files
from jaxstyle.types import InputError
from jaxstyle.weights import formats, matlab
from jaxstyle.weights.pth import read_pth


def _refused(file, words: str, read=formats.read) -> None:
    """Assert that a file is refused with these words, in little memory."""
    tracemalloc.start()
    with pytest.raises(InputError, match=words) as error:
        read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    fuzz_kit.assert_sentence(str(error.value))
    assert peak < 50e6


@pytest.mark.parametrize("kind", fuzz_seeds.weights())
def test_the_seeds_are_weights(tmp_path, kind):
    found = formats.read(fuzz_kit.write(tmp_path, "x", fuzz_seeds.weights()[kind]))
    expected = fuzz_seeds.network()
    assert {*found.convolutions} == {*expected}
    for name, parts in expected.items():
        if kind.startswith("mat") and name == "conv1_1":  # which turns RGB into BGR
            continue
        np.testing.assert_array_equal(found.convolutions[name]["kernel"], parts["kernel"])


@pytest.mark.parametrize("kind", fuzz_seeds.weights())
def test_damaged_files(tmp_path, kind):
    suffix = {"npz": ".npz", "pth": ".pth"}.get(kind.partition("-")[0], "")
    seed = fuzz_seeds.weights()[kind]

    @fuzz_kit.fuzzed(60)
    @given(changes=fuzz_kit.edits())
    def look(changes):
        file = fuzz_kit.write(tmp_path, f"x{suffix}", fuzz_kit.damaged(seed, changes))
        fuzz_kit.tried(formats.read, file)
        if suffix:
            fuzz_kit.tried(foreign_files.read_arrays, file)

    look()


# --- Pickles ---

torch_files = fuzz_seeds.torch_files
DANGEROUS = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"),
    ("builtins", "eval"), ("builtins", "exec"), ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "eval"), ("builtins", "open"), ("builtins", "compile"), ("pickle", "loads"),
    ("_pickle", "loads"), ("runpy", "run_path"), ("importlib", "import_module"),
    ("code", "interact"),
    ("operator", "attrgetter"), ("operator", "methodcaller"), ("functools", "partial"),
    ("functools", "reduce"), ("types", "FunctionType"), ("types", "CodeType"), ("marshal", "loads"),
    ("ctypes", "CDLL"), ("webbrowser", "open"), ("pydoc", "pipepager"), ("timeit", "timeit"),
    ("cProfile", "run"), ("bdb", "Bdb"), ("pdb", "run"), ("asyncio", "create_subprocess_shell"),
    ("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"), ("torch._utils", "_rebuild_x"),
    ("torch.storage", "_load_from_bytes"), ("torch.serialization", "load"), ("numpy", "load"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy.testing._private.utils", "runstring"),
    ("collections", "OrderedDict.update"), ("collections", "defaultdict"), ("shutil", "rmtree"),
    ("pty", "spawn"), ("multiprocessing.util", "spawnv_passfds"), ("logging.config", "listen"),
    ("test.support.script_helper", "assert_python_ok"), ("distutils.spawn", "spawn"),
]  # fmt: skip


def _calls(module: str, name: str, argument: str) -> list[bytes]:
    """Every way in which a pickle can name something and call it."""
    text, short = torch_files.text, module.encode() + b"\n" + name.encode() + b"\n"
    called = torch_files.tuple_of(text(argument))
    stacked = text(module) + text(name) + b"\x93"
    return [
        b"c" + short + called + b"R",  # GLOBAL, REDUCE
        stacked + called + b"R",  # STACK_GLOBAL
        b"(" + text(argument) + b"i" + short,  # INST
        b"(c" + short + text(argument) + b"o",  # OBJ
        b"c" + short + called + b"\x81",  # NEWOBJ
        b"c" + short + called + b"}\x92",  # NEWOBJ_EX
        b"c" + short + b")R" + b"}" + text("__setstate__") + text(argument) + b"sb",  # BUILD
        b"\x82\x01",  # EXT1
        b"\x83\x01\x00",  # EXT2
        b"\x84\x01\x00\x00\x00",  # EXT4
        b"P" + short,  # PERSID
        text(argument) + b"Q",  # BINPERSID
        b"\x97",  # NEXT_BUFFER
    ]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("module,name", DANGEROUS, ids=".".join)
def test_no_pickle_is_executed(tmp_path, module, name, legacy):
    canary = tmp_path / "canary"
    command = f"touch {canary}"
    ways = _calls(module, name, command)
    for body in ways if name == "system" else ways[:3]:
        held = b"}" + torch_files.text("conv1_1.weight") + body + b"s"
        for pickled in (body, held):
            file = tmp_path / "x.pth"
            writer = torch_files.write_legacy if legacy else torch_files.write_zip
            writer(file, torch_files.pickled(pickled), [])
            with pytest.raises(InputError) as error:
                read_pth(file)
            fuzz_kit.assert_sentence(str(error.value))
            assert not canary.exists()


class _Bad:
    """What Python's own pickler makes of an object that wants to run a command."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_as_python_writes_them(tmp_path, protocol):
    canary = tmp_path / "canary"
    content = pickle.dumps({"a": _Bad(canary)}, protocol)
    assert not canary.exists()
    file = fuzz_kit.write(tmp_path, "x.pth", fuzz_seeds.zipped({"archive/data.pkl": content}))
    _refused(file, "nothing was executed", read_pth)
    file = tmp_path / "y.pth"
    torch_files.write_legacy(file, content, [])
    _refused(file, "nothing was executed", read_pth)
    np.savez(tmp_path / "x.npz", **{"conv1_1/kernel": np.array([_Bad(canary)], object)})
    _refused(tmp_path / "x.npz", "only running code could read")
    _refused(tmp_path / "x.npz", "allow_pickle=False", foreign_files.read_arrays)
    assert not canary.exists()
    pickle.loads(content)["a"].close()  # the pickle does what it was made for
    assert canary.exists()


# Every instruction of pickles but STOP, with whatever bytes come behind it.
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes if opcode.code != "."]


@fuzz_kit.fuzzed(200)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(OPCODES),
            st.sampled_from([b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"X\1\0\0\0a", b"K\1"]),
            st.sampled_from(
                [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"]
            ),
            st.binary(max_size=5),
        ),
        max_size=40,
    )
)
def test_instructions_in_any_order(tmp_path_factory, parts):
    body = b"\x80\x02" + b"".join(parts) + b"."
    file = tmp_path_factory.getbasetemp() / "x.pth"
    file.write_bytes(fuzz_seeds.zipped({"archive/data.pkl": body}))
    assert isinstance(fuzz_kit.tried(read_pth, file), InputError)  # no state dict by chance


@pytest.mark.parametrize("part", [b"}", b"]", b"(", b"}2", b"}\x94", b"](l"])
def test_pickles_without_end(tmp_path, part, monkeypatch):
    monkeypatch.setattr("jaxstyle.weights.pickles._MOST_INSTRUCTIONS", 10_000)
    content = {"archive/data.pkl": b"\x80\x02" + part * 20_000 + b"."}
    file = fuzz_kit.write(tmp_path, "x.pth", fuzz_seeds.zipped(content))
    _refused(file, "absurdly long pickle", read_pth)


def test_parts_of_a_zip_that_lie_on_each_other(tmp_path, monkeypatch):
    """As in the bombs of David Fifield: few bytes, of which each is in many parts."""
    arrays = {name: np.zeros(1000, np.float32) for name in ("a.weight", "b.weight")}
    file = tmp_path / "x.pth"
    torch_files.save(file, arrays)
    one = zipfile.ZipFile.open
    first = "archive/data/0"
    monkeypatch.setattr(
        zipfile.ZipFile,
        "open",
        lambda self, info, *a: one(self, first if "/data/" in info.filename else info, *a),
    )
    assert len(read_pth(file)) == 2
    monkeypatch.undo()

    body = torch_files.mapping(torch_files.tensors(arrays, False))
    torch_files.write_zip(file, torch_files.pickled(body), [bytes(4000), bytes(40)])
    many = zipfile.ZipFile.infolist

    def lying(self):
        found = many(self)
        found[3].file_size = file.stat().st_size - 100
        return found

    monkeypatch.setattr(zipfile.ZipFile, "infolist", lying)
    with pytest.raises(InputError, match="larger together than the file"):
        read_pth(file)


# --- Archives of NumPy ---


def _npy(header: bytes, version: int = 1, length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", size)
        + header
    )


def _array(descr="'<f4'", shape="(3, 3, 3, 2)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()


@pytest.mark.parametrize(
    "header",
    [
        _array(shape="(1099511627776,)"),
        _array(shape="(0, 9223372036854775807, 9223372036854775807)"),
        _array(shape="(-5,)"),
        _array(shape="(True,)"),
        _array(shape="'x'"),
        _array("'V2000000000'", "()"),
        _array("'|V0'", "(99999999999,)"),
        _array("'O'", "(1,)"),
        _array("'(100,100)f4'", "(1,)"),
        _array("[('a', '<f4')]", "(1,)"),
        _array("'M8[1000000000000s]'", "(1,)"),
        _array("__import__('os').system('false')", "(1,)"),
        b"(" * 9000,
        b"-" * 9000 + b"1",
        b"\xff" * 100,
        b"",
    ],
    ids=lambda header: header[:60].decode("latin-1"),
)
def test_headers_of_arrays(tmp_path, header):
    content = {"conv1_1/kernel.npy": _npy(header) + bytes(64)}
    file = fuzz_kit.write(tmp_path, "x.npz", fuzz_seeds.zipped(content))
    _refused(file, "x.npz'")
    fuzz_kit.tried(foreign_files.read_arrays, file)


def test_a_header_that_inflates_to_gigabytes(tmp_path):
    content = {"conv1_1/kernel.npy": _npy(b" " * (60 << 20), version=2, length=1 << 30)}
    file = fuzz_kit.write(tmp_path, "x.npz", fuzz_seeds.zipped(content, zipfile.ZIP_DEFLATED))
    _refused(file, "cannot be read as npz weights")
    _refused(file, "more than any style network has", foreign_files.read_arrays)


# --- HDF5 ---


def _h5(path, **options):
    with h5py.File(path, "w") as file:
        file["conv1_1/bias"] = np.zeros(4, np.float32)
        return file.create_dataset("conv1_1/kernel", (3, 3, 3, 4), "f4", **options).id


def test_pieces_that_inflate_to_gigabytes(tmp_path):
    """HDF5 makes room for whatever a piece inflates to."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        options = {"chunks": (3, 3, 3, 4), "compression": "gzip"}
        data = file.create_dataset("conv1_1/kernel", (3, 3, 3, 4), "f4", **options)
        data.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(100 << 20), 1))
    _refused(tmp_path / "x.h5", "inflates to more than its 432 bytes")


def test_pieces_larger_than_their_array(tmp_path):
    sides = {"maxshape": (None,) * 4, "chunks": (64, 64, 64, 64), "compression": "gzip"}
    _h5(tmp_path / "x.h5", **sides)
    _refused(tmp_path / "x.h5", "in pieces of 67 MB, more than the array has")


def test_filters_that_are_not_known(tmp_path):
    """HDF5 would look for a program that knows the filter, and load it."""
    _h5(tmp_path / "x.h5", chunks=(3, 3, 3, 4), scaleoffset=3)
    _refused(tmp_path / "x.h5", "HDF5's filter 6 in a way that is not read here")


@pytest.mark.parametrize("options", [{"compression": "lzf"}, {"compression": 9, "shuffle": True}])
def test_filters_that_are_known(tmp_path, options):
    _h5(tmp_path / "x.h5", chunks=(1, 3, 3, 4), fletcher32=True, **options)
    assert not formats.read(tmp_path / "x.h5").convolutions["conv1_1"]["kernel"].any()


def test_checksums_inside_of_what_is_packed(tmp_path):
    """PyTables puts the filters in this order; a piece is 4 bytes longer then."""
    kernel = np.arange(108, dtype=np.float32).reshape(3, 3, 3, 4)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((3, 3, 3, 4)), how.set_fletcher32(), how.set_deflate(5)
        place, kind = h5py.h5s.create_simple((3, 3, 3, 4)), h5py.h5t.NATIVE_FLOAT
        group = file.create_group("conv1_1")
        h5py.Dataset(h5py.h5d.create(group.id, b"kernel", kind, place, how))[:] = kernel
    found = formats.read(tmp_path / "x.h5").convolutions["conv1_1"]["kernel"]
    np.testing.assert_array_equal(found, kernel)


def test_groups_in_groups(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.id
        for _ in range(200):
            group = h5py.h5g.create(group, b"g")
    _refused(tmp_path / "x.h5", "groups in groups without end")


def test_links_of_every_kind(tmp_path):
    kernel = np.ones((3, 3, 3, 4), np.float32)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = kernel
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["conv1_1/bias"] = np.zeros(4, np.float32)
        file["conv1_1/kernel"] = h5py.ExternalLink("other.h5", "/kernel")
        file["loop"] = h5py.SoftLink("/loop")
        file["nowhere"] = h5py.SoftLink("/no/where")
        file["circle"] = file["/"]  # a hard link to the group above
        layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "kernel", (3, 3, 3, 4))
        file.create_virtual_dataset("conv1_2/kernel", layout)
        file["text"] = "no number"
        file["nothing"] = h5py.Empty("f4")
    found = formats.read(tmp_path / "x.h5")
    assert {name: [*parts] for name, parts in found.convolutions.items()} == {"conv1_1": ["bias"]}


# --- safetensors and MATLAB ---

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        fuzz_seeds.safetensors_file({}, length=2**63),
        fuzz_seeds.safetensors_file({"a": ENTRY}, bytes(4), length=1),
        fuzz_seeds.safetensors_file(b'{"a":' + b"[" * 100_000),
        fuzz_seeds.safetensors_file({"conv1_1/bias": ENTRY, "conv1_2/bias": ENTRY}, bytes(4)),
        fuzz_seeds.safetensors_file({"a": ENTRY | {"data_offsets": [4, 0]}}, bytes(4)),
        fuzz_seeds.safetensors_file({"a": ENTRY | {"shape": [2**63]}}, bytes(4)),
        fuzz_seeds.safetensors_file({"a": ENTRY | {"shape": [-1]}}, bytes(4)),
        fuzz_seeds.safetensors_file({"a": ENTRY | {"dtype": "F33"}}, bytes(4)),
        fuzz_seeds.safetensors_file(b'{"__metadata__":{"convention":"\\ud800"}}'),
        fuzz_seeds.safetensors_file([1, 2]),
    ],
    ids=[
        "long",
        "short",
        "deep",
        "overlap",
        "backwards",
        "huge",
        "negative",
        "kind",
        "text",
        "list",
    ],
)
def test_headers_of_safetensors(tmp_path, content):
    _refused(fuzz_kit.write(tmp_path, "x.safetensors", content), "x.safetensors'")


def test_one_name_twice(tmp_path):
    text = b'{"conv1_1/bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 2
    file = fuzz_kit.write(
        tmp_path, "x", fuzz_seeds.safetensors_file(text[:-1].replace(b",{", b",") + b"}", bytes(4))
    )
    fuzz_kit.tried(formats.read, file)


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def _cells(count: int, content: bytes) -> bytes:
    head = _element(6, struct.pack("<II", 1, 0)) + _element(5, struct.pack("<ii", 1, count))
    return _element(14, head + _element(1, b"layers") + content)


MATLAB = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"


def test_cells_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "_MOST_ELEMENTS", 2000)
    content = _cells(2**31 - 1, struct.pack("<II", 14, 0) * 3000)
    _refused(fuzz_kit.write(tmp_path, "x.mat", MATLAB + content), "absurdly many parts")
    packed = zlib.compress(content)
    small = MATLAB + struct.pack("<II", 15, len(packed)) + packed
    _refused(fuzz_kit.write(tmp_path, "y.mat", small), "absurdly many parts")


def test_cells_in_cells(tmp_path):
    content = b""
    for _ in range(500):
        content = _cells(1, content)
    _refused(fuzz_kit.write(tmp_path, "x.mat", MATLAB + content), "an array without a shape")


def test_noise(tmp_path):
    starts = [b"", b"PK\3\4", b"\x89HDF\r\n\x1a\n", MATLAB, torch_files.MAGIC, b"\0" * 8 + b"{"]

    @fuzz_kit.fuzzed(60)
    @given(start=st.sampled_from(starts), rest=st.binary(max_size=300))
    def look(start, rest):
        file = fuzz_kit.write(tmp_path, "x.pth", start + rest)
        assert isinstance(fuzz_kit.tried(formats.read, file), InputError)
        assert isinstance(fuzz_kit.tried(foreign_files.read_arrays, file), InputError)

    look()


def test_an_archive_of_empty_parts(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("conv1_1/kernel.npy", "data.pkl", "a/data.pkl", "../x.npy", "/etc/passwd.npy"):
            archive.writestr(name, b"")
    _refused(fuzz_kit.write(tmp_path, "x.npz", out.getvalue()), "x.npz'")
