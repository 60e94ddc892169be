"""How long does a person wait for a page? Pages of the web server in a real browser: chromium without a window."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from backfill import cpu

QUIET = 2.0  # s without a question that is new, after which a page is taken to be complete
GIVEN_UP = 60.0  # s without an answer, after which what is looked for will not come
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
    "--window-size=1400,1000",
)


@dataclass(frozen=True)
class Visit:
    """What one page took, in s since its address was entered."""

    shown: float  # until what was looked for stood there
    complete: float  # until the last answer came that it asked for
    requests: int
    megabytes: float
    browser: float  # CPU s of the browser
    server: float  # CPU s of the web server

    @property
    def line(self) -> str:
        return (
            f"{self.shown:.1f} s, complete after {self.complete:.1f} s; {self.requests} requests, "
            f"{self.megabytes:.1f} MB; CPU s: browser {self.browser:.1f}, web server {self.server:.1f}"
        )


@dataclass
class Tab:
    """A page of a browser, as its debugging protocol lets one lead it. It polls: what counts is what was new to it."""

    socket: aiohttp.ClientWebSocketResponse
    answers: dict[int, asyncio.Future] = field(default_factory=dict)
    asked: int = 0
    addresses: set[str] = field(default_factory=set)  # that it has asked for
    waiting: dict[str, str] = field(default_factory=dict)  # by their numbers, what it asked for the first time
    requests: int = 0
    bytes: float = 0.0
    last: float = 0.0  # moment at which such a question was answered last

    def goes(self) -> None:
        """It is about to show another page."""
        self.addresses.clear()
        self.waiting.clear()
        self.requests, self.bytes, self.last = 0, 0.0, time.monotonic()

    async def listen(self) -> None:
        async for message in self.socket:
            told = json.loads(message.data)
            if "id" in told:
                self.answers.pop(told["id"]).set_result(told.get("result", {}))
            else:
                self._note(told["method"], told["params"])

    def _note(self, what: str, facts: dict) -> None:
        if what == "Network.requestWillBeSent" and facts["request"]["url"] not in self.addresses:
            self.addresses.add(facts["request"]["url"])
            self.requests += 1
            if facts["type"] in {"XHR", "Fetch"}:  # scripts of a worker end where nobody listens
                self.waiting[facts["requestId"]] = facts["request"]["url"]
        elif what in {"Network.loadingFinished", "Network.loadingFailed"}:
            self.bytes += facts.get("encodedDataLength", 0.0)
            if self.waiting.pop(facts["requestId"], None):
                self.last = time.monotonic()

    async def ask(self, method: str, **params: object) -> dict:
        number = self.asked = self.asked + 1
        self.answers[number] = asyncio.get_running_loop().create_future()
        answer = self.answers[number]
        await self.socket.send_json({"id": number, "method": method, "params": params})
        return await answer

    async def text(self) -> str:
        told = await self.ask("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return told.get("result", {}).get("value", "")


@asynccontextmanager
async def _tab(profile: Path) -> AsyncIterator[tuple[Tab, int]]:
    program = shutil.which("chromium")
    assert program, "there is no chromium"
    words = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        place = profile / "DevToolsActivePort"
        while not place.exists() or not place.read_text().strip():
            await asyncio.sleep(0.1)
        port = place.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                address = json.loads(await answer.text())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                await tab.ask("Page.enable")
                await tab.ask("Network.enable")
                yield tab, browser.pid
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening
    finally:
        browser.terminate()
        browser.wait()


async def _visit(tab: Tab, browser: int, server: int, url: str, wanted: str, patience: float) -> Visit:
    before = (cpu(browser), cpu(server))
    tab.goes()
    start, shown = tab.last, None
    await tab.ask("Page.navigate", url=url)
    while time.monotonic() - start < patience:
        await asyncio.sleep(0.2)
        if shown is None and wanted in await tab.text():
            shown = time.monotonic() - start
        if time.monotonic() - tab.last > (GIVEN_UP if tab.waiting or shown is None else QUIET):
            break
    used = (cpu(browser) - before[0], cpu(server) - before[1])
    for address in tab.waiting.values():
        print(f"no answer: {address}", file=sys.stderr)
    return Visit(float("nan") if shown is None else shown, tab.last - start, tab.requests, tab.bytes / 1e6, *used)


def visits(pages: Sequence[tuple[str, str]], server: int, patience: float = 300.0) -> list[Visit]:
    """Each of some pages (address; what is looked for in its text), one after the other, in a browser that is new."""

    async def go() -> list[Visit]:
        with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as name:
            async with _tab(Path(name)) as (tab, browser):
                return [await _visit(tab, browser, server, url, wanted, patience) for url, wanted in pages]

    return asyncio.run(go())
