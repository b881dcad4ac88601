"""GGUF files: the weights of every type beside ggml's own package, and files of strangers."""

import os
import struct
import tracemalloc

import numpy as np
import pytest

from chainrule.models.gguf import GGUFError, GGUFFile, dequantize

QUANTIZED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def gguf():
    return pytest.importorskip("gguf", reason="type: make test")


# ---- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*QUANTIZED, "F16", "BF16", "F32"])
def test_any_bytes_give_the_weights_of_the_gguf_package(kind, rng):
    package = gguf()
    code = package.GGMLQuantizationType[kind]
    size = package.GGML_QUANT_SIZES[code][1]
    raw = rng.integers(0, 256, (7, 11 * size), dtype=np.uint8)  # scales may be NaN or infinite
    with np.errstate(all="ignore"):
        expected = package.quants.dequantize(raw, code)
    found = dequantize(raw.ravel(), kind)
    np.testing.assert_array_equal(found.reshape(7, -1), expected.astype(found.dtype))
    given = np.empty(found.size, np.float32)
    assert dequantize(raw.ravel(), kind, given) is given
    np.testing.assert_array_equal(given, found.astype(np.float32))


@pytest.mark.parametrize("kind", QUANTIZED)
def test_what_the_package_quantized_comes_back(kind, rng):
    package = gguf()
    weights = rng.standard_normal((5, 96), dtype=np.float32)
    code = package.GGMLQuantizationType[kind]
    raw = package.quants.quantize(weights, code)
    np.testing.assert_array_equal(
        dequantize(raw.ravel(), kind).reshape(5, 96), package.quants.dequantize(raw, code)
    )
    assert np.abs(dequantize(raw.ravel(), kind).reshape(5, 96) - weights).max() < 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(20, np.uint8), "Q4_K"), "weights of type Q4_K are not read"),
        ((np.zeros(21, np.uint8), "Q4_1"), "21 bytes are no whole number of 20"),
        ((np.zeros(20, np.uint8), "Q4_1", np.empty(31, np.float32)), "32 weights need as many"),
        ((np.zeros(20, np.uint8), "Q4_1", np.empty(32)), "got float64 of"),
        ((np.zeros(20, np.uint8), "Q4_1", np.empty(64, np.float32)[::2]), "32 weights need"),
    ],
)
def test_weights_refused(arguments, message):
    with pytest.raises(GGUFError, match=message):
        dequantize(*arguments)


def test_no_weights():
    assert dequantize(np.zeros(0, np.uint8), "Q4_1").shape == (0,)


def test_a_file_of_the_gguf_package(tmp_path, rng):
    package = gguf()
    writer = package.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_uint32("a", 7)
    writer.add_float64("b", 0.1)
    writer.add_bool("c", True)
    writer.add_int64("d", -(2**40))
    writer.add_array("e", ["é", "", "x" * 300])
    writer.add_array("f", [3, 5, 7])
    weights = rng.standard_normal((3, 5, 64), dtype=np.float32)
    writer.add_tensor("w", weights)
    writer.add_tensor("h", weights[0, 0].astype(np.float16))
    code = package.GGMLQuantizationType.Q8_0
    writer.add_tensor("q", package.quants.quantize(weights[0], code), raw_dtype=code)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    file = GGUFFile(tmp_path / "m.gguf")
    assert file.metadata["general.architecture"] == "llama"
    assert [file.metadata[name] for name in "abcd"] == [7, 0.1, True, -(2**40)]
    assert file.metadata["e"] == ["é", "", "x" * 300]
    assert file.metadata["f"].tolist() == [3, 5, 7]
    np.testing.assert_array_equal(file.read("w"), weights)
    np.testing.assert_array_equal(file.read("h"), weights[0, 0].astype(np.float16))
    assert file.read("q").shape == (5, 64)
    place = np.empty((5, 64), np.float32)
    file.read("q", place)
    np.testing.assert_array_equal(place, file.read("q"))
    with pytest.raises(GGUFError, match="there is no tensor x"):
        file.read("x")


# ---- files of strangers ------------------------------------------------------------------------

HUGE = 2**63


def nasty(p):
    """Name, bytes, and what the message says."""
    one = p.entry("a", p.U32, 7)
    data = b"\0" * 96

    def of(*tensors, data=data, entries=(one,), **rest):
        return p.assemble(list(entries), list(tensors), data, **rest)

    def raw_entry(kind, body):
        return of(entries=[p.text("a") + struct.pack("<I", kind) + body])

    whole = of(p.tensor("t", (2, 4), 0, 0))
    return {
        "empty": (b"", "not a GGUF file"),
        "three bytes": (b"GGU", "not a GGUF file"),
        "wrong magic": (b"GGML" + whole[4:], "not a GGUF file"),
        "safetensors": (struct.pack("<Q", 2) + b"{}", "not a GGUF file"),
        "no version": (whole[:6], "cut short"),
        "version 1": (of(version=1), "of version 1"),
        "version 4": (of(version=4), "of version 4"),
        "big-endian": (b"GGUF" + struct.pack(">I", 3) + whole[8:], "another byte order"),
        "huge tensor count": (of(counts=(HUGE, 1)), "announces a huge number of tensors"),
        "many tensors": (of(counts=(90_000, 1)), "announces 90000 tensors"),
        "huge entry count": (of(counts=(0, HUGE)), "announces a huge number of metadata"),
        "more entries than there are": (of(counts=(0, 3)), "has '' twice"),
        "huge key": (of(entries=[struct.pack("<Q", HUGE)]), "a huge number of bytes"),
        "key is no text": (of(entries=[p.text(b"\xff\xfe") + struct.pack("<II", 4, 1)]), "UTF-8"),
        "key twice": (of(entries=[one, one]), "has a twice"),
        "unknown value type": (raw_entry(13, b"\0" * 8), "unknown type 13"),
        "huge text": (raw_entry(8, struct.pack("<Q", HUGE)), "a huge number of bytes"),
        "huge list": (raw_entry(9, struct.pack("<IQ", 4, HUGE)), "a huge number of bytes"),
        "list of 2^60 texts": (raw_entry(9, struct.pack("<IQ", 8, 2**60)), "texts, too many"),
        "list of booleans": (raw_entry(9, struct.pack("<IQ", 7, HUGE)), "a huge number of bytes"),
        "list of lists": (raw_entry(9, struct.pack("<IQ", 9, 1) * 50), "a list of lists"),
        "list of unknown": (raw_entry(9, struct.pack("<IQ", 99, 1)), "unknown type 99"),
        "alignment 0": (of(entries=[p.entry("general.alignment", p.U32, 0)]), "aligns to 0"),
        "alignment 24": (of(entries=[p.entry("general.alignment", p.U32, 24)]), "aligns to 24"),
        "alignment 2^31": (
            of(entries=[p.entry("general.alignment", p.U32, 2**31)]), "aligns to 2147483648"),
        "alignment is text": (
            of(entries=[p.entry("general.alignment", p.TEXT, "x")]), "aligns to x"),
        "no axes": (of(p.tensor("t", (), 0, 0)), "0 axes"),
        "five axes": (of(p.tensor("t", (1,) * 5, 0, 0)), "5 axes"),
        "2^32 - 1 axes": (
            of(p.text("t") + struct.pack("<I", 2**32 - 1)), "4294967295 axes"),
        "a size of 0": (of(p.tensor("t", (2, 0), 0, 0)), "does not fill blocks"),
        "half a block": (of(p.tensor("t", (31,), 3, 0)), "does not fill blocks of Q4_1"),
        "huge size": (of(p.tensor("t", (HUGE, HUGE, HUGE, 4), 0, 0)), "cut short: t ends at byte"),
        "product 2^64": (of(p.tensor("t", (2**32, 2**32), 0, 0)), "cut short: t ends at byte"),
        "type 12": (of(p.tensor("t", (256,), 12, 0)), "has type Q4_K, which is not read"),
        "type 4": (of(p.tensor("t", (32,), 4, 0)), "has type number 4"),
        "type 2^32 - 1": (of(p.tensor("t", (32,), 2**32 - 1, 0)), "has type number 4294967295"),
        "offset beyond": (of(p.tensor("t", (2,), 0, 128)), "cut short: t ends at byte"),
        "offset 2^63": (of(p.tensor("t", (2,), 0, HUGE)), "cut short: t ends"),
        "offset between": (of(p.tensor("t", (2,), 0, 4)), "between two places"),
        "data cut": (whole[:-70], "cut short: t ends at byte"),
        "tensor twice": (
            of(p.tensor("t", (2,), 0, 0), p.tensor("t", (2,), 0, 32)), "the tensor t twice"),
        "overlap": (
            of(p.tensor("t", (9,), 0, 0), p.tensor("u", (2,), 0, 32)), "u and t share bytes"),
        "same place": (
            of(p.tensor("t", (9,), 0, 0), p.tensor("u", (9,), 0, 0)), "share bytes"),
        "name with a line break": (of(p.tensor("a\nb\x1b[2J", (0,), 0, 0)), r"a\\nb"),
        "long name": (of(p.tensor("x" * 5000, (0,), 0, 0)), "x…"),
    }  # fmt: skip


def test_nasty_files(tmp_path, parts):
    path = tmp_path / "m.gguf"
    for name, (content, message) in nasty(parts).items():
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(GGUFError, match=message) as caught:
            GGUFFile(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000, name
        said = str(caught.value)
        assert said.startswith(f"{path}: "), name
        assert said.isprintable() or "é" in said, name
        assert len(said) < len(str(path)) + 250, name


def test_every_cut_of_a_file_is_one_clear_line(tmp_path, parts):
    path = tmp_path / "m.gguf"
    p = parts
    entries = [
        p.entry("a", p.U32, 7), p.entry("b", p.TEXT, "é"),
        p.entry("c", p.LIST, (p.TEXT, ["x", ""])), p.entry("d", p.LIST, (p.I32, [1, -2])),
        p.entry("e", p.BOOL, 1),
    ]  # fmt: skip
    tensors = [p.tensor("t", (32, 2), 3, 0), p.tensor("u", (3,), 0, 64)]
    whole = p.assemble(entries, tensors, bytes(range(76)))
    path.write_bytes(whole)
    file = GGUFFile(path)
    assert file.read("t").shape == (2, 32)
    assert file.metadata["c"] == ["x", ""]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GGUFError):
            GGUFFile(path)
    # Any other byte anywhere: it is read, or refused in one line; never anything else.
    refused = 0
    for at in range(len(whole) - 76):
        for byte in (0, 1, 0x7F, 0x80, 0xFF, whole[at] ^ 1):
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            message = _refusal(path)
            assert len(message.splitlines()) <= 1
            refused += bool(message)
    assert refused > 500


def _refusal(path):
    """Why a file is refused; an empty text if it is read."""
    try:
        found = GGUFFile(path)
        for name in found.tensors:
            found.read(name)
    except GGUFError as error:
        return str(error)
    return ""


def test_what_is_no_file(tmp_path, parts):
    with pytest.raises(GGUFError, match="No such file"):
        GGUFFile(tmp_path / "none")
    for other in (tmp_path, "/dev/zero"):
        with pytest.raises(GGUFError, match="not a file"):
            GGUFFile(other)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GGUFError, match="not a file"):
        GGUFFile(tmp_path / "pipe")


def test_a_file_that_changes_while_it_is_open(tmp_path, parts):
    path = tmp_path / "m.gguf"
    path.write_bytes(parts.assemble([], [parts.tensor("t", (8,), 0, 0)], b"\0" * 32))
    file = GGUFFile(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(GGUFError, match="was cut while it was read"):
        file.read("t")
    path.unlink()
    with pytest.raises(GGUFError, match="No such file"):
        file.read("t")


def test_a_description_without_end(tmp_path, parts, monkeypatch):
    monkeypatch.setattr("chainrule.models.gguf.MAX_HEADER_BYTES", 1000)
    path = tmp_path / "m.gguf"
    path.write_bytes(parts.assemble([parts.entry("a", parts.TEXT, "x" * 2000)], []))
    with pytest.raises(GGUFError, match="its description is longer than 1,000 bytes"):
        GGUFFile(path)
