"""Ring attention against dense attention, and experts on many workers against experts on one."""

import numpy as np
import pytest
import torch

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.training.distributed_training.sequences import (
    causal_load,
    expert_dispatch,
    ring_attention,
    sequence_parts,
)
from chainrule.training.distributed_training.world import World

N, D = 12, 5


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("order", ["all", "stretches", "zigzag"])
def test_ring_attention_equals_torch_forward_and_backward(p, order):
    rng = np.random.default_rng(0)
    q, k, v, g = rng.normal(size=(4, 2, 3, N, D))
    parts = sequence_parts(N, p, order == "zigzag")
    theirs = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    y = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=order != "all")
    y.backward(torch.tensor(g))

    def program(w):
        rows = parts[w.rank]
        mine = [Tensor(a[..., rows, :], requires_grad=True) for a in (q, k, v)]
        out = ring_attention(*mine, w, None if order == "all" else parts)
        out.backward(g[..., rows, :])
        return out.data, *(x.grad for x in mine)

    results = World(p).run(program)
    expected = [y.detach().numpy(), *(t.grad.numpy() for t in theirs)]
    for rows, given in zip(parts, results, strict=True):
        for ours, whole in zip(given, expected, strict=True):
            np.testing.assert_allclose(ours, whole[..., rows, :], atol=1e-12)


def test_ring_attention_sends_every_key_and_value_past_everybody():
    world = World(3)
    x = np.ones((4, D))
    world.run(lambda w: ring_attention(Tensor(x), Tensor(x), Tensor(x), w))
    assert world.bytes_sent == [2 * 2 * x.nbytes] * 3  # keys and values, p − 1 steps


@pytest.mark.parametrize(("p", "last"), [(4, 1.75), (8, 1.875)])
def test_zigzag_gives_everybody_the_same_work(p, last):
    n = 2 * p * 500
    assert causal_load(sequence_parts(n, p, False))[-1] == pytest.approx(last, abs=1e-3)
    np.testing.assert_allclose(causal_load(sequence_parts(n, p)), np.ones(p))


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_experts_on_many_workers_equal_experts_on_one(p, tokens):
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(6, D, D))
    x = rng.normal(size=(p, tokens, D))
    chosen = rng.integers(0, 6, (p, tokens))

    def program(w):
        return expert_dispatch(w, x[w.rank], chosen[w.rank], 6, lambda e, rows: rows @ matrices[e])

    for r, ours in enumerate(World(p).run(program)):
        np.testing.assert_allclose(ours, np.einsum("td,tde->te", x[r], matrices[chosen[r]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: sequence_parts(9, 2), "9 positions do not divide into 4"),
        (lambda w: expert_dispatch(w, np.ones((1, 2)), np.array([0]), 3, max), "3 experts"),
        (lambda w: expert_dispatch(w, np.ones((1, 2)), np.array([4]), 4, max), "0 to 3"),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        World(2).run(call)
