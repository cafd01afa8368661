"""A script that renders one chat template for one conversation, in its own process and under
limits.

It reads a JSON object from standard input and writes {"text": ...} or {"error": ...}. The template
sees what transformers' `apply_chat_template` passes to it, except that date and randomness are
fixed. It imports nothing of this project, so that it starts quickly.
"""

import datetime
import json
import random
import resource
import signal
import sys
from typing import Any


def render(request: dict[str, Any]) -> str:
    """The conversation in the template's form."""
    sys.path.append(request["packages"])
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """{% generation %} marks what the assistant says; the text is the same without it."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(
                line
            )

        def _as_it_is(self, caller: Any) -> str:
            return str(caller())

    def raise_exception(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    def strftime_now(layout: str) -> str:
        return datetime.datetime.fromisoformat(request["date"]).strftime(layout)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    random.seed(0)
    _limit(request)
    return environment.from_string(request["template"]).render(**request["variables"])


def _limit(request: dict[str, Any]) -> None:
    # CPU time from here on. A signal without a handler also ends a loop in C.
    signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])
    resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"],) * 2)
    # No files are written; the answer goes through a pipe.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    answer: dict[str, str]
    try:
        text = render(request)
        if len(text) > request["max_characters"]:
            raise OverflowError(
                f"it writes {len(text)} characters, {request['max_characters']} are allowed"
            )
        answer = {"text": text}
    except MemoryError:
        answer = {"error": f"it needs more than {request['memory_bytes'] >> 20} MiB of memory"}
    except Exception as error:  # a template may raise anything
        answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
