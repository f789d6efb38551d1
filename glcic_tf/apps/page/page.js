() => {
  // Gradio's canvas follows the size of its place, but misses a change while it starts: another makes up for that.
  const fit = canvas => {
    canvas.dataset.fitted = "";
    const place = canvas.parentElement;
    if (canvas.clientWidth === place.clientWidth && canvas.clientHeight === place.clientHeight) return;
    place.style.height = `${place.clientHeight - 1}px`;
    requestAnimationFrame(() => requestAnimationFrame(() => { place.style.height = ""; }));
  };

  // The status line is told to readers of screens when it changes; it and the canvas are there only while a photo is open.
  new MutationObserver(() => {
    document.querySelector("#status:not([role])")?.setAttribute("role", "status");
    document.querySelectorAll("#editor .pixi-target canvas:not([data-fitted])").forEach(fit);
  }).observe(document.body, { childList: true, subtree: true });

  // A photo that is pasted, or dropped beside the field for it, goes into that field; a page that is left is worse.
  const take = (event, files) => {
    const input = document.querySelector("#photo input[type=file]");
    const photo = [...files].find(file => file.type.startsWith("image/"));
    if (!input || !photo) return;
    event.preventDefault();
    const data = new DataTransfer();
    data.items.add(photo);
    input.files = data.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("paste", event => take(event, event.clipboardData.files));
  document.addEventListener("dragover", event => event.preventDefault());
  document.addEventListener("drop", event => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    take(event, event.dataTransfer.files);
  });

  const find = selector => document.querySelector(selector);
  const editor = name => find(`#editor button[aria-label$="${name}"]`);

  // A picture over the canvas: the photo as it was while the visitor compares, or as it is while the mask is off.
  let comparing = false, unmasked = false;
  const lay = () => {
    find("#over")?.remove();
    const picture = comparing ? find("#before") : unmasked ? find("#now") : null;
    const canvas = find("#editor .pixi-target");
    if (picture && canvas) canvas.append(Object.assign(new Image(), { id: "over", alt: "", src: picture.src }));
    find("#mask_shown")?.setAttribute("aria-pressed", String(!unmasked));
  };
  const compare = on => { if (comparing !== on) { comparing = on; lay(); } };
  const unmask = on => { unmasked = on; lay(); };
  for (const kind of ["pointerup", "pointercancel", "blur"]) addEventListener(kind, () => compare(false));

  // Strokes since the server last sent the canvas: its own Undo would take back the photo too.
  let strokes = 0, sent = null;
  const undo = () => {
    if (strokes > 0) { strokes -= 1; editor("Undo")?.click(); } else find("#undo:enabled")?.click();
  };
  document.addEventListener("pointerdown", event => {
    if (event.target.closest("#compare")) compare(true);
    if (event.target.closest("#editor canvas")) {
      const now = find("#now")?.src;
      strokes = now === sent ? strokes + 1 : 1;
      sent = now;
      if (unmasked) unmask(false);
    }
  }, true);
  document.addEventListener("click", event => { if (event.target.closest("#mask_shown")) unmask(!unmasked); });

  const resize = step => {
    const slider = () => find("#editor .size_picker input[type=range]");
    const change = () => {
      const input = slider();
      if (!input) return;
      input.value = Number(input.value) + step;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    };
    if (slider()) return change();
    editor("Size")?.click();
    requestAnimationFrame(() => { change(); editor("Size")?.click(); });
  };
  const KEYS = {
    "[": () => resize(-5),
    "]": () => resize(5),
    b: () => editor("Brush")?.click(),
    e: () => editor("Erase")?.click(),
    m: () => unmask(!unmasked),
    c: () => compare(true),
    enter: () => find("#complete:enabled")?.click(),
  };
  document.addEventListener("keydown", event => {
    const { target } = event, key = event.key.toLowerCase();
    const pressed = target.closest("button, a, input:not([type=file]), select, [role=slider]");
    if (!find("#editor .pixi-target") || target.closest("input:not([type=range], [type=radio]), textarea")) return;
    if ((event.ctrlKey || event.metaKey) && key === "z" && !event.shiftKey) {
      event.preventDefault();
      event.stopPropagation();
      const now = find("#now")?.src;
      if (now !== sent) strokes = 0;
      if (!event.repeat) undo();
    }
    if (key === " " && target.closest("#compare")) compare(true);
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[key] || key === "enter" && pressed) return;
    event.preventDefault();
    if (!event.repeat || "[]".includes(key)) KEYS[key]();
  }, true);
  document.addEventListener("keyup", () => compare(false), true);
}
