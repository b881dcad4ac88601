"""Everything that decides what a life computes: sizes, steps, rates, and what each step costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from chainrule.program import UsageError

__all__ = ["Settings", "quick"]


@dataclass(frozen=True)
class Settings:
    """The model, and for each stage its steps, the size of a step and its learning rate.

    ``careless`` is the share of demonstrations that follow the second rule. ``chosen`` and
    ``tested`` are prompts of the part that choices are made on and of the part that chose nothing.
    """

    vocabulary: int = 640
    context: int = 128
    layers: int = 4
    heads: int = 4
    width: int = 128

    tokenizer_text: int = 800_000
    pretrain_steps: int = 1400
    pretrain_rows: int = 8
    pretrain_rate: float = 2e-3

    careless: float = 0.4
    demonstrations: int = 6000
    sft_steps: int = 900
    sft_rows: int = 64
    sft_rate: float = 1e-3
    replay_rows: int = 8
    replay_length: int = 64
    replay_weight: float = 0.3
    look_every: int = 100

    pair_prompts: int = 1200
    pair_copies: int = 4
    reward_pairs: int = 100
    reward_steps: int = 50
    reward_rate: float = 3e-4
    best_prompts: int = 80
    best_of: int = 32

    control_steps: int = 160
    control_rate: float = 0.0003
    rejection_steps: int = 70
    rejection_rate: float = 1e-4
    dpo_steps: int = 50
    dpo_rate: float = 5e-5
    dpo_beta: float = 1.0
    dpo_likelihood: float = 1.0
    ppo_steps: int = 50
    ppo_replies: int = 128
    ppo_rate: float = 1e-4
    ppo_beta: float = 0.01
    grpo_steps: int = 120
    grpo_prompts: int = 16
    grpo_group: int = 8
    grpo_rate: float = 1e-4
    trap_steps: int = 30

    lora_steps: int = 150
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_rate: float = 3e-3
    serve_texts: int = 20
    serve_tokens: int = 48

    answer: int = 14
    chosen: int = 500
    tested: int = 1000
    sampled: int = 500
    windows: int = 96
    probes: int = 20
    seed: int = 0

    def as_dict(self) -> dict[str, int | float]:
        """For a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Settings:
        """From a file.

        Raises:
            UsageError: a name is missing or unknown.
        """
        expected = {field.name for field in fields(cls)}
        if different := expected ^ values.keys():
            listed = ", ".join(sorted(different))
            raise UsageError(f"these settings belong to another version: {listed}")
        return cls(**values)


def quick() -> Settings:
    """A life of two minutes at most, to try the machinery: the model learns next to nothing."""
    return Settings(
        vocabulary=400, context=96, layers=2, heads=2, width=32, tokenizer_text=60_000,
        pretrain_steps=60, pretrain_rows=4, demonstrations=1500, sft_steps=240, sft_rows=32,
        sft_rate=4e-3, replay_rows=2, replay_length=32, look_every=80, pair_prompts=200,
        reward_pairs=20, reward_steps=8, best_prompts=10, best_of=8, control_steps=12,
        rejection_steps=12, dpo_steps=8, ppo_steps=6, ppo_replies=16, grpo_steps=8, grpo_prompts=4,
        grpo_group=4, trap_steps=4, lora_steps=12, lora_rank=2, serve_texts=2, serve_tokens=12,
        chosen=40, tested=60, sampled=30, windows=8, probes=4,
    )  # fmt: skip
