"""Figures are drawn the same every time, and the check sees what is missing or stale."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from one_document import MANIFEST

from chainrule.children import environment
from chainrule.course import figures
from chainrule.course.audit import Audit
from chainrule.course.audit.checks import figures as figures_check
from chainrule.course.figures.__main__ import main
from chainrule.course.finding import Finding
from chainrule.course.manifest import load_course
from chainrule.files import write_atomically

SCRIPT = """
import numpy as np
from chainrule.course.figures import COLORS, figure

@figure("waves")
def waves(plt):
    fig, ax = plt.subplots()
    t = np.linspace(0, 7, 200)
    ax.plot(t, np.sin(t), label="$k=0$")
    ax.fill_between(t, 0, np.cos(t), color=COLORS["orange"], alpha=0.3)
    ax.set(xlabel="time (s)", ylabel="height (m)", title="Waves")
    ax.annotate("top", (1.5, 1), (3, 0.8), arrowprops={"arrowstyle": "->"})
    ax.legend()
    return fig

@figure("image")
def image(plt):
    fig, ax = plt.subplots()
    ax.imshow(np.random.default_rng(0).normal(size=(5, 5)))
    ax.scatter([1, 2], [3, 4], marker="x")
    return fig
"""
DOCUMENT = """# Linear algebra

![a wave](../figures/math-foundations/linear-algebra/waves.svg)

*The wave rises first.*

![an image](../figures/math-foundations/linear-algebra/image.svg)

*Noise.*
"""
SUBJECT = "math-foundations/linear-algebra"
SCRIPT_PATH = "figures/math-foundations/linear_algebra.py"
FOLDER = "figures/math-foundations/linear-algebra"

REPOSITORY = Path(__file__).parents[2]
WITH_MEASUREMENTS = sorted({path.parent for path in REPOSITORY.glob("figures/*/*/*.json")})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    put(root, "course.toml", MANIFEST)
    put(root, SCRIPT_PATH, SCRIPT)
    put(root, "math-foundations/linear-algebra.md", DOCUMENT)
    assert redraw(root) == []
    return root


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "course")


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def redraw(root: Path) -> list[str]:
    """Write what redrawing changes; return what is wrong."""
    rows = list(figures.redrawn(str(root), [SUBJECT]))
    for row in rows:
        if "text" in row:
            put(root, row["file"], row["text"])
    return [f"{row['file']}:{row['line']}: {row['message']}" for row in rows if "text" not in row]


def findings(root: Path, run: bool = False) -> list[Finding]:
    audit = Audit(load_course(root), run)
    found = list(figures_check.check(audit))
    return found + list(figures_check.run(audit)) if run else found


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def test_a_clean_course_gives_nothing(root):
    assert findings(root, run=True) == []


def test_redrawing_changes_no_byte(root):
    assert len(list(root.rglob("*.svg"))) == 2
    assert list(figures.redrawn(str(root), [SUBJECT])) == []


def test_bytes_do_not_depend_on_what_was_drawn_before(root):
    first = (root / f"{FOLDER}/image.svg").read_bytes()
    source = SCRIPT[: SCRIPT.index('@figure("waves")')] + SCRIPT[SCRIPT.index('@figure("image")') :]
    put(root, SCRIPT_PATH, source)
    document = load_course(root).documents[0]
    assert figures.svgs(root, document) == {f"{FOLDER}/image.svg": first}


def test_rounding_moves_nothing_by_more_than_half_a_hundredth(root, monkeypatch):
    document = load_course(root).documents[0]
    small = figures.svgs(root, document)
    monkeypatch.setattr(figures, "shrink", lambda svg, title: svg)
    exact = figures.svgs(root, document)
    number = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
    for path, data in exact.items():
        old, new = data.decode(), small[path].decode()
        old = re.sub(r"<!DOCTYPE[^>]*>|<metadata>.*?</metadata>", "", old, flags=re.DOTALL)
        new = re.sub("<title>.*</title>", "", new)
        pictures = r"base64,[^\"]*"
        assert re.findall(pictures, old) == re.findall(pictures, new)
        named = rf"{pictures}|\bp[0-9a-f]{{10}}\b"
        old, new = re.sub(named, "", old), re.sub(named, "", new)
        assert number.sub("#", old).split() == number.sub("#", new).split()
        pairs = zip(number.findall(old), number.findall(new), strict=True)
        assert max(abs(float(a) - float(b)) for a, b in pairs) <= 0.005 + 1e-9
        for scale in re.findall(r"scale\([^)]*\)|matrix\([^)]*\)|stroke-width: [\d.]+", old):
            assert scale in new
        assert len(new) < (0.9 if "waves" in path else 1) * len(old)


def test_svgs_hold_no_date_no_text_elements_and_no_carriage_returns(root):
    for path in root.rglob("*.svg"):
        data = path.read_bytes()
        assert b"<title>" in data
        assert b"Matplotlib v" not in data
        assert b"<text" not in data
        assert b"\r" not in data
        assert not re.search(rb"20\d\d-\d\d-\d\d", data)


def test_every_colour_but_the_light_ones_stands_out_from_white():
    for name, code in figures.COLORS.items():
        channels = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert (1.05 / (light + 0.05) >= 2) is (name not in ("yellow", "light")), name


def test_a_stale_figure_is_reported_and_written(root):
    put(root, SCRIPT_PATH, SCRIPT.replace("np.sin(t)", "np.sin(2 * t)"))
    fault = only(findings(root, run=True))
    assert (fault.file, fault.message) == (f"{FOLDER}/waves.svg", "redrawing changes this file")
    changed = dict(figures_check.write(Audit(load_course(root), run=True)))
    assert list(changed) == [f"{FOLDER}/waves.svg"]
    put(root, *changed.popitem())
    assert findings(root, run=True) == []


def test_without_run_nothing_is_executed(root):
    put(root, SCRIPT_PATH, SCRIPT + "\nraise SystemExit('executed')\n")
    assert findings(root) == []
    assert list(figures_check.write(Audit(load_course(root)))) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("np.sin(t)", "np.sin(u)", 9, "NameError: name 'u' is not defined"),
        ("    return fig\n", "", 5, "figure 'waves': the function must return the figure"),
        ("import numpy", "import nothing_at_all", 2, "ModuleNotFoundError"),
        ('title="Waves"', 'title="\U0001f30a"', 5, "missing from font"),
        ("np.sin(t), label", "np.log(0 * t), label", 9, "divide by zero encountered in log"),
        ('figure("image")', 'figure("waves")', 16, "figure name 'waves' is used twice"),
        ('figure("image")', 'figure("An Image")', 16, "use lower-case words joined by hyphens"),
    ],
)
def test_a_script_that_fails_is_named_with_its_line(root, old, new, line, message):
    put(root, SCRIPT_PATH, SCRIPT.replace(old, new, 1))
    (fault,) = redraw(root)
    assert fault.startswith(f"{SCRIPT_PATH}:{line}: ")
    assert message in fault


def test_a_script_that_fails_is_a_finding(root):
    put(root, SCRIPT_PATH, SCRIPT.replace("np.sin(t)", "np.sin(u)"))
    fault = only(findings(root, run=True))
    assert (fault.file, fault.line) == (SCRIPT_PATH, 9)


def test_a_missing_svg(root):
    (root / f"{FOLDER}/image.svg").unlink()
    fault = only(findings(root))
    assert (fault.file, fault.line) == (SCRIPT_PATH, 16)
    assert "is missing" in fault.message


def test_an_svg_that_nothing_draws(root):
    put(root, f"{FOLDER}/old.svg", "<svg/>")
    assert only(findings(root)).file == f"{FOLDER}/old.svg"


def test_a_script_of_no_document(root):
    put(root, "figures/math-foundations/algebra.py", SCRIPT)
    assert only(findings(root)).file == "figures/math-foundations/algebra.py"


def test_a_figure_that_its_document_does_not_show(root):
    more = SCRIPT[SCRIPT.index('@figure("image")') :].replace("image", "extra")
    put(root, SCRIPT_PATH, SCRIPT + more)
    redraw(root)
    fault = only(findings(root))
    assert (fault.line, fault.file) == (22, SCRIPT_PATH)
    assert "'extra' is not shown by math-foundations/linear-algebra.md" in fault.message


def test_too_few_figures_and_a_missing_caption(root):
    text = DOCUMENT.replace("*Noise.*", "Noise.")
    put(root, "math-foundations/linear-algebra.md", text)
    fault = only(findings(root))
    assert (fault.line, fault.message) == (7, "a figure without a caption")
    put(root, "math-foundations/linear-algebra.md", DOCUMENT[: DOCUMENT.index("![an image]")])
    assert "shows 1 figures, at least 2 are needed" in {f.message for f in findings(root)}


def test_a_written_document_without_a_script(root):
    (root / SCRIPT_PATH).unlink()
    put(root, "math-foundations/linear-algebra.md", "# Linear algebra\n")
    assert "shows 0 figures, at least 2 are needed" in {f.message for f in findings(root)}


def test_a_name_that_is_computed(root):
    put(root, SCRIPT_PATH, SCRIPT.replace('@figure("image")', '@figure("im" + "age")'))
    found = {(f.file, f.message) for f in findings(root)}
    assert found == {(f"{FOLDER}/image.svg", "belongs to no document and no figure")}


def test_a_figure_of_too_many_bytes(root):
    put(root, f"{FOLDER}/image.svg", "<svg>" + " " * figures_check.MOST_BYTES + "</svg>")
    assert only(findings(root)).message.startswith("400,011 bytes, at most 400,000")


def test_bad_input_is_one_line_and_status_2(root, tmp_path, monkeypatch, capsys):
    for place, subject, message in [
        (root, "Slopes", "no subject is called 'Slopes'"),
        (tmp_path, SUBJECT, f"no course.toml in {tmp_path} or above"),
    ]:
        monkeypatch.chdir(place)
        assert main(["--measure", subject]) == 2
        assert message in capsys.readouterr().err


def test_a_subject_without_a_script(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    (root / SCRIPT_PATH).unlink()
    assert main(["--measure"]) == 0
    assert main(["--measure", SUBJECT]) == 1
    assert capsys.readouterr().out.startswith(f"{SCRIPT_PATH}:1: FileNotFoundError: ")


def test_what_would_change_is_told_and_not_written(root):
    put(root, f"{FOLDER}/waves.svg", "<svg/>")
    (row,) = figures.redrawn(str(root), [SUBJECT])
    assert row["file"] == f"{FOLDER}/waves.svg"
    assert row["text"].startswith("<?xml")
    assert (root / f"{FOLDER}/waves.svg").read_text() == "<svg/>"


def test_a_write_that_fails_leaves_the_old_bytes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


# Measurements: stored beside the pictures, drawn from there.

MEASURED = """
import numpy as np
from chainrule.course.figures import figure, measured, measurement

NOISE = 0.0

@measurement("race", absolute={"loss": 0.02}, relative={"loss": 0.1}, seconds=1)
def measure_race():
    return {"rates": np.array([1, 2]), "loss": [[0.123456789], [1 + NOISE]], "best": "Adam"}

@figure("waves")
def waves(plt):
    fig, ax = plt.subplots()
    ax.plot(measured("race")["loss"])
    return fig

@figure("image")
def image(plt):
    return plt.figure()
"""
STORED = f"{FOLDER}/race.json"


@pytest.fixture
def measuring(root: Path, monkeypatch) -> Path:
    monkeypatch.chdir(root)
    put(root, SCRIPT_PATH, MEASURED)
    assert main(["--measure"]) == 0
    assert redraw(root) == []
    return root


def test_a_measurement_is_stored_and_drawn_from(measuring, capsys):
    text = '{\n  "rates": [1, 2],\n  "loss": [[0.12346], [1.0]],\n  "best": "Adam"\n}\n'
    assert (measuring / STORED).read_text() == text
    assert findings(measuring, run=True) == []
    put(measuring, STORED, text.replace("0.12346", "0.5"))
    fault = only(findings(measuring, run=True))
    assert (fault.file, fault.message) == (f"{FOLDER}/waves.svg", "redrawing changes this file")


def test_drawing_never_measures(measuring):
    measures = "def measure_race():\n    raise SystemExit"
    put(measuring, SCRIPT_PATH, MEASURED.replace("def measure_race():", measures))
    assert findings(measuring, run=True) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NOISE = 0.0", "NOISE = 0.119", None),
        ("NOISE = 0.0", "NOISE = 0.13", "loss[1][0]: stored 1, measured 1.13, allowed ±0.12"),
        ("[1 + NOISE]", "[1, 2]", "loss[1]: stored [1.0], measured [1, 2]"),
        ("np.array([1, 2])", "[1, 2.001]", "rates[1]: stored 2, measured 2.001, allowed ±0"),
        ('"Adam"', '"SGD"', 'best: stored "Adam", measured "SGD"'),
        ('"Adam"', "None", 'best: stored "Adam", measured null'),
        (', "best": "Adam"', "", 'best: stored "Adam", measured "(nothing)"'),
        ("[1 + NOISE]", "[np.nan]", "measurement 'race' holds NaN: return finite numbers, or None"),
        ("NOISE = 0.0", "NOISE = 1 / 0", "ZeroDivisionError: division by zero"),
        ("return {", "return [0], {", "the function must return a dictionary"),
    ],
)
def test_what_left_its_band_is_named(measuring, capsys, old, new, message):
    before = (measuring / STORED).read_bytes()
    put(measuring, SCRIPT_PATH, MEASURED.replace(old, new))
    capsys.readouterr()
    status = main(["--measure", "--check"])
    said = capsys.readouterr().out
    assert (status, said.count("\n")) == ((1, 1) if message else (0, 0))
    assert (message or "") in said
    assert (measuring / STORED).read_bytes() == before


def test_one_measurement_alone(measuring, capsys):
    arguments = ["--measure", "--only"]
    capsys.readouterr()
    assert main([*arguments, "race"]) == 0
    assert main([*arguments, "rate"]) == 1
    assert main([*arguments, "race", "--at-most", "0.9"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].startswith(f"{STORED}:1: measured in ")
    assert told[1] == f"{SCRIPT_PATH}:1: no measurement 'rate'; this script has race"


def test_a_measurement_that_is_not_stored(measuring):
    (measuring / STORED).unlink()
    missing, _ = sorted(findings(measuring, run=True))
    assert (missing.file, missing.line) == (SCRIPT_PATH, 7)
    assert missing.message == f"measurement 'race' is not stored: {STORED} is missing"
    assert "FileNotFoundError" in redraw(measuring)[0]
    assert main(["--measure", "--check"]) == 1


def test_a_measurement_that_nothing_makes(root):
    put(root, STORED, "{}")
    assert only(findings(root)).file == STORED


def test_names_of_measurements(measuring):
    put(measuring, SCRIPT_PATH, MEASURED.replace('measurement("race"', 'measurement("A race"'))
    assert "use lower-case words joined by hyphens" in redraw(measuring)[0]
    put(measuring, SCRIPT_PATH, MEASURED.replace('measurement("race"', 'measurement("ra" + "ce"'))
    messages = {(fault.file, fault.message) for fault in findings(measuring)}
    assert (STORED, "belongs to no document and no figure") in messages


@pytest.mark.slow
@pytest.mark.parametrize(
    "subject",
    [folder.relative_to(REPOSITORY / "figures").as_posix() for folder in WITH_MEASUREMENTS],
)
def test_stored_measurements_are_measured_again(subject):
    command = ["-m", "chainrule.course.figures", "--measure", "--check", "--at-most", "10", subject]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment(REPOSITORY / "src"),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_last_digit_of_a_frame_names_nothing():
    frame = '<g clip-path="url(#{0})"/><defs><clipPath id="{0}"><rect x="1"/></clipPath></defs>'
    one, other = (
        figures.shrink(frame.format(name), "bits") for name in ("p0123456789", "pabcdef0123")
    )
    assert one == other
    (name,) = re.findall(r'clipPath id="(p[0-9a-f]{10})"', one)
    assert f"url(#{name})" in one
    assert name not in figures.shrink(frame.format("p0123456789"), "roofline")
