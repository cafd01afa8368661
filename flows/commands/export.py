"""`distil export`: a policy as a plain Hugging Face folder, for other programs."""

import argparse
from pathlib import Path

from distil_core.export.folder import Exported, export_policy
from distil_core.export.gguf import refuse_gguf
from distil_core.export.hub import push, require_push_possible
from distil_core.workspace import Workspace, iteration_key


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Which policy, and where it goes."""
    command.add_argument(
        "policy",
        nargs="?",
        default="champion",
        help="champion (the default), newest, or an iteration's: policy-003 or 3",
    )
    command.add_argument(
        "--to", type=_folder, required=True, metavar="DIR", help="the folder to write"
    )
    command.add_argument(
        "--push", metavar="OWNER/NAME", help="also send it to this repository of the model hub"
    )
    command.add_argument(
        "--public", action="store_true", help="make the repository public where --push makes one"
    )
    command.add_argument("--gguf", action="store_true", help="say how to make a GGUF file of it")


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Write the folder, and send it where that is asked for."""
    if arguments.gguf:
        refuse_gguf(arguments.to)
    if arguments.push:
        require_push_possible(arguments.push)
    exported = export_policy(workspace, arguments.policy, arguments.to)
    print(_said(exported))
    if arguments.push:
        policy = f"Policy {iteration_key(exported.iteration)} of {exported.campaign}"
        address = push(exported.folder, arguments.push, arguments.public, policy)
        print(f"sent to the hub: {address}")
    return 0


def _folder(text: str) -> Path:
    """Where the command was given, which need not be the workspace's root."""
    return Path(text).expanduser().resolve()


def _said(exported: Exported) -> str:
    template = exported.template
    said = (
        f"policy {iteration_key(exported.iteration)} of {exported.campaign} is written to "
        f"{exported.folder}\nLoad it with AutoModelForCausalLM.from_pretrained; README.md there "
        "has its scores, data and lineage."
    )
    if template.num_same < template.num_compared:
        said += (
            f"\nThe folder's chat template gives the campaign's own tokens for "
            f"{template.num_same} of {template.num_compared} held-out prompts: the tokenizer joins "
            "the problem's text with the template's, which the campaign encodes apart."
        )
    return said
