// Typed days are meant: the choice of days follows them.

const days = document.getElementById("period");
for (const name of ["created_from", "created_to"]) {
  document.getElementById(name)?.addEventListener("input", () => { if (days) days.value = "custom"; });
}

// Only one menu is open at a time, and Escape closes it.
const drops = [...document.querySelectorAll("details.drop")];
for (const drop of drops) {
  drop.addEventListener("toggle", () => {
    if (drop.open) drops.filter((other) => other !== drop).forEach((other) => { other.open = false; });
  });
  drop.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { drop.open = false; drop.querySelector("summary").focus(); }
  });
}
