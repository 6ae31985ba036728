"""Notebooks run on a fresh kernel of the Python that runs this."""

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
    """Runs a notebook in `folder`; the kernel is ended with it. `options` are nbclient's."""

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
