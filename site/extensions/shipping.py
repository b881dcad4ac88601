"""What a published site needs: a policy that forbids other hosts, and ways to report a mistake."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from pathlib import Path
from urllib.parse import urlencode

from chainrule import __version__

# Nothing comes from elsewhere, and nothing goes there. WebAssembly is Python; blob: its worker,
# which so inherits this policy, and pictures. Formulas and diagrams carry styles of their own.
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'wasm-unsafe-eval' 'inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "frame-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
META = "<!-- policy -->"
SCRIPT = re.compile(
    r"<script(?![^>]*\b(?:src|type=\"application/json\"))[^>]*>(.*?)</script>", re.DOTALL
)


def seal(app, error) -> None:
    """Write the policy into each page that was written, with the hashes of its own scripts."""
    for path in Path(app.outdir).rglob("*.html") if error is None else ():
        text = path.read_text(encoding="utf-8")
        if META in text:
            path.write_text(text.replace(META, policy(text), 1), encoding="utf-8")
    (Path(app.outdir) / ".nojekyll").touch()  # GitHub Pages must not drop _static


def policy(text: str) -> str:
    """The tag for a page: no script runs in it but its own files and what stands in it now."""
    scripts = sorted({hashlib.sha256(each.encode()).digest() for each in SCRIPT.findall(text)})
    hashes = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in scripts)
    content = "; ".join(f"{key} {value}" for key, value in POLICY.items())
    content = content.replace("'inline'", hashes).replace(" ;", ";")
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'


def version(root: Path) -> str:
    """The package's version and, in a clone, the commit."""
    try:
        command = ["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__} ({done.stdout.strip()})"


def prepare(app) -> None:
    """Ask for the version once a build."""
    app.course_version = version(Path(app.srcdir))


def add_links(app, pagename, templatename, context, doctree) -> None:
    """Where the source is published: addresses to edit the page, and to report a mistake on it."""
    context["policy"] = META
    repository = app.course.about.repository.rstrip("/")
    if not repository:
        return
    source = f"{pagename}{app.env.doc2path(pagename).suffix}" if doctree is not None else pagename
    body = f"Page: {source}\nSection: (top)\nVersion: {app.course_version}\n\nWhat is wrong:\n"
    told = urlencode({"title": f"Mistake on {source}", "body": body})
    context["report_address"] = f"{repository}/issues/new?{told}"
    if doctree is not None:
        context["edit_address"] = f"{repository}/edit/main/{source}"
    app.add_js_file("report.js", loading_method="defer")


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", prepare)
    app.connect("html-page-context", add_links)
    app.connect("build-finished", seal, priority=900)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
