"""Saved states: the safetensors library reads what is written here, and the reverse."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from chainrule.neural_networks.backpropagation import (
    Linear,
    StateFileError,
    Tensor,
    load_metadata,
    load_state,
    save_state,
    serialization,
)

TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def example(rng):
    state = {f"a.{kind}": (rng.standard_normal((2, 3)) * 9).astype(kind) for kind in TYPES}
    return {**state, "scalar": np.array(3.5), "empty": np.ones((0, 4), np.float32)}


def test_both_directions_against_the_library(rng, tmp_path):
    state = example(rng)
    save_state(tmp_path / "ours", state, {"step": "7"})
    safetensors.numpy.save_file(state, tmp_path / "theirs", {"step": "8"})
    for found in (safetensors.numpy.load_file(tmp_path / "ours"), load_state(tmp_path / "theirs"),
                  load_state(tmp_path / "ours")):  # fmt: skip
        assert sorted(found) == sorted(state)
        for name, array in state.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert load_metadata(tmp_path / "ours") == {"step": "7"}
    assert load_metadata(tmp_path / "theirs") == {"step": "8"}
    loaded = load_state(tmp_path / "ours")["a.f4"]
    loaded += 1  # is writeable, and nobody else's
    save_state(tmp_path / "views", {"t": Tensor(np.arange(6.0).reshape(2, 3).T)})
    np.testing.assert_array_equal(load_state(tmp_path / "views")["t"], [[0, 3], [1, 4], [2, 5]])
    assert load_metadata(tmp_path / "views") == {}


def damaged(content, damage):
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    damage(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda h: h["weight"].update(dtype="F8_E4M3"), "type F8_E4M3, which NumPy lacks"),
        (lambda h: h["weight"].update(shape=[2, 2]), r"weight with shape \(2, 2\)"),
        (lambda h: h["weight"].update(shape=[-3, -2]), "malformed"),
        (lambda h: h["weight"].pop("shape"), "malformed"),
        (lambda h: h["weight"].update(data_offsets=[1]), "malformed"),
        (lambda h: h.update(weight=3), "malformed"),
        (lambda h: h.pop("weight"), "does not fill bytes"),
        (lambda h: h["bias"].update(data_offsets=[0, 12]), "does not fill bytes"),
    ],
)
def test_a_damaged_header_is_one_clear_line(damage, message, rng, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, Linear(2, 3, rng=rng).state_dict())
    path.write_bytes(damaged(path.read_bytes(), damage))
    with pytest.raises(StateFileError, match=message) as error:
        load_state(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_truncation_is_noticed(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, Linear(2, 3, rng=rng).state_dict())
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(StateFileError, match="cut short"):
            load_state(path)
    path.write_bytes(content + b"x")
    with pytest.raises(StateFileError, match="1 bytes belong to no array"):
        load_state(path)
    for junk in (b"\x80\x04" * 50, b"[]" * 20, struct.pack("<Q", 2) + b"[]",
                 struct.pack("<Q", 4) + b"nope"):  # fmt: skip
        path.write_bytes(junk)
        with pytest.raises(StateFileError):
            load_state(path)
    with pytest.raises(StateFileError, match="No such file"):
        load_state(tmp_path / "absent")
    with pytest.raises(StateFileError):
        load_state(tmp_path)


def test_a_failed_write_leaves_the_old_file(rng, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_state(path, {"w": np.zeros(3)})
    inode = path.stat().st_ino
    save_state(path, {"w": np.zeros(3)})
    assert path.stat().st_ino != inode  # a new file took the name; the old one was not touched
    before = path.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(serialization.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(path, {"w": np.ones(3)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    with pytest.raises(StateFileError, match="complex128"):
        save_state(path, {"w": np.ones(3, complex)})
    assert path.read_bytes() == before
