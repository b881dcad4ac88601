"""The queue and the roofline against schedules written by hand and a second simulator."""

import numpy as np
import pytest

from chainrule.modern_llms.inference import (
    H100,
    H200,
    POLICIES,
    Device,
    Request,
    decode_intensity,
    roofline,
    simulate_serving,
)


def one(tokens):
    return 1.0


def by_tokens(tokens):
    return max(1.0, tokens / 50)


def trace(seed=0, n=61, rate=0.5):
    """Requests as they come: random gaps, short and long answers."""
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(1 / rate, n))
    return [
        Request(float(t), int(rng.integers(1, 200)), int(1 + rng.geometric(1 / 40))) for t in at
    ]


def times(requests, policy, max_batch, **more):
    return [s.times for s in simulate_serving(requests, policy, max_batch, one, **more).served]


THREE = [Request(0, 5, 3), Request(0, 5, 1), Request(1, 5, 2)]


@pytest.mark.parametrize(
    ("policy", "want"),
    [
        # two places; the short request keeps its place until the long one ends
        ("static", [[1, 2, 3], [1], [4, 5]]),
        ("dynamic", [[1, 2, 3], [1], [4, 5]]),
        # its place is free after the first step
        ("continuous", [[1, 2, 3], [1], [2, 3]]),
        # five prompt tokens a step: the first reads in step 1, the second in step 2
        ("chunked", [[1, 2, 3], [2], [3, 4]]),
        # prompts one after the other elsewhere: first tokens at 1, 2 and 3
        ("disaggregated", [[1, 2, 3], [2], [3, 4]]),
    ],
)
def test_a_schedule_by_hand(policy, want):
    assert times(THREE, policy, 2, chunk=5) == want


def test_a_full_batch_waits_and_one_that_need_not_be_full_does_not():
    late = [Request(0, 1, 2), Request(10, 1, 1)]
    assert times(late, "static", 2) == [[11, 12], [11]]
    assert times(late, "dynamic", 2) == [[1, 2], [11]]
    assert times(late, "static", 5) == [[11, 12], [11]]  # the last batch is not full


def test_a_long_prompt_makes_others_wait_unless_it_is_cut():
    requests = [Request(0, 1, 20), Request(3.5, 1_000, 2)]
    gaps = {
        policy: simulate_serving(requests, policy, 4, by_tokens, chunk=49).between_tokens(1)
        for policy in ("continuous", "chunked", "disaggregated")
    }
    assert gaps["continuous"] == pytest.approx(1_001 / 50)
    assert gaps["chunked"] == gaps["disaggregated"] == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("max_batch", [1, 3, 100])
def test_every_request_is_served_in_time_and_never_too_many(policy, max_batch):
    requests = trace(n=23)
    found = simulate_serving(requests, policy, max_batch, by_tokens)
    for s in found.served:
        assert len(s.times) == s.request.output
        assert s.request.arrival <= s.started < s.times[0]
        assert np.diff(s.times).min(initial=1) >= 1 - 1e-9  # a step takes at least 1
        assert s.left >= s.times[-1]
    if policy != "disaggregated":  # its prompts stand elsewhere
        for moment in [s.started for s in found.served]:
            assert sum(s.started <= moment < s.left for s in found.served) <= max_batch


def test_with_one_place_all_orders_are_one():
    requests = trace(n=17)
    want = [s.times for s in simulate_serving(requests, "static", 1, by_tokens).served]
    for policy in ("dynamic", "continuous"):
        got = [s.times for s in simulate_serving(requests, policy, 1, by_tokens).served]
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b)


def test_places_given_away_at_once_serve_half_as_many_again():
    requests = [Request(0, r.prompt, r.output) for r in trace(n=67)]
    fast, slow = (
        simulate_serving(requests, policy, 8, by_tokens).throughput
        for policy in ("continuous", "static")
    )
    assert fast > 1.5 * slow


def test_requests_may_come_in_any_order():
    requests = trace(n=11)
    a, b = (simulate_serving(r, "continuous", 3, one) for r in (requests, requests[::-1]))
    assert [s.times for s in a.served] == [s.times for s in b.served]


def test_the_numbers_of_the_roofline():
    assert round(H100.ridge) == 295
    assert round(H200.ridge) == 206
    # 70 billion weights of two bytes do not fit one H100; on one H200 a token takes 29.2 ms
    assert H100.memory < 140e9 < H200.memory
    assert roofline(2 * 70e9, 140e9, H200) == pytest.approx(0.02917, rel=1e-3)
    assert decode_intensity(70e9, 1, 2) == 1
    assert decode_intensity(70e9, 64, 2) == 64
    # a cache as great as the weights, in each of 8 texts: nine times the bytes, eight the work
    assert decode_intensity(1e9, 8, 2, cache_bytes=2e9) == pytest.approx(8 / 9)
    device = Device("d", 100, 10, 1)
    assert [roofline(1000, 1, device), roofline(1, 1000, device), roofline(0, 0, device)] == [
        10, 100, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Request(0, 0, 1), "tokens to read and write"),
        (lambda: Request(float("nan"), 1, 1), "tokens to read and write"),
        (lambda: simulate_serving([], "static", 1, one), "needs requests"),
        (lambda: simulate_serving(THREE, "fair", 1, one), "policy is one of static, dynamic"),
        (lambda: simulate_serving(THREE, "static", 0, one), "batch"),
        (lambda: simulate_serving(THREE, "chunked", 1, one, chunk=0), "chunk"),
        (lambda: Device("d", 0, 1, 1), "positive rates"),
        (lambda: Device("d", 1, float("nan"), 1), "positive rates"),
        (lambda: roofline(-1, 0, H100), "not negative"),
        (lambda: roofline(float("nan"), 0, H100), "not negative"),
        (lambda: decode_intensity(1e9, 0, 2), "batch"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
