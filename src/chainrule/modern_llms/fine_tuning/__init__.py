"""Fine-tuning: a language model learns a task, forgets, and is compared with what it was.

Taught in ``modern-llms/fine-tuning.md``. `heads` puts a classifier on a GPT and says which weights
move how fast, `training` holds the loop and its losses, `forgetting` measures what is lost and
holds it back, `prompts` asks without training, `metrics` and `comparing` judge the answers.

Shape names: ``batch``, ``time`` positions, ``classes``, ``d_model`` width, ``n`` examples.
"""

from __future__ import annotations

from chainrule.modern_llms.fine_tuning.comparing import (
    Bootstrap,
    accuracy_margin,
    mcnemar,
    paired_bootstrap,
)
from chainrule.modern_llms.fine_tuning.forgetting import (
    ewc_penalty,
    fisher_diagonal,
    interpolate,
    language_kl,
)
from chainrule.modern_llms.fine_tuning.heads import (
    POOLS,
    ClassifierHead,
    freeze,
    layerwise_lr,
    pool,
)
from chainrule.modern_llms.fine_tuning.metrics import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    exact_match,
    f1,
    mcc,
    rouge_l,
)
from chainrule.modern_llms.fine_tuning.prompts import (
    contaminated,
    few_shot_prompt,
    score_choices,
)
from chainrule.modern_llms.fine_tuning.training import (
    fine_tune,
    language_loss,
    predict,
    replay_mixer,
    task_loss,
)

__all__ = [
    "POOLS", "Bootstrap", "ClassifierHead", "accuracy", "accuracy_margin", "balanced_accuracy",
    "confusion_matrix", "contaminated", "ewc_penalty", "exact_match", "f1", "few_shot_prompt",
    "fine_tune", "fisher_diagonal", "freeze", "interpolate", "language_kl", "language_loss",
    "layerwise_lr", "mcc", "mcnemar", "paired_bootstrap", "pool", "predict", "replay_mixer",
    "rouge_l", "score_choices", "task_loss",
]  # fmt: skip
