"""A tab of a real Chromium, driven as a person does: by its mouse and keyboard (DevTools protocol)."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from tests.e2e.running import PATIENCE

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]
_PLACE = """(() => {
    const found = ELEMENT;
    if (!found) return null;
    found.scrollIntoView({block: "center"});
    const box = found.getBoundingClientRect();
    return [box.x + Math.min(box.width, 30) / 2, box.y + box.height / 2];
})()"""


class Tab:
    """One tab. Its pages run no script."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.statuses: list[int] = []
        """The statuses of the documents that were shown."""
        self.complaints: list[str] = []
        """What the browser said about the pages, such as violations of their Content-Security-Policy."""

    async def read(self) -> None:
        """Take the browser's messages until it ends."""
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self._take(json.loads(message.data))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).set_result(message)
        elif message["method"] == "Page.loadEventFired":
            self._loaded.set()
        elif message["method"] == "Network.responseReceived" and message["params"]["type"] == "Document":
            self.statuses.append(message["params"]["response"]["status"])
        elif message["method"] == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], PATIENCE)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def start(self) -> None:
        for domain in ("Page", "Network", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Emulation.setScriptExecutionDisabled", value=True)
        await self.size(1000, 800)

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the window in CSS pixels, and the colours that its user likes."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, address: str) -> None:
        """Type an address."""
        self._loaded.clear()
        await self.send("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def ask(self, expression: str) -> Any:
        """A value that the debugger reads from the page. It works although the page's scripts do not."""
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def text(self) -> str:
        """The page's text as it is shown."""
        return str(await self.ask("document.body.innerText"))

    async def fill(self, label: str, text: str) -> None:
        """Click on a field by its label, and type over what is in it."""
        await self._click(f"[...document.querySelectorAll('label')].find(one => one.innerText == {label!r})")
        await self.send("Input.dispatchKeyEvent", type="keyDown", commands=["selectAll"])
        await self.send("Input.insertText", text=text)

    async def press(self, words: str) -> None:
        """Click on a button or a link, and wait for the page that it leads to."""
        self._loaded.clear()
        await self._click(
            f"[...document.querySelectorAll('button, a')].find(one => one.innerText.trim() == {words!r})"
        )
        await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def key(self, name: str, *, leads_on: bool = False) -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13}[name]
        text = {"text": "\r"} if name == "Enter" else {}
        self._loaded.clear()
        await self.send(
            "Input.dispatchKeyEvent", type="keyDown", key=name, windowsVirtualKeyCode=code, **text
        )
        await self.send("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)
        if leads_on:
            await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def _click(self, element: str) -> None:
        place = await self.ask(_PLACE.replace("ELEMENT", element))
        assert place, f"there is no {element}: {await self.text()}"
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )


@asynccontextmanager
async def tab_of(chromium: str, profile: Path) -> AsyncIterator[Tab]:
    """A tab of a Chromium of its own."""
    words = [chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    nowhere = asyncio.subprocess.DEVNULL
    browser = await asyncio.create_subprocess_exec(*words, stdout=nowhere, stderr=nowhere)
    try:
        async with ClientSession() as client, client.ws_connect(await _address(client, profile)) as socket:
            tab = Tab(socket)
            reading = asyncio.create_task(tab.read())
            await tab.start()
            yield tab
            reading.cancel()
    finally:
        browser.terminate()
        await asyncio.wait_for(browser.wait(), PATIENCE)


async def _address(client: ClientSession, profile: Path) -> str:
    """The address at which the first tab is driven."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                port = (profile / "DevToolsActivePort").read_text().split()[0]
                async with client.get(f"http://127.0.0.1:{port}/json/list") as response:
                    tabs = [one for one in await response.json() if one["type"] == "page"]
                    if tabs:
                        return str(tabs[0]["webSocketDebuggerUrl"])
            except (FileNotFoundError, IndexError, OSError):
                pass
            await asyncio.sleep(0.05)
