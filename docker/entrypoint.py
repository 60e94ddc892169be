"""
Can this container move particles?

Before its command starts, a container sees that `hycs_std` is the one that PYSTILT's wheel brought, by its checksum,
and that it runs here. If not it ends with one line and exit code 70, and the orchestrator says which container did.
"""

import base64
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

UNFIT = 70  # exit code; sysexits(3): an internal fault, nothing that the command did
PROGRAM = "hycs_std"
SAYS = "HYSPLIT version"  # before it asks for its input, of which there is none here
SECONDS = 60  # it takes 0.05; a node that starts a hundred pods at once is slow


def fault() -> str:
    """What keeps this container from moving particles; empty if nothing does."""
    try:
        files = distribution("pystilt").files or []
    except PackageNotFoundError:
        return "pystilt is not installed"
    found = next((file for file in files if file.name == PROGRAM), None)
    if found is None or found.hash is None:
        return f"the wheel of pystilt brought no {PROGRAM}"
    path = Path(str(found.locate()))
    if not path.is_file():
        return f"{path} is missing"
    if _digest(path, found.hash.mode) != found.hash.value:
        return f"{path} is not the file that the wheel of pystilt brought: its {found.hash.mode} differs"
    return _start_fault(path)


def _digest(path: Path, method: str) -> str:
    """A file's checksum as wheels write it."""
    with path.open("rb") as file:
        return base64.urlsafe_b64encode(hashlib.file_digest(file, method).digest()).decode().rstrip("=")


def _start_fault(path: Path) -> str:
    """What happens when the program starts without input; empty if it says its version."""
    try:
        with tempfile.TemporaryDirectory(prefix="start-") as folder:
            ran = subprocess.run(
                [path], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            )
    except subprocess.TimeoutExpired:
        return f"{path} did not start within {SECONDS} s"
    except OSError as error:
        if str(error.filename) == str(path):
            return f"{path} does not run on {platform.machine()}: {error.strerror}; the image is for x86-64 nodes"
        return f"no temporary folder can be written ({error.strerror}): mount one at /tmp or set TMPDIR"
    if SAYS.encode() not in ran.stdout:
        said = b" ".join((ran.stdout + ran.stderr).split())[:200].decode(errors="replace")
        return f"{path} does not run here, exit code {ran.returncode}: {said or 'it says nothing'}"
    return ""


def main() -> None:
    """Become the command, or end with one line."""
    if wrong := fault():
        print(f"stilt-assets: {wrong}", file=sys.stderr, flush=True)
        sys.exit(UNFIT)
    command = sys.argv[1:] or ["stilt-assets", "--help"]
    try:
        os.execvp(command[0], command)  # noqa: S606  # the container's own command, without a shell
    except OSError as error:
        print(f"stilt-assets: {command[0]} does not start: {error.strerror}", file=sys.stderr, flush=True)
        sys.exit(127)


if __name__ == "__main__":
    main()
