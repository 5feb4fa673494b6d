import os
import pathlib
import pickle
import threading
import zipfile

import pytest

from jaxstyle.data import files
from jaxstyle.types import InputError


def write(path: pathlib.Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def zip_of(path: pathlib.Path, entries: dict[str, bytes], **options: int) -> pathlib.Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_a_folder_lists_pictures_recursively_in_the_order_of_their_paths(tmp_path):
    for name in [
        "b/2.PNG",
        "b.jpg",
        "a/Ä ö 写真.JPeG",
        "z.webp",
        "notes.txt",
        "b/deep/er/1.tif",
        "jpg",
    ]:
        write(tmp_path / name, name.encode())
    found = files.folder_files(tmp_path)
    assert found.names == ("a/Ä ö 写真.JPeG", "b.jpg", "b/2.PNG", "b/deep/er/1.tif", "z.webp")
    assert [found.read(i).decode() for i in range(5)] == list(found.names)


@pytest.mark.parametrize(
    "name", [".hidden.jpg", "._a.jpg", "__MACOSX/a.jpg", "x/.thumbs/a.png", "a.jpg.txt"]
)
def test_hidden_files_are_not_pictures(name):
    assert not files.is_picture(name)
    assert files.is_picture("visible/a.jpg")


def test_linked_folders_count_once_and_loops_end(tmp_path):
    write(tmp_path / "outside/1.png")
    write(tmp_path / "photos/2.png")
    (tmp_path / "photos/link").symlink_to(tmp_path / "outside")
    (tmp_path / "photos/other_link").symlink_to(tmp_path / "outside")
    (tmp_path / "photos/loop").symlink_to(tmp_path / "photos")
    assert files.folder_files(tmp_path / "photos").names == ("2.png", "link/1.png")


def test_an_empty_folder_and_an_empty_zip_are_refused(tmp_path):
    write(tmp_path / "folder/readme.md")
    with pytest.raises(InputError, match=r"holds no photographs; their names must end in \.bmp"):
        files.folder_files(tmp_path / "folder")
    with pytest.raises(InputError, match="holds no photographs"):
        files.zip_files(zip_of(tmp_path / "a.zip", {"readme.md": b""}))


def test_a_zip_equals_the_folder_it_was_made_of(tmp_path):
    entries = {"b/2.PNG": b"two", "b.jpg": b"b", "a/Ä 写真.jpg": b"one", "notes.txt": b"no"}
    for name, data in entries.items():
        write(tmp_path / "folder" / name, data)
    path = zip_of(tmp_path / "a.zip", entries, compression=zipfile.ZIP_DEFLATED)
    folder, zipped = files.folder_files(tmp_path / "folder"), files.zip_files(path)
    assert zipped.names == folder.names
    assert [zipped.read(i) for i in range(3)] == [folder.read(i) for i in range(3)]


def test_a_zip_is_read_by_many_threads_and_after_pickling(tmp_path):
    entries = {f"{i:03}.jpg": os.urandom(5000) for i in range(40)}
    zipped = files.zip_files(zip_of(tmp_path / "a.zip", entries))
    assert zipped.read(3) == entries["003.jpg"]  # opened: an open file must not be pickled
    copy = pickle.loads(pickle.dumps(zipped))
    wrong = []

    def read_all(start: int) -> None:
        for i in range(40):
            name = zipped.names[(start + i) % 40]
            if copy.read((start + i) % 40) != entries[name]:
                wrong.append(name)

    threads = [threading.Thread(target=read_all, args=(5 * k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_a_forked_child_opens_the_zip_for_itself(tmp_path):
    zipped = files.zip_files(zip_of(tmp_path / "a.zip", {"0.jpg": b"zero", "1.jpg": b"one"}))
    zipped.read(0)
    opened_by_parent = zipped._zip
    child = os.fork()
    if child == 0:
        right = zipped.read(1) == b"one" and zipped._zip is not opened_by_parent
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert zipped.read(1) == b"one"


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"0.jpg": b"zero"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= (
        1  # the encryption bits of the entry and of the directory
    )
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted; unpack it and give the folder instead"):
        files.zip_files(path)


@pytest.mark.parametrize("keep", [0, 10, 100])
def test_a_broken_zip_is_refused(tmp_path, keep):
    path = zip_of(tmp_path / "a.zip", {"0.jpg": b"zero" * 100})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="cannot be read as a zip .* copy it again"):
        files.zip_files(path)
