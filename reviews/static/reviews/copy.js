// Copies the text of a prompt.
(() => {
  "use strict";

  async function copy(event) {
    event.preventDefault();
    const button = event.currentTarget;
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      // Browsers keep the clipboard from pages without TLS: the text is selected, so that the keyboard can copy it.
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl-C";
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", copy));
  });
})();
