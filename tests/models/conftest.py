"""GGUF files for tests, written byte by byte."""

import struct

import numpy as np
import pytest

U8, U32, I32, F32, BOOL, TEXT, LIST, U64 = 0, 4, 5, 6, 7, 8, 9, 10


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(name, kind, value):
    """One metadata entry; a list gives its own kind first."""
    forms = {U8: "<B", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q"}
    if kind == TEXT:
        body = text(value)
    elif kind == LIST:
        inner, items = value
        body = struct.pack("<IQ", inner, len(items)) + b"".join(
            text(i) if inner == TEXT else struct.pack(forms[inner], i) for i in items
        )
    else:
        body = struct.pack(forms[kind], value)
    return text(name) + struct.pack("<I", kind) + body


def tensor(name, sizes, code, offset):
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, code, offset)


def assemble(entries, tensors, data=b"", *, magic=b"GGUF", version=3, counts=None, alignment=32):
    """A file of parts, whatever they say."""
    n_tensors, n_entries = counts or (len(tensors), len(entries))
    head = magic + struct.pack("<IQQ", version, n_tensors, n_entries)
    head += b"".join(entries) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + data


class Parts:
    """What tests build files from."""

    U8, U32, I32, F32, BOOL, TEXT, LIST, U64 = U8, U32, I32, F32, BOOL, TEXT, LIST, U64
    text, entry, tensor = staticmethod(text), staticmethod(entry), staticmethod(tensor)
    assemble = staticmethod(assemble)


@pytest.fixture(scope="session")
def parts():
    return Parts


@pytest.fixture(scope="session")
def llama(parts):
    """A function that returns the bytes of a small Llama with a tokenizer; changes are applied."""

    def write(entries=None, tensors=None, drop=(), seed=0):
        rng = np.random.default_rng(seed)
        heads, groups, size, inner, layers = 6, 3, 10, 37, 2
        width = heads * size
        tokens, kinds, merges = vocabulary()
        shapes = {"token_embd": (len(tokens), width), "output_norm": (width,)}
        for i in range(layers):
            shapes |= {f"blk.{i}.{name}": shape for name, shape in {
                "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width),
                "attn_k": (groups * size, width), "attn_v": (groups * size, width),
                "attn_output": (width, width), "ffn_gate": (inner, width),
                "ffn_up": (inner, width), "ffn_down": (width, inner),
            }.items()}  # fmt: skip
        shapes |= tensors or {}
        chosen = {
            "general.architecture": (TEXT, "llama"), "general.name": (TEXT, "tiny"),
            "llama.block_count": (U32, layers), "llama.context_length": (U32, 53),
            "llama.embedding_length": (U32, width), "llama.feed_forward_length": (U32, inner),
            "llama.attention.head_count": (U32, heads),
            "llama.attention.head_count_kv": (U32, groups),
            "llama.rope.freq_base": (F32, 1000.0), "llama.rope.dimension_count": (U32, size),
            "llama.attention.layer_norm_rms_epsilon": (F32, 1e-4),
            "llama.vocab_size": (U32, len(tokens)),
            "tokenizer.ggml.model": (TEXT, "gpt2"), "tokenizer.ggml.pre": (TEXT, "smollm"),
            "tokenizer.ggml.tokens": (LIST, (TEXT, tokens)),
            "tokenizer.ggml.token_type": (LIST, (I32, kinds)),
            "tokenizer.ggml.merges": (LIST, (TEXT, merges)),
            "tokenizer.ggml.bos_token_id": (U32, 1), "tokenizer.ggml.eos_token_id": (U32, 2),
            "tokenizer.ggml.unknown_token_id": (U32, 0),
            "tokenizer.ggml.padding_token_id": (U32, 2),
            "tokenizer.chat_template": (TEXT, TEMPLATE),
        }  # fmt: skip
        chosen |= entries or {}
        listed, data = [], b""
        for name, shape in shapes.items():
            if name in drop:
                continue
            array = rng.standard_normal(shape).astype("<f4")
            array = 1 + array / 10 if len(shape) == 1 else array / 4
            listed.append(tensor(f"{name}.weight", tuple(reversed(shape)), 0, len(data)))
            data += array.tobytes() + b"\0" * (-array.nbytes % 32)
        given = [entry(n, *value) for n, value in chosen.items() if n not in drop]
        return assemble(given, listed, data)

    return write


TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|a|>system\nBe kind.<|z|>\n' }}{% endif %}"
    "{{'<|a|>' + message['role'] + '\n' + message['content'] + '<|z|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|a|>assistant\n' }}{% endif %}"
)


def vocabulary():
    """Three control tokens, most bytes in an order of their own, and some merges."""
    from chainrule.modern_llms.pretraining import byte_spelling

    spelled = byte_spelling()
    letters = [spelled[b] for b in range(255, -1, -1) if b not in (4, 0xC0, 0xF1, 0xFF)]
    merges = ["Ġ t", "h e", "Ġ a", "Ġt he", "i n", "Ġ Ġ", "Ċ Ċ", "s s", "a s", "a n", "' s",
              "Ã ©", "ss i", "ĠĠ ĠĠ", "m i", "s t"]  # fmt: skip
    made = [merge.replace(" ", "") for merge in merges]
    tokens = ["<|none|>", "<|a|>", "<|z|>", *letters, *made]
    return tokens, [3, 3, 3] + [1] * (len(tokens) - 3), merges
