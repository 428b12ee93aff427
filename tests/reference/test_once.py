import os

from niriss_eestep.reference import load_psf_images, load_psfee, load_throughput
from niriss_eestep.reference.guards import read_once


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    reads = []

    @read_once
    def reader(path, upper=False):
        reads.append(path)
        text = path.read_text()
        return text.upper() if upper else text

    assert [reader(path), reader(str(path)), reader(path, True)] == ["one", "one", "ONE"]
    assert len(reads) == 2
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert reader(path) == "two"


def test_a_directory_is_read_again_when_one_of_its_files_has_changed(tmp_path):
    (tmp_path / "a.txt").write_text("one")

    @read_once
    def reader(path):
        return {file.name: file.read_text() for file in path.iterdir()}

    first = reader(tmp_path)
    assert reader(tmp_path) is first
    (tmp_path / "b.txt").write_text("two")
    assert set(reader(tmp_path)) == {"a.txt", "b.txt"}


def test_errors_are_not_remembered(tmp_path):
    @read_once
    def reader(path):
        return path.read_text()

    for _ in range(2):
        try:
            reader(tmp_path / "none.txt")
        except FileNotFoundError:
            (tmp_path / "none.txt").write_text("there")
    assert reader(tmp_path / "none.txt") == "there"


def test_packaged_references_are_read_once():
    for load in (load_psfee, load_psf_images):
        assert load() is load()
    assert load_throughput() is load_throughput()
