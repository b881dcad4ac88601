"""Blind set of modern-llms/instruction-tuning: wrong answers, written from the stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- render --------------------------------------------------------------------------------------


def _render(messages, begin, start, end, head=0, role_counts=False, end_counts=True):
    """Rows of a conversation; the mask has `head` for the token that opens an answer."""
    ids, mask = [begin], [False]
    for role, text in messages:
        own = role == 1
        ids += [start, role, *text, end]
        mask += [bool(head) and own, role_counts and own, *[own] * len(text), own and end_counts]
    return np.array(ids), np.array(mask, bool)


@wrong("render", "Does not count the end of an answer.", known="end_untrained")
def _(messages, begin, start, end):
    return _render(messages, begin, start, end, end_counts=False)


@wrong(
    "render",
    "Counts the whole message of the assistant, its start and role too.",
    known="header_trained",
)
def _(messages, begin, start, end):
    return _render(messages, begin, start, end, head=1, role_counts=True)


@wrong("render", "Counts the role of the assistant.", known="role_trained")
def _(messages, begin, start, end):
    return _render(messages, begin, start, end, role_counts=True)


@wrong("render", "Counts only the last answer.", known="last_answer_only")
def _(messages, begin, start, end):
    ids, mask = _render(messages, begin, start, end)
    answers = [i for i, (role, _) in enumerate(messages) if role == 1]
    place = 1
    for i, (_, text) in enumerate(messages):
        n = len(text) + 3
        if not answers or i != answers[-1]:
            mask[place : place + n] = False
        place += n
    return ids, mask


@wrong("render", "Writes the token begin before every message.", known="begin_twice")
def _(messages, begin, start, end):
    rows = [_render([m], begin, start, end) for m in messages]
    return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])


@wrong("render", "Counts what the user wrote instead.", known="user_trained")
def _(messages, begin, start, end):
    ids, mask = [begin], [False]
    for role, text in messages:
        ids += [start, role, *text, end]
        mask += [False, False, *[role == 0] * len(text), role == 0]
    return np.array(ids), np.array(mask, bool)


@wrong("render", "Counts every end, the user's too.", known="every_end_trained")
def _(messages, begin, start, end):
    ids, mask = _render(messages, begin, start, end)
    return ids, mask | (ids == end)


@wrong("render", "Forgets the role.", known="no_role")
def _(messages, begin, start, end):
    ids, mask = [begin], [False]
    for role, text in messages:
        ids += [start, *text, end]
        mask += [False, *[role == 1] * (len(text) + 1)]
    return np.array(ids), np.array(mask, bool)


@wrong("render", "Moves the mask to the places that predict.", known="mask_moved")
def _(messages, begin, start, end):
    ids, mask = _render(messages, begin, start, end)
    return ids, np.append(mask[1:], False)


# ---- labels --------------------------------------------------------------------------------------


@wrong(
    "labels",
    "Does not move the targets, as a library that moves them itself would have it.",
    known="not_shifted",
)
def _(ids, mask):
    return np.where(mask, ids, -100)


@wrong("labels", "Moves the ids, but not the mask.", known="mask_stays")
def _(ids, mask):
    out = np.full(ids.shape, -100)
    out[:, :-1] = np.where(mask[:, :-1], ids[:, 1:], -100)
    return out


@wrong(
    "labels", "Moves with np.roll, so that the last place asks for the first token.", known="rolled"
)
def _(ids, mask):
    return np.where(np.roll(mask, -1, axis=1), np.roll(ids, -1, axis=1), -100)


@wrong("labels", "Moves the wrong way.", known="backwards")
def _(ids, mask):
    out = np.full(ids.shape, -100)
    out[:, 1:] = np.where(mask[:, :-1], ids[:, :-1], -100)
    return out


@wrong(
    "labels",
    "Rolls over the whole batch, so that rows flow into each other.",
    known="rolled_over_rows",
)
def _(ids, mask):
    return np.where(np.roll(mask, -1), np.roll(ids, -1), -100)


@wrong("labels", "Leaves the last column out.", known="a_column_less")
def _(ids, mask):
    return np.where(mask[:, 1:], ids[:, 1:], -100)


@wrong("labels", "Fills with 0.", known="filled_with_zero")
def _(ids, mask):
    out = np.zeros(ids.shape, int)
    out[:, :-1] = np.where(mask[:, 1:], ids[:, 1:], 0)
    return out


@wrong("labels", "Leaves the targets of tokens that do not count.", known="not_masked")
def _(ids, mask):
    out = np.full(ids.shape, -100)
    out[:, :-1] = ids[:, 1:]
    return out


@wrong("labels", "Moves the targets, then masks by the place that reads.", known="mask_stays")
def _(ids, mask):
    out = np.full(ids.shape, -100)
    out[:, :-1] = ids[:, 1:]
    out[~mask] = -100
    return out


# ---- encode --------------------------------------------------------------------------------------


@wrong("encode", "Reads the names of control tokens in a stranger's text.", known="whole_names")
def _(pieces, alphabet, controls):
    out = []
    for trusted, text in pieces:
        if trusted or text in controls:
            out.append(controls[text])
        else:
            out += [alphabet.index(c) for c in text]
    return out


@wrong("encode", "Joins the pieces to a string first, and then tokenizes it.", known="one_string")
def _(pieces, alphabet, controls):
    text = "".join(t for _, t in pieces)
    out = []
    while text:
        for name in sorted(controls, key=len, reverse=True):
            if text.startswith(name):
                out.append(controls[name])
                text = text[len(name) :]
                break
        else:
            out.append(alphabet.index(text[0]))
            text = text[1:]
    return out


@wrong("encode", "Uses find, which gives -1 for a character that is not there.", known="minus_one")
def _(pieces, alphabet, controls):
    out = []
    for trusted, text in pieces:
        out += [controls[text]] if trusted else [alphabet.find(c) for c in text]
    return out


@wrong("encode", "Leaves out characters that are not in the alphabet.", known="left_out")
def _(pieces, alphabet, controls):
    out = []
    for trusted, text in pieces:
        out += [controls[text]] if trusted else [alphabet.index(c) for c in text if c in alphabet]
    return out


@wrong(
    "encode",
    "Removes the names of control tokens from a stranger's text.",
    known="names_removed_once",
)
def _(pieces, alphabet, controls):
    out = []
    for trusted, text in pieces:
        if trusted:
            out.append(controls[text])
            continue
        for name in controls:
            text = text.replace(name, "")
        out += [alphabet.index(c) for c in text]
    return out


@wrong("encode", "Refuses a stranger's text in which a control token is named.", known="refused")
def _(pieces, alphabet, controls):
    out = []
    for trusted, text in pieces:
        if not trusted and any(name in text for name in controls):
            raise ValueError("control token")
        out += [controls[text]] if trusted else [alphabet.index(c) for c in text]
    return out


@wrong("encode", "Looks characters up in a dictionary: a KeyError.")
def _(pieces, alphabet, controls):
    place = {c: i for i, c in enumerate(alphabet)}
    out = []
    for trusted, text in pieces:
        out += [controls[text]] if trusted else [place[c] for c in text]
    return out


@wrong("encode", "Gives a list of lists.")
def _(pieces, alphabet, controls):
    return [
        [controls[text]] if trusted else [alphabet.index(c) for c in text]
        for trusted, text in pieces
    ]


# ---- kept_messages -------------------------------------------------------------------------------


def _exchanges(roles):
    out = []
    for i, role in enumerate(roles):
        if role == "user":
            out.append([i])
        elif role != "system":
            out[-1].append(i)
    return out


@wrong("kept_messages", "Does not keep the system message.", known="no_system")
def _(roles, lengths, n):
    groups = _exchanges(roles)
    while sum(lengths[i] for g in groups for i in g) > n:
        if len(groups) == 1:
            raise ValueError("too long")
        groups.pop(0)
    return [i for g in groups for i in g]


@wrong(
    "kept_messages",
    "Keeps the system message, but does not count its tokens.",
    known="system_not_counted",
)
def _(roles, lengths, n):
    head = [i for i, r in enumerate(roles) if r == "system"]
    groups = _exchanges(roles)
    while sum(lengths[i] for g in groups for i in g) > n:
        if len(groups) == 1:
            raise ValueError("too long")
        groups.pop(0)
    return head + [i for g in groups for i in g]


@wrong("kept_messages", "Takes single messages away instead of exchanges.", known="single_messages")
def _(roles, lengths, n):
    kept = list(range(len(roles)))
    first = 1 if roles[0] == "system" else 0
    while sum(lengths[i] for i in kept) > n:
        if len(kept) <= first + 1:
            raise ValueError("too long")
        kept.pop(first)
    return kept


@wrong("kept_messages", "Takes the newest exchanges away.", known="newest_exchanges")
def _(roles, lengths, n):
    head = [i for i, r in enumerate(roles) if r == "system"]
    groups = _exchanges(roles)
    while sum(lengths[i] for g in [head, *groups] for i in g) > n:
        if len(groups) == 1:
            raise ValueError("too long")
        groups.pop()
    return head + [i for g in groups for i in g]


@wrong("kept_messages", "Less than n tokens, not at most n.", known="exactly_n")
def _(roles, lengths, n):
    head = [i for i, r in enumerate(roles) if r == "system"]
    groups = _exchanges(roles)
    while sum(lengths[i] for g in [head, *groups] for i in g) >= n:
        if len(groups) == 1:
            raise ValueError("too long")
        groups.pop(0)
    return head + [i for g in groups for i in g]


@wrong(
    "kept_messages", "Raises no error where even the last exchange is too long.", known="no_error"
)
def _(roles, lengths, n):
    head = [i for i, r in enumerate(roles) if r == "system"]
    groups = _exchanges(roles)
    while len(groups) > 1 and sum(lengths[i] for g in [head, *groups] for i in g) > n:
        groups.pop(0)
    return head + [i for g in groups for i in g]


@wrong("kept_messages", "Takes pairs of messages for exchanges.", known="pairs_of_messages")
def _(roles, lengths, n):
    first = 1 if roles[0] == "system" else 0
    kept = list(range(len(roles)))
    while sum(lengths[i] for i in kept) > n:
        if len(kept) <= first + 2:
            raise ValueError("too long")
        del kept[first : first + 2]
    return kept


@wrong("kept_messages", "Gives the lengths that are kept instead of the numbers.")
def _(roles, lengths, n):
    head = [i for i, r in enumerate(roles) if r == "system"]
    groups = _exchanges(roles)
    while sum(lengths[i] for g in [head, *groups] for i in g) > n:
        if len(groups) == 1:
            raise ValueError("too long")
        groups.pop(0)
    return [lengths[i] for g in [head, *groups] for i in g]


@wrong(
    "kept_messages",
    "Takes away exchanges even past the last one, down to the system message.",
    known="nothing_left",
)
def _(roles, lengths, n):
    head = [i for i, r in enumerate(roles) if r == "system"]
    groups = _exchanges(roles)
    while groups and sum(lengths[i] for g in [head, *groups] for i in g) > n:
        groups.pop(0)
    if sum(lengths[i] for i in head) > n:
        raise ValueError("too long")
    return head + [i for g in groups for i in g]


# ---- both_orders ---------------------------------------------------------------------------------


def _a_wins(took_first):
    return np.stack([took_first[:, 0], ~took_first[:, 1]], axis=1)


@wrong("both_orders", "Counts the first places as A's in both columns.", known="column_not_turned")
def _(took_first):
    mean = took_first.mean()
    same = took_first[:, 0] == took_first[:, 1]
    return mean, took_first[same, 0].mean(), 1 - same.mean()


@wrong(
    "both_orders",
    "A's wins are right, but agreement is that of the columns as they stand.",
    known="same_place",
)
def _(took_first):
    wins = _a_wins(took_first)
    same = took_first[:, 0] == took_first[:, 1]
    return wins.mean(), wins[same, 0].mean(), 1 - same.mean()


@wrong(
    "both_orders",
    "Gives the share of pairs that agree instead of those that do not.",
    known="check_turned",
)
def _(took_first):
    wins = _a_wins(took_first)
    same = wins[:, 0] == wins[:, 1]
    return wins.mean(), wins[same, 0].mean(), same.mean()


@wrong("both_orders", "Divides A's wins in both orders by all pairs.", known="divided_by_all")
def _(took_first):
    wins = _a_wins(took_first)
    same = wins[:, 0] == wins[:, 1]
    return wins.mean(), wins.all(axis=1).mean(), 1 - same.mean()


@wrong(
    "both_orders",
    "The page's formula with f and s, which supposes one habit.",
    known="difference_of_shares",
)
def _(took_first):
    f, s = took_first[:, 0].mean(), 1 - took_first[:, 1].mean()
    return (f + s) / 2, s / (1 - (f - s)), f - s


@wrong("both_orders", "The check from f - s, the rest right.", known="difference_of_shares")
def _(took_first):
    wins = _a_wins(took_first)
    same = wins[:, 0] == wins[:, 1]
    return wins.mean(), wins[same, 0].mean(), wins[:, 0].mean() - wins[:, 1].mean()


@wrong("both_orders", "Counts instead of shares.")
def _(took_first):
    wins = _a_wins(took_first)
    same = wins[:, 0] == wins[:, 1]
    return wins.sum(), wins[same, 0].sum(), (~same).sum()


@wrong("both_orders", "The mean over the first order only.", known="first_order_only")
def _(took_first):
    wins = _a_wins(took_first)
    same = wins[:, 0] == wins[:, 1]
    return wins[:, 0].mean(), wins[same, 0].mean(), 1 - same.mean()


@wrong(
    "both_orders", "A's wins over the number of pairs, not of verdicts.", known="divided_by_pairs"
)
def _(took_first):
    wins = _a_wins(took_first)
    same = wins[:, 0] == wins[:, 1]
    return wins.sum() / len(wins), wins[same, 0].mean(), 1 - same.mean()


# ---- sft_loss ------------------------------------------------------------------------------------


def _sft(logits, ids, mask, weighting, stable=True, mask_shift=1, divide=None):
    z = logits[:, :-1]
    targets = ids[:, 1:]
    m = mask[:, 1:] if mask_shift else mask[:, :-1]
    if stable:
        z = z - z.max(-1, keepdims=True)
    p = np.exp(z)
    total = p.sum(-1, keepdims=True)
    p /= total
    rows = np.arange(len(ids))[:, None], np.arange(ids.shape[1] - 1)[None], targets
    loss = np.log(total[..., 0]) - z[rows]
    w = m.astype(float)
    if divide is not None:
        w = w / divide
    elif weighting == "token":
        w /= w.sum()
    else:
        w = w / w.sum(1, keepdims=True) / len(w)
    g = p.copy()
    g[rows] -= 1
    out = np.zeros(logits.shape)
    out[:, :-1] = g * w[..., None]
    return np.where(w > 0, loss * w, 0).sum(), out


@wrong("sft_loss", "Exponentials without the maximum taken off.")
def _(logits, ids, mask, weighting):
    with np.errstate(all="ignore"):
        return _sft(logits, ids, mask, weighting, stable=False)


@wrong("sft_loss", "The mask is one place too late.", known="mask_not_moved")
def _(logits, ids, mask, weighting):
    return _sft(logits, ids, mask, weighting, mask_shift=0)


@wrong("sft_loss", "Divides by all places, not by those that count.", known="divided_by_places")
def _(logits, ids, mask, weighting):
    return _sft(logits, ids, mask, weighting, divide=mask[:, 1:].size)


@wrong("sft_loss", "Takes the mean over tokens whatever the weighting.", known="always_tokens")
def _(logits, ids, mask, weighting):
    return _sft(logits, ids, mask, "token")


@wrong("sft_loss", "Sums each row instead of its mean, then the mean of rows.", known="rows_added")
def _(logits, ids, mask, weighting):
    if weighting == "token":
        return _sft(logits, ids, mask, weighting)
    return _sft(logits, ids, mask, weighting, divide=len(ids))


@wrong("sft_loss", "The two weightings the other way round.", known="weightings_swapped")
def _(logits, ids, mask, weighting):
    return _sft(logits, ids, mask, "token" if weighting == "example" else "example")


@wrong("sft_loss", "Gradient of the sum, while the loss is the mean.", known="gradient_of_the_sum")
def _(logits, ids, mask, weighting):
    loss, _g = _sft(logits, ids, mask, weighting)
    return loss, _sft(logits, ids, mask, weighting, divide=1)[1]


@wrong("sft_loss", "Does not shift: row t scores token t.", known="no_shift")
def _(logits, ids, mask, weighting):
    z = logits - logits.max(-1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    hot = np.eye(logits.shape[-1])[ids]
    w = mask.astype(float)
    w = w / w.sum() if weighting == "token" else w / w.sum(1, keepdims=True) / len(w)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return -((logp * hot).sum(-1) * w).sum(), (p - hot) * w[..., None]


@wrong("sft_loss", "The gradient is not masked.", known="gradient_not_masked")
def _(logits, ids, mask, weighting):
    loss, _g = _sft(logits, ids, mask, weighting)
    every = np.ones_like(mask)
    return loss, _sft(logits, ids, every, weighting)[1]


@wrong("sft_loss", "The gradient with the sign turned round.", known="sign_turned")
def _(logits, ids, mask, weighting):
    loss, g = _sft(logits, ids, mask, weighting)
    return loss, -g


@wrong("sft_loss", "The gradient has a row too few.")
def _(logits, ids, mask, weighting):
    loss, g = _sft(logits, ids, mask, weighting)
    return loss, g[:, :-1]
