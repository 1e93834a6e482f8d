// How far are the reviews on this page? Asks the API once a second, and loads the page again when one has ended.
(() => {
  "use strict";
  const SECOND = 1000;
  const LONGEST = 30 * SECOND;

  function show(place, review) {
    const percent = review.files_total ? Math.min(100, Math.floor((100 * review.files_done) / review.files_total)) : 0;
    place.querySelector(".bar-fill").setAttribute("width", String(percent));
    place.querySelector(".progress-said").textContent = review.files_total
      ? `${review.files_done} of ${review.files_total} files`
      : "";
    place.querySelector(".progress-waiting").textContent = review.waiting;
  }

  // Whoever is choosing rows of a list, or typing, is not disturbed.
  function isBusy() {
    return document.querySelector(".action-select:checked") !== null || document.activeElement?.matches("input, textarea");
  }

  async function watch(place) {
    let pause = SECOND;
    for (;;) {
      await new Promise((done) => setTimeout(done, pause));
      if (document.hidden) continue;
      let answer;
      try {
        answer = await fetch(place.dataset.review, { headers: { Accept: "application/json" } });
      } catch {
        pause = Math.min(2 * pause, LONGEST);
        continue;
      }
      if (answer.status >= 400 && answer.status < 500) return;
      if (!answer.ok) {
        pause = Math.min(2 * pause, LONGEST);
        continue;
      }
      pause = SECOND;
      const review = await answer.json();
      show(place, review);
      if (review.status !== place.dataset.status && !isBusy()) {
        location.reload();
        return;
      }
    }
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-review]").forEach(watch));
})();
