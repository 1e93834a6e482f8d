// Drawn configuration forms: switch to JSON and back, and follow the chosen plugin.
"use strict";

(function () {
  function drawn(id) {
    return window.reactJsonForm && window.reactJsonForm.getFormInstance(id + "_jsonform");
  }

  function toggle(button) {
    const area = document.getElementById(button.dataset.field);
    const container = document.getElementById(button.dataset.field + "_jsonform");
    const form = drawn(button.dataset.field);
    if (!area || !container || !form) return;
    const asJson = button.getAttribute("aria-pressed") !== "true";
    if (asJson) {
      area.value = JSON.stringify(JSON.parse(area.value || "{}"), null, 2);
      area.classList.add("code-entry", "json-entry");
      area.rows = 10;
    } else {
      try {
        form.update({ data: JSON.parse(area.value) });
      } catch (error) {
        area.setCustomValidity("This is not JSON: " + error.message);
        area.reportValidity();
        return;
      }
    }
    area.setCustomValidity("");
    area.style.display = asJson ? "block" : "none";
    container.style.display = asJson ? "none" : "";
    button.setAttribute("aria-pressed", String(asJson));
    button.textContent = asJson ? "Edit as form" : "Edit as JSON";
  }

  // The widget draws labels that are not tied to their inputs: tell assistive technology.
  function nameInputs(root) {
    root.querySelectorAll(".rjf-form-row-inner > div").forEach(function (row) {
      const label = row.querySelector("label");
      const input = row.querySelector("input, textarea, select");
      if (label && input && !input.getAttribute("aria-label")) input.setAttribute("aria-label", label.textContent.trim());
    });
  }

  function followPlugin() {
    const select = document.getElementById("id_plugin");
    const source = document.getElementById("rule-schemas");
    if (!select || !source) return;
    const schemas = JSON.parse(source.textContent);
    select.addEventListener("change", function () {
      const schema = schemas[select.value];
      const form = drawn("id_configuration");
      const area = document.getElementById("id_configuration");
      if (!schema || !form) return;
      let written = {};
      try {
        written = JSON.parse(area.value || "{}");
      } catch {
        return;
      }
      const data = {};
      Object.keys(schema.properties).forEach(function (name) {
        if (name in written) data[name] = written[name];
      });
      form.update({ schema: schema, data: data, errorMap: {} });
    });
  }

  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll(".json-toggle").forEach(function (button) {
      button.addEventListener("click", function () {
        toggle(button);
      });
    });
    document.querySelectorAll(".drawn-form").forEach(function (root) {
      nameInputs(root);
      new MutationObserver(function () {
        nameInputs(root);
      }).observe(root, { childList: true, subtree: true });
    });
    followPlugin();
  });
})();
