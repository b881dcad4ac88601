"""``chainrule learn``: build what is stale, serve the course, open the browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def learn(
    port: Annotated[
        int | None, typer.Option(help="The port to serve on (default: the first free from 8000).")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    build_only: Annotated[bool, typer.Option("--build-only", help="Build, serve nothing.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Build all anew; a warning fails the build.")
    ] = False,
    watch: Annotated[bool, typer.Option(help="Build again when a file changes.")] = True,
) -> None:
    """Build the site where it is stale, serve it on 127.0.0.1, open the browser."""
    from chainrule.course.manifest import open_course
    from chainrule.course.site import SiteError, build, unpacked
    from chainrule.course.site.serve import PortError, open_server, serve
    from chainrule.program import UsageError

    root = open_course().root
    try:
        root = unpacked(root)
        started = time.monotonic()
        pages = build(root, strict=strict)
        took = time.monotonic() - started
        if build_only:
            print(f"{len(list(pages.rglob('*.html')))} pages in {pages} ({took:.1f} s)")
            return
        server = open_server(pages, port)
    except PortError as error:
        raise UsageError(str(error)) from None
    except SiteError as error:
        typer.echo(f"chainrule: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if port is None and server.server_port != 8000:
        print(f"Port 8000 is taken; using {server.server_port}.")
    serve(server, browser=browser, watch=_rebuild(root) if watch else None)


def _rebuild(root: Path) -> Callable[[threading.Event], None]:
    """A loop that builds again after a source of the site has changed."""

    def loop(ended: threading.Event) -> None:
        from watchfiles import watch as changes

        from chainrule.course.site import build, sources

        for changed in changes(root, stop_event=ended, debounce=400):
            try:
                if {Path(path) for _, path in changed} & set(sources(root, root / "site")):
                    build(root)
                    print("Built; reload the page.", flush=True)
            except Exception as error:  # an editor saves what is half written
                print(f"chainrule: {error}", flush=True)

    return loop
