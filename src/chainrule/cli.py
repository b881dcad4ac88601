"""The command line: ``chainrule``, typed by learners and by maintainers.

Bad input gets one clear line on standard error and exit status 2; nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys

from chainrule.program import NAME, CourseError, UsageError, missing, typed


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and turn expected errors into one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        import typer

        from chainrule.application import build

        status = build()(arguments or ["--help"], "chainrule", standalone_mode=False)
        sys.stdout.flush()
    except (CourseError, UsageError) as error:
        status = complain(str(error))
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] == NAME:
            raise
        status = complain(missing(error.name))
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        status = complain(f"{error.filename or 'the system'}: {error.strerror or error}")
    except Exception as error:
        # Typer's own errors carry a message for people; anything else is a defect of ours.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "chainrule"
        message = error.format_message().replace("Value error, ", "").rstrip(".?")
        message = re.sub(r"Input should be (.*), unable to parse .*", r"must be \1", message)
        status = complain(f"{message}; see: {command} --help")
    sys.exit(status if isinstance(status, int) else 0)


def complain(message: str) -> int:
    """Say on standard error what was wrong; the exit status for bad input."""
    # A command that a message suggests runs as it stands.
    message = re.sub(r"(?<=: )chainrule (?=[a-z])", f"{typed()} ", message)
    for line in message.splitlines():
        print(f"chainrule: {line}", file=sys.stderr)
    return 2
