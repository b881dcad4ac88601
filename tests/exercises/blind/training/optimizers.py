"""Blind set of training/optimizers: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- adam_path -------------------------------------------------------------------------------


def _path(gradients, lr, beta1, beta2, eps, length):
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w -= lr * length(m, v, t)
        path.append(w)
    return np.array(path)


@wrong("adam_path", "No bias correction.", known="without_correction")
def _(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    return _path(gradients, lr, beta1, beta2, eps, lambda m, v, t: m / (np.sqrt(v) + eps))


@wrong("adam_path", "Counts the steps from 0 and starts the correction a step late.")
def _(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    def length(m, v, t):
        t = max(t - 1, 1)
        return m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)

    return _path(gradients, lr, beta1, beta2, eps, length)


@wrong("adam_path", "Corrects only the first moment.", known="corrects_the_first_moment_only")
def _(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    return _path(
        gradients,
        lr,
        beta1,
        beta2,
        eps,
        lambda m, v, t: m / (1 - beta1**t) / (np.sqrt(v) + eps),
    )


@wrong("adam_path", "Divides by v, not by its root.", known="divides_by_the_square")
def _(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    return _path(
        gradients,
        lr,
        beta1,
        beta2,
        eps,
        lambda m, v, t: m / (1 - beta1**t) / (v / (1 - beta2**t) + eps),
    )


@wrong(
    "adam_path", "Feeds the corrected averages into the next step.", known="averages_the_corrected"
)
def _(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, 1):
        m = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
        v = (beta2 * v + (1 - beta2) * g * g) / (1 - beta2**t)
        w -= lr * m / (np.sqrt(v) + eps)
        path.append(w)
    return np.array(path)


# ---- adamw and adamw_step --------------------------------------------------------------------


def _adamw(w, gradients, betas, change):
    """Run AdamW; change(w, step, t) gives the next weights from the step of Adam."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = change(w, m / (1 - betas[0] ** t), v / (1 - betas[1] ** t), t)
    return w


@wrong(
    "adamw",
    "Adds the decay to the gradient: Adam with an L2 penalty.",
    known="penalty_in_the_gradient",
)
def _(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@wrong("adamw", "The decay is not multiplied by the rate.", known="decay_without_the_rate")
def _(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    return _adamw(
        w,
        gradients,
        betas,
        lambda w, m, v, t: w * (1 - weight_decay) - lr * m / (np.sqrt(v) + eps),
    )


@wrong("adamw", "Takes the step and shrinks the result.", known="decays_the_step_too")
def _(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    return _adamw(
        w,
        gradients,
        betas,
        lambda w, m, v, t: (w - lr * m / (np.sqrt(v) + eps)) * (1 - lr * weight_decay),
    )


@wrong("adamw", "No decay at all.", known="forgets_the_decay")
def _(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    return _adamw(w, gradients, betas, lambda w, m, v, t: w - lr * m / (np.sqrt(v) + eps))


@wrong(
    "adamw",
    "Decays towards the weights at the start: always lr·decay·w₀.",
    known="decays_by_the_start",
)
def _(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    start = w.copy()
    return _adamw(
        w,
        gradients,
        betas,
        lambda w, m, v, t: w - lr * weight_decay * start - lr * m / (np.sqrt(v) + eps),
    )


@wrong("adamw", "The weights after every step, not after the last one.", known="returns_every_step")
def _(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m, v, path = np.zeros_like(w), np.zeros_like(w), []
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        u = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        w = w * (1 - lr * weight_decay) - lr * u
        path.append(w)
    return np.array(path)


@wrong("adamw_step", "No bias correction.", known="forgets_the_correction")
def _(w, g, m, v, step, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    return w * (1 - lr * weight_decay) - lr * m / (np.sqrt(v) + eps), m, v


@wrong("adamw_step", "Returns the corrected averages.", known="keeps_the_corrected")
def _(w, g, m, v, step, lr, betas, eps, weight_decay):
    m = (betas[0] * m + (1 - betas[0]) * g) / (1 - betas[0] ** step)
    v = (betas[1] * v + (1 - betas[1]) * g**2) / (1 - betas[1] ** step)
    return w * (1 - lr * weight_decay) - lr * m / (np.sqrt(v) + eps), m, v


@wrong("adamw_step", "The decay is not multiplied by the rate.", known="decays_without_the_rate")
def _(w, g, m, v, step, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    u = m / (1 - betas[0] ** step) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return w * (1 - weight_decay) - lr * u, m, v


@wrong("adamw_step", "Averages the sizes |g| and not the squares.")
def _(w, g, m, v, step, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * abs(g)
    u = m / (1 - betas[0] ** step) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return w * (1 - lr * weight_decay) - lr * u, m, v


@wrong("adamw_step", "Corrects by step + 1, as if it counted from 0.", known="counts_one_more")
def _(w, g, m, v, step, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    t = step + 1
    u = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w * (1 - lr * weight_decay) - lr * u, m, v


# ---- uncorrected_over_corrected --------------------------------------------------------------


@wrong(
    "uncorrected_over_corrected", "Forgets the root of the second moment.", known="forgets_the_root"
)
def _(beta1, beta2, t):
    return (1 - beta1**t) / (1 - beta2**t)


@wrong("uncorrected_over_corrected", "Corrected over uncorrected.", known="upside_down")
def _(beta1, beta2, t):
    return np.sqrt(1 - beta2**t) / (1 - beta1**t)


@wrong("uncorrected_over_corrected", "The first moment alone.", known="first_moment_alone")
def _(beta1, beta2, t):
    return 1 - beta1**t


@wrong("uncorrected_over_corrected", "Counts the steps from 0.", known="counts_from_zero")
def _(beta1, beta2, t):
    return (1 - beta1 ** (t + 1)) / np.sqrt(1 - beta2 ** (t + 1))


@wrong("uncorrected_over_corrected", "The root over both factors.", known="root_of_both")
def _(beta1, beta2, t):
    return np.sqrt((1 - beta1**t) / (1 - beta2**t))


# ---- cosine_schedule -------------------------------------------------------------------------


@wrong("cosine_schedule", "The warmup begins at 0.", known="starts_at_zero")
def _(step, lr, warmup, total, final):
    if step < warmup:
        return lr * step / warmup
    progress = min(1, (step - warmup) / (total - warmup))
    return final + (lr - final) * (1 + np.cos(np.pi * progress)) / 2


@wrong(
    "cosine_schedule", "The cosine counts from step 0, warmup included.", known="counts_the_warmup"
)
def _(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1, step / total)
    return final + (lr - final) * (1 + np.cos(np.pi * progress)) / 2


@wrong("cosine_schedule", "Rises again after total.", known="swings_back")
def _(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / (total - warmup)
    return final + (lr - final) * (1 + np.cos(np.pi * progress)) / 2


@wrong(
    "cosine_schedule", "Falls from lr + final: adds final instead of blending.", known="adds_final"
)
def _(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1, (step - warmup) / (total - warmup))
    return final + lr * (1 + np.cos(np.pi * progress)) / 2


@wrong("cosine_schedule", "Falls on a straight line.", known="falls_on_a_line")
def _(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1, (step - warmup) / (total - warmup))
    return lr + (final - lr) * progress


# ---- clip_together ---------------------------------------------------------------------------


def _joint(gradients):
    return np.sqrt(sum((g**2).sum() for g in gradients))


@wrong("clip_together", "Clips each array by its own norm.", known="each_by_itself")
def _(gradients, limit):
    return [g * min(1, limit / max(np.linalg.norm(g), 1e-300)) for g in gradients]


@wrong("clip_together", "Cuts off every entry at the limit.", known="entry_by_entry")
def _(gradients, limit):
    return [np.clip(g, -limit, limit) for g in gradients]


@wrong("clip_together", "Scales short gradients up to the limit too.", known="always_scales")
def _(gradients, limit):
    norm = _joint(gradients)
    return [g * (limit / norm) for g in gradients]


@wrong(
    "clip_together", "Forgets the root of the joint norm.", known="divides_by_the_sum_of_squares"
)
def _(gradients, limit):
    square = sum((g**2).sum() for g in gradients)
    return [g * limit / square if square > limit else g for g in gradients]


@wrong(
    "clip_together",
    "Divides by the norm and forgets to multiply by the limit.",
    known="forgets_the_limit",
)
def _(gradients, limit):
    norm = _joint(gradients)
    return [g / norm if norm > limit else g for g in gradients]


# ---- orthogonalize ---------------------------------------------------------------------------

A, B, C = 3.4445, -4.7750, 2.0315


def _newton(X, steps=5):
    for _ in range(steps):
        S = X @ X.T
        X = A * X + B * S @ X + C * S @ S @ X
    return X


@wrong("orthogonalize", "Does not divide by the norm.", known="no_division")
def _(G):
    return _newton(G)


@wrong("orthogonalize", "Divides by the spectral norm.", known="divides_by_the_largest")
def _(G):
    return _newton(G / np.linalg.norm(G, 2))


@wrong("orthogonalize", "Divides by the norm at every step.", known="divides_every_time")
def _(G):
    X = G
    for _ in range(5):
        X = _newton(X / np.linalg.norm(X), steps=1)
    return X


@wrong("orthogonalize", "Powers entry by entry.", known="entry_by_entry_powers")
def _(G):
    X = G / np.linalg.norm(G)
    for _ in range(5):
        X = A * X + B * X**3 + C * X**5
    return X


@wrong("orthogonalize", "One step too few.", known="another_number_of_steps")
def _(G):
    return _newton(G / np.linalg.norm(G), steps=4)
