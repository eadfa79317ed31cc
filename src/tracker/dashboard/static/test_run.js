// A test's page shows itself again once a step has changed. Without this module its reader presses "Look again".

const PAUSE = 2000;
const LONGEST = 30 * 60 * 1000;
const steps = document.querySelector("[data-states]");
const began = Date.now();

const look = async () => {
  if (Date.now() - began > LONGEST) return;
  const isTyping = document.activeElement?.matches("input:not([readonly])");
  if (!document.hidden && !isTyping) {
    try {
      const answer = await fetch(steps.dataset.states, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const { states, postbacks } = await answer.json();
      if ([...states, postbacks].join(",") !== steps.dataset.now) {
        document.getElementById("changed").textContent = "A step has changed.";
        location.assign(location.pathname);
        return;
      }
    } catch {
      // The tracker is away for a moment. The next look tells.
    }
  }
  setTimeout(look, PAUSE);
};
if (steps) setTimeout(look, PAUSE);
