"""Which part of a response is the program."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.verifiers._program_text import READS_AND_WRITES, completions, defines, extract_code

CODE = "def f(x):\n    return 3 * x + 1\n"


def fenced(label: str, code: str = CODE, indent: str = "", marker: str = "") -> str:
    lines = [f"```{label}", *code.rstrip("\n").split("\n"), "```"]
    return marker + "\n".join(indent + line if line else "" for line in lines).lstrip(
        " " if marker else ""
    )


@pytest.mark.parametrize(
    "label",
    [
        *(
            "python",
            "Python",
            "PYTHON",
            "py",
            "py3",
            "python3",
            "python3.11",
            "Python 3",
            "ipython",
        ),
        *("ipython3", "{.python}", "{.python .numberLines}", "{python}", "python:main.py", "pypy3"),
        *("python title='a.py'", "language=python", " python ", "", "cpython"),
    ],
)
def test_labels_of_python(label: str) -> None:
    assert extract_code(fenced(label), "fenced") == CODE


@pytest.mark.parametrize(
    "label", ["java", "text", "python-repl", "pycon", "output", "c++", "json", "pythonic", "bash"]
)
def test_labels_of_anything_else(label: str) -> None:
    assert extract_code(fenced(label), "either") is None


@pytest.mark.parametrize(
    "response",
    [
        fenced("python") + "\nOutput:\n```\n10\n```",
        "```\n4\n```\nis wanted, so:\n" + fenced("py3") + "\n```\nx -> 3x+1\n```",
        fenced("python") + "\n```text\n10\n```",
        "1. Code:\n" + fenced("python", indent="   "),
        "- Code:\n\n" + fenced("python", indent="\t"),
        fenced("python", indent="  ", marker="- "),
        fenced("python", indent="    ", marker="12. "),
        "> Code:\n" + fenced("python", indent="> "),
        "    " + fenced("python", indent="    ").lstrip(),
        "~~~ python\n" + CODE + "~~~",
        "`````python\n" + CODE + "`````\n",
        fenced("python").replace("\n", "\r\n"),
        "Inline ``` is no fence.\n" + fenced("python"),
        fenced("python") + "\nUse it:\n" + fenced("python", "print(f(2))\n"),
        fenced("") + "\nIt gives:\n```\n10\n```",
        fenced("python", "import math\n") + "\n" + fenced("python"),
    ],
)
def test_the_program_of_a_response(response: str) -> None:
    found = extract_code(response, "either", [defines(["f"])])
    assert found is not None
    assert found.replace("\r\n", "\n") == CODE


def test_a_fence_in_the_programs_text_does_not_end_it() -> None:
    code = 'def f(x):\n    """Twice.\n\n    ```\n    f(1)\n    ```\n    """\n    return 2 * x\n'
    assert extract_code(fenced("python", code), "either") == code
    assert extract_code("1. So:\n" + fenced("python", code, "   "), "either") == code
    # Only where no other line could end it does an indented one.
    assert extract_code("```python\nx = 1\n      ```", "either") == "x = 1\n"


def test_programs_are_known_by_their_output() -> None:
    response = fenced("", "print(input())\n") + "\nFor 6:\n```\n6\n```"
    assert extract_code(response, "either", READS_AND_WRITES) == "print(input())\n"
    response = (
        fenced("py", "print(input())\n") + "\nor without input\n" + fenced("py", "print(6)\n")
    )
    assert extract_code(response, "either", READS_AND_WRITES) == "print(input())\n"
    response = fenced("py", "print(6)\n") + "\nnot\n" + fenced("py", "x = 6\n")
    assert extract_code(response, "either", READS_AND_WRITES) == "print(6)\n"
    assert extract_code("```\n6\n```", "either", READS_AND_WRITES) == "6\n"


@given(st.text(st.sampled_from("`~ \n\tpython>-1.{}x"), max_size=60))
def test_any_text_has_a_program_or_none(text: str) -> None:
    for extraction in ("either", "plain", "fenced"):
        code = extract_code(text, extraction, [defines(["f"])])
        assert code is None or code.strip() or "`" in text or "~" in text


STUB = 'def f(x):\n    """Thrice and one.\n\n    >>> f(1)\n    4\n    """\n'


def compiling(response: str, stub: str = STUB) -> str | None:
    for source, first_line in completions(response, stub, ["f"]):
        assert first_line in (0, STUB.count("\n"))
        try:
            compile(source, "<program>", "exec")
        except SyntaxError:
            continue
        return source
    return None


@pytest.mark.parametrize(
    "body",
    [
        "    return 3 * x + 1\n",
        "return 3 * x + 1",
        "    y = 3 * x\n    return y + 1",
        "y = 3 * x\n    return y + 1",
        "y = 3 * x\nreturn y + 1",
        "    return 3 * x + 1\n\n\nprint(f(2)\nand so on",
        "    return 3 * x + 1\n\nThe function is done.",
        "\n    return 3 * x + 1",
        "    text = '''\nnot indented\n'''\n    return 3 * x + 1\n",
        CODE,
        "import math\n\n" + CODE,
        "f = lambda x: 3 * x + 1\n",
    ],
)
def test_bodies_continue_the_prompts_function(body: str) -> None:
    source = compiling(body)
    assert source is not None
    names: dict[str, object] = {}
    exec(source, names)
    function = names["f"]
    assert callable(function)
    assert function(2) == 7


def test_what_is_no_body_stays_what_it_is() -> None:
    assert compiling("I do not know.") is None
    assert [source for source, _ in completions("    return 1", "", ["f"])] == ["    return 1"]


def test_definitions() -> None:
    for text in (
        "def f(x):",
        "async def f():",
        "class f:",
        "f = 1",
        "f: int = 1",
        "x = 1\ndef f ():",
    ):
        assert re.search(defines(["g", "f"]), text), text
    for text in ("def ff():", "  def f():", "f == 1", "f(1)", "# def f"):
        assert not re.search(defines(["f"]), text), text
