"""``course.toml``: the graph of the course, loaded and validated.

Everything that knows what the course consists of asks a `Course`: which documents there
are, in which order, what each needs, where its module, exercises and figures live.
"""

from __future__ import annotations

import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import networkx as nx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chainrule.program import PACKAGE, CourseError

MANIFEST = "course.toml"
WORKBOOK = "workbook"
CARRIED = "checkout"
FOLDERS = (
    "math-foundations",
    "neural-networks",
    "architectures",
    "transformers",
    "training",
    "modern-llms",
)

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*$")]
Sentence = Annotated[str, Field(min_length=10, pattern=r"[.?]$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Need(_Entry):
    """One prerequisite and the sentence that says what is used of it."""

    id: Identifier
    because: Sentence


class OutlineItem(_Entry):
    """One promised topic, verbatim, and the heading anchor that covers it."""

    text: str
    anchor: str


class Application(_Entry):
    """Modules that belong to no document, and the documents whose subjects they build on.

    A document that is told so (``uses``) may import them, if all those are taught before it.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    modules: tuple[str, ...] = Field(min_length=1)
    builds_on: tuple[Identifier, ...] = Field(min_length=1)


class Related(_Entry):
    """Two documents that explain each other, and the sentence that says how."""

    between: tuple[Identifier, Identifier]
    because: Sentence


class Phase(_Entry):
    """A stage of the roadmap."""

    number: int
    title: str
    summary: Sentence


class Track(_Entry):
    """A way through the course: the goals and all that they need (``*`` is everything)."""

    id: str
    title: str
    goals: tuple[str, ...]


class Document(_Entry):
    """One subject: a document, and by the same name its module, exercises, figures, tests."""

    id: Identifier
    title: str
    number: Annotated[str, Field(pattern=r"^(\d\.\d+)?$")] = ""  # its place in the roadmap
    phase: int
    minutes: int = Field(gt=0, le=240)
    seconds: float = Field(default=10, gt=0, le=60)
    promise: Sentence
    needs: tuple[Need, ...] = ()
    outline: tuple[OutlineItem, ...] = Field(min_length=1)
    concepts: tuple[str, ...] = ()
    connections: tuple[OutlineItem, ...] = ()  # what of machine learning the mathematics serves
    uses: tuple[str, ...] = ()  # applications that its blocks may import

    @property
    def folder(self) -> str:
        """``math-foundations`` of ``math-foundations/linear-algebra``."""
        return self.id.split("/")[0]

    @property
    def slug(self) -> str:
        """``linear-algebra`` of ``math-foundations/linear-algebra``."""
        return self.id.split("/")[1]

    @property
    def path(self) -> str:
        """The document, relative to the root."""
        return f"{self.id}.md"

    @property
    def module(self) -> str:
        """The dotted module name."""
        return f"chainrule.{self.id.replace('-', '_').replace('/', '.')}"

    @property
    def exercises(self) -> str:
        """The exercise file, relative to the root."""
        return f"exercises/{self.folder}/{self.slug.replace('-', '_')}.py"

    @property
    def figure_script(self) -> str:
        """The script that draws the figures, relative to the root."""
        return f"figures/{self.folder}/{self.slug.replace('-', '_')}.py"

    @property
    def figure_folder(self) -> str:
        """Where the drawn SVGs are, relative to the root."""
        return f"figures/{self.id}"


class Notebook(_Entry):
    """One notebook, the documents it serves and the budget it keeps."""

    id: str = Field(pattern=r"^\d\d-[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    serves: tuple[Identifier, ...] = Field(min_length=1)
    seconds: int = Field(gt=0, le=600)
    megabytes: float = Field(gt=0, le=10)

    @property
    def path(self) -> str:
        """The notebook, relative to the root."""
        return f"notebooks/{self.id}.ipynb"


class Ask(_Entry):
    """A question that who knows a document answers with a number, and how it is computed."""

    document: Identifier
    question: Annotated[str, Field(min_length=10)]
    answer: str
    computed: str


class ReferencePage(_Entry):
    """A page that is no document: written from one data file by a function of a room.

    ``render`` names it, ``module:function``; it gets what the file ``data`` holds, JSON or TOML,
    and yields lines; beside it stands ``rows``, which gives each entry's title, anchor and
    section, so that the document of the section links to it. ``python -m measure --check``
    measures again what is stored; a page of times, which no second run repeats, has none.
    """

    path: str = Field(pattern=r"^reference/[a-z0-9]+(-[a-z0-9]+)*\.md$")
    title: str
    about: Sentence
    data: str = Field(pattern=r"^(reference|benchmarks)/[a-z0-9]+(-[a-z0-9]+)*\.(json|toml)$")
    render: str = Field(pattern=r"^chainrule(\.\w+)+:\w+$")
    measure: str = Field("", pattern=r"^(chainrule(\.\w+)+)?$")

    def read(self, text: str) -> Any:
        """What the text of the data file holds.

        Raises:
            CourseError: it is neither JSON nor TOML, whichever its name says.
        """
        try:
            return tomllib.loads(text) if self.data.endswith(".toml") else json.loads(text)
        except ValueError as error:
            raise CourseError(f"{self.data}: {error}") from None


class ReadmeRegion(_Entry):
    """A region of README that shows measurements: a function of a room makes lines of its data.

    ``render`` names it, ``module:function``; it gets what each file of ``data`` holds, JSON.
    """

    name: str
    data: tuple[str, ...] = Field(min_length=1)
    render: str = Field(pattern=r"^chainrule(\.\w+)+:\w+$")


class _About(_Entry):
    name: str
    promise: Sentence
    repository: Annotated[str, Field(pattern=r"^(https://\S+[^/\s])?$")] = ""
    address: Annotated[str, Field(pattern=r"^(https://\S+/)?$")] = ""


class _Manifest(_Entry):
    course: _About
    phase: tuple[Phase, ...]
    track: tuple[Track, ...] = ()
    document: tuple[Document, ...] = Field(min_length=1)
    notebook: tuple[Notebook, ...] = ()
    related: tuple[Related, ...] = ()
    application: tuple[Application, ...] = ()
    ask: tuple[Ask, ...] = ()
    page: tuple[ReferencePage, ...] = ()
    region: tuple[ReadmeRegion, ...] = ()


class Course:
    """The graph and the checkout that it describes.

    ``place`` is where a learner's own files are: the checkout, or else a folder of theirs.

    Structural faults (a cycle, a missing prerequisite) do not stop loading: the audit
    reports them, with lines. Only a manifest that cannot be read raises `CourseError`.
    """

    def __init__(self, root: Path, manifest: _Manifest, source: str):
        self.root = root
        self.place = root
        self.source = source
        self.about = manifest.course
        self.phases = manifest.phase
        self.tracks = manifest.track
        self.documents = manifest.document
        self.notebooks = manifest.notebook
        self.related = manifest.related
        self.pages = manifest.page
        self.regions = manifest.region
        self.applications = {each.id: each for each in manifest.application}
        self.asks = {ask.document: ask for ask in manifest.ask}

    @cached_property
    def by_id(self) -> dict[str, Document]:
        """Documents by id, in reading order."""
        return {document.id: document for document in self.documents}

    @cached_property
    def graph(self) -> nx.DiGraph:
        """An edge ``a -> b`` means: b needs a. The edge's ``because`` says why."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.by_id)
        for document in self.documents:
            for need in document.needs:
                if need.id in self.by_id:
                    graph.add_edge(need.id, document.id, because=need.because)
        return graph

    def ancestors(self, document_id: str) -> set[str]:
        """Ids of everything that comes before a document, itself not included."""
        return nx.ancestors(self.graph, document_id)

    def path_to(self, goals: tuple[str, ...] | list[str]) -> list[Document]:
        """The goals and all that they need, in reading order; ``*`` is the whole course."""
        if "*" in goals:
            return list(self.documents)
        wanted = set(goals).union(*(self.ancestors(goal) for goal in goals))
        return [document for document in self.documents if document.id in wanted]

    def dependents(self, document_id: str) -> list[tuple[Document, str]]:
        """The documents that build directly on this one, each with the reason."""
        edges = self.graph.adj[document_id].items()
        return [(self.by_id[user], edge["because"]) for user, edge in edges]

    def beside(self, document_id: str) -> list[tuple[Document, str]]:
        """The documents that explain this one, and that it explains, each with the reason."""
        return [
            (self.by_id[other], pair.because)
            for pair in self.related
            if document_id in pair.between
            for other in {*pair.between} - {document_id} or {document_id}
            if other in self.by_id
        ]

    def notebooks_of(self, document_id: str) -> list[Notebook]:
        """The notebooks that serve a document."""
        return [notebook for notebook in self.notebooks if document_id in notebook.serves]

    def exists(self, entry: Document | Notebook | ReferencePage) -> bool:
        """Whether the file of an entry is there: an entry alone is a plan."""
        return (self.root / entry.path).is_file()

    def written(self) -> list[Document]:
        """The documents that exist, in reading order."""
        return [document for document in self.documents if self.exists(document)]

    def line_of(self, *texts: str) -> int:
        """The 1-based line of the last text, each looked for after the one before.

        A text that is not there leaves the line at the one before it; the first line is 1.
        """
        line, start = 1, 0
        for text in texts:
            position = self.source.find(text, start)
            if position >= 0:
                start = position + len(text)
                line = self.source.count("\n", 0, start - len(text.lstrip("\n"))) + 1
        return line


def find_root(start: Path | None = None) -> Path:
    """The nearest folder, from ``start`` upwards, that holds a ``course.toml``.

    Raises:
        CourseError: there is none.
    """
    start = start or Path.cwd()
    if found := _around(start, MANIFEST):
        return found
    raise CourseError(f"no {MANIFEST} in {start.resolve()} or above: run this inside a checkout")


def _around(start: Path, name: str) -> Path | None:
    start = start.resolve()
    return next((f for f in (start, *start.parents) if (f / name).exists()), None)


def open_course() -> Course:
    """The course of the checkout around this folder, else the one that came with the package.

    That is in the wheel, or in the checkout around the package; then a learner's own files are in
    the nearest folder, from here upwards, with a workbook, else here.

    Raises:
        CourseError: there is none, or its manifest cannot be used.
    """
    here, carried = Path.cwd(), PACKAGE / CARRIED
    if not carried.is_dir():
        carried = PACKAGE.parents[1]
    if _around(here, MANIFEST) or not (carried / MANIFEST).is_file():
        return load_course(find_root())
    course = load_course(carried)
    course.place = _around(here, WORKBOOK) or here
    return course


def load_course(root: Path) -> Course:
    """Read and validate ``course.toml`` under ``root``.

    Raises:
        CourseError: the file is missing, is not TOML, or an entry breaks its schema; one line
            a fault, each naming the entry and the field.
    """
    try:
        source = (root / MANIFEST).read_text(encoding="utf-8-sig")
        data = tomllib.loads(source)
    except (OSError, ValueError) as error:
        raise CourseError(f"{root / MANIFEST}: {error}") from None
    try:
        manifest = _Manifest.model_validate(data)
    except ValidationError as error:
        lines = [_explain(data, fault["loc"], fault["msg"]) for fault in error.errors()]
        raise CourseError("\n".join(lines)) from None
    return Course(root, manifest, source)


def _explain(data: dict[str, Any], location: tuple[int | str, ...], message: str) -> str:
    """Name the entry by its id and the field by its dotted path."""
    kind, *rest = location
    entry, field = str(kind), rest
    if rest and isinstance(rest[0], int):
        table = data[str(kind)][rest[0]]
        name = table.get("id") or table.get("number") or f"number {rest[0] + 1}"
        entry, field = f"{kind} {name!r}", rest[1:]
    dotted = ".".join(str(part + 1) if isinstance(part, int) else part for part in field)
    return f"{MANIFEST}: {entry}" + (f", field {dotted!r}" if dotted else "") + f": {message}"
