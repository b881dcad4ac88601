"""Every option of `train` and `sample` names the section that teaches it; the section exists."""

import re

import pytest
import typer
from typer.main import get_command

from chainrule.course.documents.markdown import parse
from chainrule.course.manifest import find_root, load_course
from chainrule.trainer.commands import sample, train

ROOT = find_root()
EXEMPT = {"out", "resume", "run"}  # where files lie, not what is learned


@pytest.mark.parametrize("name", ["train", "sample"])
def test_each_option_leads_to_a_section(name):
    course = load_course(ROOT)
    app = typer.Typer()
    for command in (sample.sample, train.train):
        app.command()(command)
    command = get_command(app).commands[name]
    told = set()
    for option in command.params:
        if option.name in EXEMPT:
            continue
        found = re.search(r"Taught in ([\w/-]+)(?:#([\w-]+))?\.$", option.help or "")
        assert found, f"--{option.name} does not say where it is taught: {option.help}"
        document = next(d for d in course.documents if d.id == found[1])
        page = parse((ROOT / document.path).read_text(encoding="utf-8"))
        if found[2]:
            assert found[2] in {heading.anchor for heading in page.headings}, option.name
        told.add(option.name)
    assert len(told) >= 7
