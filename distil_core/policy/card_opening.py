"""What both cards of a policy begin with, as model hubs read it.

One card lies in the policy's folder and says what training knows (`training/model_card.py`); its
bytes are part of the policy's digest. The other is of the registered version and says what was
measured (`lineage/pages/card.py`).
"""

CARD_FILE = "README.md"


def card_opening(title: str) -> list[str]:
    """Lines of Markdown, the last one empty: the header that hubs read, and the title."""
    return [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [distil, dagger, self-distillation]",
        "---",
        "",
        f"# {title}",
        "",
    ]
