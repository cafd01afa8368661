"""Send an exported folder to the Hugging Face hub, through its own client."""

from pathlib import Path

from distil_core.errors import ExportError


def require_push_possible(repository: str) -> None:
    """Raise `ExportError` for a name that the hub would refuse, and without credentials: before
    anything is written."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ExportError(
            f"{repository!r} is no name of a repository: expected OWNER/NAME ({error})"
        ) from error
    if get_token() is None:
        raise ExportError(
            "there are no credentials for the hub: `hf auth login`, or set HF_TOKEN to a token "
            "that may write"
        )


def push(folder: Path, repository: str, public: bool, message: str) -> str:
    """Upload the folder's files as one commit, to a repository that is made where there is none;
    returns the commit's address.

    public: of a new repository; one that exists stays as it is. message: the commit's. Raises
    `ExportError` where the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
        )
    except Exception as error:  # the hub's client raises many unrelated types
        raise ExportError(
            f"{folder} is written, but could not be sent to {repository!r} at {api.endpoint} "
            f"({type(error).__name__}: {error}). Check the name, the token's rights and the "
            "network, and run the same command again"
        ) from error
    return str(commit.commit_url)
