"""``chainrule find``: the sections of the course that answer a question."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from chainrule.program import UsageError


def find(
    question: Annotated[list[str], typer.Argument(help="A question, or a few words.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many sections.")] = 5,
    words: Annotated[
        bool, typer.Option("--words", help="Compare words, even where the model is present.")
    ] = False,
) -> None:
    """Find the sections that answer a question, ranked by a BERT where it is present."""
    from chainrule.course.manifest import open_course
    from chainrule.data.models import MODELS, cache_folder, is_present
    from chainrule.models.passages import passages_of
    from chainrule.models.sections import by_meaning, by_words

    asked = " ".join(question).strip()
    if not asked:
        raise UsageError('no question given; try: chainrule find "why divide by the root of d"')
    course = open_course()
    passages = [p for document in course.written() for p in passages_of(document, course.root)]
    model = MODELS["minilm"]
    if words or not is_present("minilm"):
        if not words:
            print("Compared by words; by meaning after: chainrule models get minilm")
        ranked = by_words(asked, passages)
    else:
        store = cache_folder() / "find" / f"{model.weights[:16]}.npz"
        ranked = by_meaning(asked, passages, encoder(), store)
    if not ranked:
        raise UsageError(f"no section shares a word with {asked!r}")
    for score, passage in ranked[:count]:
        print(f"{score:5.2f}  {passage.title}: {passage.heading}")
        print(f"       {passage.place}")


def encoder():
    """The function that makes vectors of texts; it says so where it takes a while."""
    from chainrule.data.models import model_folder
    from chainrule.neural_networks.backpropagation import StateFileError
    from chainrule.transformers.bert import load_encoder

    try:
        model = load_encoder(model_folder("minilm"))
    except (StateFileError, ValueError) as error:
        raise UsageError(f"{error}; type: chainrule models get minilm") from None

    def encode(texts):
        if len(texts) > 50:
            print(f"Reading {len(texts)} passages, once …", file=sys.stderr)
        return model.encode(texts)

    return encode
