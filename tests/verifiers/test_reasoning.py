import pytest

from distil_core.verifiers._reasoning import without_reasoning


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("#### 18", "#### 18"),
        ("<think>17?</think>\n#### 18", "\n#### 18"),
        ("17?</think>#### 18", "#### 18"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>the tag </think> ends it</think>18", "18"),
        ("<think>#### 17", ""),
        ("#### 18 <think>no", "#### 18 "),
        ("[THINK]17[/THINK]18", "18"),
        ("<|begin_of_thought|>17<|end_of_thought|>18", "18"),
        ("<THINK>17</Think>18", "18"),
        ("I think <b>18</b>", "I think <b>18</b>"),
        ("", ""),
    ],
)
def test_what_stands_after_the_last_thought_is_the_answer(response: str, answer: str) -> None:
    assert without_reasoning(response) == answer
