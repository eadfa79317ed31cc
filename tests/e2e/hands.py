"""Hands on a page: a mouse, or a keyboard alone. Both open what a person sees, and fill its fields."""

from __future__ import annotations

from abc import ABC, abstractmethod

from playwright.async_api import Locator, Page, expect

_MOST_STOPS = 250
"""Stops of the Tab key on one page, up to which something is looked for."""
_STAYS = 6
"""Stops inside one field: a date has three parts and a button."""

# Whether the focus is on the target, can be seen, and has stayed, and where it is. The last is the way to the
# target: forward (1), back (-1), or the skip link, while the focus is nowhere yet (0).
_FOCUS = """target => {
    const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
    const is_nowhere = at === document.body || at === document.documentElement || at.id === "content";
    const is_seen = is_nowhere || style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0
        && box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight
        && box.right > 0 && box.left < innerWidth;
    const is_before = at.compareDocumentPosition(target) & Node.DOCUMENT_POSITION_PRECEDING;
    const may_skip = at === document.body && target.closest("main");
    const stayed = at === window.stoppedAt;
    window.stoppedAt = at;
    return [at === target, is_seen, stayed, at.outerHTML.slice(0, 200), may_skip ? 0 : is_before ? -1 : 1];
}"""


class Hand(ABC):
    """How somebody uses a page."""

    name: str

    def __init__(self, page: Page) -> None:
        self.page = page

    async def press(self, target: Locator) -> None:
        """Press a link or a button that leads to another page, and wait for that."""
        await target.wait_for()
        async with self.page.expect_event("load"):
            await self.activate(target)

    async def fill(self, field: Locator, text: str) -> None:
        """Fill a field, or choose the option with this value."""
        if await field.evaluate("field => field.localName") == "select":
            await self.choose(field, text)
            await expect(field).to_have_value(text)
        else:
            await self.write(field, text)
            await expect(field).to_have_value(text)

    @abstractmethod
    async def activate(self, target: Locator) -> None: ...

    @abstractmethod
    async def write(self, field: Locator, text: str) -> None: ...

    @abstractmethod
    async def choose(self, field: Locator, value: str) -> None: ...


class Mouse(Hand):
    name = "mouse"

    async def activate(self, target: Locator) -> None:
        await target.click()

    async def write(self, field: Locator, text: str) -> None:
        await field.fill(text)

    async def choose(self, field: Locator, value: str) -> None:
        await field.select_option(value)


class Keyboard(Hand):
    """Tab, Shift+Tab, Enter, Space and letters. Each stop has to be seen, and none may keep the focus."""

    name = "keyboard"

    async def activate(self, target: Locator) -> None:
        await self.reach(target)
        is_link = await target.evaluate("target => target.localName !== 'button'")
        await self.page.keyboard.press("Enter" if is_link else "Space")

    async def write(self, field: Locator, text: str) -> None:
        await self.reach(field)
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.insert_text(text)

    async def choose(self, field: Locator, value: str) -> None:
        await self.reach(field)
        script = "(field, value) => [...field.options].find(one => one.value === value).text"
        await self.page.keyboard.type(await field.evaluate(script, value))

    async def reach(self, target: Locator) -> None:
        """Move the focus to an element as a person does: by the skip link if that is the shorter way."""
        stays, element = 0, await target.element_handle()  # ten times as quick as the locator
        for _ in range(_MOST_STOPS):
            is_there, is_seen, stayed, here, way = await element.evaluate(_FOCUS)
            assert is_seen, f"nobody sees the focus on {here}"
            if is_there:
                return
            stays = stays + 1 if stayed else 0
            assert stays < _STAYS, f"the focus stays on {here}"
            await self.page.keyboard.press("Shift+Tab" if way < 0 else "Tab")
            if way == 0:
                await expect(self.page.locator("a.skip")).to_be_focused()
                await self.page.keyboard.press("Enter")
                await expect(self.page.locator("#content")).to_be_focused()
        raise AssertionError(f"the Tab key does not lead to {target}")
