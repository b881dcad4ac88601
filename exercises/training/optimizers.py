"""Exercises of training/optimizers.md."""

from __future__ import annotations

import math

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close
from chainrule.math_foundations.linear_algebra import polar_factor
from chainrule.neural_networks.backpropagation import Parameter
from chainrule.training.optimizers import AdamW


@exercise(
    "Three Adam steps",
    difficulty=1,
    minutes=15,
    section="where-the-correction-comes-from",
    counterpart="chainrule.training.optimizers:Adam",
    idea=(
        "Keep two running means, of the gradient and of its square. Divide each by the sum of "
        "the weights it has received so far, then step by their quotient."
    ),
)
def adam_path(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Return the weight after each step of Adam, started at 0, as an array of one number a step.

    gradients holds one number a step. Do [1, -2, 0.5] with lr = 0.1 by hand first.
    """
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        path.append(w)
    return np.array(path)


@adam_path.by_package
def _(package, gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    p, path = Parameter(np.zeros(1)), []
    optimizer = package([p], lr=lr, betas=(beta1, beta2), eps=eps)
    for g in gradients:
        p.grad = np.array([g])
        optimizer.step()
        path.append(p.data[0])
    return np.array(path)


@adam_path.check
def by_hand(answer, rng):
    expect_close(
        answer([1.0, -2.0, 0.5], 0.1),
        np.array([-0.1, -0.063392, -0.049721]),
        rtol=1e-4,
        what="the path of the page",
    )


@adam_path.check
def tiny_gradients(answer, rng):
    expect_close(answer([1e-5], 1.0), np.array([-0.999]), rtol=1e-4, what="a step along 1e-5")


@adam_path.check
def thirty_random(answer, rng):
    g = rng.normal(size=30)
    w, m, v, path = 0.0, 0.0, 0.0, []
    for t in range(1, 31):
        m = m + 0.2 * (g[t - 1] - m)
        v = v + 0.05 * (g[t - 1] ** 2 - v)
        w -= 0.01 * (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)) ** 0.5 + 1e-8)
        path.append(w)
    expect_close(answer(g, 0.01, 0.8, 0.95), np.array(path), what="thirty random steps")


@adam_path.mistake(
    "Your first step is 3.16 times the learning rate. To how much do the weights in m and v add up "
    "after one step?"
)
def without_correction(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for g in gradients:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * m / (math.sqrt(v) + eps)
        path.append(w)
    return np.array(path)


@adam_path.mistake("Gradients of 1e-5 hardly move your weight. With what is your eps compared?")
def eps_inside_the_root(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / math.sqrt(v / (1 - beta2**t) + eps)
        path.append(w)
    return np.array(path)


@adam_path.mistake(
    "The first step is right and later ones are not. By what do you divide at step 2: is it the "
    "sum of the weights at that step?"
)
def corrects_by_the_first_step(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for g in gradients:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1)) / (math.sqrt(v / (1 - beta2)) + eps)
        path.append(w)
    return np.array(path)


@adam_path.mistake(
    "You correct m and not v, so that your first step is 32 times the learning rate. Which of them "
    "starts at 0?"
)
def corrects_the_first_moment_only(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / (math.sqrt(v) + eps)
        path.append(w)
    return np.array(path)


@adam_path.mistake(
    "You divide by v, a mean of squares. In which unit is your step: would it change if all "
    "gradients were ten times larger?"
)
def divides_by_the_square(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / (v / (1 - beta2**t) + eps)
        path.append(w)
    return np.array(path)


@adam_path.mistake(
    "Your first step is right, and later ones are corrected several times. What does the next step "
    "average with: the corrected numbers, or those as they were?"
)
def averages_the_corrected(gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    w = m = v = 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        m = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
        v = (beta2 * v + (1 - beta2) * g * g) / (1 - beta2**t)
        w = w - lr * m / (math.sqrt(v) + eps)
        path.append(w)
    return np.array(path)


@exercise(
    "AdamW, fifty steps",
    difficulty=2,
    minutes=25,
    section="decay-beside-the-gradient",
    counterpart="chainrule.training.optimizers:AdamW",
    idea=(
        "The decay acts on the weight alone, before the step, and by the rate times the decay. "
        "The rest is Adam, which never hears of it."
    ),
)
def adamw(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    """Return the weights after the last of several steps of AdamW, one for each gradient.

    Bias correction is included. w has any shape, which the result has too; gradients has one axis
    more in front: the steps. Do not change w itself.
    """
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        w = (1 - lr * weight_decay) * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@adamw.by_package
def _(package, w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    p = Parameter(w.copy())
    optimizer = package([p], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    for g in gradients:
        p.grad = g.copy()
        optimizer.step()
    return p.data.copy()


@adamw.check
def the_coordinate_of_the_page(answer, rng):
    for g, expected in ((10.0, 0.89), (0.0, 0.99)):
        expect_close(
            answer(np.ones(1), np.array([[g]]), 0.1, 0.1),
            np.array([expected]),
            what=f"the weight after a gradient of {g:g}",
        )


@adamw.check
def the_package_agrees(answer, rng):
    start, gradients = rng.normal(size=(3, 5)), rng.normal(size=(50, 3, 5))
    p = Parameter(start.copy())
    optimizer = AdamW([p], lr=0.01, weight_decay=0.3, betas=(0.8, 0.95))
    for g in gradients:
        p.grad = g.copy()
        optimizer.step()
    received = answer(start, gradients, 0.01, 0.3, (0.8, 0.95))
    expect_close(received, p.data, rtol=1e-9, what="the weights after 50 steps")


@adamw.mistake(
    "Your decay goes through the division by the root of v, so that a large gradient swallows it. "
    "Where should it act?"
)
def penalty_in_the_gradient(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@adamw.mistake("A decay of 0.1 takes a tenth of the weight each step. Which factor is missing?")
def decay_without_the_rate(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        w = (1 - weight_decay) * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@adamw.mistake(
    "You shrink the weight after the step, and so the step with it. What does the formula shrink?"
)
def decays_the_step_too(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        w = (1 - lr * weight_decay) * w
    return w


@adamw.mistake("Your weights are those of Adam. What happens to a weight whose gradient is 0?")
def forgets_the_decay(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    return adamw(w, gradients, lr, 0.0, betas, eps)


@adamw.mistake(
    "Every step of yours takes the same away: a share of the weights at the start. A share of "
    "which weights should it be?"
)
def decays_by_the_start(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    without = adamw(w, gradients, lr, 0.0, betas, eps)
    return without - len(gradients) * lr * weight_decay * w


@adamw.mistake("You return the weights after each step. Only the last are asked for.")
def returns_every_step(w, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    steps = range(1, len(gradients) + 1)
    return np.array([adamw(w, gradients[:t], lr, weight_decay, betas, eps) for t in steps])


@exercise(
    "One step of AdamW, with its memory",
    difficulty=2,
    minutes=20,
    section="decay-beside-the-gradient",
    counterpart="chainrule.training.optimizers:AdamW.rule",
    idea=(
        "Everything that the next step needs comes out again: the weight, and both averages "
        "before any correction. Which step it is tells you how much weight the averages have got."
    ),
)
def adamw_step(w, g, m, v, step, lr, betas, eps, weight_decay):
    """Return the new w, m and v after one step of AdamW.

    step counts from 1. m and v are the averages as they are kept, uncorrected; all four arrays have
    one shape. Change no argument.
    """
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    root = np.sqrt(v / (1 - betas[1] ** step)) + eps
    return (1 - lr * weight_decay) * w - lr / (1 - betas[0] ** step) * m / root, m, v


@adamw_step.by_package
def _(package, w, g, m, v, step, lr, betas, eps, weight_decay):
    optimizer = AdamW([Parameter(np.zeros(1))])
    group = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    w, m, v = w.copy(), m.copy(), v.copy()
    package(optimizer, group, step)(w, g, m, v)
    return w, m, v


@adamw_step.in_package
def _(mine, optimizer, group, step):
    if not optimizer.decoupled:
        raise NotImplementedError("this exercise knows the decay of AdamW, not that of Adam")
    rest = [group[name] for name in ("lr", "betas", "eps", "weight_decay")]

    def update(w, g, m, v):
        for place, new in zip((w, m, v), mine(w, g, m, v, step, *rest), strict=True):
            place[...] = new

    return update


_STEP = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


def _compare_step(answer, w, g, m, v, step, what, **settings):
    settings = _STEP | settings
    received = answer(w.copy(), g.copy(), m.copy(), v.copy(), step, **settings)
    expect(
        isinstance(received, tuple | list) and len(received) == 3, "return three things: w, m and v"
    )
    expected = adamw_step(w, g, m, v, step, **settings)
    for got, want, name in zip(received, expected, ("w", "m", "v"), strict=True):
        expect_close(got, want, rtol=1e-9, what=f"{name} {what}")


@adamw_step.check
def the_first_step_of_the_page(answer, rng):
    one = np.ones(1)
    for g, expected in ((10.0, 0.89), (0.0, 0.99)):
        received = answer(one, np.array([g]), 0 * one, 0 * one, 1, **_STEP)
        expect_close(received[0], np.array([expected]), what=f"w after a gradient of {g:g}")


@adamw_step.check
def a_later_step(answer, rng):
    w, g, m, v = rng.normal(size=(4, 3, 5))
    _compare_step(answer, w, g, m, v**2, 7, "after step 7")


@adamw_step.check
def tiny_gradients_with_a_memory(answer, rng):
    w, g, m, v = rng.normal(size=(4, 7)) * 1e-5
    _compare_step(answer, w, g, m, v**2, 2, "after gradients of 1e-5", eps=1e-5, weight_decay=0.3)


def _wrong_step(w, g, m, v, step, lr, betas, eps, weight_decay, *, corrected=True, kept=False,
                inside=False, rate=True, late=False):  # fmt: skip
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    c1, c2 = (1 - betas[0] ** step, 1 - betas[1] ** step) if corrected else (1, 1)
    m_hat, v_hat = m / c1, v / c2
    move = lr * m_hat / (np.sqrt(v_hat + eps) if inside else np.sqrt(v_hat) + eps)
    shrink = 1 - (lr if rate else 1) * weight_decay
    new = shrink * (w - move) if late else shrink * w - move
    return (new, m_hat, v_hat) if kept else (new, m, v)


@adamw_step.mistake(
    "Your first step is too long by a factor of three or ten. To how much do the weights in m and "
    "v add up after one step?"
)
def forgets_the_correction(w, g, m, v, step, lr, betas, eps, weight_decay):
    return _wrong_step(w, g, m, v, step, lr, betas, eps, weight_decay, corrected=False)


@adamw_step.mistake(
    "Your w is right. You hand back the corrected averages, and the next step corrects them again."
)
def keeps_the_corrected(w, g, m, v, step, lr, betas, eps, weight_decay):
    return _wrong_step(w, g, m, v, step, lr, betas, eps, weight_decay, kept=True)


@adamw_step.mistake("Tiny gradients hardly move your w. With what is eps compared?")
def eps_under_the_root(w, g, m, v, step, lr, betas, eps, weight_decay):
    return _wrong_step(w, g, m, v, step, lr, betas, eps, weight_decay, inside=True)


@adamw_step.mistake("A decay of 0.1 takes a tenth of w at every step. By what is it multiplied?")
def decays_without_the_rate(w, g, m, v, step, lr, betas, eps, weight_decay):
    return _wrong_step(w, g, m, v, step, lr, betas, eps, weight_decay, rate=False)


@adamw_step.mistake("You shrink the step together with the weight. What does the formula shrink?")
def shrinks_the_step_too(w, g, m, v, step, lr, betas, eps, weight_decay):
    return _wrong_step(w, g, m, v, step, lr, betas, eps, weight_decay, late=True)


@adamw_step.mistake(
    "Your decay goes into the gradient, and so through the division by the root of v. Where should "
    "it act?"
)
def decay_in_the_gradient(w, g, m, v, step, lr, betas, eps, weight_decay):
    return _wrong_step(w, g + weight_decay * w, m, v, step, lr, betas, eps, 0.0)


@adamw_step.mistake(
    "Your averages are divided by the weight of one step more. Does step count from 0 or from 1?"
)
def counts_one_more(w, g, m, v, step, lr, betas, eps, weight_decay):
    _, m, v = adamw_step(w, g, m, v, step, lr, betas, eps, weight_decay)
    root = np.sqrt(v / (1 - betas[1] ** (step + 1))) + eps
    return (1 - lr * weight_decay) * w - lr / (1 - betas[0] ** (step + 1)) * m / root, m, v


@exercise(
    "Without the correction",
    difficulty=2,
    minutes=15,
    section="where-the-correction-comes-from",
    because="the package always corrects",
    idea=(
        "With one gradient all the time, both moments are that gradient, or its square, times "
        "the sum of weights so far. See what is left of the quotient."
    ),
)
def uncorrected_over_corrected(beta1, beta2, t):
    """Return the length of step t of Adam without bias correction over that of the corrected one.

    Steps count from 1. The gradient is the same at every step, not 0, and so large that eps does
    not count.
    """
    return (1 - beta1**t) / math.sqrt(1 - beta2**t)


@uncorrected_over_corrected.check
def longer_not_shorter(answer, rng):
    expect_close(answer(0.9, 0.999, 1), 10**0.5, what="the factor at step 1")


@uncorrected_over_corrected.check
def at_the_peak(answer, rng):
    expect_close(answer(0.9, 0.999, 12), 6.569, rtol=1e-3, what="the factor at step 12")


@uncorrected_over_corrected.check
def by_running_it(answer, rng):
    m = v = 0.0
    for t in range(1, 41):
        m, v = 0.8 * m + 0.2 * 3.0, 0.95 * v + 0.05 * 9.0
        expect_close(answer(0.8, 0.95, t), m / math.sqrt(v), what=f"the factor at step {t}")


@uncorrected_over_corrected.mistake(
    "Both moments start too small, but the second one stands under a root. Does your factor know?"
)
def forgets_the_root(beta1, beta2, t):
    return (1 - beta1**t) / (1 - beta2**t)


@uncorrected_over_corrected.mistake(
    "A second moment that is too small makes a step longer: it is what you divide by."
)
def upside_down(beta1, beta2, t):
    return math.sqrt(1 - beta2**t) / (1 - beta1**t)


@uncorrected_over_corrected.mistake(
    "In your factor only m is too small. What happens to v, which starts at 0 as well?"
)
def first_moment_alone(beta1, beta2, t):
    return 1 - beta1**t


@uncorrected_over_corrected.mistake(
    "Your factor is that of the next step. Where do you begin to count?"
)
def counts_from_zero(beta1, beta2, t):
    return uncorrected_over_corrected(beta1, beta2, t + 1)


@uncorrected_over_corrected.mistake(
    "You take the root of both factors. Which of the moments stands under a root in the step?"
)
def root_of_both(beta1, beta2, t):
    return math.sqrt((1 - beta1**t) / (1 - beta2**t))


@exercise(
    "A schedule at ten points",
    difficulty=2,
    minutes=15,
    section="why-to-end-small-and-how",
    counterpart="chainrule.training.optimizers:warmup_cosine",
    idea=(
        "Two pieces: a line that counts the present step too, and a cosine over the share of "
        "the way that lies behind, cut off at 1."
    ),
)
def cosine_schedule(step, lr, warmup, total, final):
    """Return the rate at a step, counted from 0: linear warmup, then half a cosine.

    The rate rises in equal steps from lr/warmup at step 0 to lr at step warmup - 1. It is still lr
    at step warmup, falls to final at step total, and stays there. warmup is below total.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return final + (lr - final) * (1 + math.cos(math.pi * progress)) / 2


@cosine_schedule.in_package
def _(mine, step, lr, warmup, total, final=0.0):
    return mine(step, lr, warmup, total, final)


@cosine_schedule.check
def ten_points(answer, rng):
    points = (0, 49, 99, 100, 325, 550, 775, 1000, 1001, 2000)
    rates = (0.01, 0.5, 1, 1, 0.868198, 0.55, 0.231802, 0.1, 0.1, 0.1)
    for step, rate in zip(points, rates, strict=True):
        received = answer(step, 1.0, 100, 1000, 0.1)
        expect_close(received, rate, rtol=1e-5, what=f"the rate at step {step}")


@cosine_schedule.check
def another_peak(answer, rng):
    expect_close(answer(30, 0.02, 10, 50, 0.0), 0.01, what="the rate half way down")


@cosine_schedule.mistake(
    "Your first step has the rate 0 and is wasted. Which rate should the first of warmup steps get?"
)
def starts_at_zero(step, lr, warmup, total, final):
    if step < warmup:
        return lr * step / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return final + (lr - final) * (1 + math.cos(math.pi * progress)) / 2


@cosine_schedule.mistake(
    "Your rate jumps at the end of the warmup. Where does the cosine's progress start to count?"
)
def counts_the_warmup(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, step / total)
    return final + (lr - final) * (1 + math.cos(math.pi * progress)) / 2


@cosine_schedule.mistake("After the last step your rate rises again. What limits the progress?")
def swings_back(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / (total - warmup)
    return final + (lr - final) * (1 + math.cos(math.pi * progress)) / 2


@cosine_schedule.mistake(
    "You cut the curve off at final instead of arriving there. Between which two values does the "
    "cosine run?"
)
def cuts_off_at_final(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return max(final, lr * (1 + math.cos(math.pi * progress)) / 2)


@cosine_schedule.mistake(
    "You add final to the whole curve, and start above lr. How high is the way down?"
)
def adds_final(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return final + lr * (1 + math.cos(math.pi * progress)) / 2


@cosine_schedule.mistake("Your rate falls on a straight line. Where is the cosine?")
def falls_on_a_line(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return lr + (final - lr) * progress


@exercise(
    "Clip together",
    difficulty=2,
    minutes=15,
    section="gradient-clipping",
    counterpart="chainrule.training.optimizers:clip_grad_norm_",
    idea="All arrays together are one long vector. Find its length, and one factor for all of it.",
)
def clip_together(gradients, limit):
    """Return a list of the gradients, all scaled by one factor so that their joint norm is limit.

    gradients is a list of arrays of any shapes. If their joint norm is at most limit, they stay as
    they are.
    """
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    factor = min(1.0, limit / (norm + 1e-12))
    return [factor * g for g in gradients]


@clip_together.by_package
def _(package, gradients, limit):
    params = [Parameter(np.zeros(g.shape)) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.grad = g.copy()
    package(params, limit)
    return [p.grad for p in params]


@clip_together.in_package
def _(mine, params, max_norm, norm_type=2.0, error_if_nonfinite=False):
    gradients = [p.grad for p in params if p.grad is not None]
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    for g, clipped in zip(gradients, mine(gradients, max_norm), strict=True):
        g[...] = clipped
    return norm


@clip_together.check
def by_hand_together(answer, rng):
    received = answer([np.array([18.0, 24.0]), np.array([[40.0]])], 5.0)
    expected = [np.array([1.8, 2.4]), np.array([[4.0]])]
    expect_close(received, expected, what="(18, 24) and 40, whose joint norm is 50, clipped to 5")


@clip_together.check
def short_ones_stay(answer, rng):
    received = answer([np.array([0.3, 0.4])], 5.0)
    expect_close(received, [np.array([0.3, 0.4])], what="a gradient that is short enough")


@clip_together.check
def direction_stays(answer, rng):
    pieces = [10 * rng.normal(size=(3, 5)), rng.normal(size=7)]
    before = np.concatenate([g.ravel() for g in pieces])
    after = np.concatenate([np.ravel(g) for g in answer(pieces, 2.0)])
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    expect(cosine > 1 - 1e-9, f"the direction changed: the cosine is {cosine:.4f}")
    expect_close(np.linalg.norm(after), 2.0, rtol=1e-6, what="the joint norm")


@clip_together.mistake(
    "Each array is clipped by its own norm, so that long ones and short ones become alike. Whose "
    "norm should stay below the limit?"
)
def each_by_itself(gradients, limit):
    return [g * min(1.0, limit / (float(np.linalg.norm(g)) + 1e-12)) for g in gradients]


@clip_together.mistake("You clip entries. Does (30, 40) still point where it did?")
def entry_by_entry(gradients, limit):
    return [np.clip(g, -limit, limit) for g in gradients]


@clip_together.mistake("Short gradients become longer with you. When should nothing happen?")
def always_scales(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    return [g * limit / (norm + 1e-12) for g in gradients]


@clip_together.mistake(
    "The norms of the pieces do not add up to the norm of the whole. What does add up?"
)
def adds_the_norms(gradients, limit):
    norm = sum(float(np.linalg.norm(g)) for g in gradients)
    return [g * min(1.0, limit / (norm + 1e-12)) for g in gradients]


@clip_together.mistake("You divide by the sum of all squares. What is still to be taken of it?")
def divides_by_the_sum_of_squares(gradients, limit):
    square = sum(float(np.sum(g**2)) for g in gradients)
    return [g * limit / square if square > limit else g for g in gradients]


@clip_together.mistake("Whatever the limit is, your long gradients end with norm 1.")
def forgets_the_limit(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    return [g / norm if norm > limit else g for g in gradients]


@exercise(
    "Five steps to a polar factor",
    difficulty=3,
    minutes=20,
    section="matrices-as-matrices",
    counterpart="chainrule.training.optimizers:newton_schulz",
    idea=(
        "The polynomial acts on each singular value by itself, if the powers are products of "
        "the matrix with its transpose. It only works on singular values of at most 1, so "
        "divide first."
    ),
)
def orthogonalize(G):
    """Return G after division by its Frobenius norm and five Newton–Schulz steps.

    The coefficients are (3.4445, -4.7750, 2.0315). G is not zero and may be wide or tall.
    """
    X = G / np.linalg.norm(G)
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
    return X


@orthogonalize.check
def one_number(answer, rng):
    s = 1.0
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expect_close(answer(np.array([[7.0]])), np.array([[s]]), what="a 1 × 1 matrix")


@orthogonalize.check
def two_singular_values(answer, rng):
    values = np.array([0.6, 0.8])
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expect_close(answer(np.diag([3.0, 4.0])), np.diag(values), what="the result for diag(3, 4)")


@orthogonalize.check
def near_the_polar_factor(answer, rng):
    for shape in ((64, 32), (5, 13)):
        G = rng.normal(size=shape)
        distance = np.linalg.norm(answer(G) - polar_factor(G), 2)
        expect(
            distance < 0.35,
            f"for shape {shape} a singular value is off by {distance:.2f}, not below 0.35",
        )


@orthogonalize.check
def scale_does_not_matter(answer, rng):
    G = rng.normal(size=(7, 3))
    expect_close(answer(1e-3 * G), answer(G), what="the result for a thousandth of the matrix")


@orthogonalize.mistake(
    "For small matrices your result is small, for large ones it explodes. The polynomial needs "
    "singular values of at most 1."
)
def no_division(G):
    X = G
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
    return X


@orthogonalize.mistake(
    "You divide after every step, which undoes the growth that you want. How often is it needed?"
)
def divides_every_time(G):
    X = G
    for _ in range(5):
        X = X / np.linalg.norm(X)
        A = X @ X.T
        X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
    return X


@orthogonalize.mistake(
    "Powers of single entries are not powers of a matrix. What is (XXᵀ)X, and which singular "
    "values has it?"
)
def entry_by_entry_powers(G):
    X = G / np.linalg.norm(G)
    for _ in range(5):
        X = 3.4445 * X - 4.7750 * X**3 + 2.0315 * X**5
    return X


@orthogonalize.mistake(
    "You divide by the largest singular value. The Frobenius norm needs no singular values at all."
)
def divides_by_the_largest(G):
    X = G / np.linalg.norm(G, 2)
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
    return X


@orthogonalize.mistake("Count your steps: there should be five.", steps=(4, 6))
def another_number_of_steps(G, steps):
    X = G / np.linalg.norm(G)
    for _ in range(steps):
        A = X @ X.T
        X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
    return X
