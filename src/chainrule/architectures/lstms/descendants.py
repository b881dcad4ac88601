"""Gates that do not look at the state, so that steps can be joined: minLSTM, Mamba, gated delta."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.architectures.rnns import linear_recurrence
from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Tensor,
    exp,
    primitive,
)
from chainrule.shapes import Array, Float


class MinLSTM(Module):
    """An LSTM whose gates read the input alone: h_t = f′ ⊙ h_{t−1} + i′ ⊙ (W x_t + b).

    f′ and i′ are the two gates divided by their sum, so that they add up to 1.
    Equation: architectures/lstms.md#eq-minlstm
    Source: Feng et al. 2024, arXiv:2410.01201. Section 3.2.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.n_in, self.n_hidden = n_in, n_hidden
        self.forget = Linear(n_in, n_hidden, rng=rng, dtype=dtype)
        self.input = Linear(n_in, n_hidden, rng=rng, dtype=dtype)
        self.candidate = Linear(n_in, n_hidden, rng=rng, dtype=dtype)

    def forward(
        self, X: Float[Tensor, "batch time n_in"], by: str = "scan"
    ) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "batch hidden"]]:
        """Return all states and the last one; ``by`` is "scan" or "loop", with equal results."""
        f, i = self.forget(X).sigmoid(), self.input(X).sigmoid()
        H = linear_recurrence(f / (f + i), i / (f + i) * self.candidate(X), by=by)
        return H, H[:, -1]


def selective_scan(
    x: Float[Tensor, "batch time d"],
    delta: Float[Tensor, "batch time d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "batch time n"],
    C: Float[Tensor, "batch time n"],
    by: str = "scan",
) -> Float[Tensor, "batch time d"]:
    """Return Mamba's read-outs: each of d channels keeps n numbers, forgotten at rate exp(Δ A).

    S_t = exp(Δ_t A) ⊙ S_{t−1} + (Δ_t x_t) B_tᵀ and y_t = S_t C_t, with A negative and Δ positive.
    ``by`` is "scan" or "loop", with equal results.
    Equation: architectures/lstms.md#eq-selective
    Source: Gu, Dao 2023, arXiv:2312.00752. Algorithm 2, with B discretized as Δ B.
    """
    batch, time, d = x.shape
    n = A.shape[1]
    kept = exp(delta.reshape(batch, time, d, 1) * A)
    written = (delta * x).reshape(batch, time, d, 1) * B.reshape(batch, time, 1, n)
    flat = (batch, time, d * n)
    S = linear_recurrence(kept.reshape(*flat), written.reshape(*flat), by=by)
    return (S.reshape(batch, time, d, n) * C.reshape(batch, time, 1, n)).sum(axis=-1)


@primitive
def gated_delta(
    q: Array, k: Array, v: Array, alpha: Array, beta: Array, *, S0: Any = None, last: bool = False
) -> Any:
    """Read q from a memory that forgets and writes: out_t = S_tᵀ q_t, with
    S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ.

    q and k have the shape (batch, time, d_k), v (batch, time, d_v), alpha and beta (batch, time);
    keys should have length 1. Returns (batch, time, d_v), or the last memory (batch, d_k, d_v).
    Equation: architectures/lstms.md#eq-gated-delta
    Source: Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464. Section 3.1, transposed.
    """
    batch, time, d_k = k.shape
    S = np.zeros((batch, d_k, v.shape[-1]), v.dtype) if S0 is None else S0
    memories = [S]
    out = np.empty(v.shape, v.dtype)
    for t in range(time):
        a, b = alpha[:, t, None, None], beta[:, t, None, None]
        key = k[:, t, :, None]
        missing = v[:, t, None] - a * (key.swapaxes(1, 2) @ S)  # (batch, 1, d_v)
        S = a * S + b * key * missing
        memories.append(S)
        out[:, t] = (q[:, t, None] @ S)[:, 0]

    def vjp(g: Array) -> Any:
        grads = [np.zeros_like(x) for x in (q, k, v, alpha, beta)]
        q_grad, k_grad, v_grad, a_grad, b_grad = grads
        S_grad = g if last else np.zeros_like(S)
        for t in reversed(range(time)):
            before, key = memories[t], k[:, t, :, None]
            a, b = alpha[:, t, None, None], beta[:, t, None, None]
            if not last:
                q_grad[:, t] = (memories[t + 1] @ g[:, t, :, None])[..., 0]
                S_grad = S_grad + q[:, t, :, None] * g[:, t, None]
            said = key.swapaxes(1, 2) @ before
            missing = v[:, t, None] - a * said
            through = key.swapaxes(1, 2) @ S_grad  # (batch, 1, d_v)
            missing_grad = b * through
            v_grad[:, t] = missing_grad[:, 0]
            b_grad[:, t] = (through * missing).sum(axis=(1, 2))
            a_grad[:, t] = (S_grad * before).sum(axis=(1, 2)) - (missing_grad * said).sum((1, 2))
            from_write = b * (S_grad @ missing.swapaxes(1, 2))
            from_read = -a * (before @ missing_grad.swapaxes(1, 2))
            k_grad[:, t] = (from_write + from_read)[..., 0]
            S_grad = a * S_grad - a * key * missing_grad
        return q_grad, k_grad, v_grad, a_grad, b_grad

    return (S if last else out), vjp


def gated_delta_scan(
    k: Float[Array, "time d_k"],
    v: Float[Array, "time d_v"],
    alpha: Float[Array, "time"],
    beta: Float[Array, "time"],
) -> Float[Array, "time d_k d_v"]:
    """Return all memories of `gated_delta` for one sequence, by joining steps in pairs.

    A step multiplies by a matrix and adds one, so two steps are one: (A, B) and then (A′, B′) are
    (A′A, A′B + B′).
    Equation: architectures/lstms.md#eq-gated-delta, architectures/rnns.md#eq-compose
    """
    outer = k[:, :, None] * k[:, None]
    A = alpha[:, None, None] * (np.eye(k.shape[1], dtype=k.dtype) - beta[:, None, None] * outer)
    return _matrix_scan(A, beta[:, None, None] * k[:, :, None] * v[:, None])


def _matrix_scan(A: Array, B: Array) -> Array:
    if len(B) < 2:
        return B.copy()
    first, second = slice(0, len(B) - 1, 2), slice(1, None, 2)
    S = np.empty_like(B)
    S[second] = _matrix_scan(A[second] @ A[first], A[second] @ B[first] + B[second])
    S[0] = B[0]
    S[2::2] = A[2::2] @ S[1:-1:2] + B[2::2]
    return S


class GatedDeltaNet(Module):
    """One head of a layer whose state is a matrix with an LSTM's gates: forget α, write β, read o.

    Keys and queries get the length 1; α and β are sigmoids of the input, and what is read passes
    an output gate. The short convolutions and the normalization of the paper are left out.
    Equation: architectures/lstms.md#eq-gated-delta
    Source: Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464. Section 3.4.
    """

    def __init__(
        self,
        n_in: int,
        d_k: int,
        d_v: int,
        forget_bias: float = 4.0,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.n_in, self.d_k, self.d_v = n_in, d_k, d_v
        self.query = Linear(n_in, d_k, bias=False, rng=rng, dtype=dtype)
        self.key = Linear(n_in, d_k, bias=False, rng=rng, dtype=dtype)
        self.value = Linear(n_in, d_v, bias=False, rng=rng, dtype=dtype)
        self.gates = Linear(n_in, 2, rng=rng, dtype=dtype)
        assert self.gates.bias is not None
        self.gates.bias.data[...] = forget_bias, 0
        self.output = Linear(n_in, d_v, rng=rng, dtype=dtype)

    def forward(self, X: Float[Tensor, "batch time n_in"]) -> Float[Tensor, "batch time d_v"]:
        """Return what is read at each step, (batch, time, d_v)."""
        gates = self.gates(X).sigmoid()
        read = gated_delta(
            _unit(self.query(X)), _unit(self.key(X)), self.value(X), gates[..., 0], gates[..., 1]
        )
        return self.output(X).sigmoid() * read


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, or of length 0 where there is nothing."""
    return x / ((x * x).sum(axis=-1, keepdims=True) + 1e-12) ** 0.5
