"""Files: whole or not at all, and nothing that a stranger writes does harm."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import asdf
import numpy as np
import pytest
from numpy.lib import recfunctions as rfn

from niriss_eestep.errors import ProductError
from niriss_eestep.products import open as open_product
from niriss_eestep.products import save_product


@pytest.fixture
def saved(products, tmp_path):
    return save_product(products["ee_profile"], tmp_path / "a_eeprofile.asdf")


@pytest.mark.parametrize("kind", ["ee_profile", "sb_profile", "combined_ee", "combined_sb", "abs_flux"])
def test_open_gives_the_class_and_arrays_outlive_the_file(products, kind, tmp_path):
    path = save_product(products[kind], tmp_path / "a.asdf")
    model = open_product(path)
    path.unlink()
    assert type(model) is type(products[kind])
    np.testing.assert_array_equal(model.radius, products[kind].radius)
    model.radius[0] = 7.0  # writable


def test_older_tables_get_the_columns_that_came_later(products, tmp_path):
    model = products["abs_flux"]
    new = {"err_flat", "err_sky", "significance", "chi2_dof"}
    path = save_product(model, tmp_path / "a.asdf")
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        tree = {key: value for key, value in file.tree.items() if key not in ("asdf_library", "history")}
    kept = [name for name in tree["table"].dtype.names if name not in new]
    tree["table"] = rfn.repack_fields(tree["table"][kept])
    asdf.AsdfFile(tree).write_to(path)
    opened = open_product(path).table
    for name in kept:
        np.testing.assert_array_equal(opened[name], model.table[name])
    assert opened.dtype.names == model.table.dtype.names
    for name, value in (("err_flat", 0), ("err_sky", 0), ("significance", np.nan), ("chi2_dof", np.nan)):
        np.testing.assert_array_equal(opened[name], value)
    # a column that has always been there has no default
    tree["table"] = rfn.repack_fields(tree["table"][[name for name in kept if name != "err_gain"]])
    asdf.AsdfFile(tree).write_to(path)
    with pytest.raises(ProductError, match=r"missing \['err_gain'"):
        open_product(path)


def test_open_hands_a_model_back(products):
    assert open_product(products["ee_profile"]) is products["ee_profile"]


def test_saving_what_was_opened_gives_the_same_product(saved, tmp_path):
    again = save_product(open_product(saved), tmp_path / "b.asdf")
    first, second = open_product(saved), open_product(again)
    second.meta.filename, second.meta.date = first.meta.filename, first.meta.date
    flat = first.to_flat_dict()
    assert flat.keys() == second.to_flat_dict().keys()
    for key, value in second.to_flat_dict().items():
        np.testing.assert_array_equal(value, flat[key], err_msg=key)


def test_history_survives(products, tmp_path):
    model = products["ee_profile"]
    model.add_history_entry("measured again")
    found = open_product(open_product(model.save(tmp_path / "a.asdf")).save(tmp_path / "b.asdf"))
    assert found._instance["history"]["entries"][0]["description"] == "measured again"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "empty file"),
        (b"SIMPLE  =                    T", "not an ASDF file"),
        (b"#ASDF 1.0.0\n", "truncated"),
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\n- a\n...\n", "not a product: its root is no mapping"),
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\nmeta: {model_type: ImageModel}\n...\n", "model type ImageModel"),
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\nmeta: {model_type: EEProfileModel}\n...\n", "not a product"),
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\nmeta: {model_type: [1]}\n...\n", r"model type \[1\]"),
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\nmeta: {a: b\n...\n", "not a product: ParserError"),
        (
            b"#ASDF 1.0.0\n%YAML 1.1\n---\na: " + b"[" * 100_000 + b"]" * 100_000 + b"\n...\n",
            "nested deeper|nesting depth|while increasing flow level",
        ),  # LibYAML has a limit too
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\na:\n" + b"- " * 100_000 + b"1\n...\n", "nested deeper"),
        (b"#ASDF 1.0.0\n%YAML 1.1\n---\na: !!python/object/apply:os.system ['touch pwned']\n...\n", "an unknown type"),
    ],
)
def test_what_is_no_product_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = Path("stranger_eeprofile.asdf")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProductError, match=message) as error:
        open_product(path)
    assert str(error.value).startswith("stranger_eeprofile.asdf: ")
    assert not Path("pwned").exists()


def test_folder_is_no_product(tmp_path):
    with pytest.raises(ProductError, match="is a directory, not a file"):
        open_product(tmp_path)


def test_aliases_that_expand_without_end_are_refused(saved):
    # ten levels of ten aliases each stand for 10^10 entries
    bomb = "lol0: &l0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"lol{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 10)
    )
    _edit(saved, rb"\nmeta:", b"\n" + bomb.encode() + b"meta:")
    with pytest.raises(ProductError, match="expand further"):
        open_product(saved)


@pytest.mark.parametrize("source", [b"http://127.0.0.1:9/x.asdf", b"file:///etc/passwd", b"other.asdf"])
def test_external_arrays_are_not_followed(saved, source):
    _edit(saved, rb"source: 0\n", b"source: " + source + b"\n")
    with pytest.raises(ProductError, match="refers to another file"):
        open_product(saved)


def test_external_references_are_not_followed(saved):
    _edit(saved, rb"\nmeta:", b"\nother: {$ref: 'http://127.0.0.1:9/x.asdf#/a'}\nmeta:")
    with pytest.raises(ProductError, match="refers to another file"):
        open_product(saved)


def test_foreign_objects_are_not_made(saved):
    _edit(saved, rb"\nmeta:", b"\nother: !<tag:stsci.edu:asdf/time/time-1.1.0> '2026-01-01'\nmeta:")
    with pytest.raises(ProductError, match="an unknown type: tag:stsci"):
        open_product(saved)


def test_decompression_bomb_is_refused_before_it_expands(tmp_path):
    path = tmp_path / "bomb_eeprofile.asdf"
    asdf.AsdfFile({"radius": np.zeros(100)}).write_to(path, all_array_compression="zlib")
    data = path.read_bytes()
    header = data.index(b"\xd3BLK") + 6
    # flags, compression, allocated, used, then the size that the block claims to have when expanded
    data = data[: header + 24] + (10**12).to_bytes(8, "big") + data[header + 32 :]
    path.write_bytes(data)
    with pytest.raises(ProductError, match="expand to 1000000000000 bytes"):
        open_product(path)


def test_compressed_product_opens(products, tmp_path):
    products["ee_profile"].to_asdf(tmp_path / "a.asdf", all_array_compression="zlib")
    np.testing.assert_array_equal(open_product(tmp_path / "a.asdf").radius, products["ee_profile"].radius)


@pytest.mark.parametrize(
    ("version", "remedy"), [("1.0.1", "upgrade"), ("2.0.0", "upgrade"), ("0.9.0", "make the product again")]
)
def test_other_schema_versions_are_refused_with_a_remedy(saved, version, remedy):
    _edit(saved, rb"ee_profile-1\.0\.0", f"ee_profile-{version}".encode())
    with pytest.raises(ProductError, match=remedy):
        open_product(saved)


def test_truncated_file_is_refused_at_every_length(saved):
    data = saved.read_bytes()
    # the block index behind the last array only makes a file faster to open
    needed = data.index(b"#ASDF BLOCK INDEX")
    for length in range(0, needed, 97):
        saved.write_bytes(data[:length])
        with pytest.raises(ProductError):
            open_product(saved)


def test_flipped_bit_in_an_array_is_noticed(saved):
    data = bytearray(saved.read_bytes())
    data[data.index(b"\xd3BLK") + 60] ^= 1  # behind the 54 bytes of the header
    saved.write_bytes(data)
    with pytest.raises(ProductError, match="checksum"):
        open_product(saved)


def test_damaged_bytes_raise_nothing_else(saved):
    rng = np.random.default_rng(20260701)
    data = saved.read_bytes()
    text = np.frombuffer(b"[]{}:-!&*#'\"\n 0123456789.~,", np.uint8)
    opened = 0
    for case in range(300):
        damaged = bytearray(data)
        where = rng.integers(len(data) if case % 2 else data.index(b"\n..."), size=3)
        for position in where:
            damaged[position] = rng.integers(256) if case % 3 else rng.choice(text)
        saved.write_bytes(damaged)
        try:
            open_product(saved)
            opened += 1
        except ProductError:
            pass
    # most of the text matters; a changed digit of a float does not show
    assert opened < 150


def test_name_must_end_in_asdf(products, tmp_path):
    with pytest.raises(ProductError, match=r"ends in \.asdf"):
        save_product(products["ee_profile"], tmp_path / "a.fits")


def test_missing_folder(products, tmp_path):
    with pytest.raises(ProductError, match="cannot be written: No such file or directory"):
        save_product(products["ee_profile"], tmp_path / "missing" / "a.asdf")


def test_folder_that_is_a_file(products, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProductError, match="cannot be written: Not a directory"):
        save_product(products["ee_profile"], tmp_path / "file" / "a.asdf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_unwritable_folder(products, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ProductError, match="cannot be written: Permission denied"):
        save_product(products["ee_profile"], tmp_path / "a.asdf")


def test_full_disk_leaves_the_old_product_and_nothing_else(products, saved):
    old = saved.read_bytes()
    model = products["ee_profile"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # a file larger than the limit fails half way, as on a full disk; python ignores SIGXFSZ
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ProductError, match=os.strerror(errno.EFBIG)):
            model.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == old
    assert list(saved.parent.iterdir()) == [saved]


def test_link_is_replaced_not_followed(products, tmp_path):
    victim, link = tmp_path / "victim.txt", tmp_path / "a.asdf"
    victim.write_text("precious")
    link.symlink_to(victim)
    save_product(products["ee_profile"], link)
    assert victim.read_text() == "precious"
    assert not link.is_symlink()


def test_killed_writer_leaves_whole_products_only(saved, tmp_path):
    target = tmp_path / "target.asdf"
    code = (
        "import sys, pathlib; from niriss_eestep.products.files import write_atomically\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "print('ready', flush=True)\n"
        "while True: write_atomically(sys.argv[2], data)\n"
    )
    whole = saved.read_bytes()
    for delay in (0.0, 0.003, 0.011):
        writer = subprocess.Popen([sys.executable, "-c", code, str(saved), str(target)], stdout=subprocess.PIPE)
        with writer:
            writer.stdout.readline()
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        if target.exists():
            assert target.read_bytes() == whole
    (tmp_path / f".target.asdf.elsewhere-{writer.pid}-1.tmp").touch()  # another machine's writer may still be running
    # the next process that writes into the directory
    subprocess.run([sys.executable, "-c", code.replace("while True: ", ""), str(saved), str(target)], check=True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tmp") == [
        f".target.asdf.elsewhere-{writer.pid}-1.tmp"
    ]
    assert target.read_bytes() == whole


def _edit(path, pattern, replacement):
    """Replace the first match in a file's text."""
    data = path.read_bytes()
    changed = re.sub(pattern, lambda _: replacement, data, count=1)
    assert changed != data
    path.write_bytes(changed)
