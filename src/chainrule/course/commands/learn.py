"""``chainrule learn``: build what is stale, serve the course, open the browser."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer


def learn(
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="The port to serve on (default: the first free from 8000)."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    build_only: Annotated[bool, typer.Option("--build-only", help="Build, serve nothing.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Build all anew; a warning fails the build.")
    ] = False,
) -> None:
    """Build the site where it is stale, serve it on 127.0.0.1, open the browser."""
    import sphinx  # noqa: F401 - where it is missing, the command line says what to type

    from chainrule.course.manifest import open_course
    from chainrule.course.site import build, keep_fresh, unpacked
    from chainrule.course.site.serve import open_server, serve

    root = unpacked(open_course().root)
    started = time.monotonic()
    pages = build(root, strict=strict)
    took = time.monotonic() - started
    if build_only:
        print(f"{len(list(pages.rglob('*.html')))} pages in {pages} ({took:.1f} s)")
        return
    server = open_server(pages, port)
    if port is None and server.server_port != 8000:
        print(f"Port 8000 is taken; using {server.server_port}.")
    serve(server, browser, partial(keep_fresh, root))
