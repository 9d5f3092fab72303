// Asks for this page again every second and puts the new figures in place of the old: one renderer, no second truth.
(() => {
  const everyMilliseconds = 1000;
  const live = document.getElementById("live");
  const away = document.getElementById("away");
  let isAsking = false;

  async function refresh() {
    if (isAsking || document.hidden) return;
    isAsking = true;
    try {
      const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      live.replaceChildren(...page.getElementById("live").childNodes);
      document.title = page.title;
      away.hidden = true;
    } catch {
      away.hidden = false;
    } finally {
      isAsking = false;
    }
  }

  // Text that somebody is selecting stays as it is.
  setInterval(() => { if (getSelection().isCollapsed) refresh(); }, everyMilliseconds);
  document.addEventListener("visibilitychange", refresh);
})();
