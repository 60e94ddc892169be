"""Who runs on this machine, as /proc tells it."""

from pathlib import Path


def processes_in(folder: Path) -> dict[int, str]:
    """Names of the processes whose working folder lies below one, by number; a zombie's cannot be read."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found
