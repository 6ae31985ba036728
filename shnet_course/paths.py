"""Where the course lies, and where a lesson may write what nobody keeps."""

import atexit
import shutil
import tempfile
from pathlib import Path

COURSE = Path(__file__).parents[1]  # the checkout: notebooks/, exercises/, data/ ...


def scratch_folder() -> Path:
    """A new folder, removed when the kernel ends."""
    folder = Path(tempfile.mkdtemp(prefix="shnet-lesson-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
