// What all pages have: buttons that copy a text, a menu that is closed on narrow screens, and boxes that scroll.

for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  if (!source || !navigator.clipboard) continue;
  const name = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = name; }, 1500);
  });
}

const menu = document.querySelector(".menu");
const isNarrow = matchMedia("(max-width: 63.99rem)");
const fold = () => { menu.open = !isNarrow.matches; };
if (menu) {
  fold();
  isNarrow.addEventListener("change", fold);
}

// A table that scrolls inside its box has a name there, and takes the focus: arrow keys scroll it.
const scrolling = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth <= target.clientWidth) continue;
    target.tabIndex = 0;
    target.role = "group";
    target.ariaLabel ??= target.querySelector("caption")?.textContent.trim() || "Table";
  }
});
for (const box of document.querySelectorAll(".rows")) scrolling.observe(box);
