"""A folder to the Hugging Face hub, as a dataset."""

import re
from pathlib import Path

from editcollapse.errors import ResultsError

_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def check_repo(repo: str) -> None:
    """Raise ResultsError where a text is no OWNER/NAME of the hub."""
    if _REPO.fullmatch(repo) is None:
        raise ResultsError(
            f"{repo!r} is no dataset of the hub: name it OWNER/NAME, such as somebody/gpt2-rows."
        )


def push_dataset(folder: Path, repo: str, *, is_public: bool = False) -> str:
    """Upload a folder to a dataset of the hub, as one commit; return the dataset's address.

    The dataset is made where it is not there, and stays as visible as it is where it is. Files of
    it that the folder lacks stay. Who does it is who has logged in on this machine, by ``hf auth
    login`` or ``HF_TOKEN``; no token is taken or kept here.

    Args:
        folder: all of it is uploaded.
        repo: OWNER/NAME.
        is_public: whether a new dataset can be read by anyone.

    Raises:
        ResultsError: it is no name, nobody has logged in, or the hub does not take the files.
    """
    check_repo(repo)
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repo, repo_type="dataset", private=not is_public, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Rows of a study, by editcollapse",
        )
    except (OSError, ValueError) as error:  # all errors of the hub and of the way to it
        raise ResultsError(
            f"the hub does not take {repo}: {error}. Log in with hf auth login, as somebody who "
            f"may write there; {folder} has the files."
        ) from error
    return str(made)
