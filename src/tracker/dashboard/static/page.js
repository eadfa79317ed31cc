// What all pages have: buttons that copy a text, and a menu that is closed on narrow screens.

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
