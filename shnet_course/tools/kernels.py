"""Notebooks run on a fresh kernel of the Python that runs this."""

import tempfile
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode


class ThisPython(AsyncKernelManager):
    """A kernel of the Python that runs this, whatever kernels JUPYTER_PATH names."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


class FreshKernel(NotebookClient):
    """Runs a notebook in `folder`; the kernel is ended with it. `options` are nbclient's.

    What the kernel itself writes, beside what its cells print, goes to a file: ipykernel complains
    of its own threads in one end of some thousand, and only of a kernel that died is it worth
    reading.
    """

    def __init__(self, notebook: NotebookNode, folder: Path, **options: Any) -> None:
        super().__init__(
            notebook,
            record_timing=False,
            # Messages are encrypted: on a shared machine others could read them, or send some.
            km=ThisPython(transport_encryption="auto"),
            resources={"metadata": {"path": str(folder)}},
            **options,
        )
        self.owns_km = True
        self.kernel_log = tempfile.TemporaryFile("w+")

    async def async_start_new_kernel(self, **options: Any) -> None:
        await super().async_start_new_kernel(stderr=self.kernel_log, **options)

    def last_words(self) -> list[str]:
        """The lines that the kernel itself has written."""
        self.kernel_log.seek(0)
        return self.kernel_log.read().splitlines()
