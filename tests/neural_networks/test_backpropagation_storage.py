"""Saved states: the safetensors library reads what is written here, and the reverse."""

import json
import os
import struct
from inspect import unwrap

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

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
        (lambda h: h["bias"].update(data_offsets=[2**63, 2**63 + 12]), "does not fill bytes"),
        (lambda h: h["bias"].update(data_offsets=[24, 10**4000]), "malformed"),
        (lambda h: h["weight"].update(shape=[10**4000] * 50), "malformed"),
        (lambda h: h["weight"].update(shape=[2**63, 2]), "does not fill bytes"),
        (lambda h: h["weight"].update(shape=[1] * 65), "malformed"),
        (lambda h: h["weight"].update(shape=[2, True]), "malformed"),
        (lambda h: h["weight"].update(shape=[2, 3.0]), "malformed"),
        (lambda h: h["weight"].update(dtype="x\n" * 99), "which NumPy lacks"),
        (lambda h: h.update({"a\nb": h.pop("weight")}), None),
    ],
)
def test_a_damaged_header_is_one_clear_line(damage, message, rng, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, Linear(2, 3, rng=rng).state_dict())
    path.write_bytes(damaged(path.read_bytes(), damage))
    if message is None:
        load_state(path)  # odd, but well formed
        return
    with pytest.raises(StateFileError, match=message) as error:
        load_state(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 250


def test_strange_files_end_in_one_clear_line(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    os.mkfifo(tmp_path / "pipe")
    for other in ("/dev/zero", tmp_path / "pipe", tmp_path):
        with pytest.raises(StateFileError, match="not a file"):
            load_state(other)
    for header in (b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000, b"\xff\xfe", b'{"a":1,"a":1}'):
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        with pytest.raises(StateFileError, match="not a safetensors file"):
            load_state(path)
    path.write_bytes(struct.pack("<Q", 2**64 - 1) + b"{}")
    with pytest.raises(StateFileError, match="cut short"):
        load_state(path)
    monkeypatch.setattr(serialization, "MAX_HEADER_BYTES", 100)
    path.write_bytes(struct.pack("<Q", 101) + b"{}" + b" " * 99)
    with pytest.raises(StateFileError, match="header is longer than 100 bytes"):
        load_state(path)


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


# ---- bfloat16 and files in parts ---------------------------------------------------------------


def test_bfloat16_is_read_as_pytorch_reads_it(rng, tmp_path):
    exact = torch.tensor(rng.standard_normal((3, 5)) * 10.0 ** rng.integers(-30, 30, (3, 5)))
    specials = torch.tensor([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 3e-39])
    state = {"w": exact.to(torch.bfloat16), "specials": specials.to(torch.bfloat16),
             "empty": torch.ones(0, 4, dtype=torch.bfloat16), "f": torch.ones(3)}  # fmt: skip
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    found = load_state(tmp_path / "model.safetensors")
    for name, tensor in state.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor.float().numpy())
    assert np.signbit(found["specials"][1])


def parts(tmp_path, rng, index=None):
    """A state in two files and their index, as large published models come."""
    state = {"a.weight": rng.standard_normal((2, 3)), "b": rng.standard_normal(4),
             "c": np.arange(3)}  # fmt: skip
    save_state(tmp_path / "model-1-of-2.safetensors", {"a.weight": state["a.weight"]})
    save_state(tmp_path / "model-2-of-2.safetensors", {"b": state["b"], "c": state["c"]})
    places = {"a.weight": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors",
              "c": "model-2-of-2.safetensors"}  # fmt: skip
    path = tmp_path / "model.safetensors.index.json"
    whole = {"metadata": {"total_size": 104}, "weight_map": places}
    path.write_text(json.dumps(index(whole) if index else whole))
    return path, state


def test_a_state_in_several_files(rng, tmp_path):
    path, state = parts(tmp_path, rng)
    found = load_state(path)
    assert list(found) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (lambda i: {"metadata": {}}, "no weight_map"),
        (lambda i: {"weight_map": []}, "no weight_map"),
        (lambda i: {"weight_map": {"a": 3}}, "no weight_map"),
        (lambda i: [], "not an object"),
        (lambda i: {"weight_map": {"a": "../secret.safetensors"}}, "not the name of a file beside"),
        (lambda i: {"weight_map": {"a": "/etc/passwd"}}, "not the name of a file beside"),
        (lambda i: {"weight_map": {"a": "..\\\\secret"}}, "not the name of a file beside"),
        (lambda i: {"weight_map": {"a": ""}}, "not the name of a file beside"),
        (lambda i: {"weight_map": {"a": ".."}}, "not the name of a file beside"),
        (lambda i: {"weight_map": {"a": "x.index.json"}}, "not the name of a file beside"),
        (lambda i: {"weight_map": {"a": "absent.safetensors"}}, "No such file"),
        (lambda i: {"weight_map": {"z": "model-1-of-2.safetensors"}}, "z is not in model-1-of-2"),
    ],
)
def test_a_damaged_index_is_one_clear_line(index, message, rng, tmp_path):
    path, _ = parts(tmp_path, rng, index)
    with pytest.raises(StateFileError, match=message) as error:
        load_state(path)
    assert "\n" not in str(error.value)


# ---- hostile headers ---------------------------------------------------------------------------

ENTRY = '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
HOSTILE = {
    "nested without end": "[" * 100_000,
    "nested in a name": '{"w":' + "[" * 50_000 + "]" * 50_000 + "}",
    "a list as type": '{"w":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}}',
    "an object as type": '{"w":{"dtype":{},"shape":[2],"data_offsets":[0,8]}}',
    "no type": '{"w":{"dtype":null,"shape":[2],"data_offsets":[0,8]}}',
    "a hundred axes": '{"w":{"dtype":"F32","shape":[2' + ",1" * 99 + '],"data_offsets":[0,8]}}',
    "empty and endless": '{"w":{"dtype":"F32","shape":[0,4611686018427387904],'
    '"data_offsets":[0,0]}}',
    "a fraction as size": '{"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}',
    "a boolean as size": '{"w":{"dtype":"F32","shape":[true,2],"data_offsets":[0,8]}}',
    "text as shape": '{"w":{"dtype":"F32","shape":"2","data_offsets":[0,8]}}',
    "an object as shape": '{"w":{"dtype":"F32","shape":{"2":1},"data_offsets":[0,8]}}',
    "text as offset": '{"w":{"dtype":"F32","shape":[2],"data_offsets":["0","8"]}}',
    "a fraction as offset": '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8.0]}}',
    "offsets backwards": '{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}',
    "negative offsets": '{"w":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
    "huge offsets": '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,1e400]}}',
    "endless numbers": '{"w":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,8]}}',
    "huge shape": '{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}',
    "infinite": '{"w":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}}',
    "the same name twice": "{" + ENTRY + "," + ENTRY + "}",
    "the same key twice": '{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    "a name of two lines": '{"a\\nb":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}',
    "a name without end": '{"' + "n" * 100_000 + '":{"dtype":"F32","shape":[3],'
    '"data_offsets":[0,8]}}',
    "metadata null": '{"__metadata__":null,' + ENTRY + "}",
    "metadata a list": '{"__metadata__":[1],' + ENTRY + "}",
    "metadata of numbers": '{"__metadata__":{"a":1},' + ENTRY + "}",
    "not UTF-8": b'{"\\xff":1}',
    "null": "null",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_end_in_one_line(name, tmp_path):
    text = HOSTILE[name]
    text = text.encode() if isinstance(text, str) else text
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    for read in (load_state, load_metadata):
        if read is load_metadata and not (name.startswith("metadata") or text[:1] != b"{"):
            continue
        with pytest.raises(StateFileError) as error:
            read(path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400 + len(str(path))


def test_booleans_of_other_bytes_are_booleans(tmp_path):
    text = b'{"w":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes([0, 1, 2, 255]))
    found = load_state(path)["w"]
    assert found.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_empty_arrays_may_come_in_any_order(tmp_path):
    text = (b'{"full":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"empty":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')  # fmt: skip
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    assert {name: a.size for name, a in load_state(path).items()} == {"empty": 0, "full": 1}


def test_names_that_the_format_needs_are_refused(tmp_path):
    with pytest.raises(StateFileError, match="no array can be called __metadata__"):
        save_state(tmp_path / "x", {"__metadata__": np.ones(2)})
    with pytest.raises(StateFileError, match="metadata are names and values that are text"):
        unwrap(save_state)(tmp_path / "x", {"w": np.ones(2)}, {"step": 7})
    assert not list(tmp_path.iterdir())
