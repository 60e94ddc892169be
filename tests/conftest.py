import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import taxonomy

# A busy machine is slow, not wrong; and a run that failed can be run again.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
# Many more cases, other ones at each run: pytest tests/test_fuzz.py --hypothesis-profile long
hypothesis.settings.register_profile("long", deadline=None, max_examples=3000)


def pytest_configure(config: pytest.Config) -> None:
    # A shell that begins tests in the background ignores SIGINT for them, Dagster gives SIGTERM what SIGINT has, and
    # programs inherit what is ignored: nobody could end them.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    config.addinivalue_line("markers", "causes(*reasons): the test fails unless it sees these words of the taxonomy")


# Files whose tests take a minute and more, the longest first: begun last, they would leave all cores but one idle.
LONG = (
    "cluster_scene",
    "outlives",
    "stages",
    "cli",
    "native_scene",
    "soak",
    "definitions",
    "security",
    "object_store",
    "slurm",
    "inbox",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A test that says it brings a failure about has seen the failure's reason."""
    taxonomy.forget()
    yield
    missing = taxonomy.not_seen(item)
    if missing:
        pytest.fail(f"it does not cause {', '.join(sorted(missing))}", pytrace=False)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A loop of Dagster's daemon changes who answers SIGTERM, which programs inherit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data that lies next to the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs ../shared/data")
    return folder
