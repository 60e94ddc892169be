"""What Dagster's daemon sees of the code location, in the process of a test."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget


@contextmanager
def workspace_of(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    """The workspace of a daemon with our code location."""
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name="stilt_assets.definitions", attribute="defs"),
        location_name="stilt_assets",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Dagster asks schedules for what it took away itself
        context = create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance)
        with context as workspace:
            yield workspace
