"""Folders in the layout of Hugging Face: a model of the course written as one, and one read.

`write_folder` makes a folder that ``transformers`` opens without further code; `open_folder` reads
the folders of a few families into the course's classes. `configuration` translates settings,
`weights` names and layouts of arrays, `tokenizer` the file tokenizer.json, `card` says what the
model is. Whatever is not understood is refused by its name: a setting that is passed over would
be a model that computes something else.
"""

from __future__ import annotations

from chainrule.models.huggingface.card import model_card
from chainrule.models.huggingface.configuration import (
    FAMILIES,
    Family,
    family_of,
    published_config,
    read_config,
)
from chainrule.models.huggingface.files import FolderError
from chainrule.models.huggingface.folder import Opened, add_folder, open_folder, write_folder
from chainrule.models.huggingface.tokenizer import (
    FolderTokenizer,
    Tokenizer,
    read_tokenizer,
    written_tokenizer,
)
from chainrule.models.huggingface.weights import course_state, published_state, state_shapes

__all__ = [
    "FAMILIES", "Family", "FolderError", "FolderTokenizer", "Opened", "Tokenizer", "add_folder",
    "course_state", "family_of", "model_card", "open_folder", "published_config", "published_state",
    "read_config", "read_tokenizer", "state_shapes", "write_folder", "written_tokenizer",
]  # fmt: skip
